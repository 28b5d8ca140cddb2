"""How a long range is read: window by window, each as wide as the store's density allows.

A window is read whole, so its size bounds what a reader holds, and nothing of the store is kept open between two of them. Times
in which nothing happened cost one look, however long they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from raven.model.topic import Selector, Topic
from raven.store.blocks import Block, HistoryStore, TimeRange
from raven.store.times import first_ns, last_ns
from raven.store.tokens import NO_TOPIC, Key

__all__ = ["FRESH_NS", "Read", "Windows"]

FRESH_NS = 2_000_000_000
"""The last moments of a range are one window: they may be written just now, and what is written together is read together."""

TOPIC_BYTES = 32 * 1024
"""A window of many topics may have so much for each: a row is read and unpacked anew for each window that it touches."""

TOPICS_BYTES_MAX = 4 * 1024 * 1024
"""... but no more than this."""

GROWTH_MAX = 8
"""How much wider than the last one a window may be, where that one had something."""

Blocks = list[tuple[Topic, list[Block]]]


@attrs.frozen
class Read:
    """A window that was read.

    Args:
        blocks: of each topic, in the order of their sequences.
        until_ns: where it ends.
        reached: everything up to this key is in it, or was in those before.
    """

    blocks: Blocks
    until_ns: int
    reached: Key


class Windows:
    """The windows of one query, one after the other.

    Args:
        end_ns: of the query.
        bytes_max: of the blocks in one window, which the last one may overrun.
    """

    def __init__(
        self, store: HistoryStore, selectors: Sequence[Selector], venue_clock: bool, after: Key, end_ns: int, bytes_max: int
    ) -> None:
        self._store = store
        self._selectors = selectors
        self._venue_clock = venue_clock
        self._end_ns = end_ns
        self._bytes_max = bytes_max
        self._matching: dict[Topic, bool] = {}
        self._width_ns = max(end_ns - after[0], 1)
        self.after = after
        """Everything up to this key was read."""

    @property
    def done(self) -> bool:
        """Whether there is no further window."""
        return self.after[0] >= self._end_ns

    def topics(self, start_ns: int, end_ns: int) -> list[Topic]:
        """Those of the query of which something may be kept in a range, sorted."""
        return [topic for topic in self._store.topics(self._range(start_ns, end_ns)) if self._matches(topic)]

    def blocks(self, topic: Topic, start_ns: int, end_ns: int) -> Iterator[Block]:
        """The blocks of a topic that touch a range."""
        clock = self._venue_clock
        for block in self._store.blocks(topic, self._range(start_ns, end_ns)):
            if first_ns(block, clock) < end_ns and last_ns(block, clock) >= start_ns:
                yield block

    def read(self, until_ns: int) -> Read:
        """The next window.

        Args:
            until_ns: it does not go further than this.

        Raises:
            StoreError: the store does not answer.
        """
        start_ns = self.after[0]
        end_ns = self._not_fresh(min(until_ns, start_ns + self._width_ns), until_ns)
        while isinstance(read := self._try(start_ns, end_ns), int):
            end_ns = read
        read = self._without_straddlers(read, start_ns)
        every = (block for _, blocks in read.blocks for block in blocks)
        size = sum(len(block.elements) for block in every if first_ns(block, self._venue_clock) >= start_ns)
        self._width_ns = self._next_width(read.until_ns - start_ns, size)
        self.after = read.reached
        return read

    def _try(self, start_ns: int, end_ns: int) -> Read | int:
        """A window; or, where too much begins in it, an earlier end to try. What reaches into it from before is read anyway.

        A nanosecond that has more than a window may have is read in parts.
        """
        found: Blocks = []
        ahead = within = 0  # bytes of blocks that begin behind the start, and of those that are of this nanosecond alone
        topics = self.topics(start_ns, end_ns)
        self._bytes_max = max(self._bytes_max, min(len(topics) * TOPIC_BYTES, TOPICS_BYTES_MAX))
        for index, topic in enumerate(topics):
            blocks: list[Block] = []
            for block in self.blocks(topic, start_ns, end_ns):
                if self._was_read(block, start_ns, end_ns):
                    continue
                blocks.append(block)
                ahead += len(block.elements) if first_ns(block, self._venue_clock) > start_ns else 0
                within += len(block.elements) if last_ns(block, self._venue_clock) == start_ns else 0
                if ahead > self._bytes_max:
                    return self._earlier([*found, (topic, blocks)], ahead * len(topics) / (index + 1), start_ns)
                if within > self._bytes_max:
                    if end_ns - start_ns > 1:
                        return start_ns + 1
                    return Read([*found, (topic, blocks)], end_ns, (start_ns, topic, block.epoch, block.last_sequence))
            if blocks:
                found.append((topic, blocks))
        return Read(found, end_ns, (end_ns, NO_TOPIC, 0, 0))

    def _was_read(self, block: Block, start_ns: int, end_ns: int) -> bool:
        """Whether nothing of a block is left in a window."""
        short = end_ns - start_ns == 1 or last_ns(block, self._venue_clock) == start_ns
        return short and (start_ns, block.topic, block.epoch, block.last_sequence) <= self.after

    def _earlier(self, found: Blocks, size: float, start_ns: int) -> int:
        """Where a window of about so many bytes should end to have half of what it may have, as far as is known."""
        starts = (first_ns(block, self._venue_clock) for _, blocks in found for block in blocks)
        behind = sorted(begins_ns for begins_ns in starts if begins_ns > start_ns)
        return behind[int(len(behind) * self._bytes_max / (2 * size))]

    def _without_straddlers(self, read: Read, start_ns: int) -> Read:
        """Without the blocks that go beyond the end, if the rest is most of it: they are whole in the next window."""
        clock, end_ns = self._venue_clock, read.until_ns
        every = [block for _, blocks in read.blocks for block in blocks]
        cut_ns = min((first_ns(block, clock) for block in every if last_ns(block, clock) >= end_ns), default=0)
        if end_ns == self._end_ns or cut_ns <= start_ns:
            return read
        kept = [(topic, [block for block in blocks if first_ns(block, clock) < cut_ns]) for topic, blocks in read.blocks]
        if 2 * sum(len(blocks) for _, blocks in kept) < len(every):
            return read
        return Read([(topic, blocks) for topic, blocks in kept if blocks], cut_ns, (cut_ns, NO_TOPIC, 0, 0))

    def _next_width(self, width_ns: int, size: int) -> int:
        if not size:
            return max(self._end_ns - self.after[0], 1)
        return max(1, min(GROWTH_MAX * width_ns, width_ns * self._bytes_max // (2 * size)))

    def _not_fresh(self, end_ns: int, until_ns: int) -> int:
        """An end that does not part the last moments."""
        fresh_ns = self._end_ns - FRESH_NS
        if not fresh_ns < end_ns < until_ns:
            return end_ns
        return fresh_ns if fresh_ns > self.after[0] else until_ns

    def _range(self, start_ns: int, end_ns: int) -> TimeRange:
        return TimeRange(start_ns, end_ns, self._venue_clock)

    def _matches(self, topic: Topic) -> bool:
        matching = self._matching.get(topic)
        if matching is None:
            matching = self._matching[topic] = any(selector.matches(topic) for selector in self._selectors)
        return matching
