"""`raven adapters`: what is installed, and what each can do."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from typing import Any

import attrs
import click

from raven.adapter import ADAPTER_API, Adapter, AdapterEntry, find_adapters
from raven.adapter.registry import check_adapter
from raven.cli.style import table
from raven.config.feeds import offered_kinds
from raven.errors import AdapterRefused

__all__ = ["adapters"]

REQUIRED = "(needed)"


@attrs.frozen
class Found:
    """One name, and the adapter behind it or why it is refused."""

    entry: AdapterEntry
    adapter: Adapter | None
    refusal: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def adapters(as_json: bool) -> None:
    """List the installed adapters and what they can do."""
    found = [_load(entry) for entry in find_adapters().values()]
    if as_json:
        click.echo(json.dumps([_described(one) for one in found], indent=2, ensure_ascii=False))
    elif not found:
        click.echo("no adapter is installed: try pip install raven-sim")
    else:
        click.echo(table([_row(one) for one in found], ("NAME", "PACKAGE", "VERSION", "API", "VENUE")))
        for one in found:
            click.echo(f"\n{click.style(one.entry.name, bold=True)}")
            click.echo("\n".join(f"  {line}" for line in _details(one)))


def _load(entry: AdapterEntry) -> Found:
    try:
        return Found(entry, check_adapter(entry))
    except AdapterRefused as error:
        return Found(entry, None, str(error))


def _row(found: Found) -> tuple[str, ...]:
    entry, adapter = found.entry, found.adapter
    rest = (str(adapter.api), adapter.title) if adapter else ("-", "refused")
    cells = (entry.name, entry.distribution, entry.version, *rest)
    return cells if adapter else tuple(click.style(cell, fg="red") for cell in cells)


def _details(found: Found) -> Iterable[str]:
    if found.adapter is None:
        return [click.style(found.refusal, fg="red")]
    described = _described(found)
    lines = [("kinds", ", ".join(described["kinds"]))]
    if described["intervals"]:
        lines.append(("intervals", ", ".join(described["intervals"])))
    for name, option in described["options"].items():
        default = REQUIRED if option["needed"] else f"= {json.dumps(option['default'], default=str)}"
        lines.append((f"options.{name}", f"{option['type']} {default}"))
    return table(lines).splitlines()


def _described(found: Found) -> dict[str, Any]:
    entry, adapter = found.entry, found.adapter
    head = {"name": entry.name, "package": entry.distribution, "version": entry.version}
    if adapter is None:
        return head | {"refused": found.refusal}
    return head | {
        "api": adapter.api,
        "server_api": ADAPTER_API,
        "title": adapter.title,
        "kinds": [kind.label for kind in sorted(offered_kinds(adapter))],
        "intervals": list(adapter.capabilities.intervals),
        "options": {field.name: _option(field) for field in attrs.fields(attrs.resolve_types(adapter.options_type))},
    }


def _option(field: attrs.Attribute[Any]) -> dict[str, Any]:
    default: Any = field.default
    if hasattr(default, "factory"):  # attrs.Factory is a class, and typed as a function
        default = None if default.takes_self else default.factory()
    needed = default is attrs.NOTHING
    return {"type": _type_name(field.type), "needed": needed, "default": None if needed else _plain(default)}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | tuple | dict | types.NoneType) else str(value)


def _type_name(kind: Any) -> str:
    """The type in the words of TOML."""
    arguments = [argument for argument in typing.get_args(kind) if argument is not types.NoneType]
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return "|".join(json.dumps(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return "|".join(_type_name(argument) for argument in arguments)
    if origin is tuple:
        return f"[{_type_name(arguments[0])}]"
    return {str: "string", int: "integer", float: "float", bool: "boolean"}.get(
        kind, getattr(kind, "__name__", str(kind)).lower()
    )
