"""Clients that do not read fast enough: what their policies promise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.adapter import Established, Event, Resync
from raven.adapter.batch import BatchItem, Down
from raven.broker import Client, Subscription
from raven.broker.policy import Policy, delivery_of
from raven.codec.generated.raven import v1
from raven.model.book import OrderBook
from raven.model.events import (
    BookDelta,
    BookSnapshot,
    Candle,
    Flag,
    GapCause,
    Quote,
    State,
    StatusCause,
    Trade,
)
from raven.model.topic import Kind, Selector, Topic
from tests.broker.bench import BOOK, QUOTE, TRADE, VENUE, Bench, make_bench, pipe_of, read

CANDLE = Topic(VENUE, "BTC-USDT", Kind.CANDLE, "1m")
ETH_TRADE = Topic(VENUE, "ETH-USDT", Kind.TRADE)
SNAPSHOT = BookSnapshot([99.0, 98.0], [1.0, 2.0], [101.0, 102.0], [3.0, 4.0], 7)
LOCAL = int(Flag.LOCAL)


def quote(bid: float) -> Event:
    return Event(QUOTE, Quote(bid, 1.0, bid + 1, 1.0), 5, 4)


def trade(number: int, topic: Topic = TRADE) -> Event:
    return Event(topic, Trade(100.0 + number, 1.0, 1, str(number)), 5, 4)


def delta(price: float, size: float) -> Event:
    return Event(BOOK, BookDelta([price], [size], [], []), 5, 4)


def candle(close: float, *, closed: bool) -> Event:
    return Event(CANDLE, Candle(0, 60, close, close, close, close, 1.0, closed=closed), 5, 4)


def subscribed(bench: Bench, *kinds: Kind, policy: Policy = Policy.DEFAULT, symbol: str = "BTC-USDT") -> Client:
    client = bench.client()
    subscription = Subscription("s", Selector(VENUE, symbol, frozenset(kinds)), policy=policy)
    assert bench.broker.clients.subscribe(client, subscription).accepted
    bench.broker.clients.put_images(client, subscription)
    return client


def told(events: Sequence[v1.MarketEvent]) -> list[tuple[int, int]]:
    """First sequence (0 = none) and sequence of each event."""
    return [(event.first_sequence, event.sequence) for event in events]


class TestConflation:
    def test_the_newest_quote_stands_for_those_before_it(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.QUOTE)
        bench.publish(Established([QUOTE]), quote(1.0))
        read(client)
        pipe_of(client).room = 0.5  # it takes one more message, which fills it
        bench.publish(quote(2.0))
        bench.publish(quote(3.0), quote(4.0))
        bench.publish(quote(5.0))
        pipe_of(client).open()
        events = read(client)
        assert told(events) == [(0, 3), (4, 6)]
        assert [event.quote.bid_price for event in events if event.quote] == [2.0, 5.0]
        bench.publish(quote(6.0))
        assert told(read(client)) == [(0, 7)]
        assert client.outbox.statistics().events_missed == 2

    def test_one_alone_comes_as_it_is(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.QUOTE)
        bench.publish(Established([QUOTE]))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(quote(2.0))
        pipe_of(client).open()
        assert told(read(client)) == [(0, 2)]

    def test_a_book_comes_as_a_fresh_image(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.BOOK)
        bench.publish(Event(BOOK, SNAPSHOT, 5))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(delta(99.0, 0.0), delta(97.0, 5.0))
        pipe_of(client).open()
        (event,) = read(client)
        assert told([event]) == [(3, 4)]
        assert event.book_snapshot is not None
        assert event.book_snapshot.bid_price == [98.0, 97.0]
        assert event.flags == 0

    def test_what_was_said_of_the_topic_meanwhile_is_told_around_its_state(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.BOOK)
        bench.publish(Event(BOOK, SNAPSHOT, 5))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(delta(97.0, 5.0), Resync(BOOK, StatusCause.SEQUENCE_GAP, "hole"), Event(BOOK, SNAPSHOT, 6))
        bench.publish(Down([BOOK], StatusCause.FEED_DOWN, "gone"))
        pipe_of(client).open()
        gap, image, status = read(client)
        assert gap.gap is not None
        assert (gap.gap.cause, gap.flags, gap.sequence) == (GapCause.VENUE, LOCAL, 2)
        assert told([image]) == [(3, 8)]
        assert status.status is not None
        assert (status.status.state, status.flags, status.sequence) == (v1.TopicStatusState.DOWN, LOCAL, 8)

    def test_a_status_alone_is_not_conflated(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.QUOTE)
        bench.publish(Established([QUOTE]), quote(1.0))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(Down([QUOTE], StatusCause.FEED_DOWN, ""), quote(2.0))
        pipe_of(client).open()
        events = read(client)
        assert [event.status.state for event in events if event.status] == [State.DOWN, State.LIVE]
        assert [event.sequence for event in events] == [3, 4, 5, 6]

    def test_a_closed_candle_is_never_conflated_away(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.CANDLE)
        bench.publish(Established([CANDLE]))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(candle(1.0, closed=False), candle(2.0, closed=False), candle(3.0, closed=True), candle(4.0, closed=False))
        bench.publish(candle(5.0, closed=True), candle(6.0, closed=True), candle(7.0, closed=False))
        pipe_of(client).open()
        events = read(client)
        assert [(event.candle.close, event.candle.closed) for event in events if event.candle] == [
            (3.0, True),
            (5.0, True),
            (6.0, True),
            (7.0, False),
        ]
        assert told(events) == [(2, 4), (5, 6), (0, 7), (0, 8)]

    def test_a_client_that_reads_nothing_costs_the_same_whatever_comes(self) -> None:
        bench = make_bench(events_max=10)
        client = subscribed(bench, Kind.QUOTE, Kind.BOOK)
        bench.publish(Established([QUOTE]), Event(BOOK, SNAPSHOT, 5))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        for number in range(500):
            bench.publish(quote(float(number)), delta(90.0, number + 1.0))
        assert not bench.ended
        assert (len(client.outbox), client.outbox.bytes_queued) == (2, 0)
        pipe_of(client).open()
        assert told(read(client)) == [(2, 501), (3, 502)]

    def test_a_second_subscription_gets_no_older_state_behind_the_newer(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.QUOTE)
        bench.publish(Established([QUOTE]), quote(1.0))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(quote(2.0), quote(3.0))
        again = Subscription("again", Selector(VENUE, "*", frozenset({Kind.QUOTE})))
        assert bench.broker.clients.subscribe(client, again).accepted
        bench.broker.clients.put_images(client, again)
        bench.publish(quote(4.0))
        pipe_of(client).open()
        events = [event for event in read(client) if event.quote]
        assert told(events) == [(3, 5)]

    def test_nothing_comes_after_the_topic_is_not_wanted_any_more(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.QUOTE)
        bench.publish(Established([QUOTE]), quote(1.0))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(quote(2.0), quote(3.0))
        bench.broker.clients.unsubscribe(client, ["s"], [])
        bench.publish(quote(4.0))
        pipe_of(client).open()
        assert read(client) == []

    def test_a_change_of_policy_holds_for_what_comes(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.QUOTE)
        bench.publish(Established([QUOTE]), quote(1.0))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(quote(2.0), quote(3.0))
        every = Subscription("every", Selector(VENUE, "*", frozenset({Kind.QUOTE})), skip_image=True, policy=Policy.DISCONNECT)
        assert bench.broker.clients.subscribe(client, every).accepted
        bench.publish(quote(4.0), quote(5.0))
        bench.broker.clients.unsubscribe(client, ["every"], [])
        bench.publish(quote(6.0), quote(7.0))
        pipe_of(client).open()
        assert told([event for event in read(client) if event.quote]) == [(3, 4), (0, 5), (0, 6), (7, 8)]


class TestDropOldest:
    def stalled(self, **limits: int) -> tuple[Bench, Client]:
        bench = make_bench(**limits)
        client = subscribed(bench, Kind.TRADE, policy=Policy.DROP_OLDEST, symbol="*")
        bench.publish(Established([TRADE, ETH_TRADE]))
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        return bench, client

    def test_one_gap_per_topic_says_what_was_dropped(self) -> None:
        bench, client = self.stalled(events_max=4)
        bench.publish(*(trade(number) for number in range(3)), trade(1, ETH_TRADE))
        bench.publish(trade(3), trade(4), trade(2, ETH_TRADE))
        assert not bench.ended
        pipe_of(client).open()
        events = read(client)
        btc = [event for event in events if event.topic and event.topic.symbol == "BTC-USDT"]
        gap = btc[0].gap
        assert gap is not None
        assert (gap.cause, gap.first_sequence, gap.last_sequence, gap.missed) == (GapCause.SLOW_CONSUMER, 2, 4, 3)
        assert btc[0].flags == LOCAL
        assert btc[0].sequence == 1
        assert [event.trade.trade_id for event in btc if event.trade] == ["3", "4"]
        assert [event.sequence for event in btc if event.trade] == [5, 6]
        assert [event.sequence for event in events if event.topic and event.topic.symbol == "ETH-USDT"] == [2, 3]
        assert client.outbox.statistics().events_missed == 3

    def test_nothing_is_dropped_within_the_limit(self) -> None:
        bench, client = self.stalled(events_max=4)
        bench.publish(*(trade(number) for number in range(4)))
        pipe_of(client).open()
        assert [event.sequence for event in read(client)] == [2, 3, 4, 5]

    def test_it_does_not_help_against_what_may_not_be_dropped(self) -> None:
        bench = make_bench(events_max=3)
        client = subscribed(bench, Kind.TRADE, policy=Policy.DROP_OLDEST)
        other = Subscription("eth", Selector(VENUE, "ETH-USDT", frozenset({Kind.TRADE})))
        assert bench.broker.clients.subscribe(client, other).accepted
        pipe_of(client).room = 0
        client.outbox.flush()
        bench.publish(trade(1), trade(2), trade(3))
        bench.publish(*(trade(number, ETH_TRADE) for number in range(4)))
        assert bench.ended["c"].reason == "SLOW_CONSUMER"

    def test_a_client_that_reads_late_again_and_again_keeps_no_list_of_what_it_read(self) -> None:
        bench, client = self.stalled(events_max=50)
        for number in range(400):
            bench.publish(trade(number))
            if number % 10 == 9:
                pipe_of(client).open(1)
                client.outbox.flush()
        assert len(client.outbox._drops) <= 60
        pipe_of(client).open()
        sequences = [event.sequence for event in read(client) if event.trade]
        assert sequences == list(range(2, 402))


class TestPressure:
    def test_the_client_is_warned_at_three_quarters_and_told_when_it_is_over(self) -> None:
        bench = make_bench(events_max=100)
        client = subscribed(bench, Kind.TRADE)
        bench.publish(Established([TRADE]))
        read(client)
        said: list[tuple[int, int, bool]] = []
        client.outbox.on_pressure = lambda *what: said.append(what)
        pipe_of(client).room = 0
        client.outbox.flush()
        for number in range(80):
            bench.publish(trade(number))
        ((queued, limit, cleared),) = said
        assert not cleared
        assert queued / limit == pytest.approx(0.75, abs=0.01)
        pipe_of(client).open()
        assert [cleared for _, _, cleared in said] == [False, True]


class TestDefaults:
    @pytest.mark.parametrize("kind", list(Kind))
    def test_each_kind_has_one(self, kind: Kind) -> None:
        news = {Kind.TRADE, Kind.LIQUIDATION, Kind.BAR}
        assert delivery_of(kind, Policy.DEFAULT, 0).policy is (Policy.DISCONNECT if kind in news else Policy.CONFLATE)

    def test_a_book_cannot_lose_its_oldest(self) -> None:
        assert delivery_of(Kind.BOOK, Policy.DROP_OLDEST, 0).policy is Policy.CONFLATE


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("quote"), st.integers(1, 9)),
            st.tuples(st.just("delta"), st.integers(90, 97)),
            st.tuples(st.just("trade"), st.integers(1, 9)),
            st.tuples(st.sampled_from(["resync", "down", "room"]), st.integers(0, 2)),
        ),
        max_size=60,
    ),
    st.sampled_from([Policy.DEFAULT, Policy.DROP_OLDEST, Policy.DISCONNECT]),
)
def test_every_sequence_is_accounted_for_and_the_end_is_the_truth(steps: list[tuple[str, int]], policy: Policy) -> None:
    bench = make_bench(events_max=8 if policy is not Policy.DISCONNECT else 10_000)
    client = subscribed(bench, Kind.QUOTE, Kind.BOOK, policy=policy)
    trades = Subscription(
        "t",
        Selector(VENUE, "BTC-USDT", frozenset({Kind.TRADE})),
        policy=policy if policy is not Policy.DEFAULT else Policy.DROP_OLDEST,
    )
    assert bench.broker.clients.subscribe(client, trades).accepted
    bench.publish(Established([QUOTE, TRADE]), Event(BOOK, SNAPSHOT, 5))
    for step, number in steps:
        if step == "room":
            pipe_of(client).open(number)
        else:
            bench.publish(*_item(bench, step, number))
    pipe_of(client).open()
    if bench.ended:  # statuses that nothing stands for came too thick
        assert bench.ended["c"].reason == "SLOW_CONSUMER"
        return
    bench.publish(*_item(bench, "delta", 90))
    events = read(client)
    _check_accounts(events)
    state = bench.broker.directory.find(BOOK)
    assert state is not None
    assert state.book is not None
    assert _book_of(events) == (state.book.snapshot().bid_price, state.book.snapshot().bid_size)


def _item(bench: Bench, step: str, number: int) -> tuple[BatchItem, ...]:
    state = bench.broker.directory.find(BOOK)
    assert state is not None
    if step == "quote":
        return (quote(float(number)),)
    if step == "trade":
        return (trade(number),)
    if step == "resync":
        return (Resync(BOOK, StatusCause.SEQUENCE_GAP, "hole"),)
    if step == "down":
        return (Down([QUOTE, BOOK], StatusCause.FEED_DOWN, "gone"),)
    return (delta(float(number), 1.0),) if state.live else (Event(BOOK, SNAPSHOT, 6),)


def _check_accounts(events: list[v1.MarketEvent]) -> None:
    """Sequences go up by one, or a first sequence or a Gap says what stands for those between."""
    last: dict[str, int] = {}
    for event in events:
        assert event.topic is not None
        name = f"{event.topic.kind}"
        if event.flags & LOCAL:
            if event.gap and event.gap.cause == GapCause.SLOW_CONSUMER:
                assert event.gap.first_sequence == last.get(name, 0) + 1
                assert event.gap.missed == event.gap.last_sequence - event.gap.first_sequence + 1
                last[name] = event.gap.last_sequence
        elif not event.flags & int(Flag.IMAGE):
            assert (event.first_sequence or event.sequence) == last.get(name, 0) + 1, told(events)
            assert not event.first_sequence or event.first_sequence < event.sequence
            last[name] = event.sequence


def _book_of(events: list[v1.MarketEvent]) -> tuple[list[float], list[float]]:
    book = OrderBook()
    for event in events:
        if event.book_snapshot:
            image = event.book_snapshot
            book.reset(BookSnapshot(image.bid_price, image.bid_size, image.ask_price, image.ask_size))
        elif event.book_delta:
            change = event.book_delta
            book.apply(BookDelta(change.bid_price, change.bid_size, change.ask_price, change.ask_size))
    return book.snapshot().bid_price, book.snapshot().bid_size


class TestMessages:
    def test_a_flush_of_more_than_a_mebibyte_goes_in_several_messages(self) -> None:
        bench = make_bench()
        client = subscribed(bench, Kind.TRADE)
        bench.publish(Established([TRADE]))
        read(client)
        bench.publish(*(Event(TRADE, Trade(1.0, 1.0, 1, "x" * 200_000), 5, 4) for _ in range(12)))
        sizes = [len(message) for message in pipe_of(client).messages]
        assert len(sizes) == 3
        assert max(sizes) <= 1024 * 1024
        assert told(read(client)) == [(0, sequence) for sequence in range(2, 14)]
