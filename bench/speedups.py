"""What is compiled against its twins in Python, each by itself: us a call, in turn, the best of many in each round.

    nox -s bench -- speedups [--rounds 5]

Exits with 1 where something compiled is slower than its twin. See bench/README.md.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

from _verdict import Goal, Verdicts, describe_machine, parser_of, ratios
from h2.stream import StreamState

import raven.codec.encoder
import raven.grpc.lane
import raven.model.book
from raven import speedups
from raven.adapter.columns import split_columns
from raven.codec.encoder import TopicEncoder
from raven.grpc.lane import open_lane
from raven.grpc.sending import Way
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Event, Payload, Quote, Side, Trade
from raven.model.topic import Kind, Topic

Step = Callable[[], object]

CHOOSING: tuple[Any, ...] = (raven.codec.encoder, raven.grpc.lane, raven.model.book)
"""Modules that look at what is compiled when they make something."""

TOPIC = Topic("bench", "BTC-USDT", Kind.TRADE)
NOW_NS = 1_700_000_000_000_000_000
BATCHES, QUICK_BATCHES = 200, 3
CALLS = 200  # a batch
LEVELS, BOOK_LEVELS, TICK = 15, 1_000, 0.01
MESSAGE_BYTES = 1_000


def encoding(payload: Payload) -> Callable[[], Step]:
    """An event with that payload to bytes."""

    def make() -> Step:
        encode, event = TopicEncoder(TOPIC, 17).encode, Event(TOPIC, payload, NOW_NS, NOW_NS)
        return lambda: encode(event, 9)

    return make


def a_delta() -> BookDelta:
    """So many levels on both sides."""
    sizes = tuple(float(number) for number in range(LEVELS))
    bids, asks = (tuple(100 + side * TICK * (1 + number) for number in range(LEVELS)) for side in (-1, 1))
    return BookDelta(bids, sizes, asks, sizes, 5)


def setting() -> Step:
    """Changes of one side of a book, most of them near the touch; size 0 is one of four."""
    random = Random(7)
    prices = [100 - TICK * number for number in range(BOOK_LEVELS)]
    book = OrderBook(BookSnapshot(prices, [1.0] * BOOK_LEVELS))
    deltas = []
    for _ in range(CALLS):
        places = sorted(min(BOOK_LEVELS - 1, int(random.expovariate(1 / 40))) for _ in range(LEVELS))
        deltas.append(BookDelta([prices[place] for place in places], [float(random.randrange(4)) for _ in places]))
    following = iter(deltas * (BATCHES * 2))
    return lambda: book.apply(next(following))


def splitting() -> Step:
    """Levels to columns."""
    levels = [(100.0 + number, 1.0) for number in range(LEVELS)]
    split = split_columns if raven.model.book.compiled is None else raven.model.book.compiled.columns
    return lambda: split(levels)


def sending() -> Step:
    """A message by a lane into a socket that is never full; most of it is the system's `send`."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    window = SimpleNamespace(outbound_flow_control_window=2**60, max_outbound_frame_size=16_384)
    machine = SimpleNamespace(state=StreamState.OPEN)
    stream = SimpleNamespace(outbound_flow_control_window=2**60, stream_id=1, state_machine=machine)
    way = Way(write=_refuse, send=ours.send, fileno=ours.fileno)
    lane, message, buffer = open_lane(window, stream, SimpleNamespace(open=True), way), bytes(MESSAGE_BYTES), bytearray(1 << 16)

    def send() -> None:
        lane.send(message, {})
        theirs.recv_into(buffer)

    return send


def _refuse(data: bytes | memoryview) -> None:
    raise RuntimeError(f"the socket was full by {len(data)} bytes")


STEPS: dict[str, Callable[[], Step]] = {
    "trade to bytes": encoding(Trade(64000.12, 0.00125, Side.BUY, "4000000000")),
    "quote to bytes": encoding(Quote(64000.1, 2.0, 64000.2, 1.5)),
    f"change of {LEVELS} and {LEVELS} levels to bytes": encoding(a_delta()),
    f"{LEVELS} levels set in a side of {BOOK_LEVELS:,}": setting,
    f"{LEVELS} levels to columns": splitting,
    f"message of {MESSAGE_BYTES:,} bytes sent and received": sending,
}


def measure(make: Callable[[], Step], compiled: speedups.Compiled | None, batches: int) -> float:
    """Us a call, the best of so many batches."""
    for module in CHOOSING:
        module.compiled = compiled
    step, best = make(), float("inf")
    for _ in range(batches):
        begun = time.perf_counter()
        for _ in range(CALLS):
            step()
        best = min(best, time.perf_counter() - begun)
    return 1e6 * best / CALLS


def main() -> int:
    """Measure, print, and write speedups.json."""
    options = parser_of(__doc__, rounds=5, seconds=0.0).parse_args()
    rounds, batches = (1, QUICK_BATCHES) if options.quick else (options.rounds, BATCHES)
    print(f"speedups: {describe_machine()}")
    verdicts, runs = Verdicts(), {}
    if speedups.compiled is None:
        verdicts.absent("what is compiled", speedups.missing)
        return verdicts.write(options.results, "speedups", {})
    for name, make in STEPS.items():
        pairs = [(measure(make, None, batches), measure(make, speedups.compiled, batches)) for _ in range(rounds)]
        pure, compiled = [one for one, _ in pairs], [other for _, other in pairs]
        verdicts.judge(f"{name}: Python", pure, unit=" us")
        verdicts.judge(f"{name}: compiled", compiled, unit=" us")
        verdicts.judge("  Python to compiled", ratios(pure, compiled), Goal(1))
        runs[name] = pairs
    return verdicts.write(options.results, "speedups", runs)


if __name__ == "__main__":
    sys.exit(main())
