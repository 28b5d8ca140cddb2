"""What is true: of every topic all that was ever published, in order, as the words of raven.proto have it.

This is the model that clients are held against, so it is as plain as can be: a list for each topic, and a list for each feed.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from raven.model.events import BookDelta, BookSnapshot, Candle, Quote, State, StatusCause, Trade
from raven.model.topic import Kind, Selector, Topic

What = tuple[object, ...]
"""What an event says: ("trade", id), ("quote", bid), ("candle", close, closed), ("snapshot", levels), ("delta", price, size),
("status", state, cause) or ("gap", cause)."""

STARTING: What = ("status", int(State.DOWN), int(StatusCause.STARTING))
VENUE_GAP: What = ("gap", "VENUE")


@attrs.frozen
class Entry:
    """One event.

    Args:
        state: the latest state behind it, as an image has it; None before the first.
        status: of the topic behind it.
    """

    what: What
    state: What | None
    status: What


@attrs.define
class TopicHistory:
    """All events of one topic in one epoch; the sequence of an event is its place, from 1.

    Args:
        begun_at: the last sequence of an earlier server.
    """

    topic: Topic
    epoch: int
    status: What = STARTING
    state: What | None = None
    adopted: bool = False
    begun_at: int = 0
    events: list[Entry] = attrs.field(factory=list)

    @property
    def sequence(self) -> int:
        return len(self.events)

    @property
    def live(self) -> bool:
        return self.status[1] == State.LIVE

    @property
    def closed(self) -> bool:
        return self.status[1] == State.CLOSED

    def status_at(self, sequence: int) -> What:
        """As it was behind that event."""
        return STARTING if sequence == self.begun_at else self.events[sequence - 1].status

    def state_at(self, sequence: int) -> What | None:
        """The latest state as it was behind that event."""
        return None if sequence <= self.begun_at else self.events[sequence - 1].state


@attrs.define
class FeedHistory:
    """All events of a feed in the order in which they were published; those before `first` are forgotten."""

    epoch: int
    log: list[tuple[Topic, int]] = attrs.field(factory=list)
    first: int = 0

    def sequence_at(self, topic: Topic, position: int) -> int:
        """The last sequence of the topic in front of a position."""
        return max((sequence for name, sequence in self.log[:position] if name == topic), default=0)


class World:
    """Feeds and topics.

    Args:
        kept_max: events of a feed that are remembered for clients that come back.
    """

    def __init__(self, kept_max: int) -> None:
        self.kept_max = kept_max
        self.topics: dict[Topic, TopicHistory] = {}
        self.feeds: dict[str, FeedHistory] = {}

    def matching(self, selector: Selector) -> Iterator[TopicHistory]:
        return (history for topic, history in self.topics.items() if selector.matches(topic))

    def of_feed(self, feed: str) -> list[Topic]:
        return [topic for topic in self.topics if topic.venue == feed]

    def forgotten(self, topic: Topic) -> int:
        """The last sequence that nobody remembers."""
        feed = self.feeds[topic.venue]
        return feed.sequence_at(topic, feed.first)

    # ---- what happens at venues, in the words of raven.broker.broker

    def publish(self, topic: Topic, what: What) -> None:
        """It takes the topic's next sequence."""
        history, feed = self.topics[topic], self.feeds[topic.venue]
        if what[0] == "status":
            history.status = what
        elif what[0] != "gap":
            history.state = _changed(history.state, what)
        history.events.append(Entry(what, history.state, history.status))
        feed.log.append((topic, history.sequence))
        feed.first = max(feed.first, len(feed.log) - self.kept_max)

    def news(self, topic: Topic, what: What) -> None:
        """Something happened; a topic that was not LIVE becomes it, a book behind its snapshot."""
        history = self.topics[topic]
        if history.closed:
            return
        if history.live:
            self.publish(topic, what)
            return
        self._come_back(history)
        order = [("status", int(State.LIVE), 0), what]
        for one in reversed(order) if topic.kind is Kind.BOOK else order:
            self.publish(topic, one)

    def established(self, topic: Topic) -> None:
        """The venue will say what happens."""
        history = self.topics[topic]
        if not history.live and topic.kind is not Kind.BOOK:
            self._come_back(history)
            self.set_status(topic, State.LIVE)

    def doubt(self, topic: Topic) -> None:
        """Something was lost."""
        if self.topics[topic].status[1] != State.RESYNCING:
            self.publish(topic, VENUE_GAP)
            self.set_status(topic, State.RESYNCING, StatusCause.SEQUENCE_GAP)

    def set_status(self, topic: Topic, to: State, cause: StatusCause = StatusCause.UNSPECIFIED) -> None:
        status = ("status", int(to), int(cause))
        if self.topics[topic].status != status:
            self.publish(topic, status)

    def _come_back(self, history: TopicHistory) -> None:
        if (history.state is not None or history.adopted) and history.status[1] != State.RESYNCING:
            self.publish(history.topic, VENUE_GAP)
        history.adopted = False

    # ---- what happens to the server

    def born(self, topic: Topic, epoch: int, feed_epoch: int) -> None:
        self.feeds.setdefault(topic.venue, FeedHistory(feed_epoch))
        self.topics[topic] = TopicHistory(topic, epoch)

    def restarted(self) -> None:
        """Cleanly: what was published stays known, and no latest state is."""
        for history in self.topics.values():
            history.status, history.state, history.adopted, history.begun_at = STARTING, None, True, history.sequence

    def forget(self, feed: str) -> None:
        """It is too long ago."""
        self.feeds[feed].first = len(self.feeds[feed].log)


def _changed(state: What | None, what: What) -> What:
    if what[0] != "delta":
        return what
    assert state is not None
    _, price, size = what
    levels = dict(state[1])  # type: ignore[call-overload]
    levels[price] = size
    return "snapshot", tuple(sorted((p, s) for p, s in levels.items() if s))


def news_of(history: TopicHistory, number: int, how: int) -> tuple[What, Trade | Quote | Candle | BookDelta | BookSnapshot]:
    """Something that can happen in the topic, different every time."""
    kind, value = history.topic.kind, float(number)
    if kind is Kind.TRADE:
        text = f"{number}" + "x" * (how % 4 * 100)
        return ("trade", text), Trade(100.0, 1.0, 1, text)
    if kind is Kind.QUOTE:
        return ("quote", value), Quote(value, 1.0, value + 1, 1.0)
    if kind is Kind.CANDLE:
        closed = how % 3 == 0
        return ("candle", value, closed), Candle(0, 60, value, value, value, value, 1.0, closed=closed)
    if history.live and how % 5:
        price, size = 90.0 + how % 4, value if how % 2 else 0.0
        return ("delta", price, size), BookDelta([price], [size], [], [])
    levels = ((89.0, value), (91.0, value))
    return ("snapshot", levels), BookSnapshot([91.0, 89.0], [value, value], [], [])
