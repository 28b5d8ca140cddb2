"""Writing into the file of one day."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path

import attrs

from raven.model.topic import Topic
from raven.store.blocks import Block, Image
from raven.store.cutting import block_behind
from raven.store.sqlite import tail as tail_table
from raven.store.sqlite.rows import Lags, continues, is_full, joined, lags_of, pack
from raven.store.sqlite.schema import Bounds, check_schema, create, open_file, read_bounds, store_error

__all__ = ["DayWriter"]

_LAST = "SELECT last_sequence FROM blocks WHERE topic = ? AND epoch = ? ORDER BY first_sequence DESC LIMIT 1"


@attrs.frozen(slots=True)
class _End:
    """Where a topic ends.

    Args:
        epoch, last_sequence: of the last event that is kept.
        growing: what is not enough for a row yet.
    """

    epoch: int
    last_sequence: int
    growing: Block | None = None

    @property
    def bytes(self) -> int:
        """Of the events in memory."""
        return len(self.growing.elements) if self.growing is not None else 0


@attrs.frozen(slots=True)
class _Entry:
    id: int
    lags: Lags | None


class DayWriter:
    """The connection that writes into a day's file. One thread at a time.

    Args:
        path: the file; made where it is missing.
        earlier: where a topic's epoch ended in the files before, or None; asked for once per topic and epoch.

    Raises:
        StoreError: it cannot be opened; DamagedError: it is no database.
        StartupError: it is another program's.
    """

    def __init__(self, path: Path, earlier: Callable[[Topic, int], int | None]) -> None:
        self.path = path
        self._earlier = earlier
        self._ends: dict[Topic, _End] = {}
        self._entries: dict[Topic, _Entry] = {}
        self._growing_bytes = self._tail_bytes = 0
        self._connection = open_file(path, writing=True)
        try:
            if not check_schema(path, self._connection):
                create(self._connection)
            self.bounds = read_bounds(self._connection)
            self._read_entries()
            self._take_up_tail()
        except sqlite3.Error as error:
            self._connection.close()
            raise store_error(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def _read_entries(self) -> None:
        rows = self._connection.execute("SELECT id, venue, symbol, kind, variant, span_ns, lag_min_ns, lag_max_ns FROM topics")
        for number, venue, symbol, kind, variant, *lags in rows:
            self._entries[Topic(venue, symbol, kind, variant)] = _Entry(number, Lags(*lags))

    def _take_up_tail(self) -> None:
        """What a server that was killed had no row for."""
        topics = {entry.id: topic for topic, entry in self._entries.items()}
        step = self._step()
        with self._transaction():
            for block in tail_table.unpacked(self._connection.execute(tail_table.SELECT).fetchall(), topics):
                step.put(block)
            step.finish_rows()
            tail_table.clear(self._connection)
        self._entries.update(step.entries)

    def _step(self) -> _Step:
        return _Step(self._connection, self._entries, self._ends, self._last_in_rows)

    def _last_in_rows(self, topic: Topic, epoch: int) -> int | None:
        entry = self._entries.get(topic)
        row = self._connection.execute(_LAST, (entry.id, epoch)).fetchone() if entry else None
        return row[0] if row else self._earlier(topic, epoch)

    def growing(self, topic: Topic) -> Block | None:
        """What is kept of a topic and not in a row yet. Any thread may ask."""
        end = self._ends.get(topic)
        return end.growing if end is not None else None

    def write(self, blocks: Sequence[Block], images: Sequence[Image]) -> None:
        """Keep what is not there yet, all or nothing.

        Raises:
            StoreError: what is kept is known only when the file has been opened anew.
        """
        if not blocks and not images:
            return
        step = self._step()
        try:
            with self._transaction():
                self._put(step, blocks, images)
            self._keep(step)
            if self._growing_bytes > tail_table.GROWING_BYTES_MAX:
                self._finish_rows()
            elif tail_table.wants_to_be_anew(self._tail_bytes, self._growing_bytes):
                self._write_tail_anew()
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error

    def _put(self, step: _Step, blocks: Sequence[Block], images: Sequence[Image]) -> None:
        for block in blocks:
            step.put(block)
        for image in images:
            step.put_image(image)
        step.finish_tail()
        known = [] if self.bounds is None else [self.bounds]
        step.put_bounds(reduce(Bounds.including, [*known, *_bounds_of(blocks, images)]))

    def _keep(self, step: _Step) -> None:
        """It is committed: so it is from here on."""
        for topic, end in step.ends.items():
            before = self._ends.get(topic)
            self._growing_bytes += end.bytes - (before.bytes if before is not None else 0)
            self._ends[topic] = end
        self._entries.update(step.entries)
        self._tail_bytes += step.tail_bytes
        self.bounds = step.bounds or self.bounds

    def _write_tail_anew(self) -> None:
        growing = ((self._entries[topic].id, end.growing) for topic, end in self._ends.items() if end.growing is not None)
        with self._transaction():
            tail_table.clear(self._connection)
            size = tail_table.append(self._connection, growing)
        self._tail_bytes = size

    def _finish_rows(self) -> None:
        """Make rows of all that grows."""
        step = self._step()
        step.ends = dict(self._ends)
        with self._transaction():
            step.finish_rows()
            tail_table.clear(self._connection)
        self._keep(step)
        self._tail_bytes = 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # the next BEGIN says so
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Make rows of all that grows, put what is in the WAL into the file, and close it. Where there is no room for that, the
        next to open the file does it.
        """
        with suppress(sqlite3.Error):
            if self._tail_bytes:
                self._finish_rows()
                self._connection.executescript("PRAGMA incremental_vacuum")  # `execute` would take one step of it
        self._connection.close()


