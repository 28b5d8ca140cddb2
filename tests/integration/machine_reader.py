"""One stream as its client reads it, held against what is true: nothing missing, nothing twice, nothing false."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import attrs

from raven.broker.bookmark import parse_bookmark
from raven.codec.generated.raven import v1
from raven.model.events import Flag
from raven.model.topic import Kind, Selector, Topic
from tests.integration.machine_world import VENUE_GAP, TopicHistory, What, World

__all__ = ["Expected", "Place", "Reader", "Sub", "what_of"]

LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)
MERGED_KINDS = frozenset({Kind.QUOTE, Kind.BOOK, Kind.CANDLE})
CONFLATE, DROP_OLDEST, DISCONNECT = 1, 2, 3


@attrs.frozen
class Sub:
    """A subscription as its client asked for it."""

    id: str
    selector: Selector
    policy: int = 0
    conflate_ms: int = 0
    skip_image: bool = False


@attrs.define
class Place:
    """How far a client has come in one topic.

    Args:
        sequence: everything up to it has been told, or said to be missing.
        status: the last that was told.
        book: as the client has it.
        image_due: the image as of `sequence` has to come next.
        gap_due: this gap (epoch, first, last, missed) has to come next.
        adrift: a gap without numbers was told: an image will say where we are.
        resumed: it goes on where an earlier stream was.
        venue_gap_told, status_due: what stands around a conflated event.
    """

    epoch: int
    sequence: int
    status: What | None = None
    book: What | None = None
    image_due: bool = False
    gap_due: tuple[int, int, int, int] | None = None
    adrift: bool = False
    resumed: bool = False
    venue_gap_told: bool = False
    status_due: bool = False

    @property
    def settled(self) -> bool:
        return not (self.image_due or self.gap_due or self.adrift or self.status_due)


@attrs.define
class Expected:
    """The answer to one request: what the server must have found when it read it.

    Args:
        results: id, accepted, topics, recovered of each subscription.
        places: of the topics that the client did not have before; a continued one begins with what the client has of it.
        removed: ids that were unsubscribed.
    """

    request_id: int
    subs: list[Sub] = attrs.field(factory=list)
    results: list[tuple[str, bool, int, bool]] = attrs.field(factory=list)
    places: dict[Topic, Place] = attrs.field(factory=dict)
    removed: list[str] = attrs.field(factory=list)
    unknown: list[str] = attrs.field(factory=list)


@attrs.define
class Mark:
    """What a client keeps with the newest bookmark.

    Args:
        paced: topics of which something may have been held back when the bookmark was made.
    """

    bookmark: bytes
    subs: dict[str, Sub]
    books: dict[Topic, What | None]
    record: dict[Topic, list[v1.MarketEvent]]
    paced: set[Topic]


class Reader:
    """Checks every message of one stream.

    Args:
        client_id: as Welcome has to say it; empty = the server makes one.
        welcome: what it has to say.
        record: the events of earlier streams that this one continues, by topic.
    """

    def __init__(self, world: World, client_id: str, welcome: Expected, record: dict[Topic, list[v1.MarketEvent]]) -> None:
        self.world = world
        self.client_id = client_id
        self.record = record
        self.subs: dict[str, Sub] = {}
        self.places: dict[Topic, Place] = {}
        self.answers: list[Expected] = []
        self.mark: Mark | None = None
        self.goodbye: v1.Goodbye | None = None
        self.draining = False
        self.stalled = False  # it did not read all the time
        self.pings: list[int] = []
        self._welcome: Expected | None = welcome
        self._dropping: set[Topic] = set()  # topics that were ever wanted with DROP_OLDEST
        self._pacing: set[Topic] = set()  # ... with an interval

    # ---- messages

    def read(self, data: bytes) -> None:
        """One message."""
        message = v1.StreamMarketDataResponse.parse(data)
        assert self.goodbye is None, f"behind the goodbye came {message}"
        assert not (message.events and _control_of(message)), message
        if self._welcome is not None:
            assert message.welcome is not None, f"welcome must be the first: {message}"
        for event in message.events:
            self._read_event(event)
        self._read_control(message)

    def _read_control(self, message: v1.StreamMarketDataResponse) -> None:
        if message.welcome is not None:
            self._read_welcome(message.welcome)
        elif message.subscribed is not None:
            self._read_subscribed(message.subscribed)
        elif message.unsubscribed is not None:
            self._read_unsubscribed(message.unsubscribed)
        elif message.heartbeat is not None:
            if message.heartbeat.ping_id:
                assert self.pings.pop(0) == message.heartbeat.ping_id
            self._keep(message.heartbeat.bookmark)
        elif message.draining is not None:
            self.draining = True
            self._keep(message.draining.bookmark)
        elif message.goodbye is not None:
            self.goodbye = message.goodbye
            self._keep(message.goodbye.bookmark)
        elif message.slow_warning is not None:
            assert self.stalled

    def _read_welcome(self, welcome: v1.Welcome) -> None:
        expected, self._welcome = self._welcome, None
        assert expected is not None, "a second welcome"
        assert welcome.client_id == self.client_id or not self.client_id
        assert [sub.id for sub in welcome.restored] == [sub.id for sub in expected.subs]
        self._apply(expected)

    def _read_subscribed(self, answer: v1.SubscribeResponse) -> None:
        expected = self._answered(answer.request_id)
        results = [(r.id, r.accepted, r.topics, r.recovered) for r in answer.results]
        assert results == expected.results, f"{answer.results}, but {expected.results}"
        self._apply(expected)

    def _read_unsubscribed(self, answer: v1.UnsubscribeResponse) -> None:
        expected = self._answered(answer.request_id)
        assert (answer.removed_ids, answer.unknown) == (expected.removed, expected.unknown), answer
        for sub_id in expected.removed:
            del self.subs[sub_id]
        self.places = {topic: place for topic, place in self.places.items() if self.wants(topic)}

    def _answered(self, request_id: int) -> Expected:
        assert self.answers, "an answer to nothing"
        expected = self.answers.pop(0)
        assert expected.request_id == request_id
        return expected

    def _apply(self, expected: Expected) -> None:
        for sub in expected.subs:
            self.subs.pop(sub.id, None)
            self.subs[sub.id] = sub
            topics = {history.topic for history in self.world.matching(sub.selector)}
            self._dropping |= topics if sub.policy == DROP_OLDEST else set()
            self._pacing |= topics if sub.conflate_ms else set()
        for topic, place in expected.places.items():
            self.places[topic] = place
            if not place.resumed:
                self.record[topic] = []
        self.places = {topic: place for topic, place in self.places.items() if self.wants(topic)}

    def wants(self, topic: Topic) -> bool:
        return any(sub.selector.matches(topic) for sub in self.subs.values())

    def merges(self, topic: Topic) -> bool:
        """Whether events of it may be merged though its client reads."""
        return topic in self._pacing or any(sub.conflate_ms and sub.selector.matches(topic) for sub in self.subs.values())

    def _drops(self, topic: Topic) -> bool:
        wanted = (sub.policy == DROP_OLDEST and sub.selector.matches(topic) for sub in self.subs.values())
        return topic in self._dropping or any(wanted)

    # ---- bookmarks

    def _keep(self, bookmark: bytes) -> None:
        """It stands behind everything that the client has to have by now."""
        if not bookmark:
            return
        for feed, (_, position) in parse_bookmark(bookmark).items():
            for history in map(self.world.topics.__getitem__, self.world.of_feed(feed)):
                if self.wants(history.topic):
                    self._covered(history, position)
        books = {topic: place.book for topic, place in self.places.items()}
        record = {topic: list(events) for topic, events in self.record.items()}
        self.mark = Mark(bookmark, dict(self.subs), books, record, {topic for topic in self.world.topics if self.merges(topic)})

    def _covered(self, history: TopicHistory, position: int) -> None:
        topic = history.topic
        place, needed = self._place(history), self.world.feeds[topic.venue].sequence_at(topic, position)
        if place.sequence < needed and not place.adrift:
            assert self.merges(topic), f"{topic}: the bookmark is behind {needed}, the client has {place}"
        assert not place.image_due, f"{topic}: the bookmark is behind its image"
        assert place.gap_due is None, f"{topic}: the bookmark is behind a gap that was not told"

    # ---- events

    def _place(self, history: TopicHistory) -> Place:
        """Of a topic that was born since, the beginning."""
        return self.places.setdefault(history.topic, Place(history.epoch, 0))

    def _read_event(self, event: v1.MarketEvent) -> None:
        topic = topic_of(event)
        assert self.wants(topic), f"nobody wants {topic}"
        history = self.world.topics[topic]
        assert event.epoch == history.epoch
        place = self._place(history)
        self._record(topic, place, event)
        what = what_of(event)
        try:
            if event.flags & LOCAL:
                self._read_local(history, place, event, what)
            else:
                assert not place.status_due, "a status was merged and not told"
                assert place.gap_due is None, f"a gap is due: {place.gap_due}"
                (self._read_image if event.flags & IMAGE else self._read_news)(history, place, event, what)
        except AssertionError as error:
            raise AssertionError(f"{topic}: {event.sequence} {what} at {place}: {error}") from error

    def _record(self, topic: Topic, place: Place, event: v1.MarketEvent) -> None:
        """As docs/clients.md tells a client: what comes again behind a bookmark is dropped."""
        record = self.record.setdefault(topic, [])
        if place.resumed and record and not event.flags and record[-1].epoch == event.epoch:
            last = max(one.sequence for one in record if one.epoch == event.epoch)
            if event.sequence <= last:
                return
            if 0 < event.first_sequence <= last:
                event = replace(event, first_sequence=last + 1)
        record.append(event)

    def _read_local(self, history: TopicHistory, place: Place, event: v1.MarketEvent, what: What) -> None:
        if event.gap is not None:
            self._read_gap(history, place, event, event.gap)
            return
        assert event.status is not None
        possible = {history.status_at(event.sequence)}
        if self._drops(history.topic):  # a status may have been dropped: it is told as it is now, in front of the rest
            possible |= {history.status_at(sequence) for sequence in range(event.sequence, history.sequence + 1)}
        assert what in possible, f"the status was {possible}"
        place.status, place.status_due = what, False

    def _read_gap(self, history: TopicHistory, place: Place, event: v1.MarketEvent, gap: v1.Gap) -> None:
        said = (gap.epoch, gap.first_sequence, gap.last_sequence, gap.missed)
        if gap.cause == v1.GapCause.VENUE:
            assert self.stalled or self.merges(history.topic), "a gap of the venue that was not merged is no local one"
            place.venue_gap_told = True
        elif gap.cause == v1.GapCause.RESUME_TOO_OLD:
            assert place.gap_due == said, f"not {said}"
            place.gap_due = None
        else:
            assert gap.cause == v1.GapCause.SLOW_CONSUMER
            assert self.stalled, "the client was not slow"
            assert gap.epoch == history.epoch
            self._read_slow_gap(history, place, said)

    def _read_slow_gap(self, history: TopicHistory, place: Place, said: tuple[int, int, int, int]) -> None:
        """Some were dropped, or the ring was quicker than a client that catches up."""
        _, first, last, missed = said
        if place.resumed and not first:
            assert (last, missed) == (0, 0)
            place.adrift = True
            return
        assert self._drops(history.topic) or place.resumed, "it did not want to lose anything"
        assert first == place.sequence + 1
        assert last <= history.sequence
        assert missed == last - first + 1 > 0
        place.sequence = last
        place.book = None

    def _read_image(self, history: TopicHistory, place: Place, event: v1.MarketEvent, what: What) -> None:
        assert place.status is not None or place.resumed, "its status comes first"
        if place.adrift:
            assert event.sequence >= place.sequence
        else:
            assert event.sequence == place.sequence, "an image that jumps"
        assert what == history.state_at(event.sequence), f"not {history.state_at(event.sequence)}"
        place.sequence, place.book = event.sequence, what
        place.image_due = place.adrift = False

    def _read_news(self, history: TopicHistory, place: Place, event: v1.MarketEvent, what: What) -> None:
        first = event.first_sequence or event.sequence
        assert not place.image_due, "an image is due"
        assert first == place.sequence + 1 or (place.adrift and first > place.sequence), f"{place.sequence + 1} is due"
        assert event.sequence <= history.sequence, "nobody published it"
        if event.first_sequence:
            self._read_merged(history, place, event, what)
        else:
            assert what == history.events[event.sequence - 1].what, f"not {history.events[event.sequence - 1].what}"
            place.status = what if what[0] == "status" else place.status
        place.sequence, place.adrift = event.sequence, False
        place.venue_gap_told = False
        self._keep_book(history, place, what)

    def _read_merged(self, history: TopicHistory, place: Place, event: v1.MarketEvent, what: What) -> None:
        merged = [entry.what for entry in history.events[event.first_sequence - 1 : event.sequence]]
        assert len(merged) > 1, "it stands for itself"
        assert history.topic.kind in MERGED_KINDS, "these are news each"
        assert self.stalled or self.merges(history.topic), "the client was not slow"
        assert what == history.state_at(event.sequence), f"not {history.state_at(event.sequence)}"
        assert not any(one[0] == "candle" and one[2] for one in merged[:-1]), f"a closed candle was merged away: {merged}"
        assert place.venue_gap_told == (VENUE_GAP in merged), f"the venue's gap: {merged}"
        place.status_due = any(one[0] == "status" for one in merged)

    def _keep_book(self, history: TopicHistory, place: Place, what: What) -> None:
        if history.topic.kind is not Kind.BOOK or what[0] not in ("snapshot", "delta"):
            return
        if what[0] == "delta":
            assert place.book is not None, "a delta for a book that is not there"
        place.book = history.events[place.sequence - 1].state

    # ---- what must be so when nothing waits

    def lacks(self, *, paced_too: bool = False) -> Iterator[str]:
        """What was not told, or is false, though the client reads."""
        if self._welcome is not None:
            yield "no welcome"
        if self.answers:
            yield f"no answer to {self.answers[0]}"
        for topic, history in self.world.topics.items():
            if not self.wants(topic) or (self.merges(topic) and not paced_too):
                continue
            place = self._place(history)
            adrift = place.adrift and history.state is None
            if place.sequence != history.sequence and not adrift:
                yield f"{topic}: {history.sequence} was published, and {place} told"
            if not place.settled and not adrift:
                yield f"{topic}: something is due: {place}"
            if place.status != history.status and (place.status or history.sequence):
                yield f"{topic}: it is {history.status}, and {place} told"


def topic_of(event: v1.MarketEvent) -> Topic:
    topic = event.topic
    assert topic is not None
    return Topic(topic.venue, topic.symbol, Kind(int(topic.kind)), topic.variant)


def what_of(event: v1.MarketEvent) -> What:
    """See raven.adapter; of sizes and prices what the machine makes different."""
    if event.trade is not None:
        return "trade", event.trade.trade_id
    if event.quote is not None:
        return "quote", event.quote.bid_price
    if event.candle is not None:
        return "candle", event.candle.close, event.candle.closed
    if event.book_snapshot is not None:
        book = event.book_snapshot
        return "snapshot", tuple(sorted(zip(book.bid_price, book.bid_size, strict=True)))
    if event.book_delta is not None:
        return "delta", event.book_delta.bid_price[0], event.book_delta.bid_size[0]
    if event.status is not None:
        return "status", int(event.status.state), int(event.status.cause)
    assert event.gap is not None, event
    return "gap", v1.GapCause(event.gap.cause).name


def _control_of(message: v1.StreamMarketDataResponse) -> object:
    """The one control of a message."""
    names = ("welcome", "subscribed", "unsubscribed", "heartbeat", "draining", "slow_warning", "goodbye")
    return next((control for name in names if (control := getattr(message, name)) is not None), None)
