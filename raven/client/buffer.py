"""What waits in a program between its connection and whoever reads the stream: bounded, with a choice of what gives. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import attrs

from raven.client.errors import BufferOverflow
from raven.client.events import Batch, Event, GapEvent, StatusEvent, StreamEvent
from raven.errors import InvalidValue
from raven.model.events import Candle, Flag, Gap, GapCause
from raven.model.topic import Kind, Topic

__all__ = ["BUFFER_MAX", "ON_SLOW", "Buffer", "check_on_slow"]

BUFFER_MAX = 65_536
"""Events that may wait, by default."""

ON_SLOW = ("wait", "error", "drop_oldest", "conflate")

NOT_CONFLATED = {Kind.TRADE: "every one counts", Kind.LIQUIDATION: "every one counts", Kind.BAR: "every one counts"}
NOT_CONFLATED |= {Kind.BOOK: "its deltas build on each other; client.book(...) keeps one"}


def check_on_slow(choice: str, kinds: Iterable[Kind]) -> str:
    """`choice` itself.

    Raises:
        InvalidValue: it is none, or cannot be for one of `kinds`.
    """
    if choice not in ON_SLOW:
        raise InvalidValue("on_slow", choice, "valid are " + ", ".join(ON_SLOW))
    for kind in kinds:
        if choice == "conflate" and kind in NOT_CONFLATED:
            raise InvalidValue("on_slow", choice, f"anything else for {kind.label}: {NOT_CONFLATED[kind]}")
    return choice


@attrs.define
class _Dropped:
    """What was left out of one topic in one epoch."""

    event: StreamEvent
    first: int
    last: int
    count: int

    def gap(self) -> GapEvent:
        event = self.event
        gap = Gap(GapCause.SLOW_CONSUMER, event.epoch, self.first, self.last, self.count)
        return GapEvent(event.topic, event.epoch, self.first - 1, gap, event.received_ts_ns, event.venue_ts_ns, int(Flag.LOCAL))


class Buffer:
    """Events that wait.

    Args:
        limit: how many may wait.
        on_slow: what happens when more come: "wait" (nothing is read until there is room, and the server's limits hold),
            "error", "drop_oldest" (a Gap says what) or "conflate" (the newest of each topic, with `first_sequence`).
    """

    def __init__(self, limit: int = BUFFER_MAX, on_slow: str = "wait") -> None:
        self.limit = limit
        self.on_slow = on_slow
        self.dropped = 0
        self.size = 0
        self._batches: deque[Sequence[StreamEvent]] = deque()
        self._bookmarks: deque[bytes | None] = deque()
        self._gaps: dict[tuple[Topic, int], _Dropped] = {}
        self._kept: dict[Topic, StatusEvent] = {}  # the newest of what was dropped
        self._passed: bytes | None = None  # the newest bookmark of what was dropped

    def __len__(self) -> int:
        """Events that wait."""
        return self.size

    @property
    def full(self) -> bool:
        """Whether nothing more should be read for now."""
        return self.on_slow == "wait" and self.size >= self.limit

    def put(self, events: Sequence[StreamEvent], bookmark: bytes | None = None) -> None:
        """Take what has come.

        Raises:
            BufferOverflow: there is no room, and the choice is "error".
        """
        if not events and self._batches and bookmark is not None:
            self._bookmarks[-1] = bookmark
            return
        self._batches.append(events)
        self._bookmarks.append(bookmark)
        self.size += len(events)
        if self.size > self.limit and self.on_slow != "wait":
            self._make_room()

    def take(self) -> Batch | None:
        """The oldest batch that waits, behind the gaps of what was dropped before it; None if nothing waits."""
        front: list[StreamEvent] = [*(dropped.gap() for dropped in self._gaps.values()), *self._kept.values()]
        self._gaps.clear()
        self._kept.clear()
        passed, self._passed = self._passed, None
        if not self._batches:
            return Batch(front, passed) if front or passed is not None else None
        events = self._batches.popleft()
        bookmark = self._bookmarks.popleft()
        self.size -= len(events)
        return Batch([*front, *events] if front else events, bookmark if bookmark is not None else passed)

    # ---- when more comes than there is room for

    def _make_room(self) -> None:
        if self.on_slow == "error":
            text = f"{self.size} events wait, and the buffer holds {self.limit}: read faster, or choose another on_slow"
            raise BufferOverflow(text)
        if self.on_slow == "conflate":
            self._conflate()
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while self.size > self.limit and self._batches:
            events = self._batches[0]
            count = min(self.size - self.limit, len(events))
            for event in events[:count]:
                self._drop(event)
            self.size -= count
            if count == len(events):
                self._batches.popleft()
                bookmark = self._bookmarks.popleft()
                self._passed = bookmark if bookmark is not None else self._passed
            else:
                self._batches[0] = events[count:]

    def _drop(self, event: StreamEvent) -> None:
        if isinstance(event, StatusEvent):
            self._kept[event.topic] = event
            if event.flags & Flag.LOCAL:
                return
        first, last, count = event.first_sequence or event.sequence, event.sequence, 1
        if isinstance(event, GapEvent) and event.payload.last_sequence and event.flags & Flag.LOCAL:
            first, last = event.payload.first_sequence, event.payload.last_sequence
            count = event.payload.missed
        self.dropped += 1
        known = self._gaps.get((event.topic, event.epoch))
        if known is None:
            self._gaps[event.topic, event.epoch] = _Dropped(event, first, last, count)
        else:
            known.last = max(known.last, last)
            known.count = known.last - known.first + 1

    def _conflate(self) -> None:
        """Leave of each topic the newest event. Gaps, statuses and closed candles stay where they are."""
        newest: dict[Topic, StreamEvent] = {}
        kept: list[StreamEvent] = []
        for event in reversed([event for events in self._batches for event in events]):
            newer = newest.get(event.topic)
            if not isinstance(event, Event) or (isinstance(event.payload, Candle) and event.payload.closed):
                newest.pop(event.topic, None)  # what stands before it is not made one with what stands behind it
                kept.append(event)
            elif newer is None:
                newest[event.topic] = event
                kept.append(event)
            elif not event.is_image:
                newer.first_sequence = event.first_sequence or event.sequence
        kept.reverse()
        bookmark = next((mark for mark in reversed(self._bookmarks) if mark is not None), None)
        self._batches, self._bookmarks = deque([kept]), deque([bookmark])
        self.size = len(kept)
