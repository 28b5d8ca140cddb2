"""The data directory: one server at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raven.errors import StartupError

try:
    import fcntl
except ImportError:  # Windows, whose users run one server by hand
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_NAME", "open_data_dir"]

LOCK_NAME = "raven.lock"


@contextmanager
def open_data_dir(path: Path) -> Iterator[Path]:
    """Make the directory where it is missing, and hold it against a second server until the context ends.

    Raises:
        StartupError: it cannot be made or written, or another server has it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK_NAME).open("a+", encoding="ascii")
    except OSError as error:
        text = f"data.dir: {path} cannot be used: {error.strerror}; valid: a directory that can be written"
        raise StartupError(text) from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                owner = lock.read(20).strip() or "unknown"
                text = f"data.dir: {path} belongs to another running server (process {owner}); give this one another directory"
                raise StartupError(text) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield path
