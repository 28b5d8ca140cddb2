"""What stands in an outbox for events that its client could not be given one by one."""

from __future__ import annotations

from collections import deque

import attrs

from raven.broker.topics import TopicState
from raven.model.events import Event, Gap, GapCause, TopicStatus

__all__ = ["Backlog", "Conflated"]


@attrs.define(eq=False)
class Conflated:
    """Events of one topic for which its latest state is sent, as of the moment when the client can take it.

    Nothing is kept here but which they were: a client that reads nothing costs one of these per topic.

    Args:
        first_sequence: of the first of them.
        alone: the element of the only one, as long as there is only one.
    """

    state: TopicState
    first_sequence: int
    alone: bytes | None
    count: int = 1
    status_told: bool = False
    gap_told: bool = False
    _fixed: list[bytes] | None = None

    def add(self, event: Event) -> None:
        """One more. Statuses and gaps are events of the topic too: what they say stands behind and in front of the state."""
        self.count += 1
        self.alone = None
        payload = event.payload
        if isinstance(payload, TopicStatus):
            self.status_told = True
        elif isinstance(payload, Gap):
            self.gap_told = True

    def elements(self, now_ns: int) -> list[bytes]:
        """What the client gets instead."""
        if self._fixed is not None:
            return self._fixed
        return self.around(self.state.conflated(self.first_sequence) if self.alone is None else self.alone, now_ns)

    def around(self, element: bytes, now_ns: int) -> list[bytes]:
        """`element`, which stands for all of them, between what was said of the topic meanwhile."""
        elements = [element]
        if self.gap_told:
            elements.insert(0, self.state.local_element(Gap(GapCause.VENUE, self.state.epoch), now_ns, self.first_sequence - 1))
        if self.status_told:
            elements.append(self.state.status_element(now_ns))
        return elements

    def fix(self, now_ns: int) -> None:
        """Stay what it is now: events that follow are delivered otherwise."""
        self._fixed = self.elements(now_ns)

    def forget(self) -> None:
        """Become nothing: it is told otherwise, or nobody wants it any more."""
        self._fixed = []


@attrs.define(eq=False)
class Backlog:
    """Events of one topic of which the oldest may be dropped.

    Args:
        waiting: pairs of sequence and `events` element, oldest first.
    """

    state: TopicState
    waiting: deque[tuple[int, bytes]] = attrs.field(factory=deque)
    first_dropped: int = 0
    last_dropped: int = 0
    dropped: int = 0

    def drop(self) -> int:
        """Drop the oldest; its size in bytes."""
        sequence, element = self.waiting.popleft()
        self.first_dropped = self.first_dropped or sequence
        self.last_dropped = sequence
        self.dropped += 1
        return len(element)

    def gap(self, now_ns: int) -> list[bytes]:
        """What stands in front of the rest if some were dropped: a Gap and, as a status may have gone too, how the topic is."""
        if not self.dropped:
            return []
        state, before = self.state, self.first_dropped - 1
        gap = Gap(GapCause.SLOW_CONSUMER, state.epoch, self.first_dropped, self.last_dropped, self.dropped)
        self.first_dropped = self.last_dropped = self.dropped = 0
        return [state.local_element(gap, now_ns, before), state.local_element(state.status, now_ns, before)]
