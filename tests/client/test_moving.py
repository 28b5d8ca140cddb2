"""A server that drains, over real sockets: the client makes its next stream, through a balancer at another one, then leaves."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry

from raven.adapter import Established
from raven.adapter.batch import Batch
from raven.client import Connected, Event, Lost, Moving, Reconnect
from raven.feed.limits import FeedLimits
from raven.grpc import GrpcConfig, GrpcServer
from raven.instruments import Instruments
from raven.supervisor import Supervisor, SupervisorConfig
from tests.client.balancer import Balancer, balancing
from tests.client.history import faults
from tests.client.shells import SHELLS, in_server
from tests.client.test_shells import read
from tests.grpc.serving import Serving, serving
from tests.grpc.test_stream import TOPICS, TRADE, trades

PACE_S = 0.002
"""Between two trades: the market goes on while the client moves."""

DEADLINE_S = 5.0
"""Longer than the test: who leaves has not been thrown out."""


@pytest.fixture(params=["trio", "asyncio"])
def shell(request: pytest.FixtureRequest) -> Any:
    """Runs a program that is given `connect`."""
    return SHELLS[request.param]


@asynccontextmanager
async def another(first: Serving) -> AsyncIterator[tuple[GrpcServer, int]]:
    """A second server of the same group: it has the same topics, ring and bookmarks."""
    instruments = Instruments(CollectorRegistry())
    batches, _ = trio.open_memory_channel[Batch](0)
    supervisor = Supervisor([], batches, random=Random(), config=SupervisorConfig(), limits=FeedLimits())
    server = GrpcServer(first.broker, supervisor, GrpcConfig(), instruments)
    sock = socket.create_server(("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, sock)
        yield server, sock.getsockname()[1]
        nursery.cancel_scope.cancel()


async def market(server: Serving) -> None:
    """Trades, one after the other."""
    number = 1
    server.publish(Established([TRADE]))
    while True:
        server.publish(*trades(number, number))
        number += 1
        await trio.sleep(PACE_S)


def recording(port: int, instances: list[str], changes: list[Any], begun: trio.Event) -> Any:
    """A program that reads until the second of `instances` has it, and 50 events more. `begun` is set when it has one event."""
    token = trio.lowlevel.current_trio_token()

    async def program(connect: Any) -> list[Any]:
        async with connect(f"127.0.0.1:{port}", reconnect=Reconnect(base_s=0.02, cap_s=0.05)) as client:
            stream = client.stream("sim/BTC-USDT", client_id="me", on_change=changes.append)
            record = await read(stream, 1)
            in_server(token, begun.set)
            while [change.instance_id for change in changes if isinstance(change, Connected)] != instances:
                record += await read(stream, 1)
            return record + await read(stream, 50)

    return program


async def test_the_next_stream_stands_before_the_old_one_is_left(shell: Any) -> None:
    changes: list[Any] = []
    record: list[Any] = []
    begun = trio.Event()
    async with serving(TOPICS) as first, another(first) as (second, port), balancing(first.port) as balancer:
        instances = [first.server.instance_id, second.instance_id]

        async def run() -> None:
            record.extend(await shell(recording(balancer.port, instances, changes, begun)))
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(market, first)
            nursery.start_soon(run)
            await begun.wait()
            balancer.backend = port
            nursery.start_soon(first.server.drain, DEADLINE_S)
    assert [type(change).__name__ for change in changes] == ["Connected", "Subscribed", "Moving", "Connected", "Subscribed"]
    assert faults(record) == []
    assert {type(event) for event in record} == {Event}
    assert [event.sequence for event in record] == list(range(record[0].sequence, record[0].sequence + len(record)))


async def test_where_no_other_server_is_the_old_stream_is_read_to_its_end(shell: Any) -> None:
    changes: list[Any] = []
    record: list[Any] = []
    begun = trio.Event()
    async with serving(TOPICS) as first, another(first) as (second, port), balancing(first.port) as balancer:
        instances = [first.server.instance_id, second.instance_id]

        async def run() -> None:
            record.extend(await shell(recording(balancer.port, instances, changes, begun)))
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(market, first)
            nursery.start_soon(run)
            await begun.wait()
            nursery.start_soon(drained, first, balancer, port)
    told = [type(change) for change in changes]
    assert told[2] is Moving
    assert Lost in told
    assert next(change.reason for change in changes if isinstance(change, Lost)).endswith("the server is shutting down")
    assert faults(record) == []
    assert {type(event) for event in record} == {Event}


async def drained(first: Serving, balancer: Balancer, then: int) -> None:
    """The only server there is drains, and has ended its clients before there is another."""
    before = balancer.connections
    await first.server.drain(0.7)
    assert balancer.connections > before  # it has tried
    balancer.backend = then