class _Step:
    """One transaction: what it has changed, which counts when it is committed."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        entries: dict[Topic, _Entry],
        ends: dict[Topic, _End],
        last_in_rows: Callable[[Topic, int], int | None],
    ) -> None:
        self._connection = connection
        self._known = entries
        self._known_ends = ends
        self._last_in_rows = last_in_rows
        self._small: list[tuple[int, Block]] = []
        self.entries: dict[Topic, _Entry] = {}
        self.ends: dict[Topic, _End] = {}
        self.bounds: Bounds | None = None
        self.tail_bytes = 0

    def put(self, block: Block) -> None:
        """A block, or what of it is not there yet."""
        end = self._end_before(block)
        rest = block_behind(block, end.last_sequence)
        if rest is None:
            return
        block, growing = rest, end.growing
        if growing is not None and not continues(growing, block):
            self._insert(growing)
            growing = None
        row = joined(growing, block) if growing is not None else block
        if is_full(row):
            self._insert(row)
            self.ends[block.topic] = _End(row.epoch, row.last_sequence)
        else:
            self._small.append((self._entry_of(block.topic).id, block))
            self.ends[block.topic] = _End(row.epoch, row.last_sequence, row)

    def _end_before(self, block: Block) -> _End:
        end = self.ends.get(block.topic) or self._known_ends.get(block.topic)
        if end is None or end.epoch != block.epoch:
            if end is not None and end.growing is not None:
                self._insert(end.growing)
            last = self._last_in_rows(block.topic, block.epoch)
            end = self.ends[block.topic] = _End(block.epoch, block.first_sequence - 1 if last is None else last)
        return end

    def finish_rows(self) -> None:
        """Make rows of all that grows."""
        for topic, end in self.ends.items():
            if end.growing is not None:
                self._insert(end.growing)
            self.ends[topic] = _End(end.epoch, end.last_sequence)

    def finish_tail(self) -> None:
        """Have all that grows outlive the process."""
        self.tail_bytes = tail_table.append(self._connection, self._small)

    def _entry_of(self, topic: Topic) -> _Entry:
        entry = self.entries.get(topic) or self._known.get(topic)
        if entry is None:
            cursor = self._connection.execute("INSERT INTO topics VALUES (NULL, ?, ?, ?, ?, 0, 0, 0)", topic)
            assert cursor.lastrowid is not None
            entry = self.entries[topic] = _Entry(cursor.lastrowid, None)
        return entry

    def _insert(self, row: Block) -> None:
        entry = self._entry_of(row.topic)
        values = (
            entry.id, row.epoch, row.first_sequence, row.last_sequence, row.first_ts_ns, row.last_ts_ns,
            row.first_venue_ts_ns, row.last_venue_ts_ns, pack(row.elements),
        )  # fmt: skip
        self._connection.execute("INSERT INTO blocks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        lags = lags_of(entry.lags, row)
        if lags is not entry.lags:
            self.entries[row.topic] = _Entry(entry.id, lags)
            bounds = (lags.span_ns, lags.min_ns, lags.max_ns, entry.id)
            self._connection.execute("UPDATE topics SET span_ns = ?, lag_min_ns = ?, lag_max_ns = ? WHERE id = ?", bounds)

    def put_image(self, image: Image) -> None:
        """An image, or the same one again."""
        values = (self._entry_of(image.topic).id, image.epoch, image.sequence, image.ts_ns, pack(image.element))
        self._connection.execute("INSERT OR REPLACE INTO images VALUES (NULL, ?, ?, ?, ?, ?)", values)

    def put_bounds(self, bounds: Bounds) -> None:
        """The times of all that is there now."""
        self.bounds = bounds
        self._connection.execute("DELETE FROM bounds")
        self._connection.execute("INSERT INTO bounds VALUES (?, ?, ?, ?)", attrs.astuple(bounds))


def _bounds_of(blocks: Sequence[Block], images: Sequence[Image]) -> Iterator[Bounds]:
    if blocks:
        yield Bounds(
            min(block.first_ts_ns for block in blocks),
            max(block.last_ts_ns for block in blocks),
            min(block.first_venue_ts_ns for block in blocks),
            max(block.last_venue_ts_ns for block in blocks),
        )
    if images:
        first, last = min(image.ts_ns for image in images), max(image.ts_ns for image in images)
        yield Bounds(first, last, first, last)
