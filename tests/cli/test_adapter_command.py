"""`raven adapter new` and `raven adapter check`."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import raven.testing.kit
from raven.adapter import GROUP, registry
from raven.cli import main
from raven.testing import KIT_GROUP, RULES
from tests.testing.toy import KIT, ToyAdapter

MODULE = "toy_package_of_test_adapter_command"


class ToySibling(ToyAdapter):
    """Another adapter of the package, without a kit."""


class Broken(ToyAdapter):
    api = 1
    options_type = dict


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy and its sibling, and nothing else."""
    module: Any = types.ModuleType(MODULE)
    module.ToyAdapter, module.ToySibling, module.Broken, module.KIT = ToyAdapter, ToySibling, Broken, KIT
    monkeypatch.setitem(sys.modules, MODULE, module)
    points = [EntryPoint(name, f"{MODULE}:{target}", group) for name, target, group in OFFERED]
    by_group: Callable[..., list[EntryPoint]] = lambda group: [point for point in points if point.group == group]  # noqa: E731
    monkeypatch.setattr(registry, "entry_points", by_group)
    monkeypatch.setattr(raven.testing.kit, "entry_points", by_group)


OFFERED = (
    ("toy", "ToyAdapter", GROUP),
    ("toy-sibling", "ToySibling", GROUP),
    ("broken", "Broken", GROUP),
    ("toy", "KIT", KIT_GROUP),
)


@pytest.mark.usefixtures("installed")
def test_check_prints_a_line_for_each_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["adapter", "check", "toy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: Toy (unknown 0)"
    assert len(lines) == 1 + len(RULES) + 3
    assert lines[-2] == f"{len(RULES)} passed, 0 failed"
    assert lines[-1].startswith("events/s ")


@pytest.mark.usefixtures("installed")
def test_without_a_kit_it_says_what_is_not_covered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["adapter", "check", "toy-sibling"]) == 0
    out = capsys.readouterr().out
    assert "not covered: the package offers no kit under raven.conformance" in out
    assert " 0 failed, " in out


@pytest.mark.usefixtures("installed")
def test_a_rule_that_fails_is_exit_1_and_the_others_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["adapter", "check", "broken", "toy", "toy"]) == 1
    out = capsys.readouterr().out
    assert "✗ options" in out
    assert "      options_type is <class 'dict'>, not an attrs class: use @attrs.frozen" in out
    assert out.count("events/s ") == 2


@pytest.mark.usefixtures("installed")
def test_a_package_stands_for_all_its_adapters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["adapter", "check", "unknown", "--json"]) == 1
    reports = json.loads(capsys.readouterr().out)
    assert [(report["adapter"], report["passed"]) for report in reports] == [
        ("broken", False),
        ("toy", True),
        ("toy-sibling", True),
    ]
    assert [rule["rule"] for rule in reports[1]["rules"]] == [rule.name for rule in RULES]
    assert reports[0]["rules"][1]["findings"]
    assert reports[1]["events_per_s"] > 0
    assert reports[2]["events_per_s"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["check", "simm"], 1, "raven: no installed package offers the adapter 'simm': did you mean 'sim'?\n"),
        (["check"], 2, "Missing argument 'NAME_OR_PACKAGE...'"),
        (["new", "sim"], 1, "raven: NAME: 'sim' is not valid: a name that no installed package offers (raven-sim does)\n"),
        (["new", "cli-x"], 0, ""),
        (["new", "Sim"], 1, "raven: NAME: 'Sim' is not valid: 1 to 32 of a-z, 0-9 and '-', not '-' first\n"),
        (["new", "a", "--dir", "full"], 1, "raven: --dir: 'full' is not valid: a directory that is empty, or not there yet\n"),
    ],
)
def test_what_goes_wrong(arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "full").mkdir()
    (here / "full" / "x").touch()
    assert main.run(["adapter", *arguments]) == code
    assert text in capsys.readouterr().err


def test_a_package_of_that_name_is_there_already(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    assert main.run(["adapter", "new", "sim"]) == 1
    assert "a name whose package is not installed already (raven_sim is)" in capsys.readouterr().err


def test_new_says_what_it_wrote_and_what_is_next(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main.run(["adapter", "new", "my-venue"]) == 0
    out = capsys.readouterr().out
    written = [line for line in out.splitlines() if line.startswith("raven-my-venue/")]
    assert all((here / line).is_file() for line in written)
    assert len(written) == 11
    assert "\nNext:\n\n  cd raven-my-venue\n  python -m pytest" in out
    assert "raven adapter check my-venue" in out


def test_new_where_it_is_told(here: Path) -> None:
    assert main.run(["adapter", "new", "my-venue", "--dir", "deep/down"]) == 0
    assert (here / "deep" / "down" / "raven_my_venue" / "session.py").is_file()
