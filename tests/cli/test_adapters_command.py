"""`raven adapters`."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from typing import Literal

import attrs
import pytest

from raven.adapter import registry
from raven.cli import adapters, main


def test_the_simulated_venue_is_listed_with_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["adapters"]) == 0
    out = capsys.readouterr().out
    head, *rows = out.partition("\n\n")[0].splitlines()
    assert head.split() == ["NAME", "PACKAGE", "VERSION", "API", "VENUE"]
    assert any(row.split()[:2] == ["sim", "raven-sim"] for row in rows)
    assert "options.seed" in out
    assert "\x1b[" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["adapters", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    sim = found["sim"]
    assert (sim["package"], sim["api"]) == ("raven-sim", 1)
    assert {"trade", "book", "book_top", "candle"} <= set(sim["kinds"])
    assert "1m" in sim["intervals"]
    assert sim["options"]["seed"] == {"type": "integer", "needed": False, "default": 1}


def test_a_refused_one_is_listed_with_the_reason(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("broken", "no_such_module_of_raven:X", "raven.adapters")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert main.run(["adapters"]) == 0
    assert main.run(["adapters", "--json"]) == 0
    out = capsys.readouterr().out
    assert "refused" in out
    assert "fails to import: ModuleNotFoundError: No module named 'no_such_module_of_raven'" in out
    assert "refused" in json.loads(out[out.index("\n[") :])[0]


def test_none_installed_says_what_to_do(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    assert main.run(["adapters"]) == 0
    assert capsys.readouterr().out == "no adapter is installed: try pip install raven-sim\n"


def test_types_in_the_words_of_toml() -> None:
    @attrs.frozen
    class Options:
        a: str
        b: int | float = 1
        c: tuple[str, ...] = ()
        d: Literal["x", "y"] = "x"
        e: float | None = None
        f: dict[str, int] = attrs.field(factory=dict)

    described = {field.name: adapters._option(field) for field in attrs.fields(attrs.resolve_types(Options))}
    assert {name: option["type"] for name, option in described.items()} == {
        "a": "string",
        "b": "integer|float",
        "c": "[string]",
        "d": '"x"|"y"',
        "e": "float",
        "f": "dict",
    }
    assert described["a"]["needed"]
    assert described["f"]["default"] == {}
    assert sys.version_info >= (3, 11)
