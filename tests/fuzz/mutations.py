"""Valid sessions of HTTP/2 made invalid: frame by frame, so that what follows a fault is still understood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import attrs
from h2.connection import H2Connection

from tests.codec.reference import mutated

__all__ = ["PREFACE", "Frame", "join", "mutate_session", "segments", "split"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
SESSION_BYTES_MAX = 64 * 1024
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, GOAWAY: 8, WINDOW_UPDATE: 4, SETTINGS: 6}
EDGES = (0, 1, 2, 2**14, 2**14 + 1, 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)


@attrs.define
class Frame:
    """One frame. `claimed` is the length in its header, where that is not the payload's."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes
    claimed: int | None = None

    def __bytes__(self) -> bytes:
        size = len(self.payload) if self.claimed is None else self.claimed
        head = size.to_bytes(3, "big") + bytes((self.kind, self.flags)) + (self.stream_id % 2**32).to_bytes(4, "big")
        return head + self.payload


def split(session: bytes) -> list[Frame]:
    """The frames of what a client sent, behind its preface."""
    rest = session.removeprefix(PREFACE)
    frames = []
    while len(rest) >= HEADER_SIZE:
        size = int.from_bytes(rest[:3], "big")
        stop = HEADER_SIZE + size
        frames.append(Frame(rest[3], rest[4], int.from_bytes(rest[5:9], "big"), rest[HEADER_SIZE:stop]))
        rest = rest[stop:]
    return frames


def join(frames: Sequence[Frame]) -> bytes:
    """The session that consists of these."""
    return PREFACE + b"".join(map(bytes, frames))


# ---- one change of a list of frames


def _drop(frames: list[Frame], at: int, _random: Random) -> None:
    del frames[at]


def _repeat(frames: list[Frame], at: int, random: Random) -> None:
    frames[at:at] = [frames[at]] * random.choice((1, 1, 2, 5, 50))


def _move(frames: list[Frame], at: int, random: Random) -> None:
    frames.insert(random.randrange(len(frames)), frames.pop(at))


def _kind(frames: list[Frame], at: int, random: Random) -> None:
    frames[at] = attrs.evolve(frames[at], kind=random.choice((*range(13), 200, 255)))


def _flags(frames: list[Frame], at: int, random: Random) -> None:
    frames[at] = attrs.evolve(frames[at], flags=frames[at].flags ^ 1 << random.randrange(8))


def _stream_id(frames: list[Frame], at: int, random: Random) -> None:
    own = frames[at].stream_id
    frames[at] = attrs.evolve(
        frames[at], stream_id=random.choice((own + 1, own + 2, own - 2, 0, 1, 3, 5, 2**31 - 1, own | 2**31))
    )


def _length(frames: list[Frame], at: int, random: Random) -> None:
    size = len(frames[at].payload)
    frames[at] = attrs.evolve(frames[at], claimed=random.choice((0, max(0, size - 1), size + 1, 2**14 + 1, 2**24 - 1)))


def _cut(frames: list[Frame], at: int, random: Random) -> None:
    payload = frames[at].payload
    frames[at] = attrs.evolve(frames[at], payload=payload[: random.randint(0, len(payload))])


def _payload(frames: list[Frame], at: int, random: Random) -> None:
    frames[at] = attrs.evolve(frames[at], payload=mutated(frames[at].payload, random))


def _in_parts(frames: list[Frame], at: int, random: Random) -> None:
    """DATA in many frames, some of them empty; HEADERS with its rest in CONTINUATION."""
    frame, middle = frames[at], random.randint(0, len(frames[at].payload))
    if frame.kind == HEADERS:
        head, rest = attrs.evolve(frame, flags=frame.flags & ~4, payload=frame.payload[:middle]), frame.payload[middle:]
        frames[at : at + 1] = [head, Frame(CONTINUATION, 4, frame.stream_id, rest)]
    else:
        head = attrs.evolve(frame, flags=frame.flags & ~1, payload=frame.payload[:middle])
        empty = attrs.evolve(head, payload=b"")
        tail = attrs.evolve(frame, payload=frame.payload[middle:])
        frames[at : at + 1] = [head, *[empty] * random.randint(0, 5), tail]


