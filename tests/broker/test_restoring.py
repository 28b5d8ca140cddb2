"""Topics that begin with what a store kept of them: marked, in an epoch that is true, and told apart from news."""

from __future__ import annotations

from math import nan

import pytest

from raven.adapter import Established, Event
from raven.adapter.batch import Carry
from raven.broker import BrokerLimits
from raven.broker.restoring import EPOCH_AHEAD_MAX_MS, TEXT, latest_elements, restore_topic
from raven.broker.topics import TopicState
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue
from raven.model.events import BookDelta, BookSnapshot, Flag, GapCause, Payload, Quote, State, StatusCause, TopicStatus, Trade
from raven.model.topic import Kind, Selector, Topic
from tests.broker.bench import BOOK, QUOTE, TOPICS, TRADE, VENUE, Bench, read
from tests.validators import faults

NOW_MS = 1_700_000_000_000
NOW_NS = NOW_MS * 1_000_000
OLD = NOW_MS - 5_000
SNAPSHOT = BookSnapshot([2.0, 1.0], [1.0, 1.0], [3.0], [1.0], 7)
LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)


def bench(*, book_top: bool = False) -> Bench:
    """One whose feed has not begun."""
    made = Bench(BrokerLimits(), book_top=book_top)
    for state in made.broker.directory:
        made.broker.directory.remove(state)
    made.broker.directory.rings.clear()
    return made


def restored(
    house: Bench, payload: Payload, topic: Topic, epoch: int = OLD, sequence: int = 40, now_ns: int = NOW_NS
) -> TopicState:
    event = Event(topic, payload, 5, 4, int(Flag.IMAGE))
    return restore_topic(house.broker.directory, VENUE, event, epoch, sequence, now_ns)


def answered(house: Bench) -> list[v1.MarketEvent]:
    """What GetLatest gives for everything."""
    elements = b"".join(house.broker.directory.latest([Selector("*", "*", variant="*")]))
    return v1.GetLatestResponse.parse(elements).events


def test_after_a_kill_the_value_is_the_image_of_a_new_epoch_that_begins_with_down() -> None:
    house = bench()
    state = restored(house, Quote(1.0, 1.0, 2.0, 1.0), QUOTE)
    status, image = answered(house)
    assert (status.flags, status.status.state, status.status.cause) == (LOCAL, State.DOWN, StatusCause.STARTING)
    assert status.status.text == TEXT
    assert (image.flags, image.epoch, image.sequence, image.received_ts_ns) == (IMAGE, NOW_MS, 1, 5)
    assert image.quote == v1.Quote(1.0, 1.0, 2.0, 1.0)
    assert [(kept.topic, sequence) for kept, sequence, _ in house.broker.directory.ring(VENUE).read(0)] == [(QUOTE, 1)]
    assert state.adopted


def test_an_epoch_never_goes_back_though_the_clock_has() -> None:
    state = restored(bench(), Trade(1.0, 1.0, 1, "x"), TRADE, epoch=NOW_MS + 60_000)
    assert state.epoch == NOW_MS + 60_001


def test_who_subscribes_before_the_feed_is_live_sees_image_gap_live_news_in_this_order() -> None:
    house = bench(book_top=True)
    restored(house, SNAPSHOT, BOOK)
    restored(house, Trade(1.0, 1.0, 1, "old"), TRADE)
    client = house.subscribed(Kind.BOOK, Kind.TRADE)
    house.publish(Carry(TOPICS))
    house.publish(Established([TRADE]))
    house.publish(Event(TRADE, Trade(2.0, 1.0, 1, "new"), 9), Event(BOOK, BookSnapshot([5.0], [1.0], [6.0], [1.0]), 9))
    house.publish(Event(BOOK, BookDelta([5.0], [3.0]), 10))
    record = read(client)
    assert faults(record) == []
    for topic, last in ((TRADE, "trade"), (BOOK, "book_delta")):
        of_topic = [event for event in record if event.topic and event.topic.kind == topic.kind]
        status, image, gap = of_topic[:3]
        assert (status.status.state, image.flags, gap.gap.cause) == (State.DOWN, IMAGE, GapCause.VENUE)
        assert [event.sequence for event in of_topic[2:]] == list(range(2, len(of_topic)))
        assert any(event.status and event.status.state == State.LIVE for event in of_topic[3:])
        assert getattr(of_topic[-1], last) is not None


def test_a_delta_before_the_snapshot_is_refused_though_there_is_an_old_book() -> None:
    house = bench()
    state = restored(house, SNAPSHOT, BOOK)
    house.publish(Carry(TOPICS))
    house.publish(Event(BOOK, BookDelta([2.0], [9.0]), 9))
    assert len(house.faults) == 1
    assert state.book is not None
    assert state.book.bids() == [(2.0, 1.0), (1.0, 1.0)]


