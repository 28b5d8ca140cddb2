"""One topic in the broker: its continuity, its status, its latest value, and who has it."""

from __future__ import annotations

import attrs

from raven.broker.outbox import Outbox
from raven.codec.encoder import TopicEncoder
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, State, StatusCause, TopicStatus
from raven.model.topic import Kind, Topic

__all__ = ["BOOK_TOP_DEPTHS", "TopicState", "TopicView"]

BOOK_TOP_DEPTHS = (5, 20, 50)
"""The variants of BOOK_TOP that are derived from a kept book."""

_LIVE = State.LIVE  # asked for twice an event, and looking a member up through its class is most of what that costs


@attrs.frozen
class TopicView:
    """A topic as it stands, for those who list topics."""

    topic: Topic
    status: TopicStatus
    epoch: int
    sequence: int
    subscribers: int


class TopicState:
    """One topic within one epoch. Only the broker changes it."""

    __slots__ = (
        "_image",
        "book",
        "encoder",
        "epoch",
        "feed",
        "last",
        "sequence",
        "status",
        "subscribers",
        "top_depth",
        "topic",
        "tops",
    )

    def __init__(self, topic: Topic, feed: str, epoch: int, now_ns: int) -> None:
        self.topic = topic
        self.feed = feed
        self.epoch = epoch
        self.sequence = 0
        self.encoder = TopicEncoder(topic, epoch)
        self.status = TopicStatus(State.DOWN, StatusCause.STARTING, "", now_ns)
        self.last: Event | None = None  # of data; of a book, the event that last changed it
        self.book: OrderBook | None = OrderBook() if topic.kind is Kind.BOOK else None
        self.tops: list[TopicState] = []  # of a book: the BOOK_TOP topics derived from it
        self.top_depth = int(topic.variant) if topic.kind is Kind.BOOK_TOP else 0
        self.subscribers: dict[Outbox, None] = {}  # ordered, and quick to leave
        self._image: tuple[int, bytes] = (0, b"")

    @property
    def live(self) -> bool:
        """Whether its events come."""
        return self.status.state == _LIVE

    def image(self) -> bytes | None:
        """The latest state as an `events` element flagged IMAGE, as of the topic's last sequence; None before the first.

        Made once per sequence, however many clients ask.
        """
        if self.last is None:
            return None
        if self._image[0] != self.sequence:
            event = self.last
            if self.book is not None:
                event = attrs.evolve(event, payload=self.book.snapshot())
            self._image = self.sequence, self.encoder.encode_general(event, self.sequence, flags=Flag.IMAGE)
        return self._image[1]

    def status_element(self, now_ns: int) -> bytes:
        """The topic's status as an `events` element flagged LOCAL, which takes no sequence."""
        return self.encoder.encode_general(Event(self.topic, self.status, now_ns), self.sequence, flags=Flag.LOCAL)

    def keep(self, event: Event) -> None:
        """Make `event`, which has been encoded, the latest value."""
        if self.book is not None:
            if isinstance(event.payload, BookDelta):
                self.book.apply(event.payload)
            elif isinstance(event.payload, BookSnapshot):
                self.book.reset(event.payload)
        self.last = event

    def view(self) -> TopicView:
        """A frozen view."""
        return TopicView(self.topic, self.status, self.epoch, self.sequence, len(self.subscribers))
