"""Literals in, literals out."""

from __future__ import annotations

from typing import Any

import pytest

from raven.adapter import Count, Established, Event, FrameError, Kind, Reconnect, Refused, Resync, Send, Topic, Wakeup
from raven.model.events import Quote, Side, StatusCause, Trade
from raven_example.session import LOOK_EVERY_NS, REPEATED_MAX, ExampleSession

TRADES = Topic("example", "BTC-USD", Kind.TRADE)
QUOTES = Topic("example", "BTC-USD", Kind.QUOTE)
NOW_NS = 1_700_000_000_200_000_000

LOOK = Wakeup(LOOK_EVERY_NS)

TRADE_101 = b'{"type":"trade","market":"BTCUSD","id":101,"price":"64000.10","size":"0.5","taker":"buy","time_ms":1700000000123}'
TRADE_102 = (
    b'{"type":"trade","market":"BTCUSD","id":102,"price":"64000.00","size":"2","taker":"sell","time_ms":1700000000125,"new":1}'
)
TRADE_104 = b'{"type":"trade","market":"BTCUSD","id":104,"price":"64000.00","size":"1","taker":"sell","time_ms":1700000000150}'
QUOTE = b'{"type":"quote","market":"BTCUSD","bid":["64000.0","1.5"],"ask":["64000.1","0.7"]}'

EVENT_101 = Event(TRADES, Trade(64000.1, 0.5, Side.BUY, "101"), NOW_NS, 1_700_000_000_123_000_000)
EVENT_102 = Event(TRADES, Trade(64000.0, 2.0, Side.SELL, "102"), NOW_NS, 1_700_000_000_125_000_000)
EVENT_104 = Event(TRADES, Trade(64000.0, 1.0, Side.SELL, "104"), NOW_NS, 1_700_000_000_150_000_000)


@pytest.fixture
def memory() -> dict[str, Any]:
    return {}


@pytest.fixture
def session(memory: dict[str, Any]) -> ExampleSession:
    session = ExampleSession([TRADES, QUOTES], memory)
    subscribe = Send('{"op":"subscribe","channels":["trades.BTCUSD","quotes.BTCUSD"]}')
    assert session.on_connect(NOW_NS) == [subscribe, LOOK]
    return session


@pytest.mark.parametrize(
    ("frame", "outputs"),
    [
        (b'{"type":"subscribed","channel":"trades.BTCUSD"}', [Established([TRADES])]),
        (b'{"type":"refused","channel":"quotes.BTCUSD","reason":"no such market"}', [Refused(QUOTES, "no such market")]),
        (b'{"type":"closing"}', [Reconnect("the venue will close the connection", planned=True)]),
        (b'{"type":"heartbeat"}', []),
        (TRADE_101, [EVENT_101]),
        (QUOTE, [Event(QUOTES, Quote(64000.0, 1.5, 64000.1, 0.7), NOW_NS)]),
        (QUOTE.replace(b"BTCUSD", b"ETHUSD"), [Count("unknown_topic")]),
    ],
)
def test_frame(session: ExampleSession, frame: bytes, outputs: list[Any]) -> None:
    assert session.on_frame(frame, NOW_NS) == outputs


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"[]",
        b'{"type":"unheard of"}',
        TRADE_101[:-10],
        TRADE_101.replace(b'"64000.10"', b'"NaN"'),
        TRADE_101.replace(b'"0.5"', b'""'),
        TRADE_101.replace(b'"buy"', b'"both"'),
        QUOTE.replace(b'"64000.0"', b'"-Infinity"'),
        TRADE_101.replace(b"1700000000123", b"1700000000123000"),
        TRADE_101.replace(b"101", b"9" * 30),
        b"\xff\xfe",
        b'{"type":"subscribed","channel":"\xff"}',
        b'{"type":"heartbeat","x":' + b"[" * 200_000,
    ],
)
def test_bad_frame_is_refused_and_forgotten(session: ExampleSession, frame: bytes) -> None:
    with pytest.raises(FrameError):
        session.on_frame(frame, NOW_NS)
    assert session.on_frame(TRADE_101, NOW_NS) == [EVENT_101]


def test_trades_in_order(session: ExampleSession) -> None:
    assert [session.on_frame(frame, NOW_NS) for frame in (TRADE_101, TRADE_102)] == [[EVENT_101], [EVENT_102]]


def test_repeated_trade_comes_once(session: ExampleSession) -> None:
    session.on_frame(TRADE_101, NOW_NS)
    assert session.on_frame(TRADE_101, NOW_NS) == [Count("repeated_event")]


def test_hole_in_the_ids_is_said_before_the_trade(session: ExampleSession) -> None:
    session.on_frame(TRADE_102, NOW_NS)
    resync = Resync(TRADES, StatusCause.SEQUENCE_GAP, "trade 104 after 102")
    assert session.on_frame(TRADE_104, NOW_NS) == [resync, EVENT_104]


def test_next_connection_knows_what_it_has(session: ExampleSession, memory: dict[str, Any]) -> None:
    """The venue repeats its latest trade. What was missed between two connections the core says by itself."""
    session.on_frame(TRADE_101, NOW_NS)
    after = ExampleSession([TRADES, QUOTES], memory)
    after.on_connect(NOW_NS)
    assert after.on_frame(TRADE_101, NOW_NS) == [Count("repeated_event")]
    assert after.on_frame(TRADE_104, NOW_NS) == [EVENT_104]


def test_ids_that_begin_anew_are_no_repeats(session: ExampleSession, memory: dict[str, Any]) -> None:
    """On the next connection that needs no word; within one it is a hole like any other."""
    memory["last_ids"]["BTCUSD"] = 101 + REPEATED_MAX
    assert session.on_frame(TRADE_101, NOW_NS) == [Count("repeated_event")]
    memory["last_ids"]["BTCUSD"] = 102 + REPEATED_MAX
    assert session.on_frame(TRADE_101, NOW_NS) == [EVENT_101]
    memory["last_ids"]["BTCUSD"] = 200_000
    resync = Resync(TRADES, StatusCause.SEQUENCE_GAP, "trade 102 after 200000")
    assert session.on_frame(TRADE_102, NOW_NS) == [resync, EVENT_102]


def test_what_is_never_answered_is_refused(session: ExampleSession) -> None:
    session.on_frame(b'{"type":"subscribed","channel":"trades.BTCUSD"}', NOW_NS)
    assert session.on_wakeup(NOW_NS) == [LOOK]
    assert session.on_wakeup(NOW_NS) == [Refused(QUOTES, "the venue did not answer")]
    assert session.on_subscribe([QUOTES]) == [Send('{"op":"subscribe","channels":["quotes.BTCUSD"]}'), LOOK]
    session.on_frame(b'{"type":"refused","channel":"quotes.BTCUSD","reason":"no"}', NOW_NS)
    assert session.on_wakeup(NOW_NS) == []


def test_subscribing_again_changes_nothing(session: ExampleSession) -> None:
    other = TRADES._replace(symbol="ETH-USD")
    assert session.on_subscribe([TRADES, other]) == [Send('{"op":"subscribe","channels":["trades.ETHUSD"]}'), LOOK]
    assert session.on_subscribe([TRADES, other]) == []


def test_unsubscribed_is_silent(session: ExampleSession) -> None:
    assert session.on_unsubscribe([QUOTES]) == [Send('{"op":"unsubscribe","channels":["quotes.BTCUSD"]}')]
    assert session.on_unsubscribe([QUOTES]) == []
    assert session.on_frame(QUOTE, NOW_NS) == [Count("unknown_topic")]
