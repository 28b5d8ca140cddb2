"""The whole gRPC server without a socket and without a clock: its broker, its calls, HTTP/2 on both sides, a wire in memory.

Nothing waits here. A loop of asyncio is stepped until nothing is ready, its time is a number that the test moves on, and a
client takes what the windows of HTTP/2 and its socket let through, which the test opens and shuts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import attrs
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from raven.adapter.batch import Batch, BatchItem
from raven.broker import Broker, BrokerLimits
from raven.codec.generated.raven import v1
from raven.grpc import GrpcConfig, GrpcServer
from raven.grpc.frames import GOAWAY
from raven.grpc.listener import Listener
from raven.grpc.subscribing import encode_control
from tests.grpc.raw_calls import call_headers, framed

OPEN = 2**20
"""The window of a client that reads."""

SOCKET_BYTES = 1500
"""A socket that nobody reads takes so much."""

STREAM, UNARY_FIRST = 1, 3


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.s = 1000.0
        self._ns = 0

    def now_s(self) -> float:
        return self.s

    def now_ns(self) -> int:
        """A little later with every look, and a second later with every second."""
        self._ns = max(self._ns + 1, 1_700_000_000_000_000_000 + int(self.s * 1e9))
        return self._ns


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs what is ready, and returns."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.failed: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.failed.append(context))

    def time(self) -> float:
        return self._clock.s

    def spin(self, *calls: Callable[[], object]) -> None:
        """Make `calls` within the loop, and go on until nothing is ready."""
        for call in calls:
            self.call_soon(call)
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not cast(Any, self)._ready:
                return


class _Socket:
    def setsockopt(self, *option: int) -> None:
        """It has none."""


class MemoryTransport(asyncio.Transport):
    """What the server writes, until the client's socket takes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        super().__init__({"peername": (peer, 1), "sockname": ("server", 1), "socket": _Socket()})
        self._loop = loop
        self.protocol: Any = None
        self.waiting = bytearray()
        self.paused = self.gone = False
        self.read = True

    def write(self, data: Any) -> None:
        if not self.gone:
            self.waiting += data
            if len(self.waiting) > SOCKET_BYTES and not (self.read or self.paused):
                self.paused = True
                self.protocol.pause_writing()

    def take(self) -> bytes:
        """Everything, on the client's side."""
        data = bytes(self.waiting)
        self.waiting.clear()
        if self.paused and not self.gone:
            self.paused = False
            self.protocol.resume_writing()
        return data

    def is_closing(self) -> bool:
        return self.gone

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """The test sends nothing meanwhile."""

    resume_reading = pause_reading