def _foreign(frames: list[Frame], at: int, random: Random) -> None:
    """A frame that the session does not have."""
    kind = random.choice((*SIZES, CONTINUATION, PUSH_PROMISE, HEADERS, DATA, 11, 99))
    stream_id = random.choice((0, 1, frames[at].stream_id, 2 * random.randrange(50) + 1))
    edge = random.choice(EDGES)
    payload = random.randbytes(SIZES.get(kind, random.randrange(40)))
    if kind in (RST_STREAM, WINDOW_UPDATE):
        payload = edge.to_bytes(4, "big")
    if kind == SETTINGS:
        stream_id, payload = 0, random.randrange(10).to_bytes(2, "big") + edge.to_bytes(4, "big")
    frames.insert(at, Frame(kind, random.choice((0, 1, 4, 5, 8, 0x20)), stream_id, payload))


def _headers(frames: list[Frame], at: int, random: Random) -> None:
    """A call whose headers are one edit away from a good one's."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/raven.v1.MarketDataService/{random.choice(('ListTopics', 'StreamMarketData', 'GetLatest', 'Nothing'))}"),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", random.choice(("1S", "1n", "99999999H", "-1S", "", "x" * 300))),
        ("grpc-encoding", random.choice(("gzip", "identity", "br"))),
        ("x-bin", random.choice(("YQ", "!", "a", "," * 100))),
    ]
    index = random.randrange(len(headers))
    change = random.randrange(5)
    if change == 0:
        del headers[index]
    elif change == 1:
        headers.insert(random.randrange(len(headers)), headers[index])
    elif change == 2:
        headers[index] = (headers[index][0], mutated(headers[index][1].encode(), random).decode("latin-1"))
    elif change == 3:
        headers[index] = (mutated(headers[index][0].encode(), random).decode("latin-1"), headers[index][1])
    block = H2Connection().encoder.encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])
    stream_id = max(frame.stream_id for frame in frames) % 2**31 + random.choice((2, 2, 2, 1, 0))
    frames.insert(at, Frame(HEADERS, random.choice((4, 5)), stream_id, block))


Change = Callable[[list[Frame], int, Random], None]
CHANGES: tuple[Change, ...] = (
    _drop,
    _repeat,
    _move,
    _kind,
    _flags,
    _stream_id,
    _length,
    _cut,
    _payload,
    _payload,
    _in_parts,
    _foreign,
    _foreign,
    _headers,
)


def _message(frames: list[Frame], random: Random) -> None:
    """What a DATA frame carries, with a prefix that fits or one that does not."""
    places = [at for at, frame in enumerate(frames) if frame.kind == DATA and len(frame.payload) >= 5]
    if not places:
        return
    at = random.choice(places)
    message = mutated(frames[at].payload[5:], random)
    size = random.choice((len(message), len(message), len(message), len(message) + 1, 2**32 - 1, 0))
    flag = random.choice((0, 0, 0, 0, 1, 7))
    frames[at] = attrs.evolve(frames[at], payload=bytes((flag,)) + size.to_bytes(4, "big") + message)


def mutate_session(sessions: Sequence[bytes], random: Random) -> bytes:
    """One of `sessions` with a few faults, or the first part of one and the rest of another."""
    frames = split(random.choice(sessions))
    if random.random() < 0.1:
        other = split(random.choice(sessions))
        frames = frames[: random.randint(1, len(frames))] + other[random.randrange(len(other)) :]
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        if random.random() < 0.2:
            _message(frames, random)
        elif frames:
            random.choice(CHANGES)(frames, random.randrange(len(frames)), random)
    session = join(frames)
    if random.random() < 0.05:
        session = mutated(session, random)
    return session[:SESSION_BYTES_MAX]


def segments(session: bytes, random: Random) -> list[bytes]:
    """The session as it might arrive: at once, or in parts that begin and end anywhere."""
    cuts = sorted(random.randint(0, len(session)) for _ in range(random.choice((0, 0, 0, 1, 3, 10))))
    bounds = [0, *cuts, len(session)]
    return [session[start:stop] for start, stop in pairwise(bounds) if stop > start]
