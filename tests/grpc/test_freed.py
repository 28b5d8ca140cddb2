"""What a client made is free when it has gone, without the garbage collector: of thousands that leave at once that matters."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio_asyncio

from raven.adapter import Established
from raven.broker import Client, Outbox
from raven.codec.generated.raven import v1
from raven.grpc.calls import Call, Calls
from raven.grpc.history import in_trio
from raven.grpc.http2 import ServerConnection
from raven.grpc.protocol import RavenProtocol
from raven.grpc.writer import StreamWriter
from tests.grpc.raw_calls import framed
from tests.grpc.serving import serving
from tests.grpc.strangers.settling import gone, until
from tests.grpc.strangers.stranger import DATA, HEADERS, TRADE, frame, guest

pytestmark = pytest.mark.usefixtures("twins")

STREAM = "/raven.v1.MarketDataService/StreamMarketData"
KINDS = (RavenProtocol, ServerConnection, Calls, Call, Client, Outbox, StreamWriter)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def of_kinds() -> list[weakref.ref[object]]:
    return [weakref.ref(one) for one in gc.get_objects() if type(one) in KINDS and hasattr(type(one), "__weakref__")]


@pytest.mark.usefixtures("no_collector")
async def test_a_client_that_has_gone_leaves_nothing() -> None:
    hello = v1.StreamMarketDataRequest(hello=v1.Hello(client_id="one"))
    selector = v1.TopicSelector("sim", "*", [v1.Kind.TRADE])
    wanted = v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest(subscriptions=[v1.Subscription(selector=selector)]))
    async with serving([TRADE]) as raven:
        raven.publish(Established([TRADE]))
        async with guest(raven.port) as one:
            await one.send(one.call(1, STREAM), frame(DATA, 0, 1, framed(bytes(hello)) + framed(bytes(wanted))))
            await one.read_until(HEADERS, 1)
            await until(lambda: any(client.topics for client in raven.broker.clients))
            made = of_kinds()
            assert {type(ref()) for ref in made} >= {RavenProtocol, ServerConnection, Calls, Call, Client}
        await gone(raven)
        await until(lambda: not len(raven.broker.clients))
        await until(lambda: all(ref() is None for ref in made))


class Piece:
    """Of history, say."""


@pytest.mark.usefixtures("no_collector")
async def test_what_comes_from_trio_is_free_when_it_is_let_go() -> None:
    made: list[weakref.ref[Piece]] = []

    async def make() -> Piece:
        await trio.lowlevel.checkpoint()
        piece = Piece()
        made.append(weakref.ref(piece))
        return piece

    async def ask() -> None:
        for _ in range(3):
            assert isinstance(await in_trio(make), Piece)

    async with trio_asyncio.open_loop():
        await trio_asyncio.aio_as_trio(ask)()
        assert [ref() for ref in made] == [None] * 3
