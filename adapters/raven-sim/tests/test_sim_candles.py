from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.adapter import Event, Kind, Topic
from raven.model.events import Candle, Side, Ticker
from raven_sim.tape import CandleBuilder
from raven_sim.topics import INTERVALS_NS

TRADES = Topic("sim", "BTC-USDT", Kind.TRADE)
TICKER = Topic("sim", "BTC-USDT", Kind.TICKER)
TAPE_TOPICS = [TRADES, TICKER, Topic("sim", "BTC-USDT", Kind.CANDLE, "1m"), Topic("sim", "BTC-USDT", Kind.QUOTE)]
HOUR_NS = 3_600_000_000_000


def candles(interval: str) -> Topic:
    return Topic("sim", "BTC-USDT", Kind.CANDLE, interval)


def exact(values: Sequence[float]) -> Decimal:
    return sum((Decimal(repr(value)) for value in values), Decimal(0))


def recompute(trades: Sequence[Event], interval_ns: int) -> dict[int, Candle]:
    """The closed candles of the trades, in decimals."""
    parts: dict[int, list[Any]] = defaultdict(list)
    for event in trades:
        assert event.venue_ts_ns is not None
        parts[event.venue_ts_ns // interval_ns * interval_ns].append(event.payload)
    return {opened: candle_of(opened, interval_ns, part) for opened, part in parts.items()}


def candle_of(opened: int, interval_ns: int, trades: list[Any]) -> Candle:
    prices = [trade.price for trade in trades]
    return Candle(
        opened,
        opened + interval_ns,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        float(exact([trade.size for trade in trades])),
        float(sum((Decimal(repr(t.price)) * Decimal(repr(t.size)) for t in trades), Decimal(0))),
        len(trades),
        float(exact([trade.size for trade in trades if trade.aggressor is Side.BUY])),
        closed=True,
    )


@pytest.mark.parametrize(("interval", "rate"), [("1s", 50), ("1s", 0.7), ("1m", 3.0), ("5m", 0.3), ("1h", 0.1)])
@pytest.mark.parametrize("trades_first", [True, False])
def test_closed_candles_are_their_trades(drive: Callable[..., Any], interval: str, rate: float, trades_first: bool) -> None:
    topics = [TRADES, candles(interval)] if trades_first else [candles(interval), TRADES]
    run = drive(topics, rate=rate).wake(1500)
    expected = recompute(run.events(TRADES), INTERVALS_NS[interval])
    closed = [candle for candle in run.payloads(candles(interval)) if candle.closed and candle.trades]
    assert len(closed) >= 2
    assert closed == list(expected.values())[: len(closed)]
    assert len(expected) - len(closed) <= 2  # the one that is open, and one that waits for its turn


def test_open_candle_grows_until_it_closes(drive: Callable[..., Any]) -> None:
    run = drive([TRADES, candles("1m")], rate=2).wake(390)
    shown: dict[int, Candle] = {}
    for candle in run.payloads(candles("1m")):
        before = shown.get(candle.open_ts_ns)
        if before is not None:
            assert not before.closed
            assert candle.open == before.open
            assert (candle.trades, candle.volume) >= (before.trades, before.volume)
            assert candle.high >= before.high
            assert candle.low <= before.low
        shown[candle.open_ts_ns] = candle
    assert [candle.closed for candle in shown.values()] == [True] * (len(shown) - 1) + [False]


def test_without_the_trades_as_a_topic_each_round_has_one(drive: Callable[..., Any]) -> None:
    alone = drive([candles("1s"), candles("1h"), TICKER], rate=20).wake(300)
    beside = drive([TRADES, candles("1h")], rate=20).wake(200)
    assert alone.payloads(candles("1h"))[-1].trades == 100
    last = alone.payloads(candles("1h"))[-1]
    same = next(candle for candle in beside.payloads(candles("1h")) if candle.trades == 100)
    assert (last.open, last.high, last.low, last.close, last.volume) == (
        same.open,
        same.high,
        same.low,
        same.close,
        same.volume,
    )


def test_candle_before_any_trade_is_empty(drive: Callable[..., Any]) -> None:
    first = drive([candles("1m"), TRADES]).wake().payloads()[0]
    assert (first.open, first.close, first.trades, first.volume, first.closed) == (None, None, 0, 0.0, False)


def test_clock_set_back_marks_what_it_tore(drive: Callable[..., Any]) -> None:
    run = drive([TRADES, candles("1m")], rate=1).wake(300)
    torn_ns = run.now_ns
    run.wake_at(torn_ns - HOUR_NS).wake(4 * 3700)
    again = [event.payload for event in run.events(candles("1m"))[150:] if event.payload.closed]
    torn = [candle for candle in again if candle.incomplete]
    assert torn[0].open_ts_ns <= torn_ns < torn[0].close_ts_ns
    assert {candle.open_ts_ns for candle in torn[1:]} == set(range(torn[1].open_ts_ns, torn[0].close_ts_ns, 60_000_000_000))
    assert not again[-1].incomplete


def test_ticker_is_over_the_trades_so_far(drive: Callable[..., Any]) -> None:
    run = drive([TRADES, TICKER], rate=1).wake(200)
    trades = run.payloads(TRADES)
    prices = [trade.price for trade in trades]
    ticker = run.payloads(TICKER)[-1]
    assert (ticker.open_price, ticker.last_price) == (prices[0], prices[-1])
    assert (ticker.high_price, ticker.low_price) == (max(prices), min(prices))
    assert ticker.volume == float(exact([trade.size for trade in trades]))


def test_ticker_forgets_after_a_day(drive: Callable[..., Any]) -> None:
    run = drive([TRADES, TICKER], rate=1 / 600).wake(2 * 6 * 40)  # 40 hours
    oldest_ns = run.now_ns // HOUR_NS * HOUR_NS - 23 * HOUR_NS
    kept = [event.payload for event in run.events(TRADES) if event.received_ts_ns >= oldest_ns]
    ticker = run.payloads(TICKER)[-1]
    assert 130 < len(kept) < 150
    assert ticker.open_price == kept[0].price
    assert ticker.volume == float(exact([trade.size for trade in kept]))


def test_ticker_before_any_trade_says_nothing(drive: Callable[..., Any]) -> None:
    assert drive([TICKER, TRADES]).wake().payloads() == [Ticker()]


@given(
    times=st.lists(st.integers(0, 5_000), min_size=1, max_size=60).map(sorted),
    trades=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 10**6), st.integers(0, 1)), min_size=60, max_size=60),
)
@settings(max_examples=50)
def test_bars_are_the_sums_of_their_trades(times: list[int], trades: list[tuple[int, int, int]]) -> None:
    builder = CandleBuilder(1000)
    for at, (place, units, buy) in zip(times, trades, strict=False):
        builder.add(at, place, place, units, buy)
    for bar in (*builder.closed, builder.bar):
        part = [trade for at, trade in zip(times, trades, strict=False) if bar.open_ts_ns <= at < bar.close_ts_ns]
        places = [place for place, _, _ in part]
        assert (bar.first, bar.high, bar.low, bar.last) == (places[0], max(places), min(places), places[-1])
        assert (bar.trades, bar.units) == (len(part), sum(units for _, units, _ in part))
        assert bar.buy_units == sum(units for _, units, buy in part if buy)
        assert bar.value == sum(place * units for place, units, _ in part)


@given(
    rate=st.sampled_from([0.3, 1.7, 40]),
    burst=st.integers(1, 3),
    changes=st.lists(st.tuples(st.booleans(), st.sampled_from(TAPE_TOPICS)), max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_no_candle_waits_longer_than_a_round(drive: Callable[..., Any], rate: float, burst: int, changes: list[Any]) -> None:
    """Whatever comes and goes beside it: so nothing piles up, and every closed candle is sent once, in order."""
    run = drive([candles("1s")], rate=rate, burst=burst)
    (market,) = run.session._markets.values()
    for subscribe, topic in changes:
        (run.session.on_subscribe if subscribe else run.session.on_unsubscribe)([topic])
        run.wake()
        assert all(len(builder.closed) <= 1 for builder in market.builders)
    run.wake(10)
    closed = [candle for candle in run.payloads(candles("1s")) if candle.closed]
    assert [candle.open_ts_ns for candle in closed] == sorted({candle.open_ts_ns for candle in closed})
