"""The recent events across a clean restart: written at the end, taken and removed at the beginning.

The file is removed before anything is published, so that a server that is killed later leaves none, and the next one begins new
epochs instead of giving out sequences twice.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

from raven.broker.carryover import FeedCarryover
from raven.errors import StartupError

__all__ = ["FILE_NAME", "save_recent", "take_recent"]

FILE_NAME = "recent-v1"
MAGIC = b"raven recent 1\n"
DIGEST_BYTES = 32

log = structlog.stdlib.get_logger("raven.store")


def save_recent(directory: Path, feeds: list[FeedCarryover]) -> int:
    """Write them, all or nothing; the size of the file in bytes.

    Raises:
        OSError: they could not be written.
    """
    body = msgspec.msgpack.encode(feeds)
    file, being_written = directory / FILE_NAME, directory / f"{FILE_NAME}.part"
    try:
        with being_written.open("wb") as out:
            out.write(MAGIC + sha256(body).digest() + body)
            out.flush()
            os.fsync(out.fileno())
        being_written.replace(file)
    except OSError:
        with suppress(OSError):
            being_written.unlink()  # a disk that is full has no place for half a file
        raise
    return len(MAGIC) + DIGEST_BYTES + len(body)


def take_recent(directory: Path) -> list[FeedCarryover]:
    """Read and remove them; none when the last end was not clean, or when they cannot be read, which is logged.

    Raises:
        StartupError: they cannot be removed: the next server would take them up again, behind what this one gives out.
    """
    file = directory / FILE_NAME
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("recent events cannot be read: clients begin anew", file=str(file), error=error.strerror)
        return []
    try:
        file.unlink()
    except OSError as error:
        text = f"data.dir: {file} cannot be removed: {error.strerror}; valid: a directory that can be written"
        raise StartupError(text) from error
    digest, body = data[len(MAGIC) : len(MAGIC) + DIGEST_BYTES], data[len(MAGIC) + DIGEST_BYTES :]
    try:
        if not data.startswith(MAGIC) or sha256(body).digest() != digest:
            raise ValueError("it is damaged")
        return msgspec.msgpack.decode(body, type=list[FeedCarryover])
    except (ValueError, msgspec.MsgspecError) as error:
        log.warning("recent events cannot be read: clients begin anew", file=str(file), error=str(error))
        return []
