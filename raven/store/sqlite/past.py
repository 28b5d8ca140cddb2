"""The embedded history as another process's server writes it, for reading alone: beside that server, without its lock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

from raven.errors import StartupError, StoreError
from raven.model.topic import Topic
from raven.store.blocks import Block, Image, TimeRange
from raven.store.sqlite.days import damaged_files, day_files, times_of
from raven.store.sqlite.history import READERS_MAX
from raven.store.sqlite.reader import TS_MIN, DayReader
from raven.store.sqlite.schema import Bounds, DamagedError

__all__ = ["ReadOnlyHistory"]


class ReadOnlyHistory:
    """A HistoryStore that takes nothing: no file of it is made, renamed or removed. One thread at a time.

    What is there is looked at once: days that begin later are not seen, and those that retention removes meanwhile are holes.

    Args:
        directory: where the files of days are.

    Raises:
        StartupError: there is none, or a file in it is of another program or of a newer Raven.
        StoreError: a file cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise StartupError(f"there is no history in {directory}: valid is the data directory of a server that keeps one")
        self._paths = day_files(directory)
        self._readers: OrderedDict[int, DayReader] = OrderedDict()
        self._bounds: dict[int, Bounds] = {}
        self._holes = {(file.start_ns, file.end_ns) for file in damaged_files(directory)}
        try:
            for day in self._paths:
                self._look_at(day)
        except BaseException:
            self.close()
            raise

    def _look_at(self, day: int) -> None:
        try:
            bounds = self._reader(day).bounds()
        except DamagedError:
            self._holes.add(times_of(day))
            return
        if bounds is not None:
            self._bounds[day] = bounds

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The times of receipt of the first and the last event that is kept; None when there is none."""
        every = self._bounds.values()
        return (min(each.first_ts_ns for each in every), max(each.last_ts_ns for each in every)) if every else None

    def write(self, blocks: Sequence[Block], images: Sequence[Image]) -> None:  # noqa: ARG002  # HistoryStore names them
        """Raises StoreError: it is for reading."""
        raise StoreError("this history is open for reading alone")

    def topics(self, within: TimeRange) -> list[Topic]:
        """The topics of the files that something of a range is in, sorted.

        Raises:
            StoreError: a file cannot be read.
        """
        return sorted({topic for day in self._days(within) for topic in self._reader(day).topics()})

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        """As HistoryStore.blocks says.

        Raises:
            StoreError: a file cannot be read.
        """
        for day in self._days(within):
            try:
                yield from self._reader(day).blocks(topic, within)
            except DamagedError:
                self._give_up(day)
                raise

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        """The latest image of a topic with `ts_ns` < `before_ns`.

        Raises:
            StoreError: a file cannot be read.
        """
        for day in reversed(self._days(TimeRange(TS_MIN, before_ns))):
            image = self._reader(day).image(topic, before_ns)
            if image is not None:
                return image
        return None

    def holes(self, within: TimeRange) -> list[tuple[int, int]]:
        """The times of files that cannot be read, as far as they are in a range."""
        cut = [(max(start, within.start_ns), min(end, within.end_ns)) for start, end in self._holes]
        return sorted((start, end) for start, end in cut if start < end)

    def _days(self, within: TimeRange) -> list[int]:
        return [
            day
            for day, bounds in self._bounds.items()
            if bounds.touches(within.start_ns, within.end_ns, venue_clock=within.venue_clock)
        ]

    def _reader(self, day: int) -> DayReader:
        """The reader of a day, the most recently used of READERS_MAX."""
        reader = self._readers.pop(day, None) or self._open(day)
        self._readers[day] = reader
        if len(self._readers) > READERS_MAX:
            self._readers.popitem(last=False)[1].close()
        return reader

    def _open(self, day: int) -> DayReader:
        try:
            return DayReader(self._paths[day])
        except StoreError:
            if day in self._bounds:  # it was there, and retention has removed it since
                self._give_up(day)
            raise

    def _give_up(self, day: int) -> None:
        self._holes.add(times_of(day))
        self._bounds.pop(day, None)

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._readers.popitem()[1].close()
