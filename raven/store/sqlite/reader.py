"""Reading the file of one day, while it is written or after.

Every statement is finished before anything else is done: a reader that is slow keeps no snapshot open, which would keep the WAL
growing. What a topic's list of rows did not have yet when it was made is looked for at its end.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from raven.errors import StoreError
from raven.model.topic import Kind, Topic
from raven.store.blocks import Block, Image, TimeRange
from raven.store.cutting import block_behind
from raven.store.sqlite import tail
from raven.store.sqlite.rows import Lags, unpack
from raven.store.sqlite.schema import Bounds, check_schema, open_file, read_bounds, store_error

__all__ = ["TS_MIN", "DayReader"]

TS_MIN, TS_MAX = -(2**63), 2**63 - 1

_ENTRY = "SELECT id, span_ns, lag_min_ns, lag_max_ns FROM topics WHERE venue = ? AND symbol = ? AND kind = ? AND variant = ?"
_TOPICS = "SELECT id, venue, symbol, kind, variant FROM topics"
_ROWS = (
    "SELECT id FROM blocks WHERE topic = ? AND first_ts >= ? AND first_ts < ? AND {last} >= ? AND {first} < ? "
    "AND (epoch > ? OR (epoch = ? AND last_sequence > ?)) ORDER BY epoch, first_sequence"
)
_ROWS_OF_CLOCK = {
    False: _ROWS.format(first="first_ts", last="last_ts"),
    True: _ROWS.format(first="first_venue_ts", last="last_venue_ts"),
}
_ROW = (
    "SELECT epoch, first_sequence, last_sequence, first_ts, last_ts, first_venue_ts, last_venue_ts, elements "
    "FROM blocks WHERE id = ?"
)
_LAST = "SELECT last_sequence FROM blocks WHERE topic = ? AND epoch = ? ORDER BY first_sequence DESC LIMIT 1"
_IMAGE = (
    "SELECT epoch, sequence, ts, element FROM images WHERE topic = ? AND ts < ? ORDER BY ts DESC, epoch DESC, sequence DESC "
    "LIMIT 1"
)

log = structlog.stdlib.get_logger("raven.store")


class DayReader:
    """Reads a day's file, for any number of threads; the connection is theirs one at a time, for one statement each.

    Args:
        growing: what the writer of a file has of a topic that is in no row yet; None = it is not in this process, and what its
            tail had when it was first asked for counts.

    Raises:
        StoreError: it cannot be opened; DamagedError: it is no database.
        StartupError: it is another program's, or that of a newer Raven.
    """

    def __init__(self, path: Path, growing: Callable[[Path, Topic], Block | None] | None = None) -> None:
        self.path = path
        self._growing = growing
        self._tail: dict[Topic, list[Block]] | None = None
        self._lock = threading.Lock()
        self._damage_told = False
        self._connection = open_file(path, writing=False)
        try:
            self._made = check_schema(path, self._connection)
        except sqlite3.Error as error:
            self._connection.close()
            raise store_error(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def bounds(self) -> Bounds | None:
        """The times of all that is in the file; None when it is empty.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            with self._lock:
                return read_bounds(self._connection) if self._made else None
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error

    def has_tail(self) -> bool:
        """Whether the server that wrote it has not closed it.

        Raises:
            StoreError: it cannot be read.
        """
        return bool(self._made and self._query("SELECT 1 FROM tail LIMIT 1"))

    def topics(self) -> list[Topic]:
        """All topics that the file has something of.

        Raises:
            StoreError: it cannot be read.
        """
        rows = self._query("SELECT venue, symbol, kind, variant FROM topics")
        return [Topic(venue, symbol, Kind(kind), variant) for venue, symbol, kind, variant in rows]

    def blocks(self, topic: Topic, within: TimeRange, behind: tuple[int, int] | None = None) -> Iterator[Block]:
        """As HistoryStore.blocks says, of this file. Rows that are damaged are left out, which their sequences tell.

        Args:
            behind: epoch and sequence of the last event of the file that is not wanted.

        Raises:
            StoreError: it cannot be read.
        """
        place = behind or (TS_MIN, 0)
        while True:
            before, growing = place, self._growing_of(topic)  # before the rows: it may become one meanwhile
            for row in self._rows_behind(topic, within, place):
                block = _rest(self._block_of(topic, row), place)
                place = row[0], row[2]
                if block is not None:
                    yield block
            for one in growing:
                block = _rest(one, place)
                if block is not None and _touches(block, within):
                    place = block.epoch, block.last_sequence
                    yield block
            if place == before:
                return

    def _growing_of(self, topic: Topic) -> Sequence[Block]:
        if self._growing is not None:
            block = self._growing(self.path, topic)
            return () if block is None else (block,)
        if self._tail is None:
            self._tail = self._read_tail()
        return self._tail.get(topic, ())

    def _read_tail(self) -> dict[Topic, list[Block]]:
        """What was in no row yet, by topic, in its order."""
        if not self.has_tail():
            return {}
        rows = self._query(_TOPICS)
        topics = {number: Topic(venue, symbol, Kind(kind), variant) for number, venue, symbol, kind, variant in rows}
        found: dict[Topic, list[Block]] = {}
        places: dict[tuple[Topic, int], int] = {}
        for block in tail.unpacked(self._query(tail.SELECT), topics):
            place = block.topic, block.epoch
            if place not in places:
                places[place] = self.last_sequence(*place) or 0
            rest = block_behind(block, places[place])
            if rest is not None:
                places[place] = rest.last_sequence
                found.setdefault(block.topic, []).append(rest)
        return found

    def _rows_behind(self, topic: Topic, within: TimeRange, place: tuple[int, int]) -> Iterator[tuple[Any, ...]]:
        """The rows that touch a range, as they were when the first is asked for."""
        entry = self._entry(topic)
        for row_id in self._ids_behind(*entry, within, *place) if entry is not None else ():
            yield self._query(_ROW, (row_id,))[0]

    def _entry(self, topic: Topic) -> tuple[int, Lags] | None:
        rows = self._query(_ENTRY, topic) if self._made else []
        return (rows[0][0], Lags(*rows[0][1:])) if rows else None

    def _ids_behind(self, number: int, lags: Lags, within: TimeRange, epoch: int, sequence: int) -> array[int]:
        """The ids of rows in their order: eight bytes a row."""
        low, high = within.start_ns - lags.span_ns, within.end_ns
        if within.venue_clock:
            low, high = low + lags.min_ns, high + lags.max_ns
        values = (number, _held(low), _held(high), _held(within.start_ns), _held(within.end_ns), epoch, epoch, sequence)
        return array("q", (row[0] for row in self._query(_ROWS_OF_CLOCK[within.venue_clock], values)))

    def _block_of(self, topic: Topic, row: tuple[Any, ...]) -> Block | None:
        epoch, first, last, first_ts, last_ts, first_venue, last_venue, packed = row
        try:
            return Block(topic, epoch, first, last, first_ts, last_ts, first_venue, last_venue, unpack(packed))
        except zlib.error as error:
            self._tell_damage(f"{topic}, sequences {first} to {last}: {error}")
            return None

    def _tell_damage(self, what: str) -> None:
        if not self._damage_told:
            self._damage_told = True
            log.error("a row of the history is damaged; readers are told a gap", file=str(self.path), row=what)

    def last_sequence(self, topic: Topic, epoch: int) -> int | None:
        """The last event of an epoch that is in the file.

        Raises:
            StoreError: it cannot be read.
        """
        entry = self._entry(topic)
        rows = self._query(_LAST, (entry[0], epoch)) if entry else []
        return rows[0][0] if rows else None

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        """The latest image of a topic with `ts_ns` < `before_ns` in this file.

        Raises:
            StoreError: it cannot be read.
        """
        entry = self._entry(topic)
        rows = self._query(_IMAGE, (entry[0], _held(before_ns))) if entry else []
        if not rows:
            return None
        epoch, sequence, ts, packed = rows[0]
        try:
            return Image(topic, epoch, sequence, ts, unpack(packed))
        except zlib.error as error:
            self._tell_damage(f"{topic}, image at sequence {sequence}: {error}")
            return self.image(topic, ts)

    def _query(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.ProgrammingError as error:  # another thread has closed it
            raise StoreError(f"history file {self.path} was closed: {error}") from error
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error

    def close(self) -> None:
        """Close it, when no statement is under way."""
        with self._lock:
            self._connection.close()


def _rest(block: Block | None, place: tuple[int, int]) -> Block | None:
    """What of a block comes behind a place."""
    if block is None or block.epoch < place[0]:
        return None
    return block_behind(block, place[1]) if block.epoch == place[0] else block


def _touches(block: Block, within: TimeRange) -> bool:
    if within.venue_clock:
        return block.first_venue_ts_ns < within.end_ns and block.last_venue_ts_ns >= within.start_ns
    return block.first_ts_ns < within.end_ns and block.last_ts_ns >= within.start_ns


def _held(ts_ns: int) -> int:
    """A time as far as a column can hold it."""
    return min(max(ts_ns, TS_MIN), TS_MAX)
