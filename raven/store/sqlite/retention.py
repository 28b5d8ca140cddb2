"""Which files go, as a pure function, and their going. Whole days only: nothing that is kept is ever written anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from raven.store.sqlite.days import COMPANIONS, damaged_files, day_files

__all__ = ["StoredFile", "remove", "stored_files", "to_remove"]


@attrs.frozen
class StoredFile:
    """A file on the disk.

    Args:
        bytes: with what SQLite has put beside it.
    """

    path: Path
    day: int
    bytes: int


def to_remove(
    files: Sequence[StoredFile], today: int, written: int | None, keep_days: int | None, keep_bytes: int | None
) -> Iterator[StoredFile]:
    """The files that go, oldest first: those of days that are over for so long, and then as many as have to.

    Args:
        files: all that there are, oldest first.
        today: it stays, and so do later days.
        written: the day whose file is open for writing, which stays too.
        keep_days: days that stay, today among them; None = all.
        keep_bytes: what all may take together; None = anything.
    """
    total = sum(file.bytes for file in files)
    for file in files:
        too_old = keep_days is not None and file.day <= today - keep_days
        too_much = keep_bytes is not None and total > keep_bytes
        if file.day < today and file.day != written and (too_old or too_much):
            total -= file.bytes
            yield file


def stored_files(directory: Path) -> list[StoredFile]:
    """All that there are, those that were set aside too, oldest first.

    Raises:
        OSError: the directory cannot be read.
    """
    paths = [(day, path) for day, path in day_files(directory).items()]
    paths += [(file.day, file.path) for file in damaged_files(directory)]
    return [StoredFile(path, day, sum(_sizes(path))) for day, path in sorted(paths)]


def _sizes(path: Path) -> Iterable[int]:
    for part in _parts(path):
        with suppress(FileNotFoundError):  # a WAL goes when its file is closed
            yield part.stat().st_size


def _parts(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + end) for end in COMPANIONS)]


def remove(path: Path) -> None:
    """A file and what is beside it.

    Raises:
        OSError: it cannot be removed.
    """
    for part in reversed(_parts(path)):  # the file itself last: what is left of a removal that fails is found again
        part.unlink(missing_ok=True)
