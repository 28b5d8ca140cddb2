"""Writes the package of a new adapter: a whole one, for a venue that does not exist, whose tests pass.

The files are in `template/`, each under its name and ".txt", so that no tool takes them for modules of Raven. In their text
`<<name>>` and its kin stand for what is derived from the new adapter's name; in their paths `PACKAGE` and `NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import attrs

from raven.errors import InvalidName, InvalidValue
from raven.model.topic import check_venue

__all__ = ["Names", "names_of", "render_package", "write_package"]

NAME_RULE = "a venue's name that can be a package's: a-z, 0-9 and single '-' between them, as 'my-venue'"
RESERVED = ("marketdata",)  # raven-marketdata is the server
SUFFIX = ".txt"


@attrs.frozen
class Names:
    """What is derived from an adapter's name.

    >>> names = names_of("my-venue")
    >>> names.package, names.distribution, names.prefix, names.title
    ('raven_my_venue', 'raven-my-venue', 'MyVenue', 'My Venue')
    """

    name: str

    @property
    def snake(self) -> str:
        """In names of files and modules."""
        return self.name.replace("-", "_")

    @property
    def package(self) -> str:
        """The import package."""
        return f"raven_{self.snake}"

    @property
    def distribution(self) -> str:
        """What pip calls it."""
        return f"raven-{self.name}"

    @property
    def prefix(self) -> str:
        """What its classes begin with."""
        joined = "".join(part.capitalize() for part in self.name.split("-"))
        return f"V{joined}" if joined[0].isdigit() else joined

    @property
    def title(self) -> str:
        """For people."""
        title = " ".join(part.capitalize() for part in self.name.split("-"))
        return title if title.endswith("Venue") else f"{title} venue"

    def fill(self, text: str) -> str:
        """`text` with its placeholders replaced."""
        for placeholder, value in (
            ("<<name>>", self.name),
            ("<<package>>", self.package),
            ("<<distribution>>", self.distribution),
            ("<<Class>>", self.prefix),
            ("<<Title>>", self.title),
        ):
            text = text.replace(placeholder, value)
        return text


def names_of(name: str, field: str = "NAME") -> Names:
    """The names of a new adapter.

    Raises:
        InvalidName: it is no venue's name, or no package can be called so.
    """
    check_venue(name, field)
    if name.endswith("-") or "--" in name or name in RESERVED:
        raise InvalidName(field, name, NAME_RULE + (f"; not {', '.join(RESERVED)}" if name in RESERVED else ""))
    return Names(name)


def render_package(names: Names) -> dict[str, str]:
    """The files of the package, by their path within its folder."""
    template = files("raven.testing") / "template"
    return {_path(parts, names): names.fill(text) for parts, text in _texts(template)}


def write_package(name: str, directory: Path) -> list[Path]:
    """Write the package of a new adapter into `directory`; the files, in order.

    Raises:
        InvalidName: `name` cannot be the name of an adapter.
        InvalidValue: the directory is there and not empty, or cannot be written.
    """
    package = render_package(names_of(name))
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InvalidValue("--dir", str(directory), "a directory that is empty, or not there yet")
        return [_write(directory / path, text) for path, text in sorted(package.items())]
    except OSError as error:
        raise InvalidValue("--dir", str(directory), f"a directory that can be written ({error.strerror})") from error


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _texts(folder: Traversable, parents: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _texts(entry, (*parents, entry.name))
        elif entry.name.endswith(SUFFIX):
            yield (*parents, entry.name.removesuffix(SUFFIX)), entry.read_text(encoding="utf-8")


def _path(parts: tuple[str, ...], names: Names) -> str:
    return "/".join(parts).replace("PACKAGE", names.package).replace("NAME", names.snake)
