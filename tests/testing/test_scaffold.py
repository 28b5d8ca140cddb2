"""The package that `raven adapter new` writes."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from raven.errors import InvalidName, InvalidValue
from raven.testing import write_package
from raven.testing.scaffold import names_of, render_package

TEMPLATE = Path(__file__).parents[2] / "adapters" / "_template"


def test_the_template_in_the_repository_is_what_is_written_for_the_name_example() -> None:
    """It is there to be read; write it anew after a change: `raven adapter new example --dir ...`."""
    committed = {
        str(path.relative_to(TEMPLATE)): path.read_text(encoding="utf-8")
        for path in TEMPLATE.rglob("*")
        if path.is_file() and not {"__pycache__", ".pytest_cache", ".ruff_cache"} & set(path.parts)
    }
    assert committed == render_package(names_of("example"))


def test_a_package(tmp_path: Path) -> None:
    written = write_package("my-venue", tmp_path / "a" / "b")
    assert [str(path.relative_to(tmp_path / "a" / "b")) for path in written] == [
        "README.md",
        "conftest.py",
        "pyproject.toml",
        "raven_my_venue/__init__.py",
        "raven_my_venue/conformance.py",
        "raven_my_venue/py.typed",
        "raven_my_venue/session.py",
        "raven_my_venue/wire.py",
        "tests/test_my_venue_adapter.py",
        "tests/test_my_venue_conformance.py",
        "tests/test_my_venue_session.py",
    ]
    project = tomllib.loads((tmp_path / "a" / "b" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "raven-my-venue"
    assert project["entry-points"] == {
        "raven.adapters": {"my-venue": "raven_my_venue:MyVenueAdapter"},
        "raven.conformance": {"my-venue": "raven_my_venue.conformance:KIT"},
    }


@pytest.mark.parametrize("name", ["toy", "my-venue", "1inch", "x", "a" * 32])
def test_nothing_is_left_to_be_replaced_and_python_can_be_parsed(name: str) -> None:
    package = render_package(names_of(name))
    assert not any("<<" in text or "example" in text.lower() for text in package.values())
    for path, text in package.items():
        if path.endswith(".py"):
            ast.parse(text)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a--b", "a" * 33, "marketdata", "../x", "a b"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidName, match=r"^NAME: "):
        write_package(name, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    assert write_package("toy", tmp_path)


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for directory in (tmp_path, tmp_path / "mine"):
        with pytest.raises(InvalidValue, match=r"^--dir: .* a directory that is empty, or not there yet$"):
            write_package("toy", directory)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidValue, match=r"^--dir: .* a directory that can be written"):
        write_package("toy", tmp_path / "file" / "below")
