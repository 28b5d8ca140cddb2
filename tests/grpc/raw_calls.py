"""A client of gRPC that says what no library would: h2 without its checks, over a real socket; and a server for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import attrs
import trio
from grpclib.const import Status
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from raven.codec.generated.raven import v1
from raven.model.topic import Kind, Topic
from tests.grpc.serving import ANSWER_S, SERVICE, Serving, serving

Headers = list[tuple[str, str]]

PAIR = (Topic("sim", "BTC-USDT", Kind.TRADE), Topic("sim", "ETH-USDT", Kind.TRADE))


def call_headers(method: str = "ListTopics", **changed: str | None) -> Headers:
    """Headers as a library would send them; a changed name has '_' for '-', ':path' is `path`, and None leaves it out."""
    headers: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "http",
        ":path": SERVICE + method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    for name, value in changed.items():
        headers[f":{name}" if name in ("path", "method") else name.replace("_", "-")] = value
    return [(name, value) for name, value in headers.items() if value is not None]


def framed(message: bytes, flag: int = 0, size: int | None = None) -> bytes:
    """A gRPC message with its prefix."""
    return bytes((flag,)) + (len(message) if size is None else size).to_bytes(4, "big") + message


LISTING = framed(bytes(v1.ListTopicsRequest()))


@attrs.define
class Answer:
    """What came on one stream."""

    headers: dict[str, str] = attrs.field(factory=dict)
    trailers: dict[str, str] = attrs.field(factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def http_status(self) -> int:
        return int(self.headers.get(":status", 0))

    @property
    def status(self) -> int | None:
        """The number of the gRPC status."""
        found = (self.headers | self.trailers).get("grpc-status")
        return None if found is None else int(found)

    @property
    def text(self) -> str:
        return unquote((self.headers | self.trailers).get("grpc-message", ""))

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    def messages(self) -> list[bytes]:
        """Whole messages so far."""
        found, rest = [], self.data
        while len(rest) >= 5 and len(rest) >= 5 + (size := int.from_bytes(rest[1:5], "big")):
            found.append(rest[5 : 5 + size])
            rest = rest[5 + size :]
        return found


class RawPeer:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        config = H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = H2Connection(config)
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**24})
        self.h2.increment_flow_control_window(2**24)
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False

    async def begin(self, headers: Headers, data: bytes = b"", *, end: bool = False) -> int:
        """Open a stream with headers and, if there is any, data; the id of the stream."""
        stream_id: int = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        self.h2.send_headers(stream_id, headers, end_stream=end and not data)
        if data:
            await self.send(stream_id, data, end=end)
        await self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send data, as fast as the server's windows let it; what is left when the call is over stays."""
        while not self.closed and not self.answers[stream_id].over:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size, len(data))
            if data and room <= 0:
                with trio.fail_after(ANSWER_S):
                    await self._read()
                continue
            self.h2.send_data(stream_id, data[:room], end_stream=end and room == len(data))
            await self.flush()
            data = data[room:]
            if not data:
                return

    async def flush(self) -> None:
        """Send what h2 has ready."""
        if data := self.h2.data_to_send():
            await self.stream.send_all(data)

    async def answer(self, headers: Headers, data: bytes = b"", *, end: bool = True) -> Answer:
        """The whole answer to a call."""
        stream_id = await self.begin(headers, data, end=end)
        return await self.wait(stream_id)

    async def wait(self, stream_id: int, messages: int | None = None) -> Answer:
        """Read until a stream is over, or has so many messages."""
        answer = self.answers[stream_id]
        with trio.fail_after(ANSWER_S):
            while not self.closed and not answer.over and (messages is None or len(answer.messages()) < messages):
                await self._read()
        return answer

    async def _read(self) -> None:
        data = await self.stream.receive_some(65536)
        self.closed = not data
        for event in self.h2.receive_data(data) if data else ():
            self._note(event)
        await self.flush()

    def _note(self, event: Any) -> None:
        answer = self.answers.setdefault(getattr(event, "stream_id", 0), Answer())
        if isinstance(event, ResponseReceived):
            answer.headers = dict(event.headers)
        elif isinstance(event, TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, DataReceived):
            answer.data += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code)


@asynccontextmanager
async def raw_peer(port: int) -> AsyncIterator[RawPeer]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        peer = RawPeer(stream)
        await peer.flush()
        yield peer


# ---- a server for it


@asynccontextmanager
async def peer_of_a_server(topics: Sequence[Topic] = PAIR) -> AsyncIterator[tuple[Serving, RawPeer]]:
    """A connection that must serve an honest call at the end, with no error of the server's own beside it."""
    async with serving(topics) as raven, raw_peer(raven.port) as peer:
        yield raven, peer
        await assert_served(peer)
        assert not unexpected(raven)


async def assert_served(peer: RawPeer) -> None:
    answer = await peer.answer(call_headers(), LISTING)
    assert (answer.http_status, answer.status) == (200, 0)
    assert len(v1.ListTopicsResponse.parse(answer.messages()[0]).topics) == 2


def unexpected(raven: Serving) -> list[str]:
    """Errors that are counted under the loop or the connection."""
    samples = (sample for family in raven.registry.collect() for sample in family.samples)
    return [s.labels["kind"] for s in samples if s.labels.get("component") in ("asyncio", "connection") and s.value]


def refused(answer: Answer, status: Status, part: str, http_status: int = 200) -> None:
    assert (answer.http_status, answer.status) == (http_status, status.value)
    assert answer.headers["content-type"].startswith("application/grpc")
    assert part in answer.text


def refused_after_headers(answer: Answer, status: Status, part: str) -> None:
    """Streams send their headers first, and the status in trailers."""
    assert (answer.http_status, answer.status) == (200, status.value)
    assert part in answer.text
