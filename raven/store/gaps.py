"""What a history does not have: events missing before a block, and the element that says so.

Whether something is missing is asked of the store, not of what a reader happened to read before: so an answer that is continued
by its page token says the same as one that was read in one piece.
"""

from __future__ import annotations

from collections.abc import Iterable

from raven.codec.encoder import TopicEncoder
from raven.model.events import Event, Flag, Gap, GapCause
from raven.model.topic import Topic
from raven.store.blocks import Block, HistoryStore, TimeRange
from raven.store.times import first_ns

__all__ = ["Gaps", "gap_element"]

LOOK_BACK_NS = 1_000_000_000
"""How far before a block the one in front of it is looked for first; then `LOOK_BACK_FACTOR` times as far, and so on."""

LOOK_BACK_FACTOR = 8

LOOK_AHEAD_NS = 60_000_000_000
"""A clock that was set back puts events behind those that follow them: so far they are looked for before they are missing."""


class Gaps:
    """Knows which blocks follow one that is kept, and asks the store about the others."""

    def __init__(self, store: HistoryStore, venue_clock: bool) -> None:
        self._store = store
        self._venue_clock = venue_clock
        self._last: dict[Topic, tuple[Block, bool]] = {}  # of each topic the last block that was read, and whether it is linked
        self._linked: set[tuple[Topic, int, int]] = set()
        self.told = False

    def read(self, topic: Topic, blocks: Iterable[Block]) -> None:
        """Blocks of a topic were read, in the order of their sequences."""
        last, linked = self._last.get(topic, (None, False))
        for block in blocks:
            if last is None or last.epoch != block.epoch:
                linked = False
            elif last.first_sequence != block.first_sequence:  # else it reaches into this window from the one before
                linked = last.first_sequence < block.first_sequence <= last.last_sequence + 1
            if linked:
                self._linked.add((topic, block.epoch, block.first_sequence))
            last = block
        if last is not None:
            self._last[topic] = last, linked

    def forget(self) -> None:
        """What was read was sent."""
        self._linked.clear()

    def before(self, block: Block) -> bytes:
        """The gap in front of a block's first event; empty if nothing is missing there."""
        missing = self.missing_before(block)
        if missing is None:
            return b""
        self.told = True
        return gap_element(block.topic, block.epoch, missing, first_ns(block, self._venue_clock))

    def missing_before(self, block: Block) -> tuple[int, int] | None:
        """First and last of the sequences that are missing in front of a block."""
        if block.first_sequence <= 1 or (block.topic, block.epoch, block.first_sequence) in self._linked:
            return None
        last = self._last_before(block)
        return None if last + 1 >= block.first_sequence else (last + 1, block.first_sequence - 1)

    def _last_before(self, block: Block) -> int:
        """The last sequence before a block that is kept of its epoch; 0 if none is."""
        start_ns = first_ns(block, self._venue_clock)
        reached_ns, span_ns = start_ns + 1, LOOK_BACK_NS
        last, elsewhere = 0, False
        while reached_ns > 0 and not (last or elsewhere):
            reached_ns = max(start_ns - span_ns, 0)
            last, elsewhere = self._last_within(block, reached_ns, start_ns + 1)
            span_ns *= LOOK_BACK_FACTOR
        if last + 1 < block.first_sequence:
            last = max(last, self._last_within(block, start_ns, start_ns + LOOK_AHEAD_NS)[0])
        return last

    def _last_within(self, block: Block, start_ns: int, end_ns: int) -> tuple[int, bool]:
        """The last sequence before a block, and whether another epoch is there, which is older."""
        last, elsewhere = 0, False
        for other in self._store.blocks(block.topic, TimeRange(start_ns, end_ns, self._venue_clock)):
            if other.epoch != block.epoch:
                elsewhere = True
            elif other.first_sequence >= block.first_sequence:
                break
            else:
                last = max(last, other.last_sequence)
        return last, elsewhere


def gap_element(topic: Topic, epoch: int, missing: tuple[int, int], ts_ns: int) -> bytes:
    """A Gap(STORE) for the client alone.

    Args:
        missing: first and last sequence; (0, 0) = not known.
    """
    first, last = missing
    gap = Gap(GapCause.STORE, epoch, first, last, last - first + 1 if first else 0)
    return TopicEncoder(topic, epoch).encode_general(Event(topic, gap, ts_ns), max(first - 1, 0), flags=Flag.LOCAL)
