"""What the raw readers of the benchmarks count, whatever the pieces in which it comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.parts import counters, handshakes, readers, trades

SHAPE = trades.shape_of()
FRAME_BYTES_MAX = 16_384
STAMPS = [1_700_000_000_000_000_000 + number for number in range(40)]


def frames(message: bytes, size_max: int = FRAME_BYTES_MAX) -> bytes:
    """One gRPC message in DATA frames of at most so many bytes."""
    rest, out = b"\0" + len(message).to_bytes(4, "big") + message, b""
    while rest:
        part, rest = rest[:size_max], rest[size_max:]
        out += len(part).to_bytes(3, "big") + bytes((0, 0, 0, 0, 0, 1)) + part
    return out


def elements(stamps: Sequence[int]) -> bytes:
    return b"".join(trades.encode_trade(number, stamp) for number, stamp in enumerate(stamps))


def cut(data: bytes, sizes: Sequence[int]) -> list[memoryview]:
    """`data` in pieces of these sizes, over and over."""
    pieces, position, turn = [], 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(memoryview(data)[position : position + size])
        position, turn = position + size, turn + 1
    return pieces


HEARTBEAT = b"\x3a\x09\x09" + bytes(8)  # field 7 of a response, and no trade
SENT_TS = b"\x79" + bytes(8)
PING = (8).to_bytes(3, "big") + bytes((6, 0, 0, 0, 0, 0)) + b"12345678"
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HEADERS = bytes((0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88))
STREAM = (
    SETTINGS
    + HEADERS
    + frames(HEARTBEAT + SENT_TS)
    + frames(elements(STAMPS[:10]) + SENT_TS)
    + PING
    + frames(elements(STAMPS[10:11]))
    + frames(elements(STAMPS[11:]) + SENT_TS, size_max=700)
)


@pytest.mark.parametrize("stamped", [False, True])
@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_trades_of_a_grpc_stream_are_counted_in_any_pieces(stamped: bool, sizes: list[int]) -> None:
    answers: list[bytes] = []
    counter = counters.GrpcCounter(SHAPE, answers.append)
    counter.stamps = [] if stamped else None
    counted = sum(counter.feed(piece) for piece in cut(STREAM, sizes))
    assert counted == len(STAMPS)
    assert counter.messages == 4
    assert counter.started
    assert not counter.ended
    assert counter.stamps == (STAMPS if stamped else None)
    assert answers == [bytes((0, 0, 0, 4, 1, 0, 0, 0, 0)), PING[:4] + b"\x01" + PING[5:]]


@pytest.mark.parametrize("peer", ["redis", "nats"])
@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_trades_between_fixed_bytes_are_counted_in_any_pieces(peer: str, sizes: list[int]) -> None:
    greeting = getattr(handshakes, peer)(SHAPE)
    start = "MSG bench 1 100\r\n" if peer == "nats" else "*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$100\r\n"
    told = [start.encode() + trades.encode_trade(number, stamp) + b"\r\n" for number, stamp in enumerate(STAMPS)]
    stream = b"INFO {}\r\n" + bytes.fromhex(greeting.answer) + b"".join(told)
    counter = counters.FixedCounter(greeting.size, greeting.before + SHAPE.stamp, bytes.fromhex(greeting.answer))
    counter.stamps = []
    assert sum(counter.feed(piece) for piece in cut(stream, sizes)) == len(STAMPS)
    assert counter.stamps == STAMPS


def test_a_ping_of_nats_between_trades_shifts_no_stamp() -> None:
    greeting = handshakes.nats(SHAPE)
    one = b"MSG bench 1 100\r\n" + trades.encode_trade(0, STAMPS[0]) + b"\r\n"
    counter = counters.FixedCounter(greeting.size, greeting.before + SHAPE.stamp, b"PONG\r\n")
    counter.stamps = []
    assert counter.feed(memoryview(b"PONG\r\n" + one + counters.NATS_PING + one)) == 2
    assert counter.stamps == [STAMPS[0]] * 2


@pytest.mark.parametrize(("kind", "payload", "flags"), [(3, bytes(4), 0), (7, bytes(8), 0), (0, b"", 1)])
def test_the_end_of_a_stream_is_seen(kind: int, payload: bytes, flags: int) -> None:
    counter = counters.GrpcCounter(SHAPE, lambda _data: None)
    counter.feed(memoryview(len(payload).to_bytes(3, "big") + bytes((kind, flags, 0, 0, 0, 1)) + payload))
    assert counter.ended


def test_an_event_has_the_size_that_the_issue_asks_for_whatever_its_number() -> None:
    assert SHAPE.size == 100
    assert {len(trades.encode_trade(number, 1)) for number in (0, 9, 10**6, 10**12)} == {100}


def test_quantiles_are_values_that_were_seen() -> None:
    latencies = Counter({10: 50, 20: 49, 500: 1})
    assert readers.quantiles(latencies) == {"p50": 10, "p90": 20, "p99": 20, "p999": 500, "max": 500}
    assert readers.quantiles(Counter()) == {}
