"""The state of a topic at a moment of the past, as the image that a subscription would have begun with."""

from __future__ import annotations

from collections.abc import Iterator

from raven.client.decode import Decoder
from raven.client.events import StreamEvent, Unknown
from raven.codec.encoder import TopicEncoder
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Gap, TopicStatus
from raven.model.topic import Kind, Topic
from raven.store.blocks import HistoryStore, TimeRange

__all__ = ["STATE_AGE_NS", "state_before"]

SECOND_NS = 1_000_000_000

STATE_AGE_NS = 86_400 * SECOND_NS
"""An event that is older is no state any more, unless the store has an image of it."""

BOOK_AGE_NS = 3_600 * SECOND_NS
"""How far back a book's snapshot is looked for where the store has no image."""

CLOCKS_APART_NS = 60 * SECOND_NS
"""How far the venue's clock may be before ours."""

LOOK_BACK_FACTOR = 16


def state_before(store: HistoryStore, topic: Topic, before_ns: int, venue_clock: bool) -> bytes | None:
    """The state of a topic before a moment of the chosen clock: an element flagged IMAGE, with the last sequence before it.

    None where there is none: nothing was kept, or a part of a book is missing and no snapshot followed.

    Raises:
        StoreError: the store does not answer.
    """
    state = _State(topic)
    image = store.image(topic, before_ns)
    since_ns = before_ns - (BOOK_AGE_NS if topic.kind is Kind.BOOK else STATE_AGE_NS)
    if image is not None:
        since_ns = image.ts_ns - (CLOCKS_APART_NS if venue_clock else 0)
        state.begin(_decoded(image.element)[0])
    if topic.kind is Kind.BOOK:
        for event in _events(store, topic, TimeRange(max(since_ns, 0), before_ns, venue_clock)):
            state.apply(event)
    else:
        _apply_last(store, state, max(since_ns, 0), before_ns, venue_clock)
    return state.element()


def _apply_last(store: HistoryStore, state: _State, since_ns: int, before_ns: int, venue_clock: bool) -> None:
    """The last event that is data, looked for further and further back, and what came behind it."""
    start_ns, span_ns = before_ns, SECOND_NS
    events: list[StreamEvent] = []
    while start_ns > since_ns and not any(map(_is_data, events)):
        start_ns, span_ns = max(before_ns - span_ns, since_ns), span_ns * LOOK_BACK_FACTOR
        events = list(_events(store, state.topic, TimeRange(start_ns, before_ns, venue_clock)))
    for event in events:
        state.apply(event)


def _events(store: HistoryStore, topic: Topic, within: TimeRange) -> Iterator[StreamEvent]:
    for block in store.blocks(topic, within):
        for event in _decoded(block.elements):
            ts_ns = event.received_ts_ns
            if within.venue_clock and event.venue_ts_ns is not None:
                ts_ns = event.venue_ts_ns
            if ts_ns < within.end_ns:
                yield event


def _is_data(event: StreamEvent) -> bool:
    return not isinstance(event.payload, TopicStatus | Gap | Unknown)


def _decoded(elements: bytes) -> list[StreamEvent]:
    return Decoder().decode(elements).events


class _State:
    """What a topic's events have made of it so far."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._book: OrderBook | None = None
        self._last: StreamEvent | None = None  # of data
        self._place = (0, 0)

    def begin(self, image: StreamEvent) -> None:
        """With an image."""
        self._take(image)
        self._place = image.epoch, image.sequence

    def apply(self, event: StreamEvent) -> None:
        """The next event. One that is in the state already changes nothing."""
        epoch, sequence = self._place
        if event.epoch == epoch and event.sequence <= sequence:
            return
        if (event.epoch, event.sequence) != (epoch, sequence + 1):
            self._book = None  # what is missing may have changed it
        self._place = event.epoch, event.sequence
        self._take(event)

    def _take(self, event: StreamEvent) -> None:
        if not _is_data(event):
            return
        payload = event.payload
        if isinstance(payload, BookSnapshot) and self.topic.kind is Kind.BOOK:
            self._book = OrderBook(payload)
        elif isinstance(payload, BookDelta) and self._book is not None:
            self._book.apply(payload)
        self._last = event

    def element(self) -> bytes | None:
        """As an image."""
        last = self._last
        if last is None or (self.topic.kind is Kind.BOOK and self._book is None):
            return None
        payload = last.payload if self._book is None else self._book.snapshot()
        assert not isinstance(payload, Unknown)
        epoch, sequence = self._place
        event = Event(self.topic, payload, last.received_ts_ns, last.venue_ts_ns, last.flags)
        return TopicEncoder(self.topic, epoch).encode_general(event, sequence, flags=Flag.IMAGE)
