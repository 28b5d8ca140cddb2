"""A client that comes back and catches up: a cursor over the ring, which its writer moves on as fast as the client reads.

Until the cursor is at the ring's head the client's live events stay in the ring, so that catching up never counts against the
limits of its outbox; at the head it joins those who hear everything as it is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raven.broker.ring import Ring
from raven.broker.topics import TopicState
from raven.model.events import Gap, GapCause

__all__ = ["UNKNOWN", "Replay"]

UNKNOWN = -1
"""A sequence that is behind none."""


class Replay:
    """The events of some topics of one ring, from a position on.

    Args:
        position: where to begin.
        after: the topics, each with the sequence behind which the client continues; UNKNOWN where only the position is known.
        on_head: called once with the topics that have caught up.
    """

    def __init__(
        self, ring: Ring, position: int, after: Mapping[TopicState, int], on_head: Callable[[list[TopicState]], None]
    ) -> None:
        self._ring = ring
        self._position = position
        self._after = dict(after)
        self._on_head = on_head
        self._begun = False
        self.done = False

    def join(self, ring: Ring, position: int, after: Mapping[TopicState, int]) -> bool:
        """More topics from the same place on, so that the ring is gone through once; whether they could be taken.

        Clients subscribe to many topics by name, each behind the same bookmark.
        """
        if self._begun or ring is not self._ring or position != self._position:
            return False
        self._after.update(after)
        return True

    def take(self, room: int, now_ns: int) -> list[bytes]:
        """The next elements, of about `room` bytes; `done` says whether they are the last."""
        if self._position < self._ring.first:
            return self._finish(self._leap(now_ns), now_ns)
        self._begun = True
        elements: list[bytes] = []
        after, passed = self._after, self._position
        for state, sequence, element in self._ring.read(passed):
            if sequence > after.get(state, sequence):
                if room < len(element) and elements:
                    self._position = passed
                    return elements
                room -= len(element)
                elements.append(element)
                after[state] = sequence
            passed += 1
        self._position = passed
        return self._finish(elements, now_ns)

    def _leap(self, now_ns: int) -> list[bytes]:
        """The ring was quicker than the client: what it dropped meanwhile is a Gap for each topic, then its latest state."""
        elements: list[bytes] = []
        for state, sequence in self._after.items():
            if state.sequence > sequence:
                gap = Gap(GapCause.SLOW_CONSUMER, state.epoch)
                if sequence != UNKNOWN:
                    missed = state.sequence - sequence
                    gap = Gap(GapCause.SLOW_CONSUMER, state.epoch, sequence + 1, state.sequence, missed)
                elements.append(state.local_element(gap, now_ns, max(sequence, 0)))
                if (image := state.image()) is not None:
                    elements.append(image)
        return elements

    def _finish(self, elements: list[bytes], now_ns: int) -> list[bytes]:
        self.done = True
        states = list(self._after)
        elements += [state.status_element(now_ns) for state in states]
        self._on_head(states)
        return elements

    def forget(self, state: TopicState) -> None:
        """The client does not want the topic any more."""
        self._after.pop(state, None)
