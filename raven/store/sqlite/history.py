"""The embedded history: a HistoryStore over the files of days."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import structlog

from raven.errors import StartupError, StoreError
from raven.model.topic import Topic
from raven.store.blocks import Block, Image, TimeRange
from raven.store.data_dir import has_room, make_dir
from raven.store.sqlite import retention
from raven.store.sqlite.days import DamagedFile, damaged_files, day_files, day_of, file_name, set_aside, times_of
from raven.store.sqlite.reader import TS_MIN, DayReader
from raven.store.sqlite.schema import Bounds, DamagedError
from raven.store.sqlite.writer import DayWriter

__all__ = ["SqliteHistory", "SqliteStatistics"]

READERS_MAX = 8
"""Files that are open for reading at a time; they are opened again when they are asked for again."""

RETENTION_S = 60.0
"""How often the size of all files is looked at."""

log = structlog.stdlib.get_logger("raven.store")


@attrs.frozen
class SqliteStatistics:
    """What there is, as of the last look.

    Args:
        files: days that are kept.
        bytes: what they take on the disk.
        removed: files that retention has removed since the start.
        damaged: files that were found damaged and set aside since the start.
    """

    files: int
    bytes: int
    removed: int
    damaged: int


class SqliteHistory:
    """Blocks in one SQLite file per UTC day. What is written is safe against the end of the process when `write` returns.

    A block goes into the file of the day of its first event, and never into one before that of the block before it: a clock
    that is set back does not change the order of what is read.

    On a disk that is full it opens, and refuses what it is given until there is room. Files that cannot be read without room (a
    WAL takes some) are looked at before the next write; until then their days are holes.

    Args:
        directory: where the files are; made where it is missing.
        keep_days: UTC days that stay, today among them; None = all.
        keep_bytes: what all files may take; the oldest go first, never today's; None = anything.
        now_ns: wall clock.

    Raises:
        StartupError: the directory cannot be written, or a file in it is of another program or of a newer Raven.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep_days: int | None = None,
        keep_bytes: int | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._directory = directory
        self._keep_days = keep_days
        self._keep_bytes = keep_bytes
        self._now_ns = now_ns
        self._writing = threading.Lock()
        self._reading = threading.Lock()  # of the readers, the bounds and the damaged files
        self._closed = False
        self._writer: DayWriter | None = None
        self._day = -1
        self._readers: OrderedDict[int, DayReader] = OrderedDict()
        self._bounds: dict[int, Bounds | None] = {}
        self._suspects: set[int] = set()
        self._unseen: set[int] = set()
        self._damaged: list[DamagedFile] = []
        self._swept_at = time.monotonic()
        self._statistics = SqliteStatistics(0, 0, 0, 0)
        make_dir(directory)
        try:
            self._look_around(has_room(directory))
            self._sweep()
        except (OSError, StoreError) as error:
            raise StartupError(f"the history in {directory} cannot be used: {error}") from error

    def _look_around(self, room: bool) -> None:
        """Find the files that there are, and set aside those that cannot be read."""
        self._damaged = damaged_files(self._directory)
        for day, path in day_files(self._directory).items():
            try:
                self._see(day, path)
            except StoreError:
                if room:
                    raise
                self._unseen.add(day)
        if self._unseen:
            text = "history files cannot be read while the disk is full: they are looked at again when there is room"
            log.warning(text, directory=str(self._directory), files=len(self._unseen))
        last = max((*self._bounds, *self._unseen), default=-1)
        self._day = last if last <= day_of(self._now_ns()) + 1 else -1  # a clock that was years ahead is not followed

    def _see(self, day: int, path: Path) -> None:
        """Raises StoreError: it cannot be read now."""
        try:
            bounds = _look_at(path)
        except DamagedError as error:
            self._set_aside(day, error)
        else:
            with self._reading:
                self._bounds[day] = bounds

    def _see_unseen(self) -> None:
        """Raises StoreError: there is no room yet."""
        for day in sorted(self._unseen):
            try:
                self._see(day, self._directory / file_name(day))
            except StartupError as error:
                raise StoreError(str(error)) from error
            with self._reading:
                self._unseen.discard(day)

    # ---- writing

    def write(self, blocks: Sequence[Block], images: Sequence[Image]) -> None:
        """Keep them. What is there already is not kept twice: an event is known by topic, epoch and sequence.

        Raises:
            StoreError: not all are kept; the same call may be made again later.
        """
        with self._writing:
            if self._closed:
                raise StoreError(f"the history in {self._directory} is closed")
            if time.monotonic() - self._swept_at >= RETENTION_S:
                self._sweep()  # before the write: where the disk is full it is what may make room
            self._see_unseen()
            self._set_suspects_aside()
            for day, of_day in self._by_day(blocks, images).items():
                self._write_day(day, *of_day)

    def _by_day(self, blocks: Sequence[Block], images: Sequence[Image]) -> dict[int, tuple[list[Block], list[Image]]]:
        """Days in order, with what goes into their files."""
        days: dict[int, tuple[list[Block], list[Image]]] = {}
        day = self._day
        for block in blocks:
            day = max(day, day_of(block.first_ts_ns))
            days.setdefault(day, ([], []))[0].append(block)
        for image in images:
            days.setdefault(max(self._day, day_of(image.ts_ns)), ([], []))[1].append(image)
        return dict(sorted(days.items()))

    def _write_day(self, day: int, blocks: list[Block], images: list[Image]) -> None:
        try:
            self._writer_of(day).write(blocks, images)
        except DamagedError as error:
            self._close_writer()
            self._set_aside(day, error)
            raise  # the same call is made again, and finds a new file
        except StoreError:
            self._close_writer()  # what was going on is not known: begin with what the file says
            raise
        with self._reading:
            self._bounds[day] = self._writer_of(day).bounds

    def _writer_of(self, day: int) -> DayWriter:
        if self._writer is None or self._day != day:
            self._close_writer()
            try:
                self._writer = DayWriter(self._directory / file_name(day), partial(self._earlier, day))
            except StartupError as error:  # somebody has put it there since
                raise StoreError(str(error)) from error
            if day != self._day:
                self._day = day
                self._sweep()
        return self._writer

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _earlier(self, day: int, topic: Topic, epoch: int) -> int | None:
        """Where an epoch of a topic ended before the file of `day`."""
        before = max((other for other in self._bounds if other < day), default=None)
        reader = self._reader(before) if before is not None else None
        return reader.last_sequence(topic, epoch) if reader is not None else None

    # ---- what is damaged, and what is too old

    def _set_aside(self, day: int, error: DamagedError) -> None:
        """Make room for a new file of a day.

        Raises:
            StoreError: the damaged one cannot be renamed.
        """
        path = self._directory / file_name(day)
        with self._reading:
            self._forget(day)
            try:
                damaged = set_aside(path, day, self._now_ns())
            except OSError as failure:
                raise StoreError(f"history file {path} is damaged and cannot be renamed: {failure}") from error
            self._damaged.append(damaged)
            self._statistics = attrs.evolve(self._statistics, damaged=self._statistics.damaged + 1)
        log.error("a damaged history file was set aside", file=str(path), now=damaged.path.name, error=str(error))

    def _set_suspects_aside(self) -> None:
        with self._reading:
            suspects = sorted(self._suspects)
        for day in suspects:
            if day == self._day:
                self._close_writer()
            self._set_aside(day, DamagedError("a reader found it damaged"))

    def _sweep(self) -> None:
        """Remove what is too old or too much. What cannot be removed is tried again."""
        self._swept_at = time.monotonic()
        files = retention.stored_files(self._directory)
        written = self._day if self._writer is not None else None
        going = list(retention.to_remove(files, day_of(self._now_ns()), written, self._keep_days, self._keep_bytes))
        gone = [file for file in going if self._remove(file)]
        kept = [file for file in files if file not in gone]
        with self._reading:
            self._statistics = attrs.evolve(
                self._statistics,
                files=len(kept),
                bytes=sum(file.bytes for file in kept),
                removed=self._statistics.removed + len(gone),
            )

    def _remove(self, file: retention.StoredFile) -> bool:
        ours = file.path.name == file_name(file.day)
        with self._reading:
            if ours:
                self._close_reader(file.day)
        try:
            retention.remove(file.path)
        except OSError as error:
            log.warning("an old history file cannot be removed", file=str(file.path), error=str(error))
            return False
        with self._reading:
            if ours:
                self._forget(file.day)
            self._damaged = [damaged for damaged in self._damaged if damaged.path != file.path]
        log.info("an old history file was removed", file=str(file.path), bytes=file.bytes)
        return True

    def _forget(self, day: int) -> None:
        self._bounds.pop(day, None)
        self._suspects.discard(day)
        self._unseen.discard(day)
        self._close_reader(day)

    def _close_reader(self, day: int) -> None:
        reader = self._readers.pop(day, None)
        if reader is not None:
            reader.close()

    # ---- reading

    def topics(self, within: TimeRange) -> list[Topic]:
        """The topics of the files that something of a range is in, sorted.

        Raises:
            StoreError: a file cannot be read.
        """
        found: set[Topic] = set()
        for day in self._days(within):
            with self._suspecting(day):
                reader = self._reader(day)
                found.update(reader.topics() if reader is not None else ())
        return sorted(found)

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        """As HistoryStore.blocks says. A clock that was set back between two starts of Raven may give an epoch that is less
        than the one before; it comes behind it then.

        Raises:
            StoreError: a file cannot be read.
        """
        day = next(iter(self._days(within)), None)
        while day is not None:
            following = self._day_behind(day, within)
            behind: tuple[int, int] | None = None
            for block in self._blocks_of(day, topic, within, None):
                behind = (block.epoch, block.last_sequence)
                yield block
            if following is None:  # a day that has begun since: the one that was read may have grown until then
                following = self._day_behind(day, within)
                if following is not None:
                    yield from self._blocks_of(day, topic, within, behind)
            day = following

    def _blocks_of(self, day: int, topic: Topic, within: TimeRange, behind: tuple[int, int] | None) -> Iterator[Block]:
        with self._suspecting(day):
            reader = self._reader(day)
            if reader is not None:
                yield from reader.blocks(topic, within, behind)

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        """The latest image of a topic with `ts_ns` < `before_ns`.

        Raises:
            StoreError: a file cannot be read.
        """
        for day in reversed(self._days(TimeRange(TS_MIN, before_ns))):
            with self._suspecting(day):
                reader = self._reader(day)
                image = reader.image(topic, before_ns) if reader is not None else None
            if image is not None:
                return image
        return None

    def holes(self, within: TimeRange) -> list[tuple[int, int]]:
        """The times of files that were damaged or cannot be read yet, as far as they are in a range."""
        with self._reading:
            times = [(file.start_ns, file.end_ns) for file in self._damaged]
            times += [times_of(day) for day in self._suspects | self._unseen]
        cut = [(max(start, within.start_ns), min(end, within.end_ns)) for start, end in times]
        return sorted({(start, end) for start, end in cut if start < end})

    def _days(self, within: TimeRange) -> list[int]:
        """Days in whose files something of a range may be, in order."""
        with self._reading:
            return sorted(
                day
                for day, bounds in self._bounds.items()
                if bounds is not None
                and day not in self._suspects
                and bounds.touches(within.start_ns, within.end_ns, venue_clock=within.venue_clock)
            )

    def _day_behind(self, day: int, within: TimeRange) -> int | None:
        return next((other for other in self._days(within) if other > day), None)

    def _reader(self, day: int) -> DayReader | None:
        """The reader of a day, the most recently used of READERS_MAX; None when its file is gone."""
        with self._reading:
            if self._closed:
                raise StoreError(f"the history in {self._directory} is closed")
            if day not in self._bounds:
                return None
            reader = self._readers.pop(day, None) or self._open_reader(day)
            self._readers[day] = reader
            if len(self._readers) > READERS_MAX:
                self._readers.popitem(last=False)[1].close()
            return reader

    def _open_reader(self, day: int) -> DayReader:
        try:
            return DayReader(self._directory / file_name(day), self._growing)
        except StartupError as error:
            raise StoreError(str(error)) from error

    def _growing(self, path: Path, topic: Topic) -> Block | None:
        writer = self._writer
        return writer.growing(topic) if writer is not None and writer.path == path else None

    @contextmanager
    def _suspecting(self, day: int) -> Iterator[None]:
        """A file that turns out to be damaged is not read again, and is set aside before the next is written."""
        try:
            yield
        except DamagedError:
            with self._reading:
                self._suspects.add(day)
            raise

    # ---- the rest

    def statistics(self) -> SqliteStatistics:
        """What there is."""
        return self._statistics

    def close(self) -> None:
        """Close all files; readers that are under way get a StoreError."""
        with self._writing, self._reading:
            self._closed = True
            self._close_writer()
            while self._readers:
                self._readers.popitem()[1].close()


def _look_at(path: Path) -> Bounds | None:
    """The times of what is in a file. What a killed server had no row for yet becomes rows."""
    reader = DayReader(path)
    try:
        bounds, tail = reader.bounds(), reader.has_tail()
    finally:
        reader.close()
    if tail:
        DayWriter(path, lambda _topic, _epoch: None).close()
    return bounds