def test_a_book_that_is_restored_has_its_tops_when_its_feed_begins() -> None:
    house = bench(book_top=True)
    restored(house, SNAPSHOT, BOOK)
    top = restored(house, BookSnapshot([2.0], [1.0], [3.0], [1.0], 7, 5), BOOK._replace(kind=Kind.BOOK_TOP, variant="5"))
    house.publish(Carry(TOPICS))
    house.publish(Event(BOOK, BookSnapshot([5.0], [1.0], [6.0], [1.0]), 9))
    assert top.live
    assert top.last is not None
    assert isinstance(top.last.payload, BookSnapshot)
    assert top.last.payload.bid_price == [5.0]
    assert len([topic for topic in house.broker.directory if topic.topic.kind is Kind.BOOK_TOP]) == 3


def test_after_a_clean_end_the_value_belongs_to_the_sequence_that_was_handed_over() -> None:
    house = bench()
    state = house.broker.directory.add(QUOTE, VENUE, OLD)
    state.sequence = 40
    assert restored(house, Quote(1.0, 1.0, 2.0, 1.0), QUOTE) is state
    _, image = answered(house)
    assert (image.epoch, image.sequence, image.flags) == (OLD, 40, IMAGE)
    assert len(house.broker.directory.ring(VENUE)) == 0  # nothing is news


@pytest.mark.parametrize("place", [(OLD, 39), (OLD, 41), (OLD - 1, 40), (OLD + 1, 40)])
def test_a_value_of_another_place_than_was_handed_over_is_refused(place: tuple[int, int]) -> None:
    house = bench()
    state = house.broker.directory.add(QUOTE, VENUE, OLD)
    state.sequence = 40
    with pytest.raises(InvalidValue, match="sequence: "):
        restored(house, Quote(1.0, 1.0, 2.0, 1.0), QUOTE, *place)
    assert state.last is None


@pytest.mark.parametrize(
    ("payload", "topic", "field"),
    [
        (Quote(nan, 1.0, 2.0, 1.0), QUOTE, "payload"),
        (Quote(1.0, 1.0, 2.0, 1.0), TRADE, "payload"),
        (TopicStatus(State.LIVE), QUOTE, "payload"),
        (BookSnapshot([1.0, 2.0], [1.0]), BOOK, "payload"),
        (BookDelta([1.0], [1.0]), BOOK, "payload"),
    ],
)
def test_what_cannot_be_a_value_is_refused_and_leaves_no_topic(payload: Payload, topic: Topic, field: str) -> None:
    house = bench()
    with pytest.raises(InvalidValue, match=f"^{field}: "):
        restored(house, payload, topic)
    assert len(house.broker.directory) == 0


@pytest.mark.parametrize(
    ("epoch", "sequence", "field"),
    [
        (0, 1, "epoch"),
        (-5, 1, "epoch"),
        (NOW_MS + EPOCH_AHEAD_MAX_MS + 1, 1, "epoch"),
        (2**60, 1, "epoch"),
        (OLD, 0, "sequence"),
    ],
)
def test_a_place_that_cannot_be_is_refused(epoch: int, sequence: int, field: str) -> None:
    house = bench()
    with pytest.raises(InvalidValue, match=f"^{field}: "):
        restored(house, Trade(1.0, 1.0, 1, "x"), TRADE, epoch, sequence)
    assert len(house.broker.directory) == 0


def test_what_a_store_is_given_is_what_get_latest_answers() -> None:
    house = Bench(BrokerLimits())
    house.publish(Event(BOOK, SNAPSHOT, 1), Event(BOOK, BookDelta([2.0], [0.0]), 2))
    state = house.broker.directory.find(BOOK)
    assert state is not None
    elements = latest_elements(state, NOW_NS)
    assert elements is not None
    status, image = v1.GetLatestResponse.parse(b"".join(elements)).events
    assert status.status.state == State.LIVE
    assert elements[1] == state.image()
    assert image.book_snapshot.bid_price == [1.0]
    untouched = house.broker.directory.find(QUOTE)
    assert untouched is not None
    assert latest_elements(untouched, NOW_NS) is None


def test_a_topic_keeps_no_image_for_having_been_stored() -> None:
    house = Bench(BrokerLimits())
    house.publish(Event(BOOK, SNAPSHOT, 1))
    state = house.broker.directory.find(BOOK)
    assert state is not None
    latest_elements(state, NOW_NS)
    assert state._image == (0, b"")
