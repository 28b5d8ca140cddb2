"""What stores are given and give back: runs of a topic's consecutive events, in the very bytes that were sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import attrs

from raven.model.topic import Topic

__all__ = ["Block", "HistoryStore", "Image", "TimeRange"]


@attrs.frozen(slots=True)
class Block:
    """Consecutive events of one topic in one epoch.

    Args:
        first_sequence, last_sequence: of the first and the last event; every sequence between them is here, once.
        first_ts_ns, last_ts_ns: the least and the greatest `received_ts_ns` of the events.
        first_venue_ts_ns, last_venue_ts_ns: the same of `venue_ts_ns`; an event without one counts with its `received_ts_ns`.
        elements: the events' `events` elements, joined (tag, length, MarketEvent; again and again).
    """

    topic: Topic
    epoch: int
    first_sequence: int
    last_sequence: int
    first_ts_ns: int
    last_ts_ns: int
    first_venue_ts_ns: int
    last_venue_ts_ns: int
    elements: bytes

    @property
    def count(self) -> int:
        """Events."""
        return self.last_sequence - self.first_sequence + 1


@attrs.frozen(slots=True)
class Image:
    """The state of a topic after its event `sequence`: an `events` element flagged IMAGE.

    Args:
        ts_ns: `received_ts_ns` of that event.
    """

    topic: Topic
    epoch: int
    sequence: int
    ts_ns: int
    element: bytes


@attrs.frozen(slots=True)
class TimeRange:
    """Nanoseconds since 1970 of the chosen clock: `start_ns` inclusive, `end_ns` exclusive.

    Args:
        venue_clock: it is the venue's time that counts, not the time of receipt.
    """

    start_ns: int
    end_ns: int
    venue_clock: bool = False


class HistoryStore(Protocol):
    """A place that keeps blocks. Every method blocks and is called in a worker thread: `write` by one thread at a time, reading
    by any number beside it.
    """

    def write(self, blocks: Sequence[Block], images: Sequence[Image]) -> None:
        """Keep them, all or nothing. What is there already, by topic, epoch and sequence, is not kept twice.

        Raises:
            StoreError: they are not kept; the same call may be made again later.
        """

    def topics(self, within: TimeRange) -> list[Topic]:
        """The topics of which something may be kept in a range, sorted.

        Raises:
            StoreError: the store does not answer.
        """

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        """The blocks of a topic that touch a range, in the order of (epoch, first_sequence), read as they are asked for.

        Raises:
            StoreError: the store does not answer.
        """

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        """The latest image of a topic with `ts_ns` < `before_ns`.

        Raises:
            StoreError: the store does not answer.
        """

    def holes(self, within: TimeRange) -> Sequence[tuple[int, int]]:
        """Times in a range of which the store cannot say what happened (a file that cannot be read), as (start_ns, end_ns)."""

    def close(self) -> None:
        """Give everything back."""
