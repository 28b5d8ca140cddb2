"""Trades as a venue has them, already encoded: prices that walk, sizes of many digits, ids in a row, times that are not even.

The payloads are of a pool, made once and used again, so that millions of events cost little; sequences and times go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, islice
from random import Random
from struct import Struct

from _trades import VENUE

from raven.codec.encoder import TopicEncoder
from raven.model.events import Event, Side, Trade
from raven.model.topic import Kind, Topic
from raven.store.blocks import Block, Image

__all__ = ["EPOCH", "START_NS", "TradeStream", "blocks_in_turn", "element_size", "make_payloads", "make_topics", "rates_of_mix"]

EPOCH = 1_760_000_000_000
START_NS = 1_760_054_400_000_000_000  # the beginning of a UTC day
POOL = 1 << 15
FIRST_ID = 3_500_000_000
DELAY_NS = 4_300_000
MILLISECOND_NS = 1_000_000
STEPS = 1 << 12

_STAMPS = Struct("<BQBqBq")  # sequence 3, venue_ts_ns 4, received_ts_ns 5
_MARK = Struct("<BQ")


def make_topics(count: int) -> list[Topic]:
    """So many topics of trades, with names of the same length."""
    return [Topic(VENUE, f"TK{number:03}-USDT", Kind.TRADE) for number in range(count)]


@cache
def make_payloads() -> Sequence[Trade]:
    """Trades in the order of their ids."""
    random, price, trades = Random(7), 64_000.0, []
    for number in range(POOL):
        price = round(price + random.choice((0, 0, 0, 0.01, -0.01, 0.01, -0.01, 1.37, -1.37)), 2)
        size = round(random.lognormvariate(-4.5, 1.8), 5) + 0.00001
        trades.append(Trade(price, round(size, 5), random.choice((Side.BUY, Side.SELL)), str(FIRST_ID + number)))
    return trades


@cache
def _tails() -> Sequence[bytes]:
    """What stands behind the times in the elements of `make_payloads`."""
    topic = make_topics(1)[0]
    encoder, behind = TopicEncoder(topic, EPOCH), _STAMPS.size
    elements = (encoder.encode(Event(topic, trade, START_NS, START_NS), 1) for trade in make_payloads())
    return [element[element.index(_MARK.pack(0x19, 1)) + behind :] for element in elements]


@cache
def _steps(seed: int) -> Sequence[float]:
    random = Random(seed)
    return [random.expovariate(1.0) for _ in range(STEPS)]


def rates_of_mix(topics: int) -> list[float]:
    """Trades a second of slow topics: 1 to 10."""
    return [1.0 + 9.0 * number / max(1, topics - 1) for number in range(topics)]


class TradeStream:
    """The trades of one topic, one behind the other.

    Args:
        rate: a second, on the average.
        start_ns: when the first may have come.
        seed: streams of different numbers do not go in step.
    """

    def __init__(self, topic: Topic, rate: float, start_ns: int = START_NS, seed: int = 0) -> None:
        self.topic = topic
        self._step_ns = 1e9 / rate
        self._now_ns = float(start_ns)
        self._seed = seed
        self.sequence = 0
        element = TopicEncoder(topic, EPOCH).encode(Event(topic, make_payloads()[0], START_NS, START_NS), 1)
        self._head = element[: element.index(_MARK.pack(0x19, 1))]
        self._last = b""

    def block(self, count: int) -> Block:
        """The next trades."""
        first, times = self.sequence + 1, self._times(count)
        elements = self._elements(first, times)
        self.sequence += count
        self._last = elements[-1]
        venue = [_venue_ns(ts_ns) for ts_ns in (times[0], times[-1])]
        return Block(self.topic, EPOCH, first, self.sequence, times[0], times[-1], *venue, b"".join(elements))

    def block_until(self, end_ns: int) -> Block | None:
        """The trades up to a time; None when there are none."""
        count, now_ns, steps, seen = 0, self._now_ns, _steps(self._seed), self.sequence
        while (now_ns := now_ns + self._step_ns * steps[(seen + count) % STEPS]) < end_ns:
            count += 1
        return self.block(count) if count else None

    def image(self) -> Image:
        """As large as one of trades is: the last of them."""
        return Image(self.topic, EPOCH, self.sequence, int(self._now_ns), self._last)

    def _times(self, count: int) -> list[int]:
        """Of receipt; they never go back."""
        steps, first, step_ns = _steps(self._seed), self.sequence, self._step_ns
        gaps = (step_ns * steps[number % STEPS] for number in range(first, first + count))
        times = list(islice(accumulate(gaps, initial=self._now_ns), 1, None))
        self._now_ns = times[-1]
        return [int(ts_ns) for ts_ns in times]

    def _elements(self, first: int, times: Sequence[int]) -> list[bytes]:
        head, tails, pack = self._head, _tails(), _STAMPS.pack
        return [
            head + pack(0x19, sequence, 0x21, _venue_ns(ts_ns), 0x29, ts_ns) + tails[sequence % POOL]
            for sequence, ts_ns in enumerate(times, first)
        ]


def _venue_ns(received_ns: int) -> int:
    """Venues tell milliseconds."""
    return (received_ns - DELAY_NS) // MILLISECOND_NS * MILLISECOND_NS


def element_size() -> int:
    """Bytes of each element of `TradeStream`."""
    return len(TradeStream(make_topics(1)[0], 1.0).block(1).elements)


def blocks_in_turn(topics: int, events: int, block_events: int, rate: float) -> Iterator[Block]:
    """Blocks of all topics in turn, `rate` events a second over all of them."""
    streams = [TradeStream(topic, rate / topics, seed=number) for number, topic in enumerate(make_topics(topics))]
    for number in range(events // block_events):
        yield streams[number % topics].block(block_events)
