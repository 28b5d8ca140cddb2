from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.adapter import Catalogue, Count, Established, Event, Kind, Refused, Topic, Wakeup
from raven.model.events import BookDelta, BookSnapshot, Quote, Side, Trade, payload_kinds
from raven_sim import SimAdapter

HOUR_NS = 3_600_000_000_000
KINDS = (Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.TICKER)


def topics(*kinds: Kind, symbols: tuple[str, ...] = ("BTC-USDT", "ETH-USDT")) -> list[Topic]:
    return [Topic("sim", symbol, kind, "1m" if kind is Kind.CANDLE else "") for symbol in symbols for kind in kinds]


def test_connect_establishes_lists_and_images(drive: Callable[..., Any]) -> None:
    carried = topics(Kind.TRADE, Kind.BOOK, Kind.INSTRUMENT)
    run = drive(carried)
    established, catalogue, first, second, wakeup = run.outputs[0]
    assert established == Established(carried)
    assert isinstance(catalogue, Catalogue)
    assert [instrument.symbol for instrument in catalogue.instruments] == ["BTC-USDT", "ETH-USDT"]
    assert {instrument.venue for instrument in catalogue.instruments} == {"sim"}
    assert catalogue.received_ts_ns == run.now_ns
    assert [event.topic for event in (first, second)] == [carried[1], carried[4]]
    assert isinstance(first.payload, BookSnapshot)
    assert wakeup == Wakeup(50_000_000)  # 4 topics that take turns, 5/s each


@pytest.mark.parametrize("burst", [1, 3, 8, 10, 1000])
def test_each_wakeup_sends_exactly_burst_events_in_turn(drive: Callable[..., Any], burst: int) -> None:
    run = drive(topics(*KINDS), burst=burst).wake(7)
    sent = [[output.topic for output in outputs if isinstance(output, Event)] for outputs in run.outputs[1:]]
    assert [len(one) for one in sent] == [burst] * 7
    order = topics(*KINDS)
    assert [topic for one in sent for topic in one] == [order[number % 8] for number in range(7 * burst)]


def test_total_rate_is_rate_times_topics(drive: Callable[..., Any]) -> None:
    run = drive(topics(*KINDS), rate=12.5, burst=10)
    start_ns = run.now_ns
    run.wake(100, late_ns=0)
    assert len(run.events()) - 2 == 1000
    assert run.now_ns - start_ns == 10_000_000_000


def test_times_are_the_clock_that_was_given(drive: Callable[..., Any]) -> None:
    run = drive(topics(*KINDS)).wake(3)
    assert {event.received_ts_ns for event in run.events()} == {run.now_ns - back * 25_000_000 for back in range(4)}
    assert all(event.venue_ts_ns == event.received_ts_ns for event in run.events())


def test_same_seed_same_payloads_whatever_the_clock(drive: Callable[..., Any]) -> None:
    one = drive(topics(*KINDS), seed=7, burst=5).wake(50)
    other = drive(topics(*KINDS), seed=7, burst=5, start_ns=5, rate=77).wake(50, late_ns=1_000_000)
    assert [(event.topic, event.payload) for event in one.events()] == [
        (event.topic, event.payload) for event in other.events()
    ]


@given(seed=st.integers(), kind=st.sampled_from(KINDS), symbol=st.sampled_from(["BTC-USDT", "ETH-USDT"]))
@settings(max_examples=30, deadline=None)
def test_a_topics_stream_is_its_own(drive: Callable[..., Any], seed: int, kind: Kind, symbol: str) -> None:
    """It depends on seed, symbol and kind, and not on what else is carried or how it is paced."""
    (alone,) = topics(kind, symbols=(symbol,))
    few = drive([alone], seed=seed).wake(40)
    many = drive(topics(*KINDS), seed=seed, burst=32, rate=900).wake(10)
    if kind is Kind.TICKER:  # its trades may be those of the trade topic, which takes its turn first in both
        many = drive(topics(Kind.TRADE, Kind.TICKER), seed=seed, burst=4, rate=900).wake(40)
    assert few.payloads(alone)[:40] == many.payloads(alone)[:40]


@pytest.mark.parametrize("other", [-1, 2, 2**70])
def test_seeds_differ(drive: Callable[..., Any], other: int) -> None:
    for topic in topics(Kind.TRADE, Kind.QUOTE, Kind.BOOK, symbols=("BTC-USDT",)):
        assert drive([topic], seed=1).wake(20).payloads() != drive([topic], seed=other).wake(20).payloads()


