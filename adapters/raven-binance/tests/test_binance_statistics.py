"""Candles and 24 h statistics, on spot and on USD-M: sessions by literals, and the emulator's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raven.adapter import Count, Event, Kind, Send, Topic
from raven.model.events import Candle, Gap, GapCause, Ticker
from raven_binance.emulator.rules import CONTRACTS, SYMBOLS
from raven_binance.emulator.statistics import Statistics, candle_bounds_ms
from raven_binance.wire_statistics import parse_kline, parse_ticker

OPEN_MS = 1_626_992_700_000
MS = 1_000_000


@pytest.fixture(params=["spot", "usdm"])
def market(request: pytest.FixtureRequest, driver: Any, usdm: Any) -> tuple[Any, str]:
    return (driver, "BTC-USDT") if request.param == "spot" else (usdm, "BTC-USDT-PERP")


def kline(event_ms: int, open_ms: int = OPEN_MS, closed: bool = False, trades: int = 48, interval: str = "1m") -> str:
    data = {"t": open_ms, "T": open_ms + 59_999, "s": "BTCUSDT", "i": interval, "f": 1, "L": 48, "o": "1.01", "c": "1.011"}
    data |= {"h": "1.02", "l": "1.00", "v": "3917", "n": trades, "x": closed, "q": "3957.899", "V": "1729", "Q": "1", "B": "0"}
    return json.dumps(
        {"stream": f"btcusdt@kline_{interval}", "data": {"e": "kline", "E": event_ms, "k": data}}, separators=(",", ":")
    )


def ticker(event_ms: int) -> str:
    data = {"E": event_ms, "c": "0.0025", "o": "0.0010", "h": "0.0026", "l": "0.0009", "v": "10000", "q": "18"}
    return json.dumps({"stream": "btcusdt@ticker", "data": {"e": "24hrTicker", **data}}, separators=(",", ":"))


def candle(closed: bool = False) -> Candle:
    begin, end = OPEN_MS * MS, (OPEN_MS + 60_000) * MS
    return Candle(begin, end, 1.01, 1.02, 1.0, 1.011, 3917.0, 3957.899, 48, 1729.0, closed)


def test_a_candle_and_its_closing(market: tuple[Any, str]) -> None:
    driver, symbol = market
    topic = Topic(driver.venue, symbol, Kind.CANDLE, "1m")
    session = driver(topic)
    assert [output.data for output in session.connect() if isinstance(output, Send)] == [
        '{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":1}'
    ]
    session.frame('{"result":null,"id":1}')
    assert session.frame(kline(OPEN_MS + 1000)) == [Event(topic, candle(), session.now_ns, (OPEN_MS + 1000) * MS)]
    assert session.frame(kline(OPEN_MS + 60_003, closed=True))[0].payload == candle(closed=True)
    assert session.frame(kline(OPEN_MS + 60_003, closed=True)) == [Count("repeated_event")]
    assert session.frame(kline(OPEN_MS + 61_000)) == [Count("repeated_event")]  # it is closed
    (following,) = session.frame(kline(OPEN_MS + 61_000, OPEN_MS + 60_000))
    assert following.payload.open_ts_ns == (OPEN_MS + 60_000) * MS
    assert session.frame(kline(OPEN_MS + 59_000)) == [Count("repeated_event")]


def test_a_candle_that_was_never_closed_is_a_gap(market: tuple[Any, str]) -> None:
    driver, symbol = market
    session = driver(Topic(driver.venue, symbol, Kind.CANDLE, "1m"))
    session.stand()
    session.frame(kline(OPEN_MS + 1000))
    assert session.frame(kline(OPEN_MS + 1000)) == [Count("repeated_event")]
    gap, event = session.frame(kline(OPEN_MS + 130_000, OPEN_MS + 120_000))
    assert gap.payload == Gap(GapCause.VENUE, missed=1)
    assert event.payload.open_ts_ns == (OPEN_MS + 120_000) * MS


def test_the_next_connection_knows_the_candle(driver: Any) -> None:
    topic = Topic("binance-spot", "BTC-USDT", Kind.CANDLE, "1m")
    first = driver(topic)
    first.stand()
    first.frame(kline(OPEN_MS + 60_000, closed=True))
    second = driver(topic, memory=first.memory)
    second.stand()
    assert second.frame(kline(OPEN_MS + 60_000, closed=True)) == [Count("repeated_event")]


def test_a_candle_without_a_trade_has_no_prices(driver: Any) -> None:
    session = driver(Topic("binance-spot", "BTC-USDT", Kind.CANDLE, "1s"))
    session.stand()
    (event,) = session.frame(kline(OPEN_MS + 1000, trades=0, interval="1s"))
    assert (event.payload.open, event.payload.high, event.payload.low, event.payload.close) == (None,) * 4
    assert (event.payload.trades, event.payload.volume) == (0, 3917.0)


def test_months_are_not_minutes(driver: Any) -> None:
    topics = [Topic("binance-spot", "BTC-USDT", Kind.CANDLE, interval) for interval in ("1m", "1M")]
    session = driver(*topics)
    session.stand()
    assert session.frame(kline(OPEN_MS, interval="1M"))[0].topic == topics[1]


def test_a_ticker(market: tuple[Any, str]) -> None:
    driver, symbol = market
    topic = Topic(driver.venue, symbol, Kind.TICKER)
    session = driver(topic)
    session.stand()
    expected = Ticker(0.0025, 0.001, 0.0026, 0.0009, 10000.0, 18.0)
    assert session.frame(ticker(1_672_515_782_136)) == [Event(topic, expected, session.now_ns, 1_672_515_782_136 * MS)]
    assert session.frame(ticker(1_672_515_782_136)) == session.frame(ticker(1_672_515_782_135)) == [Count("repeated_event")]


# What the emulator makes.


@pytest.mark.parametrize(
    ("interval", "now_ms", "bounds"),
    [
        ("1s", 1_672_515_782_136, (1_672_515_782_000, 1_672_515_782_999)),
        ("1h", 1_672_515_782_136, (1_672_513_200_000, 1_672_516_799_999)),
        ("1w", 1_672_515_782_136, (1_672_012_800_000, 1_672_617_599_999)),  # Monday, 26 December 2022
        ("1M", 1_672_515_782_136, (1_669_852_800_000, 1_672_531_199_999)),  # December, into the next year
    ],
)
def test_candle_bounds(interval: str, now_ms: int, bounds: tuple[int, int]) -> None:
    assert candle_bounds_ms(interval, now_ms) == bounds


@pytest.mark.parametrize("rules", [SYMBOLS[0], CONTRACTS[0]])
def test_emulated_candles_and_tickers_are_sums_of_trades(rules: Any) -> None:
    statistics = Statistics(rules, 1000, 60_000)
    statistics.add_trade(60_100, 1001, 5, True, 7)
    statistics.add_trade(60_900, 999, 2, False, 8)
    told = dict(statistics.payloads(61_000))
    second, minute = (parse_kline(f'{{"data":{told[name]}}}'.encode()).kline for name in ("kline_1s", "kline_1m"))
    tick, step = rules.tick_units / 1e8, rules.step_units / 1e8
    assert (second.open_time, second.close_time, second.closed) == (60_000, 60_999, True)
    assert (minute.open_time, minute.close_time, minute.closed) == (60_000, 119_999, False)
    for candle_ in (second, minute):
        assert (candle_.open, candle_.high, candle_.low, candle_.close) == pytest.approx(
            [t * tick for t in (1001, 1001, 999, 999)]
        )
        assert (candle_.volume, candle_.taker_buy_volume, candle_.trades) == (
            pytest.approx(7 * step),
            pytest.approx(5 * step),
            2,
        )
    day = parse_ticker(f'{{"data":{told["ticker"]}}}'.encode())
    assert (day.last_price, day.volume) == (pytest.approx(999 * tick), pytest.approx(7 * step))
    quiet = dict(statistics.payloads(62_000))
    assert set(quiet) == {"kline_1s", "ticker"}  # the others did not change
    assert json.loads(quiet["kline_1s"])["k"]["n"] == 0
