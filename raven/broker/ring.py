"""The recent events of one feed, in the order in which they were published: what a client that comes back can be given.

A position counts all events that were ever put into a ring; a bookmark names positions. The slots are a list that is written
round and round, so that any position is found at once however many clients catch up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any, cast

import attrs

from raven.broker.topics import TopicState

__all__ = ["Ring", "RingLimits"]


PIECE_EVENTS = 1_000
"""What a reader takes out of the ring at once."""


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
        """Topic, sequence and element of every event from `position` on, which is not before `first`.

        Each client of a crowd that comes back reads it: pieces of the lists are gone through without a step of Python each.
        """
        return chain.from_iterable(self._pieces(position))

    def _pieces(self, position: int) -> Iterator[Iterator[tuple[TopicState, int, bytes]]]:
        while position < self.next:
            begin = position % self._size
            end = min(begin + PIECE_EVENTS, begin + self.next - position, self._size)
            piece: Any = (column[begin:end] for column in (self._states, self._sequences, self._elements))
            yield cast("Iterator[tuple[TopicState, int, bytes]]", zip(*piece, strict=True))
            position += end - begin

    def read_slice(self, position: int, count: int) -> tuple[list[TopicState | None], list[bytes]]:
        """Topics and elements of events from `position` on, which is not before `first`: at most `count`, or up to where the
        list begins again. There is a topic for each.
        """
        start = position % self._size
        stop = min(start + min(count, self.next - position), self._size)
        return self._states[start:stop], self._elements[start:stop]