class _Observer:
    """Counts nothing but what must not happen."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def response(self, method: str, seconds: float) -> None:
        """An answer."""

    def error(self, component: str, kind: str, amount: int = 1) -> None:
        assert kind != "internal", component

    def connection_ended(self, reason: str) -> None:
        self.ended.append(reason)


class Host:
    """One server."""

    def __init__(self, limits: BrokerLimits, clock: Clock) -> None:
        self.loop = SteppedLoop(clock)
        self.broker = Broker(limits, now_ns=clock.now_ns, on_fault=self._fault)
        self.broker.clients.pacer.clock_s = clock.now_s
        self.observer = _Observer()
        config = GrpcConfig(streams_per_s=1e9, reflection=False)
        self.server = GrpcServer(self.broker, cast(Any, None), config, self.observer, now_ns=clock.now_ns)
        self._clock = clock
        asyncio.set_event_loop(self.loop)  # where grpclib looks for it
        connections = self.server._connections
        self._listener = Listener(self.server._services(), connections, self.observer, config.limits)

    def _fault(self, *what: object) -> None:
        raise AssertionError(what)

    def connect(self, transport: MemoryTransport) -> None:
        """A client has come."""

        def accept() -> None:
            transport.protocol = self._listener._protocol_factory()
            transport.protocol._clock = self._clock.now_s
            transport.protocol.connection_made(transport)

        self.loop.spin(accept)

    def publish(self, *batches: Batch) -> None:
        """As Broker.run does it."""
        for batch in batches:
            self.broker.publish(batch)
        self.broker.flush()
        self.loop.spin()

    def publish_items(self, feed: str, *items: BatchItem) -> None:
        self.publish(Batch(feed, list(items)))

    def tick(self) -> None:
        """As Pacer.run does it, when something is due; and whatever waited for the time."""
        self.broker.clients.pacer.release()
        self.broker.flush()
        self.loop.spin()

    def beat(self) -> None:
        """As GrpcServer._heartbeats does it."""
        clients = self.broker.clients
        message = encode_control(heartbeat=v1.Heartbeat(self._clock.now_ns(), bookmark=clients.bookmark()))
        for client in clients:
            if client.controls:
                client.outbox.put_control(message)
                client.outbox.flush()
        self.loop.spin()

    def ask_to_go(self) -> None:
        """The beginning of GrpcServer.drain."""
        self.server._streams.draining = True
        for client in self.broker.clients:
            self.server._ask_to_go(client, 5.0)
        for connection in self.server._connections:
            connection.announce_goaway()
        self.loop.spin()

    def close(self) -> None:
        """The process ends; what was written is on its way."""
        for protocol in self.server._connections:
            self.loop.spin(protocol.abort)
        assert not self.loop.failed, self.loop.failed
        assert not len(self.server._connections)
        assert not len(self.broker.clients)
        assert not asyncio.all_tasks(self.loop)
        self.loop.close()
        asyncio.set_event_loop(None)

    def abandon(self) -> None:
        """The run ends here, and nobody looks any more."""
        for protocol in self.server._connections:
            self.loop.spin(protocol.abort)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.spin()
        self.loop.close()
        asyncio.set_event_loop(None)


@attrs.define
class Ending:
    """How the server ended a stream."""

    status: int | None


class Peer:
    """One connection of a client, with one stream of events.

    Args:
        window: what it takes before it says more.
    """

    def __init__(self, host: Host, name: str, window: int, method: str = "StreamMarketData") -> None:
        self.host = host
        self.transport = MemoryTransport(host.loop, name)
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self._h2.increment_flow_control_window(2**28)
        self._h2.send_headers(STREAM, call_headers(method))
        self._unary = UNARY_FIRST
        self._frames, self._data = bytearray(), bytearray()
        self.open = window >= OPEN
        self.ending: Ending | None = None
        self.lost = False
        host.connect(self.transport)
        self._push()

    def _push(self) -> None:
        data = self._h2.data_to_send()
        if data and not self.transport.gone:
            self.host.loop.spin(lambda: self.transport.protocol.data_received(data))

    @property
    def reading(self) -> bool:
        """Whether it reads its socket."""
        return self.transport.read

    @reading.setter
    def reading(self, reads: bool) -> None:
        self.transport.read = reads

    # ---- what the client does

    def send(self, **request: Any) -> None:
        """One request."""
        self._h2.send_data(STREAM, framed(bytes(v1.StreamMarketDataRequest(**request))))
        self._push()

    def send_last(self, message: bytes) -> None:
        """The only request of a call that has one."""
        self._h2.send_data(STREAM, framed(message), end_stream=True)
        self._push()

    def call(self, method: str, request: Any, service: str = "MarketDataService") -> None:
        """Another call on the same connection; its answer is not read."""
        self._h2.send_headers(self._unary, call_headers(path=f"/raven.v1.{service}/{method}"))
        self._h2.send_data(self._unary, framed(bytes(request)), end_stream=True)
        self._unary += 2
        self._push()

    def stall(self) -> None:
        """Let nothing more through."""
        self.open = False
        self._set_window(0)

    def drip(self, size: int) -> None:
        """Let so many bytes through."""
        self._h2.increment_flow_control_window(size, STREAM)
        self._push()

    def flow(self) -> None:
        """Let everything through again."""
        self.open = True
        self._set_window(OPEN)

    def _set_window(self, size: int) -> None:
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
        self._push()
        self._read()  # the acknowledgement

    def cut(self) -> None:
        """The connection breaks; what is on its way is lost."""
        self.lost = True
        self.transport.gone = True
        self.host.loop.spin(lambda: self.transport.protocol.connection_lost(ConnectionResetError()))

    def reset(self) -> None:
        """The client cancels its call, and goes."""
        self._h2.reset_stream(STREAM)
        self._push()
        self.cut()

    # ---- what comes to it

    def take(self) -> list[bytes]:
        """The messages that have come, whole ones."""
        if self.reading and not self.lost:
            self._read()
        messages = []
        while len(self._data) >= 5 and len(self._data) >= 5 + (size := int.from_bytes(self._data[1:5], "big")):
            messages.append(bytes(self._data[5 : 5 + size]))
            del self._data[: 5 + size]
        return messages

    def _read(self) -> None:
        while self.transport.waiting:
            consumed = 0
            self._frames += self.transport.take()
            for event in self._h2.receive_data(self._cut_frames()):
                consumed += self._see(event)
            if consumed and self.open and self.ending is None:
                self._h2.increment_flow_control_window(consumed, STREAM)
            self._push()

    def _cut_frames(self) -> bytes:
        """Whole frames without GOAWAY: h2 would take nothing more behind one, and this client stays until it is put out."""
        frames, data = [], self._frames
        while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
            if data[3] != GOAWAY:
                frames.append(bytes(data[: 9 + size]))
            del data[: 9 + size]
        return b"".join(frames)

    def _see(self, event: Any) -> int:
        if getattr(event, "stream_id", 0) != STREAM:
            return 0
        if isinstance(event, DataReceived):
            self._data += event.data or b""
            return len(event.data or b"")
        if isinstance(event, TrailersReceived):
            self.ending = Ending(int(dict(cast(Any, event.headers))["grpc-status"]))
        elif isinstance(event, StreamEnded | StreamReset) and self.ending is None:
            self.ending = Ending(None)
        return 0
