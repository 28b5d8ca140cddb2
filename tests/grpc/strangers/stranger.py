"""A stranger at the other end of a real socket: literal frames, and what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio
from hpack import Encoder

from raven.model.topic import Kind, Topic
from tests.grpc.serving import SERVICE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR = range(7)
REFUSED_STREAM, ENHANCE_YOUR_CALM = 7, 11

TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
PATIENCE_S = 10.0
LIST_TOPICS = SERVICE + "ListTopics"
STREAM = SERVICE + "StreamMarketData"
EMPTY_MESSAGE = bytes(5)

Headers = list[tuple[str, str]]


class Frame(NamedTuple):
    type: int
    flags: int
    stream_id: int
    payload: bytes


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"", *, size: int | None = None) -> bytes:
    """A frame on the wire; `size` is what its head says of the payload, if not the truth."""
    length = len(payload) if size is None else size
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def reset(stream_id: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, (8).to_bytes(4, "big"))


def setting(code: int, value: int) -> bytes:
    return code.to_bytes(2, "big") + value.to_bytes(4, "big")


def call_headers(path: str = LIST_TOPICS, *more: tuple[str, str]) -> Headers:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]


def parse_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Whole frames, and the rest."""
    frames = []
    while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
        frames.append(Frame(data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF, data[9 : 9 + size]))
        data = data[9 + size :]
    return frames, data


class Stranger:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.closed = False
        self._rest = b""
        self._encoder = Encoder()

    # ---- to the server

    async def send(self, *data: bytes) -> None:
        """All of it; a server that has gone is no error."""
        try:
            await self.stream.send_all(b"".join(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.closed = True

    async def greet(self, settings: bytes = b"") -> None:
        await self.send(PREFACE, frame(SETTINGS, 0, 0, settings))

    def call(self, stream_id: int, path: str = LIST_TOPICS, *more: tuple[str, str], end: bool = False) -> bytes:
        """HEADERS of a call; with `end`, all of it."""
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream_id, self.block(call_headers(path, *more)))

    def block(self, headers: Headers) -> bytes:
        """Compressed as they are."""
        return self._encoder.encode(headers)

    async def flood(self, pieces: Iterable[bytes]) -> None:
        """Send until all is sent or the server has ended it, and read what comes meanwhile, to the end."""
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.read_to_end)
                for piece in pieces:
                    if self.closed or self.goaway is not None:
                        break
                    await self.send(piece)

    # ---- from the server

    async def read(self) -> bool:
        """What is there, at least something; whether the connection is still open."""
        try:
            data = await self.stream.receive_some(65536)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        frames, self._rest = parse_frames(self._rest + data)
        self.frames += frames
        self.closed = not data
        return not self.closed

    async def read_until(self, kind: int, stream_id: int | None = None, flags: int = 0) -> Frame:
        """The first frame of this type, also one that came before."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for found in self.frames:
                    if found.type == kind and stream_id in (None, found.stream_id) and found.flags & flags == flags:
                        return found
                assert await self.read(), f"closed after {self.frames}"

    async def read_to_end(self) -> None:
        """Until the server has closed the connection."""
        with trio.fail_after(PATIENCE_S):
            while await self.read():
                pass

    async def is_heard(self, payload: bytes = b"are you?") -> bool:
        """Whether the server answers a PING."""
        await self.send(frame(PING, 0, 0, payload))
        with trio.fail_after(PATIENCE_S):
            while not any(found.type == PING and found.payload == payload for found in self.frames):
                if not await self.read():
                    return False
        return True

    @property
    def goaway(self) -> tuple[int, str] | None:
        """Error code and text of the GOAWAY, if one came."""
        for found in self.frames:
            if found.type == GOAWAY:
                return int.from_bytes(found.payload[4:8], "big"), found.payload[8:].decode()
        return None

    def resets(self) -> dict[int, int]:
        """Stream to error code."""
        return {f.stream_id: int.from_bytes(f.payload, "big") for f in self.frames if f.type == RST_STREAM}


@asynccontextmanager
async def stranger(port: int) -> AsyncIterator[Stranger]:
    """A connection that has said nothing yet."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield Stranger(stream)


@asynccontextmanager
async def guest(port: int, settings: bytes = b"") -> AsyncIterator[Stranger]:
    """A connection that has greeted as it should."""
    async with stranger(port) as one:
        await one.greet(settings)
        await one.read_until(SETTINGS, flags=ACK)
        await one.send(frame(SETTINGS, ACK))
        yield one
