"""What is compiled: whether it is there, is of the source beside it, and is left out where that is wished.

That it does the same as its twins in Python is tested where those are: their tests run over both.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from raven import speedups
from raven.speedups import PURE, SOURCE, compiled, missing, source_mark

if TYPE_CHECKING:
    from raven.speedups._speedups import Side

TELL = "from raven import speedups; print(speedups.compiled is not None, speedups.missing)"


def tell(**environment: str) -> str:
    """What a new process has."""
    given = {name: value for name, value in os.environ.items() if name != PURE}
    done = subprocess.run(
        [sys.executable, "-c", TELL], env={**given, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_it_is_there_or_says_why() -> None:
    assert bool(missing) is (compiled is None)
    if compiled is None and not os.environ.get(PURE):
        pytest.skip(f"raven.speedups is {missing}")


def test_it_can_be_left_out() -> None:
    assert tell(RAVEN_PURE="1") == "False RAVEN_PURE is set"


def test_what_was_built_from_another_source_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PURE, raising=False)
    monkeypatch.setattr(speedups, "import_module", lambda _name: SimpleNamespace(BUILT_FROM=source_mark(b"another")))
    there, why = speedups._load()
    assert there is None
    assert why == "built from another source than it stands beside: install the package again"


def test_what_was_not_built_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.delenv(PURE, raising=False)
    monkeypatch.setattr(speedups, "import_module", nothing)
    assert speedups._load() == (None, "not built: No module named 'raven.speedups._speedups'")


class Clearing:
    """A number that changes what it stands in when it is asked for its value."""

    def __init__(self, change: Callable[[], object]) -> None:
        self._change = change

    def __float__(self) -> float:
        self._change()
        return 5.0


if compiled is not None:  # its twin keeps whatever it is given, and has no memory to hurt
    HUNDREDS = [float(number) for number in range(1, 501)]

    def check_whole(side: Side, levels: dict[float, float]) -> None:
        """It has these levels, in order, and goes on."""
        side.set([1000.0, 999.0], [7.0, 8.0])
        levels = {1000.0: 7.0, 999.0: 8.0, **dict(sorted(levels.items(), reverse=True))}
        assert side.columns(0) == (list(levels), list(levels.values()))
        assert (len(side), side.bound) == (len(levels), 1000.0)

    def test_prices_that_change_while_they_are_read() -> None:
        side, prices = compiled.Side(True), list[Any]()
        prices += [Clearing(prices.clear), *HUNDREDS]
        side.set(prices, [1.0] * 501)  # they were copied before
        check_whole(side, dict.fromkeys(HUNDREDS, 1.0))

    def test_prices_that_change_while_sizes_are_read() -> None:
        side, prices = compiled.Side(True), [0.5, *HUNDREDS]
        with pytest.raises(ValueError, match="0 prices and 501 sizes, by now"):
            side.set(prices, [Clearing(prices.clear), *HUNDREDS])  # type: ignore[list-item]
        check_whole(side, {})

    def test_a_side_that_changes_while_prices_are_read() -> None:
        side = compiled.Side(True)
        side.set([Clearing(lambda: side.set(HUNDREDS, [2.0] * 500))], [1.0])  # type: ignore[list-item]
        check_whole(side, dict.fromkeys(HUNDREDS, 2.0) | {5.0: 1.0})

    def test_levels_that_change_while_they_are_read() -> None:
        class Level:
            def __iter__(self) -> Iterator[float]:
                levels.clear()
                return iter((1.0, 2.0))

        levels: list[Any] = []
        levels += [Level(), *((price, 1.0) for price in HUNDREDS)]
        assert compiled.columns(levels) == ((1.0, *HUNDREDS), (2.0, *[1.0] * 500))


def test_two_builds_at_once_do_not_meet(tmp_path: Path) -> None:
    """Each puts what it built in its place as a whole."""
    hook = load_hook()
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(2):
        built = tmp_path / str(number) / "_speedups.so"
        built.parent.mkdir()
        built.write_text(str(number))
        hook.put_into(folder, built)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("_speedups.so", "1")]


def load_hook() -> Any:
    """The module, which is no part of the package."""
    path = SOURCE.parents[2] / "hatch_build.py"
    if not path.is_file():
        pytest.skip("not in a checkout")
    pytest.importorskip("hatchling", reason="hatchling is what runs it")
    spec = importlib.util.spec_from_file_location("hatch_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_compiler_the_package_is_built_all_the_same(tmp_path: Path) -> None:
    """The hook that builds it says what is missing, and nothing more happens."""
    pytest.importorskip("Cython", reason="Cython is what builds it")
    root = SOURCE.parents[2]
    if not (root / "hatch_build.py").is_file():
        pytest.skip("not in a checkout")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        env={**os.environ, "CC": "/nowhere/cc", PURE: ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "raven.speedups is not built, Raven will run without it, slower" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
