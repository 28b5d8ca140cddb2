"""The data directory: one server at a time, and one that can be written.

A disk that is full passes: a server that is started on one serves, and writes when there is room, as one does whose disk fills
while it runs. A directory that takes nothing for another reason is a mistake that its operator has to mend: it ends the start.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raven.errors import StartupError

try:
    import fcntl
except ImportError:  # Windows, whose users run one server by hand
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_NAME", "has_room", "make_dir", "open_data_dir"]

LOCK_NAME = "raven.lock"
PROBE_NAME = "raven.probe"

ROOM_BYTES = 64 * 1024
"""What a store needs to begin with: SQLite keeps 32 KiB beside a file that is open."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def open_data_dir(path: Path) -> Iterator[Path]:
    """Make the directory where it is missing, and hold it against a second server until the context ends.

    Raises:
        StartupError: it cannot be made or written, or another server has it.
    """
    make_dir(path)
    try:
        lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        _hold(lock, path)
        yield path
    finally:
        os.close(lock)


def _hold(lock: int, path: Path) -> None:
    """Take the lock, and say who has it; on a full disk nobody can read that."""
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
            text = f"data.dir: {path} belongs to another running server (process {owner}); give this one another directory"
            raise StartupError(text) from None
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())


def make_dir(path: Path) -> None:
    """Make a directory where it is missing.

    Raises:
        StartupError: it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from error


def has_room(path: Path) -> bool:
    """Whether a directory takes what is written; False = its disk is full.

    Raises:
        StartupError: it takes nothing, for another reason.
    """
    probe = path / PROBE_NAME
    try:
        probe.write_bytes(bytes(ROOM_BYTES))
    except OSError as error:
        if error.errno not in _FULL:
            raise _unusable(path, error) from error
        return False
    finally:
        with suppress(OSError):
            probe.unlink()
    return True


def _unusable(path: Path, error: OSError) -> StartupError:
    return StartupError(f"data.dir: {path} cannot be used: {error.strerror}; valid: a directory that can be written")
