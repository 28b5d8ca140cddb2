"""The layers of docs/architecture.md, section 1: imports point down, siblings do not import each other, rooms stay closed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raven"
GENERATED = PACKAGE / "codec" / "generated"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)

ASYNCIO = {"asyncio", "trio_asyncio", "grpclib"}
ASYNCIO_ROOMS = {"grpc", "client"}
VENUES = re.compile(r"binance|coinbase|kraken|bybit|okx|deribit", re.IGNORECASE)


def layers() -> dict[str, int]:
    """Unit ("feed", "errors") to the number of its layer, from the table in the design."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| L(\d+) \| ([^|]+) \|", text, re.MULTILINE)
    return {name: int(layer) for layer, cell in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)}


LAYERS = layers()


def unit_of(path: Path) -> str:
    """The unit that a file belongs to; empty for raven/__init__.py, which everybody may import."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of everything that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def units_of(names: Iterator[str]) -> set[str]:
    """The units of Raven among imported names."""
    parts = (name.split(".") for name in names)
    return {part[1] for part in parts if part[0] == "raven" and len(part) > 1 and part[1] in LAYERS}


def trespasses(source: str, unit: str) -> list[str]:
    """What a module of `unit` with this source must not import, with the reason."""
    tree = ast.parse(source)
    mine = LAYERS[unit]
    found = [
        f"{unit} (L{mine}) imports {other} (L{LAYERS[other]})"
        for other in sorted(units_of(imported(tree)))
        if other != unit and LAYERS[other] >= mine
    ]
    roots = {name.partition(".")[0] for name in imported(tree)}
    if unit not in ASYNCIO_ROOMS:
        found += [f"{unit} imports {name}" for name in sorted(roots & ASYNCIO)]
    return found + [f"{unit} imports {name}" for name in sorted(roots) if name.startswith("raven_")]


def docstrings(tree: ast.Module) -> set[int]:
    """The ids of the nodes that are docstrings, or strings that stand alone, which is how attributes are documented."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def venue_names(source: str) -> list[str]:
    """Names and strings of the code, not of its documentation, that name a venue."""
    tree = ast.parse(source)
    documentation = docstrings(tree)
    words = (
        (node.lineno, word)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.Name | ast.Attribute | ast.FunctionDef | ast.ClassDef | ast.arg)
        and id(node) not in documentation
        for word in (getattr(node, field, None) for field in ("value", "id", "attr", "name", "arg"))
    )
    return [f"line {line}: {word}" for line, word in words if isinstance(word, str) and VENUES.search(word)]


def test_the_table_names_every_unit_of_the_package() -> None:
    there = {unit_of(path) for path in MODULES} - {""}
    assert there - set(LAYERS) == set()
    assert len(LAYERS) > 15


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    unit = unit_of(path)
    if unit:
        assert trespasses(source, unit) == []
    else:
        assert units_of(imported(ast.parse(source))) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_no_venue(path: Path) -> None:
    assert venue_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("unit", "source", "wrong"),
    [
        ("feed", "from raven.adapter import Event", []),
        ("feed", "from raven.feed.limits import X", []),
        ("feed", "from raven import __version__", []),
        ("feed", "import raven.app", ["feed (L4) imports app (L6)"]),
        ("feed", "from raven import ops", ["feed (L4) imports ops (L4)"]),
        ("model", "def f():\n    from raven.structure import structure", ["model (L1) imports structure (L1)"]),
        ("feed", "import asyncio.queues", ["feed imports asyncio"]),
        ("grpc", "import asyncio, trio_asyncio, grpclib.server", []),
        ("app", "from raven_sim import SimAdapter", ["app imports raven_sim"]),
    ],
)
def test_a_trespass_is_seen(unit: str, source: str, wrong: list[str]) -> None:
    assert trespasses(source, unit) == wrong


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('"""Like Binance."""\nx = 1', 0),
        ('url = "wss://stream.binance.com"', 1),
        ("class KrakenSession: ...", 1),
        ("if okx_mode: ...", 1),
    ],
)
def test_a_venue_is_seen(source: str, count: int) -> None:
    assert len(venue_names(source)) == count
