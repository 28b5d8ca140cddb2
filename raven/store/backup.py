"""Backups of the embedded stores: made while a server runs and writes, checksummed, and taken back whole or not at all.

A backup is a directory: `manifest.json`, the manifest's own checksum beside it, and the files under the names that they have in
the data directory. Each SQLite file is as it was after its last commit before it was copied.

Recent events (raven.store.recent) are never in one: they belong to the clean end after which they were written. Whoever goes on
from them later, when clients have seen further events of the same epochs, would give out sequences twice.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import attrs

from raven.errors import StoreError
from raven.store.data_dir import LOCK_NAME, open_data_dir
from raven.store.latest import sqlite as latest
from raven.store.manifest import (
    MANIFEST_NAME,
    SUM_NAME,
    BackupFile,
    FileKind,
    Manifest,
    format_manifest,
    format_sum,
    parse_manifest,
)
from raven.store.opening import HISTORY_DIR
from raven.store.recent import FILE_NAME as RECENT_NAME
from raven.store.sqlite import schema
from raven.store.sqlite.days import damaged_files, day_files

__all__ = ["ASIDE_PREFIX", "Restored", "backup", "restore", "verify"]

ASIDE_PREFIX = "replaced_"
"""What a restore has moved aside stands in the data directory under this and the time."""

STAGING_NAME = "restoring.part"
COPY_BYTES = 1024 * 1024
BUSY_S = 10.0

SCHEMAS = {FileKind.HISTORY: schema.VERSION, FileKind.LATEST: latest.VERSION}
"""The newest version of each kind of file that this Raven reads."""

REPLACED = re.compile(rf"{HISTORY_DIR}|({re.escape(latest.FILE_NAME)}|{re.escape(RECENT_NAME)}).*")
"""What of a data directory a restore takes the place of: the stores with what stands beside them, and recent events."""

Report = Callable[[str, int], None]
"""Called with the name and the size of each file that is done."""


@attrs.frozen
class Restored:
    """What was taken back.

    Args:
        aside: where what was there before is now; None where there was nothing.
    """

    manifest: Manifest
    aside: Path | None


def _silent(_name: str, _size: int) -> None:
    pass


# ---- making one


def backup(data_dir: Path, to: Path, version: str, *, now_ns: int | None = None, report: Report = _silent) -> Path:
    """Copy what the embedded stores have into a new directory `to`/raven_backup_YYYYMMDD_HHMMSS (UTC); where that is.

    A server may run and write meanwhile. What has the name is whole: until then it ends in ".part".

    Args:
        version: of this Raven.

    Raises:
        StoreError: there is nothing to back up, a file is damaged, or something cannot be read or written. Nothing is left.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    target = to / f"raven_backup_{_stamp(now_ns)}"
    being_made = target.with_name(f"{target.name}.part")
    with _as_store_error("the backup cannot be written"):
        if target.exists():
            raise StoreError(f"{target} is there already")
        being_made.mkdir(parents=True)
        try:
            manifest = Manifest(version, now_ns, tuple(_copy_all(data_dir, being_made, report)))
            if not manifest.files:
                raise StoreError(f"there is nothing to back up in {data_dir}: neither a history nor latest values")
            _write_manifest(being_made, manifest)
            being_made.rename(target)
            _sync(to)
        except BaseException:
            shutil.rmtree(being_made, ignore_errors=True)
            raise
    return target


def _stamp(now_ns: int) -> str:
    return datetime.fromtimestamp(now_ns // 10**9, UTC).strftime("%Y%m%d_%H%M%S")


def _copy_all(data_dir: Path, target: Path, report: Report) -> Iterator[BackupFile]:
    history = data_dir / HISTORY_DIR
    if history.is_dir():
        (target / HISTORY_DIR).mkdir()
        for path in day_files(history).values():
            yield from _copy_database(path, target, f"{HISTORY_DIR}/{path.name}", FileKind.HISTORY, report)
        for damaged in damaged_files(history):
            yield _copy_aside(damaged.path, target, f"{HISTORY_DIR}/{damaged.path.name}", report)
        _sync(target / HISTORY_DIR)
    yield from _copy_database(data_dir / latest.FILE_NAME, target, latest.FILE_NAME, FileKind.LATEST, report)


def _copy_database(path: Path, target: Path, name: str, kind: FileKind, report: Report) -> Iterator[BackupFile]:
    """One file as of its last commit; nothing if it is not there, or retention has removed it since it was seen."""
    if not path.exists():
        return
    copy = target / name
    try:
        with (
            closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=BUSY_S, isolation_level=None, uri=True)
            ) as source,
            closing(sqlite3.connect(copy, isolation_level=None)) as into,
        ):
            source.execute("PRAGMA query_only = ON")
            into.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
            source.backup(into)  # in one step, which is one snapshot; who writes is not held up
            into.execute("PRAGMA journal_mode = DELETE")  # all in one file
            version = int(into.execute("PRAGMA user_version").fetchone()[0])
            _check_integrity(into, f"{path} is damaged, and cannot be backed up")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be backed up: {error}") from error
    with copy.open("rb") as file:
        os.fsync(file.fileno())
        digest = _digest(file)
    report(name, copy.stat().st_size)
    yield BackupFile(name, copy.stat().st_size, digest, kind, version)


