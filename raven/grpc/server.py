"""The gRPC server: one local trio-asyncio loop, grpclib on it, and the tasks that keep clients told.

`GrpcServer.run` is a Trio task like any other. Leaving happens in the order that clients need: health says
NOT_SERVING, Draining goes out, streams end with Goodbye, and the sockets close.
"""

from __future__ import annotations

import random
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

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
from raven.broker import Broker, Client
from raven.broker.client import Ended
from raven.broker.progress import ProgressCheck
from raven.codec.generated.raven import v1
from raven.grpc.connections import Connections
from raven.grpc.control import ControlService, Feeds
from raven.grpc.history import HistoricalData
from raven.grpc.limits import ConnectionLimits
from raven.grpc.listener import Listener
from raven.grpc.services import MarketDataService, Observer, observed
from raven.grpc.stream import ClientStreams, StreamSettings
from raven.grpc.subscribing import encode_control
from raven.grpc.turns import hasten

__all__ = ["GrpcConfig", "GrpcServer"]

log = structlog.stdlib.get_logger("raven.grpc")

DRAINED = Ended("DRAINED", "the server is shutting down", "OK")

DRAIN_SPREAD_PART, DRAIN_SPREAD_MAX_S = 0.25, 2.0
"""Clients are asked to come back spread over this part of the time that they may take to leave, and at most so long."""

CLOSE_WAIT_S = 2.0
"""How long calls may take to end once the server closes."""


@attrs.frozen
class GrpcConfig:
    """How clients are served.

    Args:
        heartbeat_s: between two heartbeats of a stream.
        streams_per_s: how fast new streams are let in; a crowd waits in line.
        stall_s: a client for which something waits and that takes nothing for so long is ended.
        reflection: whether the server tells its own .proto.
        limits: of connections.
        tls: certificate and key (raven.grpc.tls); None = plain.
    """

    heartbeat_s: float = 5.0
    stall_s: float = 30.0
    streams_per_s: float = 1000.0
    reflection: bool = True
    limits: ConnectionLimits = attrs.field(factory=ConnectionLimits)
    tls: ssl.SSLContext | None = None


class ServerObserver(Observer, Protocol):
    """Who counts calls and connections (raven.instruments.Instruments)."""

    def connection_ended(self, reason: str) -> None:
        """A connection has ended, or was refused, for one of a few fixed reasons."""


