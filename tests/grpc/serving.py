"""A broker behind a real gRPC server on a real socket, and a grpcio client in worker threads: nothing of ours on that side but
the messages."""

from __future__ import annotations

import queue
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import attrs
import grpc
import trio
from prometheus_client import CollectorRegistry

from raven.adapter.batch import Batch, BatchItem, Carry
from raven.broker import Broker, BrokerLimits
from raven.codec.generated.raven import v1
from raven.feed.limits import FeedLimits
from raven.grpc import GrpcConfig, GrpcServer
from raven.instruments import Instruments
from raven.model.topic import Topic
from raven.supervisor import Supervisor, SupervisorConfig

T = TypeVar("T")
SERVICE = "/raven.v1.MarketDataService/"
ANSWER_S = 10.0


@attrs.define
class Serving:
    """A running server."""

    broker: Broker
    server: GrpcServer
    registry: CollectorRegistry
    port: int

    def publish(self, *items: BatchItem, feed: str = "sim") -> None:
        self.broker.publish(Batch(feed, list(items)))
        self.broker.flush()

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Peer]:
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        try:
            yield Peer(channel)
        finally:
            await trio.to_thread.run_sync(channel.close)


@asynccontextmanager
async def serving(
    topics: Sequence[Topic], limits: BrokerLimits | None = None, config: GrpcConfig | None = None, *, book_top: bool = False
) -> AsyncIterator[Serving]:
    broker = Broker(limits or BrokerLimits(), book_top_feeds=["sim"] if book_top else [])
    broker.publish(Batch("sim", [Carry(topics)]))
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    batches, _ = trio.open_memory_channel[Batch](0)
    supervisor = Supervisor([], batches, random=Random(), config=SupervisorConfig(), limits=FeedLimits())
    server = GrpcServer(
        broker, supervisor, config or GrpcConfig(), instruments, on_connections=instruments.active_connections.set
    )
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, sock)
        yield Serving(broker, server, registry, port)
        nursery.cancel_scope.cancel()


class Peer:
    """grpcio, a call at a time."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    async def unary(self, method: str, request: Any, answer: type[T], service: str = SERVICE) -> T:
        call = self.channel.unary_unary(
            service + method,
            request_serializer=bytes,
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        return await trio.to_thread.run_sync(lambda: call(request, timeout=ANSWER_S))

    async def server_stream(self, method: str, request: Any, answer: type[T]) -> list[T]:
        """All answers of a call that ends by itself."""
        call = self.channel.unary_stream(
            SERVICE + method,
            request_serializer=bytes,
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        return await trio.to_thread.run_sync(lambda: list(call(request, timeout=ANSWER_S)))

    def watch(self, *subscriptions: v1.Subscription) -> Call:
        call = self.channel.unary_stream(
            SERVICE + "WatchMarketData", request_serializer=bytes, response_deserializer=v1.WatchMarketDataResponse.FromString
        )
        return Call(call(v1.WatchMarketDataRequest(list(subscriptions)), timeout=60), None)

    def stream(self) -> Call:
        requests: queue.SimpleQueue[v1.StreamMarketDataRequest | None] = queue.SimpleQueue()
        call = self.channel.stream_stream(
            SERVICE + "StreamMarketData", request_serializer=bytes, response_deserializer=v1.StreamMarketDataResponse.FromString
        )
        return Call(call(iter(requests.get, None), timeout=60), requests)


class Call:
    """One streaming call."""

    def __init__(self, call: Any, requests: queue.SimpleQueue[Any] | None) -> None:
        self._call = call
        self._requests = requests

    def send(self, **request: Any) -> None:
        assert self._requests is not None
        self._requests.put(v1.StreamMarketDataRequest(**request))

    def half_close(self) -> None:
        assert self._requests is not None
        self._requests.put(None)

    async def receive(self) -> Any:
        """The next message; raises grpc.RpcError when the call has failed, StopAsyncIteration when it has ended."""
        with trio.fail_after(ANSWER_S):
            message = await trio.to_thread.run_sync(next, self._call, None, abandon_on_cancel=True)
        if message is None:
            raise StopAsyncIteration
        return message

    async def receive_control(self, name: str) -> Any:
        """The next message that has this control."""
        while True:
            control = getattr(await self.receive(), name)
            if control is not None:
                return control

    async def receive_events(self, count: int) -> list[v1.MarketEvent]:
        """The next events, at least so many; controls between them are passed over."""
        events: list[v1.MarketEvent] = []
        while len(events) < count:
            events.extend((await self.receive()).events)
        return events

    async def outcome(self) -> tuple[str, str]:
        """Read to the end: status and message."""
        try:
            while True:
                await self.receive()
        except (grpc.RpcError, StopAsyncIteration):
            pass
        code = await trio.to_thread.run_sync(self._call.code)
        return code.name, self._call.details()

    def cancel(self) -> None:
        self._call.cancel()
        if self._requests is not None:
            self._requests.put(None)


def subscription(where: str, *kinds: v1.Kind, **fields: Any) -> v1.Subscription:
    venue, _, symbol = where.partition("/")
    variant = fields.pop("variant", "")
    return v1.Subscription(selector=v1.TopicSelector(venue, symbol, list(kinds), variant), **fields)


def numbers(start: int = 1) -> Iterator[int]:
    while True:
        yield start
        start += 1
