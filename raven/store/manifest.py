"""What a backup says of itself, and whether it may be believed. Pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import msgspec

from raven.errors import StoreError

__all__ = ["MANIFEST_NAME", "SUM_NAME", "BackupFile", "FileKind", "Manifest", "format_manifest", "format_sum", "parse_manifest"]

MANIFEST_NAME = "manifest.json"
SUM_NAME = "manifest.json.sha256"
"""In the form of sha256sum, which can check it."""

FORMAT = 1
_PATH = re.compile(r"latest\.sqlite|history/\d{4}-\d\d-\d\d\.sqlite(\.damaged-\d+)?", re.ASCII)


class FileKind(StrEnum):
    """What a file of a backup is: the events of a day, latest values, or what a server has set aside as damaged."""

    HISTORY = "history"
    LATEST = "latest"
    DAMAGED = "damaged"


class BackupFile(msgspec.Struct, frozen=True):
    """One file.

    Args:
        path: within the backup and within a data directory, with "/".
        sha256: in hexadecimal digits.
        schema: the version of its tables; 0 where it has none.
    """

    path: str
    bytes: int
    sha256: str
    kind: FileKind
    schema: int


class Manifest(msgspec.Struct, frozen=True):
    """What is in a backup.

    Args:
        raven: the version of Raven that made it.
        created_ts_ns: when it was begun: every commit before is in it.
        created: the same for people.
    """

    raven: str
    created_ts_ns: int
    files: tuple[BackupFile, ...]
    created: str = ""
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)


def format_manifest(manifest: Manifest) -> bytes:
    """As it stands in its file."""
    created = datetime.fromtimestamp(manifest.created_ts_ns / 1e9, UTC).isoformat(timespec="seconds")
    document = msgspec.to_builtins(msgspec.structs.replace(manifest, created=created))
    return json.dumps({"format": document.pop("format"), **document}, indent=2).encode() + b"\n"


def format_sum(manifest: bytes) -> bytes:
    """What stands beside it."""
    return f"{sha256(manifest).hexdigest()}  {MANIFEST_NAME}\n".encode()


def parse_manifest(data: bytes, said: bytes, where: Path) -> Manifest:
    """The manifest of the backup in `where`.

    Raises:
        StoreError: it does not match its checksum `said`, is of a newer Raven, or is none.
    """
    if format_sum(data) != said:
        raise StoreError(f"{where / MANIFEST_NAME} and {SUM_NAME} do not match: one of them was changed")
    try:
        newer = msgspec.json.decode(data).get("format", 0) > FORMAT
        manifest = msgspec.json.decode(data, type=Manifest) if not newer else None
    except (msgspec.MsgspecError, AttributeError, TypeError) as error:
        raise StoreError(f"{where / MANIFEST_NAME} is none: {error}") from error
    if manifest is None:
        raise StoreError(f"{where / MANIFEST_NAME} was written by a newer Raven; restore it with that one")
    for file in manifest.files:
        if not _PATH.fullmatch(file.path):
            raise StoreError(f"{where / MANIFEST_NAME} names {file.path!r}, which is no file of a data directory")
    return manifest
