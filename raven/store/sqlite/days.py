"""Days and the files of them: names and times, and which files there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import attrs

__all__ = ["COMPANIONS", "DAY_NS", "DamagedFile", "damaged_files", "day_files", "day_of", "file_name", "set_aside", "times_of"]

DAY_NS = 86_400_000_000_000
COMPANIONS = ("-wal", "-shm")
"""What SQLite puts beside a file, behind its name."""

_FIRST, _LAST = 0, (date.max - date(1970, 1, 1)).days
_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.sqlite(?:\.damaged-(\d+))?")


def day_of(ts_ns: int) -> int:
    """The UTC day of a time, in days since 1970. Times that no calendar has are put to its ends."""
    return min(max(ts_ns // DAY_NS, _FIRST), _LAST)


def times_of(day: int) -> tuple[int, int]:
    """(first nanosecond of a day, first of the next one)."""
    return day * DAY_NS, (day + 1) * DAY_NS


def file_name(day: int) -> str:
    """ "2026-01-31.sqlite"."""
    return f"{(date(1970, 1, 1) + timedelta(days=day)).isoformat()}.sqlite"


@attrs.frozen
class DamagedFile:
    """A file that could not be read and was set aside.

    Args:
        start_ns, end_ns: when what was in it happened; it was in use until `end_ns`.
    """

    path: Path
    day: int
    start_ns: int
    end_ns: int


def day_files(directory: Path) -> dict[int, Path]:
    """The files of days that are there, oldest first."""
    return dict(sorted((day, path) for day, path, aside_ns in _files(directory) if aside_ns is None))


def damaged_files(directory: Path) -> list[DamagedFile]:
    """Those that were set aside, oldest first."""
    found = [_damaged(day, path, aside_ns) for day, path, aside_ns in _files(directory) if aside_ns is not None]
    return sorted(found, key=lambda file: (file.day, file.end_ns))


def set_aside(path: Path, day: int, now_ns: int) -> DamagedFile:
    """Rename a file and its companions, so that a new one can be made in its place.

    Raises:
        OSError: it cannot be renamed.
    """
    damaged = path.with_name(f"{path.name}.damaged-{now_ns}")
    path.rename(damaged)
    for end in COMPANIONS:
        companion = path.with_name(path.name + end)
        if companion.exists():
            companion.rename(damaged.with_name(damaged.name + end))
    return _damaged(day, damaged, now_ns)


def _damaged(day: int, path: Path, aside_ns: int) -> DamagedFile:
    start, end = times_of(day)
    return DamagedFile(path, day, start, min(end, max(start, aside_ns)))


def _files(directory: Path) -> Iterator[tuple[int, Path, int | None]]:
    for path in directory.iterdir():
        match = _FILE.fullmatch(path.name)
        if match is not None:
            day = _parse_day(match[1])
            if day is not None:
                yield day, path, int(match[2]) if match[2] else None


def _parse_day(text: str) -> int | None:
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        return None
