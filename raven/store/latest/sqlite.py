"""Latest values in one SQLite file: what a single server needs to answer at once after a restart.

A file that is damaged, or of a later version, is set aside and a new one begun: what is lost is the time until feeds are live.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from raven.errors import StoreError
from raven.model.topic import Kind, Topic
from raven.store.latest.packing import pack_subscriptions, unpack_client, unpack_value
from raven.store.latest.values import KEEP_S, ClientSubscriptions, LatestValue

__all__ = ["FILE_NAME", "SqliteLatest"]

FILE_NAME = "latest.sqlite"
DAMAGED_NAME = "latest.sqlite.damaged"
VERSION = 1
BUSY_S = 1.0
"""How long another process that looks into the file (a backup) may keep a write waiting."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA})

_SCHEMA = """
CREATE TABLE latest (
    venue TEXT NOT NULL, symbol TEXT NOT NULL, kind INTEGER NOT NULL, variant TEXT NOT NULL,
    epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, status BLOB NOT NULL, image BLOB NOT NULL, written_s REAL NOT NULL,
    PRIMARY KEY (venue, symbol, kind, variant)
) STRICT;
CREATE TABLE clients (
    client_id TEXT PRIMARY KEY NOT NULL, subscriptions BLOB NOT NULL, expires_s REAL NOT NULL
) STRICT;
"""
_PUT = """
INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (venue, symbol, kind, variant) DO UPDATE
SET epoch = excluded.epoch, sequence = excluded.sequence, status = excluded.status, image = excluded.image,
    written_s = excluded.written_s
WHERE (excluded.epoch, excluded.sequence) >= (latest.epoch, latest.sequence)
"""
_REMOVE = "DELETE FROM latest WHERE (venue, symbol, kind, variant) = (?, ?, ?, ?)"
_LOAD = "SELECT * FROM latest WHERE venue = ? ORDER BY symbol, kind, variant"
_PUT_CLIENT = """
INSERT INTO clients VALUES (?, ?, ?)
ON CONFLICT (client_id) DO UPDATE SET subscriptions = excluded.subscriptions, expires_s = excluded.expires_s
WHERE excluded.expires_s >= clients.expires_s
"""
_REMOVE_CLIENT = "DELETE FROM clients WHERE client_id = ? AND expires_s <= ?"

log = structlog.stdlib.get_logger("raven.store")


class SqliteLatest:
    """Keeps them in `directory`, which is held against other servers (raven.store.data_dir).

    Args:
        now_s: wall clock.
    """

    name = "sqlite"
    shared = False

    def __init__(self, directory: Path, now_s: Callable[[], float] = time.time) -> None:
        self._file = directory / FILE_NAME
        self._now_s = now_s
        self._open: sqlite3.Connection | None = None

    def put(self, values: Sequence[LatestValue]) -> None:
        """Keep them, all or nothing."""
        now_s = self._now_s()
        with self._transaction() as db:
            db.executemany(_PUT, (_row(value, now_s) for value in values))

    def remove(self, topics: Sequence[Topic]) -> None:
        """Forget them."""
        with self._transaction() as db:
            db.executemany(_REMOVE, ((*topic[:2], int(topic.kind), topic.variant) for topic in topics))

    def load(self, venues: Collection[str]) -> list[LatestValue]:
        """All values of some venues."""
        with self._transaction() as db:
            db.execute("DELETE FROM latest WHERE written_s < ?", (self._now_s() - KEEP_S,))
            rows = [row for venue in sorted(set(venues)) for row in db.execute(_LOAD, (venue,))]
        values = (unpack_value(_topic(row), *row[4:8]) for row in rows)
        return [value for value in values if value is not None]

    def put_clients(self, clients: Sequence[ClientSubscriptions]) -> None:
        """Keep them, all or nothing."""
        with self._transaction() as db:
            for client in clients:
                if client.subscriptions:
                    packed = pack_subscriptions(client.subscriptions)
                    db.execute(_PUT_CLIENT, (client.client_id, packed, client.expires_s))
                else:
                    db.execute(_REMOVE_CLIENT, (client.client_id, client.expires_s))

    def load_clients(self, now_s: float) -> list[ClientSubscriptions]:
        """All that have not expired."""
        with self._transaction() as db:
            db.execute("DELETE FROM clients WHERE expires_s <= ?", (now_s,))
            rows = db.execute("SELECT client_id, subscriptions, expires_s FROM clients ORDER BY expires_s").fetchall()
        clients = (unpack_client(*row) for row in rows)
        return [client for client in clients if client is not None]

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            with suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    # ---- the file

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Raises StoreError; then nothing has changed, except that a damaged file has made place for a new one."""
        try:
            if self._open is None:
                self._open = self._connect()
            with self._open as db:
                db.execute("BEGIN IMMEDIATE")
                yield db
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                self._set_aside(str(error))
            raise StoreError(f"{self._file}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        """A connection to a file with the present schema; one that cannot be used is set aside first."""
        try:
            return _connected(self._file)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
            self._set_aside(str(error))
            return _connected(self._file)

    def _set_aside(self, reason: str) -> None:
        """The last one that was set aside is kept, for whoever wants to know."""
        self.close()
        aside = self._file.with_name(DAMAGED_NAME)
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self._file.with_name(FILE_NAME + end).replace(aside.with_name(DAMAGED_NAME + end))
        log.error("latest values cannot be read: a new file is begun", file=str(self._file), kept=str(aside), error=reason)


def _connected(file: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError: it cannot be opened, or is of another version."""
    db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last writes, never the file
        _make_schema(db)
    except BaseException:
        db.close()
        raise
    return db


def _make_schema(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    elif version != VERSION:
        error = sqlite3.DatabaseError(f"it is of version {version}, and this Raven knows {VERSION}")
        error.sqlite_errorcode = sqlite3.SQLITE_SCHEMA
        raise error


def _row(value: LatestValue, now_s: float) -> tuple[str, str, int, str, int, int, bytes, bytes, float]:
    topic = value.topic
    return (
        *(topic.venue, topic.symbol, int(topic.kind), topic.variant),
        *(value.epoch, value.sequence, value.status, value.image, now_s),
    )


def _topic(row: tuple[str, str, int, str]) -> Topic | None:
    try:
        return Topic(row[0], row[1], Kind(row[2]), row[3])
    except ValueError:
        log.warning("a latest value is of a kind that there is not: it is left out", kind=row[2])
        return None
