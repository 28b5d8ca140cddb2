"""One topic in the broker: its continuity, its status, its latest value, and who has it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import attrs
from msgspec.structs import replace

from raven.codec.encoder import TopicEncoder
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Payload, State, StatusCause, TopicStatus
from raven.model.topic import Kind, Topic

__all__ = ["BOOK_TOP_DEPTHS", "BehindListener", "Listeners", "PacedListener", "RecentEvents", "TopicState", "TopicView"]

BOOK_TOP_DEPTHS = (5, 20, 50)
"""The variants of BOOK_TOP that are derived from a kept book."""

STATUS_KEPT_NS = 1_000_000_000
"""A status that is said to one client is said to others for so long as it was made for the first."""

_LIVE = State.LIVE  # asked for twice an event, and looking a member up through its class is most of what that costs


class BehindListener(Protocol):
    """A client that is given events one by one."""

    def put_event(self, state: TopicState, event: Event, element: bytes) -> None:
        """`event` has been published as `element`."""


class Listeners(Protocol):
    """Clients that are given what is published together."""

    pending: list[bytes]
    dirty: bool

    @property
    def behind(self) -> Collection[BehindListener]:
        """Those that need it one by one."""

    def mark(self) -> None:
        """Something is pending."""


class PacedListener(Protocol):
    """A client that wants few events of a topic."""

    def offer(self, event: Event, element: bytes) -> None:
        """`event` has been published as `element`."""


class RecentEvents(Protocol):
    """Where a client that comes back finds what it has missed."""

    def append(self, state: TopicState, element: bytes) -> None:
        """The latest event of `state` has been published as `element`."""


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
        "_conflated",
        "_image",
        "_said",
        "adopted",
        "audiences",
        "book",
        "crossed",
        "crossed_since_ns",
        "encoder",
        "epoch",
        "feed",
        "forgotten",
        "last",
        "paced",
        "ring",
        "sequence",
        "status",
        "subscribers",
        "top_depth",
        "topic",
        "tops",
    )

    def __init__(self, topic: Topic, feed: str, epoch: int, now_ns: int, ring: RecentEvents) -> None:
        self.topic = topic
        self.feed = feed
        self.ring = ring
        self.adopted = False  # begun by an earlier server, and not live since
        self.forgotten = 0  # the last sequence that the ring does not have any more
        self.epoch = epoch
        self.sequence = 0
        self.encoder = TopicEncoder(topic, epoch)
        self.status = TopicStatus(State.DOWN, StatusCause.STARTING, "", now_ns)
        self.last: Event | None = None  # of data; of a book, the event that last changed it
        self.book: OrderBook | None = OrderBook() if topic.kind is Kind.BOOK else None
        self.crossed = 0  # changes in a row that left the book crossed, and when the first of them came
        self.crossed_since_ns = 0
        self.tops: list[TopicState] = []  # of a book: the BOOK_TOP topics derived from it
        self.top_depth = int(topic.variant) if topic.kind is Kind.BOOK_TOP else 0
        self.subscribers = 0
        self.audiences: dict[Listeners, None] = {}  # ordered, and quick to leave
        self.paced: dict[BehindListener, PacedListener] = {}  # of clients that want it at a pace of their own
        self._image: tuple[int, bytes] = (0, b"")
        self._said: tuple[TopicStatus, int, int, bytes] = (self.status, -1, 0, b"")
        self._conflated: tuple[int, int, bytes] = (0, 0, b"")

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
                event = replace(event, payload=self.book.snapshot())
            self._image = self.sequence, self.encoder.encode_general(event, self.sequence, flags=Flag.IMAGE)
        return self._image[1]

    def conflated(self, first_sequence: int) -> bytes:
        """The latest state as an `events` element that stands for all from `first_sequence` to the topic's last.

        There has been one. Made once per sequence and first one, however many clients are behind by the same.
        """
        sequence, first, element = self._conflated
        if (sequence, first) != (self.sequence, first_sequence):
            event = self.last
            assert event is not None
            if self.book is not None:
                event = replace(event, payload=self.book.snapshot())
            element = self.encoder.encode_general(event, self.sequence, first_sequence=first_sequence)
            self._conflated = self.sequence, first_sequence, element
        return element

    def status_element(self, now_ns: int) -> bytes:
        """The topic's status as an `events` element flagged LOCAL, which takes no sequence.

        Made once a sequence and second at most, however many clients come back at that time.
        """
        status, sequence, said_ns, element = self._said
        if status is not self.status or sequence != self.sequence or not 0 <= now_ns - said_ns < STATUS_KEPT_NS:
            element = self.local_element(self.status, now_ns, self.sequence)
            self._said = self.status, self.sequence, now_ns, element
        return element

    def local_element(self, payload: Payload, now_ns: int, sequence: int) -> bytes:
        """What is said to one client alone, behind its event `sequence` of this topic."""
        return self.encoder.encode_general(Event(self.topic, payload, now_ns), sequence, flags=Flag.LOCAL)

    def keep(self, event: Event) -> None:
        """Make `event`, which has been encoded, the latest value."""
        book, payload = self.book, event.payload
        if book is not None:
            if payload.__class__ is BookDelta:
                book.apply(payload)
            elif isinstance(payload, BookSnapshot):
                book.reset(payload)
        self.last = event

    def view(self) -> TopicView:
        """A frozen view."""
        return TopicView(self.topic, self.status, self.epoch, self.sequence, self.subscribers)
