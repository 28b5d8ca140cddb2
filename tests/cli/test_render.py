"""Events as lines and as JSON."""

from __future__ import annotations

import json

import click
import pytest

from raven.cli.render import event_json, event_line, number, time_text, worth_a_line
from raven.client.decode import Decoder
from raven.client.events import StreamEvent
from raven.codec.generated.raven import v1

TOPIC = v1.Topic("sim", "BTC-USDT", v1.Kind.TRADE)
NOON = 1_700_049_600_123_000_000


def received(**fields: object) -> StreamEvent:
    """An event as a client receives it from the server's bytes."""
    message = v1.WatchMarketDataResponse(events=[v1.MarketEvent(**fields)])  # type: ignore[arg-type]
    return Decoder().decode(bytes(message)).events[0]


def line(**fields: object) -> str:
    return click.unstyle(event_line(received(topic=TOPIC, received_ts_ns=NOON, **fields)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (5.0, "5"),
        (61837.63, "61837.63"),
        (1e-08, "0.00000001"),
        (1.2e-07, "0.00000012"),
        (1e16, "10000000000000000"),
        (123456789.12345678, "123456789.12345678"),
        (5e-324, "5e-324"),
    ],
)
def test_a_number_is_its_shortest_decimal_and_reads_back(value: float | None, text: str) -> None:
    assert number(value) == text
    if value is not None:
        assert float(text) == value


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"trade": v1.Trade(100.5, 0.25, v1.Side.SELL, "77")}, "sell        100.5 x 0.25         77"),
        ({"quote": v1.Quote(1.0, 2.0, 3.0, None)}, "           2 x            1 | 3            x -"),
        ({"gap": v1.Gap(v1.GapCause.VENUE, missed=3)}, "GAP: 3 events will not come (venue)"),
        ({"gap": v1.Gap(v1.GapCause.SLOW_CONSUMER, 1, 4, 9)}, "GAP: events 4 to 9 will not come (slow_consumer)"),
        (
            {"status": v1.TopicStatus(v1.TopicStatusState.DOWN, v1.TopicStatusCause.FEED_DOWN, "closed")},
            "DOWN feed_down: closed",
        ),
        ({"book_snapshot": v1.BookSnapshot([2.0], [1.0], [3.0, 4.0], [1.0, 1.0])}, "book of 1 bids, 2 asks, best 2 | 3"),
        (
            {"book_delta": v1.BookDelta([2.0], [0.0], [3.0] * 4, [1.5] * 4)},
            "bid 2 gone  ask 3 x 1.5  ask 3 x 1.5  ask 3 x 1.5  ... 1 more",
        ),
        ({"ticker": v1.Ticker(last_price=5.0)}, "last_price 5"),
        ({}, "unknown"),
    ],
)
def test_lines(fields: dict[str, object], text: str) -> None:
    assert line(**fields) == f"12:00:00.123  sim          BTC-USDT      trade       {text}"


def test_marks_stand_at_the_end() -> None:
    assert line(trade=v1.Trade(1.0, 1.0), flags=1 | 16).endswith("(image, suspect value)")


def test_json_has_everything_and_names_for_numbers() -> None:
    trade = v1.Trade(1e-08, 2.0, v1.Side.BUY, "a\nb")
    event = received(topic=TOPIC, epoch=7, sequence=8, received_ts_ns=NOON, flags=3, trade=trade)
    text = event_json(event)
    assert "\n" not in text
    assert json.loads(text) == {
        "venue": "sim",
        "symbol": "BTC-USDT",
        "kind": "trade",
        "variant": "",
        "epoch": 7,
        "sequence": 8,
        "venue_ts_ns": None,
        "received_ts_ns": NOON,
        "flags": ["image", "local"],
        "type": "trade",
        "trade": {"price": 1e-08, "size": 2.0, "aggressor": "buy", "trade_id": "a\nb", "first_trade_id": ""},
    }


def test_times_that_are_no_times_do_not_stop_anything() -> None:
    assert time_text(0) == "--:--:--.---"
    assert time_text(2**63 - 1)[2] == ":"


def test_that_a_topic_is_live_is_no_news_on_subscribing() -> None:
    live = v1.TopicStatus(v1.TopicStatusState.LIVE)
    assert not worth_a_line(received(flags=2, status=live))
    assert worth_a_line(received(flags=0, status=live))
    assert worth_a_line(received(flags=2, status=v1.TopicStatus(v1.TopicStatusState.DOWN)))