def _copy_aside(path: Path, target: Path, name: str, report: Report) -> BackupFile:
    """A file that a server has set aside as damaged: as it is, because it says when the history has a hole."""
    size, digest = _copy(path, target / name)
    report(name, size)
    return BackupFile(name, size, digest, FileKind.DAMAGED, 0)


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    text = format_manifest(manifest)
    for name, data in ((MANIFEST_NAME, text), (SUM_NAME, format_sum(text))):
        with (directory / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(directory)


# ---- looking at one


def verify(directory: Path) -> Manifest:
    """Hold every file of a backup against the manifest, and that against its checksum.

    Raises:
        StoreError: something does not match, is missing, or is of a newer Raven. The message names the file.
    """
    with _as_store_error("the backup cannot be read"):
        manifest = parse_manifest(_read(directory / MANIFEST_NAME), _read(directory / SUM_NAME), directory)
        for file in manifest.files:
            _check_version(directory / file.path, file)
        for file in manifest.files:
            _check_file(directory / file.path, file)
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StoreError(f"{path.parent} is no whole backup: {path.name} is missing") from None


def _check_version(path: Path, file: BackupFile) -> None:
    newest = SCHEMAS.get(file.kind, 0)
    if file.schema > newest:
        text = f"{path} was written by a newer Raven: its version is {file.schema}, this one reads up to {newest}"
        raise StoreError(f"{text}; restore it with the newer one")


def _check_file(path: Path, file: BackupFile) -> None:
    try:
        with path.open("rb") as opened:
            size, digest = os.fstat(opened.fileno()).st_size, ""
            if size == file.bytes:
                digest = _digest(opened)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: the manifest names it") from None
    if digest != file.sha256:
        what = "its SHA-256 is another" if size == file.bytes else f"it has {size} bytes instead of {file.bytes}"
        raise StoreError(f"{path} is not what was backed up: {what}")


# ---- taking one back


def restore(
    directory: Path, data_dir: Path, *, replace: bool = False, now_ns: int | None = None, report: Report = _silent
) -> Restored:
    """Put the files of a backup into a data directory, all or nothing.

    The backup is verified before anything is touched; the files are copied, checked once more and looked through by SQLite
    beside the old ones, and only then take their places.

    Args:
        replace: what is there already is moved aside; without it the directory has to be empty.

    Raises:
        StoreError: the backup is not whole, the directory is not empty, or something cannot be read or written.
        StartupError: a running server has the directory.
    """
    manifest = verify(directory)
    with _as_store_error("the backup cannot be restored"), open_data_dir(data_dir):
        _check_room(data_dir, replace)
        staging = data_dir / STAGING_NAME
        shutil.rmtree(staging, ignore_errors=True)  # of a restore that was killed
        try:
            _stage(directory, staging, manifest, report)
            aside = data_dir / f"{ASIDE_PREFIX}{_stamp(time.time_ns() if now_ns is None else now_ns)}"
            moved = _swap(staging, data_dir, aside)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return Restored(manifest, aside if moved else None)


def _check_room(data_dir: Path, replace: bool) -> None:
    there = sorted(path.name for path in data_dir.iterdir())
    used = [name for name in there if name not in (LOCK_NAME, STAGING_NAME) and not name.startswith(ASIDE_PREFIX)]
    if used and not replace:
        raise StoreError(f"{data_dir} is not empty ({', '.join(used[:5])}): --replace moves its stores aside")


def _stage(directory: Path, staging: Path, manifest: Manifest, report: Report) -> None:
    """Copies of all files, as the manifest has them and whole databases."""
    staging.mkdir()
    for file in manifest.files:
        path = staging / file.path
        path.parent.mkdir(exist_ok=True)
        if _copy(directory / file.path, path) != (file.bytes, file.sha256):
            raise StoreError(f"{path} is not what was backed up: it was changed while it was copied")
        if file.kind is not FileKind.DAMAGED:
            _look_through(path)
        report(file.path, file.bytes)
    for parent in {(staging / file.path).parent for file in manifest.files}:
        _sync(parent)


def _look_through(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            _check_integrity(database, f"{path.name} is damaged")
    except sqlite3.Error as error:
        raise StoreError(f"{path.name} is no database: {error}") from error


def _swap(staging: Path, data_dir: Path, aside: Path) -> bool:
    """Move what is there aside and what is new in its place; whether there was anything. What fails is moved back."""
    old = [path for path in data_dir.iterdir() if REPLACED.fullmatch(path.name)]
    moves = [(path, aside / path.name) for path in old] + [(path, data_dir / path.name) for path in staging.iterdir()]
    if old:
        aside.mkdir()
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        with suppress(OSError):
            aside.rmdir()
        raise
    _sync(data_dir)
    return bool(old)


# ---- files


def _copy(path: Path, to: Path) -> tuple[int, str]:
    """Size and SHA-256 of what was copied, which is on the disk then."""
    digest, size = sha256(), 0
    with path.open("rb") as source, to.open("wb") as target:
        while part := source.read(COPY_BYTES):
            digest.update(part)
            size += target.write(part)
        target.flush()
        os.fsync(target.fileno())
    return size, digest.hexdigest()


def _digest(file: BinaryIO) -> str:
    digest = sha256()
    while part := file.read(COPY_BYTES):
        digest.update(part)
    return digest.hexdigest()


def _check_integrity(database: sqlite3.Connection, what: str) -> None:
    found = [row[0] for row in database.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise StoreError(f"{what}: {'; '.join(map(str, found))}")


def _sync(directory: Path) -> None:
    """What was renamed in it stays so when the power fails. Windows knows no such thing."""
    if os.name == "posix":
        number = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def _as_store_error(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise StoreError(f"{what}: {named}{error.strerror or error}") from error
