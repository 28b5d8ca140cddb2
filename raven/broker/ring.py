"""The recent events of one feed, in the order in which they were published: what a client that comes back can be given.

A position counts all events that were ever put into a ring; a bookmark names positions. The slots are a list that is written
round and round, so that any position is found at once however many clients catch up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import attrs

from raven.broker.topics import TopicState

__all__ = ["Ring", "RingLimits"]


@attrs.frozen
class RingLimits:
    """How much of each feed is kept for clients that come back. Whichever limit is met first holds.

    Args:
        events_max: events.
        bytes_max: bytes of events.
        age_s: seconds.
    """

    events_max: int = 65_536
    bytes_max: int = 32 * 1024 * 1024
    age_s: float = 300.0


class Ring:
    """Recent events of one feed.

    Args:
        epoch: when its continuity began, in Unix milliseconds; positions of another epoch mean nothing here.
        first: the position of the first event to come.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_elements",
        "_marks",
        "_sequences",
        "_size",
        "_states",
        "epoch",
        "feed",
        "first",
        "limits",
        "next",
    )

    def __init__(self, feed: str, epoch: int, limits: RingLimits, first: int = 0) -> None:
        self.feed = feed
        self.epoch = epoch
        self.limits = limits
        self.first = first  # the position of the oldest event that is still here
        self.next = first  # ... and that of the event that comes next
        # Three lists and no list of triples: those would be what the garbage collector spends its time on.
        self._size, self._bytes_max = limits.events_max, limits.bytes_max
        self._states: list[TopicState | None] = [None] * self._size
        self._sequences = [0] * self._size
        self._elements = [b""] * self._size
        self._bytes = 0
        self._marks: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return self.next - self.first

    @property
    def bytes_kept(self) -> int:
        """Of all events that are here."""
        return self._bytes

    def append(self, state: TopicState, element: bytes) -> None:
        """`state`'s latest event has been published as `element`."""
        position, states, sequences, elements = self.next, self._states, self._sequences, self._elements
        index = position % self._size
        grown = len(element)
        if position - self.first == self._size:  # the oldest is where the newest goes
            oldest = states[index]
            assert oldest is not None
            oldest.forgotten = sequences[index]
            grown -= len(elements[index])
            self.first += 1
        states[index], sequences[index], elements[index] = state, state.sequence, element
        self.next = position + 1
        self._bytes += grown
        while self._bytes > self._bytes_max:
            self._drop_first()

    def _drop_first(self) -> None:
        index = self.first % self._size
        state = self._states[index]
        assert state is not None
        state.forgotten = self._sequences[index]
        self._bytes -= len(self._elements[index])
        self._states[index], self._elements[index] = None, b""
        self.first += 1

    def expire(self, now_s: float) -> None:
        """Drop what is too old; to be called every second or so, with a clock that never jumps."""
        self._marks.append((now_s, self.next))
        while self._marks and self._marks[0][0] <= now_s - self.limits.age_s:
            _, position = self._marks.popleft()
            while self.first < position:
                self._drop_first()

    def read(self, position: int) -> Iterator[tuple[TopicState, int, bytes]]:
        """Topic, sequence and element of every event from `position` on, which is not before `first`."""
        states, sequences, elements = self._states, self._sequences, self._elements
        for number in range(position, self.next):
            index = number % self._size
            state = states[index]
            assert state is not None
            yield state, sequences[index], elements[index]