def test_numbers_of_a_seed_stay_as_they_are(drive: Callable[..., Any]) -> None:
    """Literals, so that another Python or another release cannot change them unseen."""
    carried = topics(Kind.TRADE, Kind.QUOTE, Kind.BOOK, symbols=("BTC-USDT",))
    assert drive(carried, seed=1, burst=6).wake().payloads()[1:] == [
        Trade(63995.3, 0.0045, Side.SELL, "1"),
        Quote(63995.3, 0.0517, 63995.4, 0.02637),
        BookDelta(
            [63995.1, 63990.4, 63995.4], [0.00234, 0.0, 0.04116], [63995.8, 63995.4, 64000.4], [0.00645, 0.0, 0.00157], 2
        ),
        Trade(63995.5, 0.00359, Side.BUY, "2"),
        Quote(63995.4, 0.01638, 63995.5, 0.00664),
        BookDelta(
            [63994.8],
            [0.00579],
            [63996.5, 63995.5, 63995.6, 63995.7, 64000.5, 64000.6, 64000.7],
            [0.00531, 0.0, 0.0, 0.0, 0.00299, 0.00747, 0.00364],
            3,
        ),
    ]


def test_late_by_less_than_an_interval_is_made_up(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.TRADE), rate=5).wake(late_ns=99_000_000)
    assert run.last(Wakeup) == [Wakeup(1_000_000)]
    assert run.last(Count) == []


def test_late_skips_and_counts_and_never_grows(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.TRADE), rate=5, burst=3).wake(late_ns=950_000_000)  # an interval is 300 ms
    assert run.last(Count) == [Count("skipped_intervals", 3)]
    assert run.last(Wakeup) == [Wakeup(250_000_000)]
    assert len(run.last(Event)) == 3


def test_clock_set_forward_an_hour(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.TRADE), rate=5).wake(5)
    run.wake(late_ns=HOUR_NS)
    assert run.last(Count) == [Count("skipped_intervals", 36_000)]
    assert run.last(Wakeup) == [Wakeup(100_000_000)]
    assert len(run.last(Event)) == 1
    assert run.wake().last(Count) == []


def test_clock_set_back_an_hour(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.TRADE), rate=5).wake(5)
    run.wake_at(run.now_ns - HOUR_NS)
    assert run.last(Wakeup) == [Wakeup(100_000_000)]
    assert len(run.last(Event)) == 1
    assert run.wake(3).last(Count) == []


@given(steps=st.lists(st.integers(-2 * HOUR_NS, 2 * HOUR_NS), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_no_clock_stalls_it(drive: Callable[..., Any], steps: list[int]) -> None:
    run = drive(topics(*KINDS, Kind.CANDLE), rate=5, burst=4)
    for step in steps:
        run.wake_at(max(0, run.now_ns + step))
        (wakeup,) = run.last(Wakeup)
        assert 0 < wakeup.after_ns <= 2 * 80_000_000
        assert len(run.last(Event)) == 4


def test_subscribed_later(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.TRADE, symbols=("BTC-USDT",)), burst=2)
    book = Topic("sim", "ETH-USDT", Kind.BOOK)
    assert run.session.on_subscribe([book]) == [Established([book])]
    catalogue, trade, snapshot, wakeup = run.wake().outputs[-1]
    assert [instrument.symbol for instrument in catalogue.instruments] == ["ETH-USDT"]
    assert isinstance(trade.payload, Trade)
    assert isinstance(snapshot.payload, BookSnapshot)
    assert wakeup == Wakeup(200_000_000)
    assert isinstance(run.wake().last(Event)[1].payload, BookDelta)


def test_subscribed_twice_changes_nothing(drive: Callable[..., Any]) -> None:
    run = drive(topics(*KINDS)).wake()
    assert run.session.on_subscribe(topics(*KINDS)) == []
    assert run.wake().last(Catalogue) == []


def test_what_it_cannot_give_is_refused_alone(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.TRADE))
    good, symbol, kind, interval = (
        Topic("sim", "SOL-USDT", Kind.QUOTE),
        Topic("sim", "BTCUSDT", Kind.TRADE),
        Topic("sim", "BTC-USDT", Kind.FUNDING),
        Topic("sim", "BTC-USDT", Kind.CANDLE, "7m"),
    )
    established, *refused = run.session.on_subscribe([symbol, good, kind, interval])
    assert established == Established([good])
    assert [(output.topic, output.text.split(":")[0]) for output in refused if isinstance(output, Refused)] == [
        (symbol, "symbols"),
        (kind, "kinds"),
        (interval, "intervals"),
    ]


