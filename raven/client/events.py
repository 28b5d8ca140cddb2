"""What a client receives: events, gaps and statuses, apart by type, each with its place in its topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import attrs

from raven.model import events as model
from raven.model.instrument import Instrument
from raven.model.topic import Topic

__all__ = ["Batch", "DataPayload", "Event", "GapEvent", "Received", "StatusEvent", "StreamEvent", "Unknown", "make_event"]


@attrs.define
class Unknown:
    """A payload of a later contract: its field number in MarketEvent (0 = there was none) and its bytes."""

    number: int = 0
    raw: bytes = b""


DataPayload = (
    model.Trade
    | model.Quote
    | model.BookSnapshot
    | model.BookDelta
    | model.Candle
    | model.Ticker
    | model.Funding
    | model.MarkPrice
    | model.OpenInterest
    | model.Liquidation
    | model.Greeks
    | model.Bar
    | Instrument
    | Unknown
)

P = TypeVar("P")
Q = TypeVar("Q")


@attrs.define
class Received(Generic[P]):
    """One element of a stream. Nothing changes it once it is made.

    Args:
        topic: where it belongs.
        epoch: an identity; compare it for equality only.
        sequence: goes up by one within (topic, epoch); of what is LOCAL, that of the last event before it.
        payload: what happened; a class of raven.model.events.
        received_ts_ns: when Raven read the frame that carried it.
        venue_ts_ns: when it happened at the venue; None where the venue does not say.
        flags: bits of `raven.model.events.Flag`.
        first_sequence: not 0 on a conflated event, which stands for [first_sequence, sequence].
    """

    topic: Topic
    epoch: int
    sequence: int
    payload: P
    received_ts_ns: int = 0
    venue_ts_ns: int | None = None
    flags: int = 0
    first_sequence: int = 0

    @property
    def is_image(self) -> bool:
        """Whether it is the state as of `sequence` and not news: an image's trade has been told before."""
        return bool(self.flags & model.Flag.IMAGE)

    def _of(self, cls: type[Q]) -> Q | None:
        payload = self.payload
        return payload if isinstance(payload, cls) else None

    @property
    def trade(self) -> model.Trade | None:
        """The payload if it is a trade, else None. So are the other properties of this kind."""
        return self._of(model.Trade)

    @property
    def quote(self) -> model.Quote | None:
        """The payload if it is a quote."""
        return self._of(model.Quote)

    @property
    def book_snapshot(self) -> model.BookSnapshot | None:
        """The payload if it is a whole book, or the top of one."""
        return self._of(model.BookSnapshot)

    @property
    def book_delta(self) -> model.BookDelta | None:
        """The payload if it is a change of a book."""
        return self._of(model.BookDelta)

    @property
    def candle(self) -> model.Candle | None:
        """The payload if it is a candle."""
        return self._of(model.Candle)

    @property
    def gap(self) -> model.Gap | None:
        """The payload if it is a gap."""
        return self._of(model.Gap)

    @property
    def status(self) -> model.TopicStatus | None:
        """The payload if it is a status."""
        return self._of(model.TopicStatus)


@attrs.define
class Event(Received[DataPayload]):
    """News of a topic, or its image."""


@attrs.define
class GapEvent(Received[model.Gap]):
    """Events of the topic that will not come. LOCAL where it is for this client alone."""


@attrs.define
class StatusEvent(Received[model.TopicStatus]):
    """How good the topic's data is from here on."""


StreamEvent = Event | GapEvent | StatusEvent


@attrs.define
class Batch:
    """What came together.

    Args:
        events: in the order of the stream.
        bookmark: where a later stream may go on, when everything up to the end of this batch is done with; None = unchanged.
    """

    events: Sequence[StreamEvent]
    bookmark: bytes | None = None


def make_event(
    topic: Topic,
    epoch: int,
    sequence: int,
    payload: DataPayload | model.Gap | model.TopicStatus,
    received_ts_ns: int = 0,
    venue_ts_ns: int | None = None,
    flags: int = 0,
    first_sequence: int = 0,
) -> StreamEvent:
    """The class that fits `payload`."""
    if isinstance(payload, model.Gap):
        return GapEvent(topic, epoch, sequence, payload, received_ts_ns, venue_ts_ns, flags, first_sequence)
    if isinstance(payload, model.TopicStatus):
        return StatusEvent(topic, epoch, sequence, payload, received_ts_ns, venue_ts_ns, flags, first_sequence)
    return Event(topic, epoch, sequence, payload, received_ts_ns, venue_ts_ns, flags, first_sequence)
