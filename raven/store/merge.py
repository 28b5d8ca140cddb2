"""Blocks of many topics as runs of elements in one order: time by the chosen clock, then topic, epoch, sequence. Pure.

A block that overlaps no other in time goes out as it lies; of the elements in it only the times are read, all at once where
they have one length. Blocks that overlap are taken apart, sorted and joined again.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, count, pairwise, repeat
from typing import Protocol

import attrs

from raven.model.topic import Topic
from raven.store.blocks import Block
from raven.store.times import first_ns, last_ns, times_of
from raven.store.tokens import Key

__all__ = ["RUN_BYTES_MAX", "Run", "Window", "merge"]

RUN_BYTES_MAX = 64 * 1024
"""Of one run, unless one element alone is longer."""

Entry = tuple[int, int, int, bytes]  # time, number of the origin, sequence, element

Lead = Callable[[Block], bytes]
"""Elements that stand in front of a block's first event: what is missing before it."""


@attrs.frozen(slots=True)
class Run:
    """Elements that follow each other.

    Args:
        count: events; what is told before one of them (a gap) does not count.
        first_ts_ns: of the first event, by the chosen clock.
        last: the key of the last one.
    """

    elements: bytes
    count: int
    first_ts_ns: int
    last: Key


@attrs.frozen(slots=True)
class Window:
    """Which events of blocks are wanted, and how they are cut.

    Args:
        after: behind this key.
        until_ns: before this time.
        venue_clock: it is the venue's time that counts.
        slice_ns: events that are further apart do not stand in one run; 0 = they may.
    """

    after: Key
    until_ns: int
    venue_clock: bool = False
    slice_ns: int = 0


def merge(blocks: Iterable[Block], window: Window, lead: Lead, limit: int = 0) -> Iterator[Run]:
    """The events of blocks that are in a window, in order, each once.

    Args:
        limit: of events; 0 = all.

    Raises:
        StoreError: a block is damaged.
    """
    room = limit or sys.maxsize
    for cluster in _clusters(blocks, window):
        line = _line(cluster[0], window, lead) if len(cluster) == 1 else None
        for run in _cut(line or _sorted_line(cluster, window, lead), window, room):
            yield run
            room -= run.count
        if not room:
            return


def _clusters(blocks: Iterable[Block], window: Window) -> Iterator[list[Block]]:
    """Blocks that must be taken apart together; each cluster stands before the next."""

    def start(block: Block) -> Key:
        return first_ns(block, window.venue_clock), block.topic, block.epoch, block.first_sequence

    cluster: list[Block] = []
    end: Key | None = None
    for block in sorted(blocks, key=start):
        if end is not None and end >= start(block):
            cluster.append(block)
        else:
            if cluster:
                yield cluster
            cluster = [block]
        ended = last_ns(block, window.venue_clock), block.topic, block.epoch, block.last_sequence
        end = ended if end is None else max(end, ended)
    if cluster:
        yield cluster


# ---- events in order


class Line(Protocol):
    """Events in their order, all of them wanted."""

    @property
    def times(self) -> Sequence[int]:
        """Of each event."""

    @property
    def offsets(self) -> Sequence[int]:
        """Where each begins among the bytes of all; then where the last one ends."""

    def elements(self, start: int, end: int) -> bytes:
        """Those of some events."""

    def key(self, index: int) -> Key:
        """Of one event."""


def _cut(line: Line, window: Window, room: int) -> Iterator[Run]:
    times, offsets = line.times, line.offsets
    at, end = 0, min(len(times), room)
    while at < end:
        stop = min(end, bisect_right(offsets, offsets[at] + RUN_BYTES_MAX) - 1)
        if window.slice_ns:
            stop = min(stop, bisect_left(times, times[at] + window.slice_ns))
        stop = max(stop, at + 1)
        yield Run(line.elements(at, stop), stop - at, times[at], line.key(stop - 1))
        at = stop


@attrs.frozen(slots=True)
class BlockLine:
    """A block that overlaps no other, or the middle of one: events `first` and those that follow, as they lie."""

    block: Block
    first: int
    times: Sequence[int]
    offsets: Sequence[int]
    before: bytes

    def elements(self, start: int, end: int) -> bytes:
        """See Line."""
        elements = self.block.elements[self.offsets[start] : self.offsets[end]]
        return self.before + elements if start == 0 and self.before else elements

    def key(self, index: int) -> Key:
        """See Line."""
        block = self.block
        return self.times[index], block.topic, block.epoch, block.first_sequence + self.first + index


def _line(block: Block, window: Window, lead: Lead) -> BlockLine | None:
    """A block as it lies; None if its events are not in the order of their times."""
    times, offsets = times_of(block, window.venue_clock)
    if sorted(times) != list(times):
        return None
    after, at, end = window.after, bisect_left(times, window.after[0]), bisect_left(times, window.until_ns)
    while at < end and (times[at], block.topic, block.epoch, block.first_sequence + at) <= after:
        at += 1
    before = lead(block) if at == 0 < end else b""
    return BlockLine(block, at, times[at:end], offsets[at : end + 1], before)


@attrs.frozen(slots=True)
class SortedLine:
    """Events of several blocks. The blocks' origins are (topic, epoch)."""

    entries: Sequence[Entry]
    origins: Sequence[tuple[Topic, int]]
    parts: Sequence[bytes]
    times: Sequence[int]
    offsets: Sequence[int]

    def elements(self, start: int, end: int) -> bytes:
        """See Line."""
        return b"".join(self.parts[start:end])

    def key(self, index: int) -> Key:
        """See Line."""
        ts_ns, number, sequence, _ = self.entries[index]
        topic, epoch = self.origins[number]
        return ts_ns, topic, epoch, sequence


def _sorted_line(cluster: Sequence[Block], window: Window, lead: Lead) -> SortedLine:
    origins = sorted({(block.topic, block.epoch) for block in cluster})
    numbers = {origin: number for number, origin in enumerate(origins)}
    entries: list[Entry] = []
    for block in cluster:
        entries += _entries(block, numbers[block.topic, block.epoch], window, lead)
    entries.sort()
    if _has_doubles(cluster):
        entries = [entry for before, entry in pairwise([(-1, -1, -1, b""), *entries]) if before[:3] != entry[:3]]
    parts = [entry[3] for entry in entries]
    offsets = list(accumulate(map(len, parts), initial=0))
    return SortedLine(entries, origins, parts, [entry[0] for entry in entries], offsets)


def _has_doubles(cluster: Sequence[Block]) -> bool:
    """Whether two blocks may have one event."""
    ranges = sorted((block.topic, block.epoch, block.first_sequence, block.last_sequence) for block in cluster)
    return any(before[:2] == block[:2] and block[2] <= before[3] for before, block in pairwise(ranges))


def _entries(block: Block, number: int, window: Window, lead: Lead) -> Sequence[Entry]:
    """The events of a block that are in a window."""
    data, first = block.elements, block.first_sequence
    times, offsets = times_of(block, window.venue_clock)
    parts = [data[start:end] for start, end in pairwise(offsets)]
    entries: list[Entry] = list(zip(times, repeat(number), count(first), parts))
    after, until_ns = window.after, window.until_ns
    wanted = entries
    if first_ns(block, window.venue_clock) <= after[0] or last_ns(block, window.venue_clock) >= until_ns:
        topic, epoch = block.topic, block.epoch
        wanted = [entry for entry in entries if entry[0] < until_ns and (entry[0], topic, epoch, entry[2]) > after]
    if wanted and wanted[0] is entries[0] and (before := lead(block)):
        wanted[0] = (times[0], number, first, before + parts[0])
    return wanted