def test_unsubscribed_topics_fall_silent(drive: Callable[..., Any]) -> None:
    trades, quotes = topics(Kind.TRADE, Kind.QUOTE, symbols=("BTC-USDT",))
    run = drive([trades, quotes], burst=4).wake()
    assert run.session.on_unsubscribe([trades, trades]) == ()
    assert {event.topic for event in run.wake().last(Event)} == {quotes}
    assert len(run.last(Event)) == 4


def test_without_topics_it_sleeps_and_wakes_again(drive: Callable[..., Any]) -> None:
    run = drive([])
    assert run.outputs[0] == []
    (trades,) = topics(Kind.TRADE, symbols=("BTC-USDT",))
    assert run.session.on_subscribe([trades]) == [Established([trades]), Wakeup(0)]
    assert len(run.wake_at(run.now_ns + 5).last(Event)) == 1
    assert run.last(Wakeup) == [Wakeup(200_000_000)]
    run.session.on_unsubscribe([trades])
    assert run.wake_at(run.now_ns + 200_000_000).outputs[-1] == []
    assert run.session.on_subscribe([trades])[-1] == Wakeup(0)
    assert run.wake_at(run.now_ns + HOUR_NS).last(Count) == []  # nobody was there to miss it


def test_topic_that_comes_back_begins_anew(drive: Callable[..., Any]) -> None:
    carried = topics(Kind.TRADE, Kind.BOOK, symbols=("BTC-USDT",))
    run = drive(carried).wake(10)
    run.session.on_unsubscribe(carried)
    run.session.on_subscribe(carried)
    trade, book = (event.payload for event in run.wake(2).events()[-2:])
    assert trade.trade_id == "1"
    assert isinstance(book, BookSnapshot)


def test_instruments_alone_take_no_turns(drive: Callable[..., Any]) -> None:
    run = drive(topics(Kind.INSTRUMENT))
    assert [type(output) for output in run.outputs[0]] == [Established, Catalogue]
    more = topics(Kind.INSTRUMENT, symbols=("SOL-USDT",))
    assert run.session.on_subscribe(more) == [Established(more), Wakeup(0)]
    assert [type(output) for output in run.wake_at(run.now_ns + 1).outputs[-1]] == [Catalogue]


def test_it_emits_what_it_declares(drive: Callable[..., Any]) -> None:
    declared = SimAdapter.capabilities
    carried = [
        Topic("sim", "BTC-USDT", kind, interval)
        for kind in sorted(declared.kinds)
        for interval in (declared.intervals if kind is Kind.CANDLE else ("",))
    ]
    run = drive(carried, burst=50).wake(2)
    sent = {event.topic for event in run.events()}
    listed = run.last(Catalogue) or [output for output in run.outputs[0] if isinstance(output, Catalogue)]
    assert sent == {topic for topic in carried if topic.kind is not Kind.INSTRUMENT}
    assert listed[0].instruments
    assert all(event.topic.kind in payload_kinds[type(event.payload)] for event in run.events())


def test_trades_look_like_trades(drive: Callable[..., Any]) -> None:
    (topic,) = topics(Kind.TRADE, symbols=("BTC-USDT",))
    trades = drive([topic], burst=1000).wake().payloads()
    assert [trade.trade_id for trade in trades] == [str(number) for number in range(1, 1001)]
    assert {trade.aggressor for trade in trades} == {Side.BUY, Side.SELL}
    assert all(63_900 < trade.price < 64_100 for trade in trades)
    sizes = sorted(trade.size for trade in trades)
    assert sizes[0] > 0
    assert 5 < sizes[900] / sizes[300] < 20  # a long tail
    assert sum(trade.aggressor is Side.BUY for trade in trades) in range(400, 600)


def test_a_change_does_not_disturb_the_round(drive: Callable[..., Any]) -> None:
    """Who was next is next, and the new one takes its turn behind all others."""
    first, second, third = topics(Kind.TRADE, Kind.QUOTE, Kind.TICKER, symbols=("BTC-USDT",))
    run = drive([first, second, third]).wake()
    run.session.on_subscribe([new := Topic("sim", "ETH-USDT", Kind.TRADE)])
    assert [event.topic for event in run.wake(5).events()] == [first, second, third, first, new, second]
    run.session.on_unsubscribe([second])
    assert [event.topic for event in run.wake(4).events()[-4:]] == [third, first, new, third]