class GrpcServer:
    """Serves one broker to gRPC clients.

    Args:
        broker: what is served.
        feeds: what operators start and stop.
        observer: who counts calls and connections.
        on_connections: called with the number of open connections when it changes.
        now_ns: wall clock.

    Attributes:
        historical: answers GetHistoricalData, once its `history` is set.
    """

    def __init__(
        self,
        broker: Broker,
        feeds: Feeds,
        config: GrpcConfig,
        observer: ServerObserver,
        *,
        on_connections: Callable[[int], object] = lambda _count: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._broker = broker
        self._feeds = feeds
        self._config = config
        self._observer = observer
        self._now_ns = now_ns
        self.historical = HistoricalData(now_ns)
        self._connections = Connections(observer, on_connections)
        self._random = random.Random()
        self._serving = ServiceStatus()
        self._serving.set(False)
        self.instance_id = secrets.token_hex(4)
        settings = StreamSettings(self.instance_id, __version__, config.heartbeat_s, config.streams_per_s, now_ns)
        self._streams = ClientStreams(broker, settings)
        self._drain_requested = trio.Event()
        self._drain_s = 0.0

    async def run(self, sock: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a bound socket until cancelled. Reports started when clients can connect."""
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(self._on_loop_error)
            hasten(loop)
            config = self._config
            server = Listener(self._services(), self._connections, self._observer, config.limits, config.tls)
            self._serving.set(True)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heartbeats)
                    nursery.start_soon(self._connections.watch, config.limits, config.stall_s)
                    nursery.start_soon(server.serve, sock)
                    task_status.started()
            finally:
                await self._close(server)

    async def drain(self, deadline_s: float) -> None:
        """Ask all clients to go, and wait until the last has gone, at most `deadline_s` seconds; then end those that stay.

        Feeds run on meanwhile, and so do the streams; new ones are refused. A client that knows no Draining is told by its
        connection's GOAWAY that no further call is taken here.
        """
        self._serving.set(False)
        self._streams.draining = True
        for client in self._broker.clients:
            self._ask_to_go(client, deadline_s)
        for connection in self._connections:
            connection.announce_goaway()
        with trio.move_on_after(deadline_s):
            await self._broker.clients.wait_no_clients()
        for client in self._broker.clients:
            client.end(DRAINED)

    def _ask_to_go(self, client: Client, deadline_s: float) -> None:
        if not client.controls:  # it cannot be asked to go: its stream ends now, and it comes back elsewhere
            client.end(DRAINED)
            return
        spread_s = min(deadline_s * DRAIN_SPREAD_PART, DRAIN_SPREAD_MAX_S)
        retry_after_ms = round(self._random.uniform(0, spread_s) * 1000)
        draining = v1.Draining(DRAINED.text, round(deadline_s * 1000), self._broker.clients.bookmark(), retry_after_ms)
        client.outbox.put_control(encode_control(draining=draining))
        client.outbox.flush()

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def budgets_lowest(self) -> dict[str, float]:
        """Of each budget (raven.grpc.budgets) the smallest share that any connection ever had left; 1.0 = never spent from."""
        return self._connections.budgets_lowest()

    async def wait_drain_requested(self) -> float:
        """Wait until an operator asks this server to drain; the seconds that clients get, 0 = as configured."""
        await self._drain_requested.wait()
        return self._drain_s

    def _request_drain(self, deadline_s: float) -> None:
        self._drain_s = deadline_s
        self._drain_requested.set()

    # ---- clients

    async def _heartbeats(self) -> None:
        """Every client its heartbeat on a fixed cadence, and the end of those that take nothing."""
        check = ProgressCheck(self._config.stall_s)
        while True:
            await trio.sleep(self._config.heartbeat_s)
            message = encode_control(heartbeat=v1.Heartbeat(self._now_ns(), bookmark=self._broker.clients.bookmark()))
            for client in check.stalled(self._broker.clients, trio.current_time()):
                self._broker.clients.end_stalled(client, self._config.stall_s)
            for client in self._broker.clients:
                if client.controls:
                    client.outbox.put_control(message)
                    client.outbox.flush()

    # ---- grpclib

    def _services(self) -> dict[str, Handler]:
        market_data = MarketDataService(self._broker, self._streams, self.historical)
        control = ControlService(self._feeds, self._broker.clients, self._request_drain, self.instance_id)
        health = Health({OVERALL: [self._serving], market_data: [self._serving], control: [self._serving]})
        mapping = observed({**market_data.__mapping__(), **control.__mapping__()}, self._observer)
        services: list[Any] = [health]
        if self._config.reflection:
            _register_descriptors()
            services = ServerReflection.extend([market_data, control, health])[2:]
        for service in services:
            mapping.update(service.__mapping__())
        return mapping

    def _on_loop_error(self, _loop: object, context: dict[str, Any]) -> None:
        """What leaves a callback of asyncio; without this it would end the process."""
        error = context.get("exception")
        self._observer.error("asyncio", type(error).__name__)
        log.error("an asyncio callback failed", message=context.get("message"), exc_info=error)

    async def _close(self, server: Listener) -> None:
        self._serving.set(False)
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_WAIT_S):
            server.close()
            for protocol in self._connections:
                protocol.say_goaway()
            await trio_asyncio.aio_as_trio(server.wait_closed)()
        for protocol in self._connections:
            protocol.abort()
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_WAIT_S):
            await self._connections.wait_empty()


@cache
def _register_descriptors() -> None:
    """Put raven.proto into protobuf's pool, where reflection looks."""
    pool = descriptor_pool.Default()
    data = files("raven.codec.generated").joinpath("raven.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
