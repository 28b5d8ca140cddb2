"""The clients of the machine: what each remembers over its streams, and what a server must make of what it asks for."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from hypothesis import strategies as st

from raven.broker import Client
from raven.broker.bookmark import parse_bookmark
from raven.codec.generated.raven import v1
from raven.model.topic import Kind, Selector, Topic
from tests.integration.machine_reader import CONFLATE, DISCONNECT, DROP_OLDEST, Expected, Mark, Place, Reader, Sub
from tests.integration.machine_wire import Peer
from tests.integration.machine_world import TopicHistory, World

__all__ = [
    "NOTHING",
    "ONE",
    "SELECTORS",
    "SUBS",
    "TOPICS",
    "TWO",
    "Asked",
    "Slot",
    "Stream",
    "all_in",
    "asked_for",
    "check_outbox",
    "expect",
    "flow_again",
    "selector_message",
    "subscription_message",
    "valid",
]


ONE, TWO = "one", "two"
TOPICS = (
    Topic(ONE, "BTC-USDT", Kind.TRADE),
    Topic(ONE, "BTC-USDT", Kind.QUOTE),
    Topic(ONE, "BTC-USDT", Kind.BOOK),
    Topic(ONE, "BTC-USDT", Kind.CANDLE, "1m"),
    Topic(ONE, "ETH-USDT", Kind.TRADE),
    Topic(ONE, "ETH-USDT", Kind.QUOTE),
    Topic(TWO, "BTC-USDT", Kind.TRADE),
    Topic(TWO, "ETH-USDT", Kind.QUOTE),
)
NEWS = frozenset({Kind.TRADE})
STATES = frozenset({Kind.QUOTE, Kind.BOOK, Kind.CANDLE})
SELECTORS = (
    Selector("*", "*", NEWS | STATES),
    Selector("*", "*", STATES),
    Selector(ONE, "*", NEWS),
    Selector(ONE, "BTC*", frozenset({Kind.BOOK})),
    Selector(ONE, "BTC-USDT", frozenset({Kind.QUOTE})),
    Selector(ONE, "BTC-USDT", frozenset({Kind.BOOK, Kind.CANDLE})),
    Selector("*", "BTC-USDT", NEWS),
    Selector(TWO, "*", NEWS | {Kind.QUOTE}),
    Selector("*", "NEW*", NEWS | {Kind.QUOTE}),
    Selector(TWO, "NEW1", NEWS),  # refused until it is born
)


def _subs(selector: Selector) -> st.SearchStrategy[Sub]:
    """What a server takes of it, and now and then what it does not."""
    news = bool(selector.kinds & NEWS)
    return st.builds(
        Sub,
        id=st.sampled_from(["x", "y", "z"]),
        selector=st.just(selector),
        policy=st.sampled_from([0, DROP_OLDEST, DROP_OLDEST, DISCONNECT] if news else [0, CONFLATE, DROP_OLDEST, DISCONNECT]),
        conflate_ms=st.just(0) if news else st.sampled_from([0, 0, 100, 1000]),
        skip_image=st.just(False) if Kind.BOOK in selector.kinds else st.booleans(),
    )


SUBS = st.one_of(
    *[st.sampled_from(SELECTORS).flatmap(_subs)] * 9,
    st.builds(Sub, st.just("x"), st.sampled_from(SELECTORS), st.just(CONFLATE), st.just(100), st.just(True)),
)
"""Subscriptions."""


@attrs.frozen
class Asked:
    """Where a subscription is to continue: a bookmark, and points."""

    mark: Mark | None = None
    points: dict[Topic, Place] = attrs.field(factory=dict)


NOTHING = Asked()


@attrs.define
class Stream:
    """A stream of one client: what the server has of it, and what the client reads.

    Args:
        wanted: its subscriptions as the server has them, the one that was added last at the end.
        end: the reason that the server has to end it for.
    """

    peer: Peer
    reader: Reader
    client: Client
    wanted: dict[str, Sub]
    end: str = ""

    @property
    def alive(self) -> bool:
        return not self.end and not self.peer.lost

    @property
    def flows(self) -> bool:
        return self.peer.open and self.peer.reading and not self.peer.lost


@attrs.define
class Slot:
    """One client, over all its streams.

    Args:
        kept: what the server remembers of its subscriptions while it is away.
        subs, places, mark, record: what the client remembers of its last stream.
    """

    name: str
    stream: Stream | None = None
    kept: dict[str, Sub] = attrs.field(factory=dict)
    subs: dict[str, Sub] = attrs.field(factory=dict)
    places: dict[Topic, Place] = attrs.field(factory=dict)
    mark: Mark | None = None
    record: dict[Topic, list[v1.MarketEvent]] = attrs.field(factory=dict)


def expect(world: World, slot: Slot, wanted: dict[str, Sub], subs: Sequence[tuple[Sub, Asked]], number: int) -> Expected:
    """What a server must make of it."""
    expected = Expected(number)
    for sub, asked in subs:
        states = list(world.matching(sub.selector))
        if not valid(world, sub, asked, restored=not number):
            expected.results.append((sub.id, False, 0, False))
            continue
        wanted.pop(sub.id, None)
        had = {history.topic for other in wanted.values() for history in world.matching(other.selector)}
        wanted[sub.id] = sub
        places = {history.topic: _begin(world, slot, history, sub, asked) for history in states if history.topic not in had}
        recovered = asked is not NOTHING and _asks(asked) and not any(place.gap_due for place in places.values())
        expected.results.append((sub.id, True, len(states), recovered))
        expected.subs.append(sub)
        expected.places |= places
    last = [sub for sub in expected.subs if wanted.get(sub.id) is sub]  # others were replaced by a later one of the request
    for topic, place in expected.places.items():
        if place.gap_due is None and (not place.resumed or is_paced(wanted, topic)):  # it begins with its state
            history = world.topics[topic]
            shown = topic.kind is Kind.BOOK or any(sub.selector.matches(topic) and not sub.skip_image for sub in last)
            due = shown and history.state is not None
            expected.places[topic] = Place(history.epoch, history.sequence, image_due=due)
    return expected


def is_paced(subs: dict[str, Sub], topic: Topic) -> bool:
    """Whether the one of its subscriptions that was added last has an interval."""
    return any([sub.conflate_ms > 0 for sub in subs.values() if sub.selector.matches(topic)][-1:])


def valid(world: World, sub: Sub, asked: Asked, *, restored: bool) -> bool:
    selector = sub.selector
    if selector.exact and not any(True for _ in world.matching(selector)):
        return False
    if restored:
        return True
    if Kind.TRADE in selector.kinds and (sub.policy == CONFLATE or sub.conflate_ms):
        return False
    return not (sub.skip_image and Kind.BOOK in selector.kinds and not _asks(asked))


def _begin(world: World, slot: Slot, history: TopicHistory, sub: Sub, asked: Asked) -> Place:
    """Where a topic that the client did not have must begin."""
    topic, sequence, epoch = history.topic, history.sequence, history.epoch
    with_image = history.state is not None
    place = Place(epoch, sequence, image_due=with_image and (not sub.skip_image or topic.kind is Kind.BOOK))
    if sub.conflate_ms or not _asks(asked):
        return place
    if (point := asked.points.get(topic)) is not None:
        if point.epoch == epoch and world.forgotten(topic) <= point.sequence <= sequence:
            slot.record[topic] = list(slot.record.get(topic, ()))
            return Place(epoch, point.sequence, book=point.book, resumed=True)
        known = point.epoch == epoch and point.sequence < sequence
        gap = (point.epoch, point.sequence + 1, sequence if known else 0, sequence - point.sequence if known else 0)
        return attrs.evolve(place, gap_due=gap, image_due=with_image)
    if asked.mark is None:
        return place
    feed = world.feeds[topic.venue]
    feed_epoch, position = parse_bookmark(asked.mark.bookmark).get(topic.venue, (0, 0))
    if feed_epoch == feed.epoch and feed.first <= position <= len(feed.log):
        slot.record[topic] = list(asked.mark.record.get(topic, ()))
        return Place(epoch, feed.sequence_at(topic, position), book=asked.mark.books.get(topic), resumed=True)
    return attrs.evolve(place, gap_due=(epoch, 0, 0, 0), image_due=with_image)


def _asks(asked: Asked) -> bool:
    return asked.mark is not None or bool(asked.points)


def all_in(kept: dict[str, Sub], mark: Mark | None) -> bool:
    """Whether a bookmark is younger than all of the subscriptions."""
    return (
        mark is not None
        and all(mark.subs.get(sub.id) == sub for sub in kept.values())
        and all(is_paced(kept, topic) for topic in mark.paced)
    )


def asked_for(slot: Slot, sub: Sub, how: str) -> Asked:
    """What a client that comes back says of a subscription; one that is younger than the bookmark has points only."""
    mark = slot.mark if how != "points" and slot.mark is not None and slot.mark.subs.get(sub.id) == sub else None
    if mark is not None and any(sub.selector.matches(topic) and not is_paced(slot.subs, topic) for topic in mark.paced):
        mark = None  # what was held back when it was made would not come
    if mark is not None and how == "bookmark":
        return Asked(mark)
    points = {topic: place for topic, place in slot.places.items() if sub.selector.matches(topic) and place.settled}
    if how == "both":
        points = dict(list(points.items())[::2])
    return Asked(mark, points)


def subscription_message(sub: Sub, asked: Asked) -> v1.Subscription:
    return v1.Subscription(
        selector=selector_message(sub.selector),
        slow_consumer_policy=v1.SlowConsumerPolicy(sub.policy),
        conflate_ms=sub.conflate_ms,
        skip_image=sub.skip_image,
        resume=[v1.ResumePoint(_topic(topic), place.epoch, place.sequence) for topic, place in asked.points.items()],
        id=sub.id,
        bookmark=asked.mark.bookmark if asked.mark is not None else b"",
    )


def selector_message(selector: Selector) -> v1.TopicSelector:
    return v1.TopicSelector(
        selector.venue, selector.symbol, [v1.Kind(int(k)) for k in sorted(selector.kinds)], selector.variant
    )


def _topic(topic: Topic) -> v1.Topic:
    return v1.Topic(topic.venue, topic.symbol, v1.Kind(int(topic.kind)), topic.variant)


def flow_again(stream: Stream) -> None:
    stream.peer.reading = True
    if not stream.peer.ending:
        stream.peer.flow()


def check_outbox(stream: Stream) -> None:
    """What it says of itself is so, and nothing stays behind when it is empty."""
    box = stream.client.outbox
    assert box._events >= 0
    assert box.bytes_queued >= 0
    assert box._controls_bytes >= 0
    if box.empty:
        assert (box._events, box.bytes_queued, box._controls_bytes, box._open) == (0, 0, 0, {})
    if stream.flows:
        assert not box.behind
        assert box.empty
