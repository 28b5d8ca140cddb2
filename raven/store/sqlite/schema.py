"""What stands in a day's file, and opening one.

A row of `blocks` is a run of consecutive events of a topic, compressed with zlib. Times are nanoseconds since 1970.
What is too short for a row yet stands in `tail`, of many topics together (raven/store/sqlite/tail.py).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs

from raven.errors import StartupError, StoreError

__all__ = ["Bounds", "DamagedError", "check_schema", "create", "open_file", "read_bounds", "store_error"]

APPLICATION_ID = 0x5256_4831  # "RVH1": says to whoever finds the file whose it is
VERSION = 1
BUSY_S = 10.0
"""Only a reader that closes a file as the last one can be in the writer's way, for as long as a checkpoint takes."""

PAGE_BYTES = 8192
CHECKPOINT_PAGES = 1024
WAL_BYTES_KEPT = 16 * 1024 * 1024

_SCHEMA = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY, venue TEXT NOT NULL, symbol TEXT NOT NULL, kind INTEGER NOT NULL, variant TEXT NOT NULL,
    span_ns INTEGER NOT NULL, lag_min_ns INTEGER NOT NULL, lag_max_ns INTEGER NOT NULL, UNIQUE (venue, symbol, kind, variant)
);
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL REFERENCES topics, epoch INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL, last_sequence INTEGER NOT NULL, first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL,
    first_venue_ts INTEGER NOT NULL, last_venue_ts INTEGER NOT NULL, elements BLOB NOT NULL
);
CREATE UNIQUE INDEX blocks_by_sequence ON blocks (topic, epoch, first_sequence);
CREATE INDEX blocks_by_time ON blocks (topic, first_ts);
CREATE TABLE tail (id INTEGER PRIMARY KEY, blocks BLOB NOT NULL);
CREATE TABLE images (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL REFERENCES topics, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    ts INTEGER NOT NULL, element BLOB NOT NULL, UNIQUE (topic, epoch, sequence)
);
CREATE INDEX images_by_time ON images (topic, ts);
CREATE TABLE bounds (
    first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL, first_venue_ts INTEGER NOT NULL, last_venue_ts INTEGER NOT NULL
)
"""


class DamagedError(StoreError):
    """A file is no database any more."""


@attrs.frozen
class Bounds:
    """The least and the greatest times of all that is in a file, both inclusive."""

    first_ts_ns: int
    last_ts_ns: int
    first_venue_ts_ns: int
    last_venue_ts_ns: int

    def touches(self, start_ns: int, end_ns: int, *, venue_clock: bool) -> bool:
        """Whether something may be in a range whose end is exclusive."""
        if venue_clock:
            return self.first_venue_ts_ns < end_ns and self.last_venue_ts_ns >= start_ns
        return self.first_ts_ns < end_ns and self.last_ts_ns >= start_ns

    def including(self, other: Bounds) -> Bounds:
        """Of both."""
        return Bounds(
            min(self.first_ts_ns, other.first_ts_ns),
            max(self.last_ts_ns, other.last_ts_ns),
            min(self.first_venue_ts_ns, other.first_venue_ts_ns),
            max(self.last_venue_ts_ns, other.last_venue_ts_ns),
        )


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite says, in the words of a store."""
    code = getattr(error, "sqlite_errorcode", None)
    damaged = code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return (DamagedError if damaged else StoreError)(f"history file {path}: {error}")


def open_file(path: Path, *, writing: bool) -> sqlite3.Connection:
    """A connection that any one thread at a time may use. For writing the file is made where it is missing.

    Raises:
        StoreError: it cannot be opened; DamagedError: it is no database.
    """
    mode = "rwc" if writing else "rw"  # a reader, too, has to take up what a killed server has left in the WAL
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=True
        )
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    try:
        _set_up(connection, writing=writing)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from error
    return connection


def _set_up(connection: sqlite3.Connection, *, writing: bool) -> None:
    if not writing:
        connection.execute("PRAGMA query_only = ON")
        return
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # the place that a tail took is given back when a file is closed
    connection.execute("PRAGMA journal_mode = WAL")
    # NORMAL: a commit is safe against the end of the process at once, and against the end of the machine from the next
    # checkpoint on. FULL would wait for the disk at every commit to save a few more seconds of a lost machine.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -8192")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")


def check_schema(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether the file has its tables; without them it is new, or its server was killed while it made them.

    Raises:
        StartupError: another program's file, or that of a newer Raven.
        sqlite3.Error: it cannot be read.
    """
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application == APPLICATION_ID:
        if version > VERSION:
            text = f"history file {path} was written by a newer Raven: its version is {version}, this one reads up to {VERSION}"
            raise StartupError(text + "; run the newer one, or move the file away")
        return True
    if application or connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StartupError(f"history file {path} is not of Raven: move it away, or give data.dir another directory")
    return False


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_bounds(connection: sqlite3.Connection) -> Bounds | None:
    """Of all that is in the file; None when it is empty."""
    row = connection.execute("SELECT first_ts, last_ts, first_venue_ts, last_venue_ts FROM bounds").fetchone()
    return Bounds(*row) if row else None


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
