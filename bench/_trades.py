"""The events of the fan-out benchmarks: trades whose encoded size never changes, so that bytes can be counted as events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

from _counters import Shape

from raven.codec.encoder import TopicEncoder
from raven.model.events import Event, Side, Trade
from raven.model.topic import Kind, Topic

__all__ = ["BURST", "VENUE", "encode_trade", "make_burst", "make_topics", "make_trade", "shape_of"]

VENUE = "bench"
BURST = 10  # trades that a feed brings at once
_MARK = 0x0123456789ABCDEF


def make_topics(count: int) -> list[Topic]:
    """So many topics of trades, with names of the same length."""
    return [Topic(VENUE, f"TKN{number:04}-USDT", Kind.TRADE) for number in range(count)]


def make_burst(topics: Sequence[Topic], first: int, venue_ts_ns: int, count: int = BURST) -> list[Event]:
    """The next trades, one per topic in turn; `first` is the number of the first of them."""
    size = len(topics)
    return [make_trade(topics[number % size], number, venue_ts_ns, venue_ts_ns) for number in range(first, first + count)]


def make_trade(topic: Topic, number: int, venue_ts_ns: int, received_ts_ns: int) -> Event:
    """The trade of that number."""
    return Event(topic, Trade(64000.12, 0.00125, Side.BUY, f"{number:013}"), received_ts_ns, venue_ts_ns)


def encode_trade(number: int, stamp_ns: int) -> bytes:
    """The element of the first topic's trade of that number, as the server would send it."""
    topic, encoder = _encoder()
    return encoder.encode(make_trade(topic, number, stamp_ns, stamp_ns), number + 1)


@cache
def _encoder() -> tuple[Topic, TopicEncoder]:
    topic = make_topics(1)[0]
    return topic, TopicEncoder(topic, time.time_ns() // 1_000_000)


def shape_of() -> Shape:
    """Found by encoding one."""
    element = encode_trade(0, _MARK)
    return Shape(len(element), element.index(_MARK.to_bytes(8, "little")), element[:2])
