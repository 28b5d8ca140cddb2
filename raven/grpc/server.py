"""The gRPC server: one local trio-asyncio loop, grpclib on it, and the tasks that keep clients told.

`GrpcServer.run` is a Trio task like any other. Leaving happens in the order that clients need: health says
NOT_SERVING, Draining goes out, streams end with Goodbye, and the sockets close.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import attrs
import structlog
import trio
import trio_asyncio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpclib.const import Handler
from grpclib.health.check import ServiceStatus
from grpclib.health.service import OVERALL, Health
from grpclib.reflection.service import ServerReflection

from raven import __version__
from raven.broker import Broker
from raven.broker.client import Ended
from raven.broker.progress import ProgressCheck
from raven.codec.generated.raven import v1
from raven.grpc.control import ControlService, Feeds
from raven.grpc.listener import Listener
from raven.grpc.protocol import RavenProtocol
from raven.grpc.services import MarketDataService, Observer, observed
from raven.grpc.stream import ClientStreams, StreamSettings
from raven.grpc.subscribing import encode_control

__all__ = ["GrpcConfig", "GrpcServer"]

log = structlog.stdlib.get_logger("raven.grpc")

CLOSE_WAIT_S = 2.0
"""How long calls may take to end once the server closes."""


@attrs.frozen
class GrpcConfig:
    """How clients are served.

    Args:
        heartbeat_s: between two heartbeats of a stream.
        stall_s: a client for which something waits and that takes nothing for so long is ended.
        reflection: whether the server tells its own .proto.
    """

    heartbeat_s: float = 5.0
    stall_s: float = 30.0
    reflection: bool = True


class GrpcServer:
    """Serves one broker to gRPC clients.

    Args:
        broker: what is served.
        feeds: what operators start and stop.
        observer: who counts calls.
        on_connections: called with the number of open connections when it changes.
        now_ns: wall clock.
    """

    def __init__(
        self,
        broker: Broker,
        feeds: Feeds,
        config: GrpcConfig,
        observer: Observer,
        *,
        on_connections: Callable[[int], object] = lambda _count: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._broker = broker
        self._feeds = feeds
        self._config = config
        self._observer = observer
        self._on_connections = on_connections
        self._now_ns = now_ns
        self._connections: set[RavenProtocol] = set()
        self._serving = ServiceStatus()
        self._serving.set(False)
        self.instance_id = secrets.token_hex(4)

    async def run(self, sock: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a bound socket until cancelled. Reports started when clients can connect."""
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(self._on_loop_error)
            server = Listener(self._services(), self._protocol_opened, self._protocol_closed, self._on_connection_fault)
            await trio_asyncio.aio_as_trio(server.start)(sock=sock)
            self._serving.set(True)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heartbeats)
                    task_status.started()
                    await trio.sleep_forever()
            finally:
                await self._close(server)

    async def drain(self, deadline_s: float) -> None:
        """Ask all clients to go, and wait until the last has gone, at most `deadline_s` seconds; then end those that stay."""
        self._serving.set(False)
        draining = v1.Draining(reason="the server is shutting down", deadline_ms=round(deadline_s * 1000))
        message = encode_control(draining=draining)
        for client in self._broker.clients:
            if client.controls:
                client.outbox.put_control(message)
                client.outbox.flush()
            else:  # it cannot be asked to go: its stream ends now, and it comes back elsewhere
                client.end(Ended("DRAINED", "the server is shutting down", "OK"))
        with trio.move_on_after(deadline_s):
            await self._broker.clients.wait_no_clients()
        for client in self._broker.clients:
            client.end(Ended("DRAINED", "the server is shutting down", "OK"))

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    # ---- clients

    async def _heartbeats(self) -> None:
        """Every client its heartbeat on a fixed cadence, and the end of those that take nothing."""
        check = ProgressCheck(self._config.stall_s)
        while True:
            await trio.sleep(self._config.heartbeat_s)
            message = encode_control(heartbeat=v1.Heartbeat(server_ts_ns=self._now_ns()))
            for client in check.stalled(self._broker.clients, trio.current_time()):
                self._broker.clients.end_stalled(client, self._config.stall_s)
            for client in self._broker.clients:
                if client.controls:
                    client.outbox.put_control(message)
                    client.outbox.flush()

    # ---- grpclib

    def _services(self) -> dict[str, Handler]:
        settings = StreamSettings(self.instance_id, __version__, self._config.heartbeat_s, self._now_ns)
        market_data = MarketDataService(self._broker, ClientStreams(self._broker, settings))
        control = ControlService(self._feeds, self.instance_id)
        health = Health({OVERALL: [self._serving], market_data: [self._serving], control: [self._serving]})
        mapping = observed({**market_data.__mapping__(), **control.__mapping__()}, self._observer)
        services: list[Any] = [health]
        if self._config.reflection:
            _register_descriptors()
            services = ServerReflection.extend([market_data, control, health])[2:]
        for service in services:
            mapping.update(service.__mapping__())
        return mapping

    def _protocol_opened(self, protocol: RavenProtocol) -> None:
        self._connections.add(protocol)
        self._on_connections(len(self._connections))

    def _protocol_closed(self, protocol: RavenProtocol) -> None:
        self._connections.discard(protocol)
        self._on_connections(len(self._connections))

    def _on_connection_fault(self, kind: str) -> None:
        self._observer.error("connection", kind)

    def _on_loop_error(self, _loop: object, context: dict[str, Any]) -> None:
        """What leaves a callback of asyncio; without this it would end the process."""
        error = context.get("exception")
        self._observer.error("asyncio", type(error).__name__)
        log.error("an asyncio callback failed", message=context.get("message"), exc_info=error)

    async def _close(self, server: Listener) -> None:
        self._serving.set(False)
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_WAIT_S):
            server.close()
            for protocol in list(self._connections):
                protocol.say_goaway()
            await trio_asyncio.aio_as_trio(server.wait_closed)()
        for protocol in list(self._connections):
            protocol.abort()


@cache
def _register_descriptors() -> None:
    """Put raven.proto into protobuf's pool, where reflection looks."""
    pool = descriptor_pool.Default()
    data = files("raven.codec.generated").joinpath("raven.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
