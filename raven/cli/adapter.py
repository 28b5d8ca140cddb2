"""`raven adapter new` and `raven adapter check`: for whoever writes an adapter."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from raven.adapter import find_adapters
from raven.errors import InvalidName
from raven.testing.conformance import adapters_of, check_adapter_package
from raven.testing.report import Report, Verdict, format_report
from raven.testing.scaffold import Names, names_of, write_package

__all__ = ["adapter"]

COLOURS = {Verdict.FAILED: "red", Verdict.NOT_COVERED: "yellow", Verdict.NOT_APPLICABLE: "bright_black"}


@click.group()
def adapter() -> None:
    """Write and check adapters."""


@adapter.command()
@click.argument("name")
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where to write it; else raven-NAME here.")
def new(name: str, directory: Path | None) -> None:
    """Write the package of a new adapter, a whole one whose tests pass, to begin with.

    NAME is what a feed's `adapter` key will say: a-z, 0-9 and '-'.
    """
    names = names_of(name)
    _check_free(names)
    folder = directory or Path(names.distribution)
    for path in write_package(name, folder):
        click.echo(path)
    click.echo(f"\nNext:\n\n{_next_steps(names, folder)}")


@adapter.command()
@click.argument("names", metavar="NAME_OR_PACKAGE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def check(ctx: click.Context, names: Sequence[str], as_json: bool) -> None:
    """Hold installed adapters against the rules for adapters. Without a network.

    A package stands for all of its adapters. Exit code 1 when a rule fails.
    """
    found = dict.fromkeys(each for name in names for each in adapters_of(name))
    reports = [check_adapter_package(each) for each in found]
    if as_json:
        click.echo(json.dumps([_described(report) for report in reports], indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join("\n".join(format_report(report, _coloured)) for report in reports))
    if not all(report.passed for report in reports):
        ctx.exit(1)


def _check_free(names: Names) -> None:
    """Two packages with one name would keep each other from being used."""
    taken = find_adapters().get(names.name)
    if taken is not None:
        raise InvalidName("NAME", names.name, f"a name that no installed package offers ({taken.distribution} does)")
    if importlib.util.find_spec(names.package) is not None:
        raise InvalidName("NAME", names.name, f"a name whose package is not installed already ({names.package} is)")


def _next_steps(names: Names, folder: Path) -> str:
    steps = (
        (f"cd {folder}", ""),
        ("python -m pytest", "green from the start"),
        ("python -m pip install -e .", "makes it known to Raven"),
        (f"raven adapter check {names.name}", "holds it against the rules"),
    )
    width = max(len(command) for command, _ in steps)
    return "\n".join(f"  {command:<{width}}  {why}".rstrip() for command, why in steps)


def _coloured(text: str, verdict: Verdict) -> str:
    colour = COLOURS.get(verdict)
    return click.style(text, fg=colour) if colour else text


def _described(report: Report) -> dict[str, Any]:
    rules = [
        {"rule": result.rule, "verdict": result.outcome.verdict.value, "text": result.outcome.text}
        | ({"findings": list(result.outcome.findings)} if result.outcome.findings else {})
        for result in report.results
    ]
    head = attrs.asdict(report, filter=attrs.filters.include("adapter", "title", "package", "events_per_s"))
    return head | {"passed": report.passed, "rules": rules}
