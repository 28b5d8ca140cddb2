"""Clients that read slowly, drop by drop or not at all, over real sockets: what they cost, and that others never feel them.

Named by the rows of docs/faults that they are about.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings

from raven.adapter import Established, Event
from raven.broker import BrokerLimits, OutboxLimits
from raven.codec.generated.raven import v1
from raven.grpc import GrpcConfig
from raven.model.events import BookDelta, BookSnapshot, Quote, Trade
from raven.model.topic import Kind, Topic
from tests.grpc.serving import SERVICE, Serving, serving, subscription

pytestmark = pytest.mark.usefixtures("twins")

REPEATS = int(os.environ.get("TORTURE_REPEATS", "50"))
TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
QUOTE = Topic("sim", "BTC-USDT", Kind.QUOTE)
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)
TOPICS = (TRADE, QUOTE, BOOK)
QUICK = GrpcConfig(heartbeat_s=0.05, stall_s=0.4)
PATIENCE_S = 10.0


class Sloth:
    """A client of one stream that reads and opens its windows only when it is told to."""

    def __init__(self, stream: trio.SocketStream, initial_window: int) -> None:
        self.socket = stream
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: initial_window})
        self.h2.initiate_connection()
        self.data = bytearray()
        self.status: str | None = None
        self.over = self.closed = False

    async def begin(self, *subscriptions: v1.Subscription) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", SERVICE + "StreamMarketData"),
            (":authority", "x"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        self.h2.send_headers(1, headers)
        self.say(hello=v1.Hello(client_id="sloth"))
        if subscriptions:
            self.say(subscribe=v1.SubscribeRequest(subscriptions=list(subscriptions)))
        await self.flush()

    def say(self, **request: Any) -> None:
        message = bytes(v1.StreamMarketDataRequest(**request))
        self.h2.send_data(1, b"\0" + len(message).to_bytes(4, "big") + message)

    async def flush(self) -> None:
        await self.socket.send_all(self.h2.data_to_send())

    async def read(self, *, room: bool = True) -> None:
        """What the socket has, once; without `room` its windows stay as they are."""
        try:
            data = await self.socket.receive_some(65_536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.over = self.closed = True
            return
        taken = 0
        for event in self.h2.receive_data(data):
            if isinstance(event, DataReceived):
                self.data += event.data or b""
                taken += event.flow_controlled_length or 0
            elif isinstance(event, TrailersReceived):
                self.status = dict(event.headers or ()).get("grpc-status")  # type: ignore[arg-type]
            elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                self.over = True
        if not self.over:
            await (self.open(taken) if room and taken else self.flush())

    async def read_until(self, condition: Callable[[], object], *, room: bool = True) -> None:
        with trio.fail_after(PATIENCE_S):
            while not condition():
                assert not self.closed, "the connection ended"
                await self.read(room=room)

    async def open(self, size: int) -> None:
        self.h2.increment_flow_control_window(size)
        self.h2.increment_flow_control_window(size, 1)
        await self.flush()

    def messages(self) -> list[v1.StreamMarketDataResponse]:
        found, at = [], 0
        while len(self.data) >= at + 5:
            (size,) = struct.unpack_from(">xL", self.data, at)
            if len(self.data) < at + 5 + size:
                break
            found.append(v1.StreamMarketDataResponse.parse(bytes(self.data[at + 5 : at + 5 + size])))
            at += 5 + size
        return found

    def events(self) -> list[v1.MarketEvent]:
        return [event for message in self.messages() for event in message.events]


@asynccontextmanager
async def sloth(raven: Serving, *subscriptions: v1.Subscription, window: int = 65_535) -> AsyncIterator[Sloth]:
    """A client with a small receive buffer, so that little is enough to fill its socket."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", raven.port))
    async with trio.SocketStream(sock) as stream:
        client = Sloth(stream, window)
        await client.begin(*subscriptions)
        yield client


async def until(condition: Callable[[], object]) -> None:
    """Wait for what the server does by itself; each turn lets every task run."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  the server tells nobody when it has noticed
            await trio.sleep(0.005)


def trade(number: int, size: int = 1) -> Event:
    return Event(TRADE, Trade(100.0, 1.0, 1, str(number).zfill(size)), number, number)


async def attached(raven: Serving, topics: int = 1) -> Any:
    await until(lambda: any(len(client.topics) == topics for client in raven.broker.clients))
    return next(iter(raven.broker.clients))


async def test_fault_11_a_client_that_stops_reading_is_ended_its_memory_is_bounded_and_its_connection_goes() -> None:
    limits = BrokerLimits(OutboxLimits(bytes_max=256 * 1024))
    async with (
        serving(TOPICS, limits, QUICK) as raven,
        sloth(raven, subscription("sim/*", v1.Kind.TRADE), window=2**31 - 1) as client,
    ):
        client.h2.increment_flow_control_window(2**31 - 2**17)
        await client.flush()
        held = await attached(raven)
        raven.publish(Established([TRADE]))
        most = 0
        with trio.fail_after(PATIENCE_S):
            for number in range(10**9):
                raven.publish(*(trade(number, 90) for _ in range(50)))
                most = max(most, held.outbox.bytes_queued + held.outbox.writer.bytes_waiting)
                if raven.broker.statistics().slow_consumers:
                    break
                await trio.lowlevel.checkpoint()
        assert most < 256 * 1024 + 3 * 64 * 1024  # its limit, what the transport holds, one message
        await until(lambda: raven.server.connections == 0)
        assert raven.metric("grpc_active_connections") == 0


async def test_fault_11_with_a_window_that_is_shut_it_is_told_why() -> None:
    limits = BrokerLimits(OutboxLimits(events_max=100))
    async with serving(TOPICS, limits) as raven, sloth(raven, subscription("sim/*", v1.Kind.TRADE)) as client:
        await attached(raven)
        raven.publish(Established([TRADE]))
        while not raven.broker.statistics().slow_consumers:
            raven.publish(*(trade(1, 90) for _ in range(20)))
        await client.read_until(lambda: client.over)
        goodbye = client.messages()[-1].goodbye
        assert goodbye is not None
        assert (goodbye.reason, goodbye.reconnect) == (v1.GoodbyeReason.SLOW_CONSUMER, True)
        assert "the limit is 100" in goodbye.text
        assert client.status == "8"


async def test_fault_12_one_byte_at_a_time_is_no_reading() -> None:
    async with serving(TOPICS, config=QUICK) as raven, sloth(raven, subscription("sim/*", v1.Kind.TRADE), window=100) as client:
        await attached(raven)
        raven.publish(Established([TRADE]), *(trade(number) for number in range(1000)))
        taken = 0
        with trio.fail_after(PATIENCE_S):
            while not raven.broker.statistics().slow_consumers:
                await client.open(1)
                taken += 1
                await trio.sleep(0.01)
        assert taken >= 30  # it was not the shut window that ended it


async def test_bad_input_11_a_window_that_never_opens_counts_as_stalled() -> None:
    async with serving(TOPICS, config=QUICK) as raven, sloth(raven, window=0) as client:
        await until(lambda: raven.broker.statistics().slow_consumers == 1)
        await client.read_until(lambda: client.over)
        assert client.data == b""
        assert client.status == "8"


async def test_the_warning_stands_in_front_of_what_waits_and_its_end_is_told() -> None:
    limits = BrokerLimits(OutboxLimits(events_max=1000))
    async with serving(TOPICS, limits) as raven, sloth(raven, subscription("sim/*", v1.Kind.TRADE)) as client:
        await attached(raven)
        raven.publish(Established([TRADE]))
        sent = 0
        (held,) = raven.broker.clients
        while len(held.outbox) < 800:
            raven.publish(*(trade(1, 90) for _ in range(20)))
            sent += 20
        await client.read_until(lambda: sum(1 for event in client.events() if event.trade) == sent)
        await client.read_until(lambda: sum(1 for message in client.messages() if message.slow_warning) == 2)
        warned, cleared = (message.slow_warning for message in client.messages() if message.slow_warning)
        assert warned is not None
        assert cleared is not None
        assert not warned.cleared
        assert 0.74 < warned.queued_bytes / warned.limit_bytes < 0.8
        assert cleared.cleared
        behind = [message for message in client.messages() if message.events or message.slow_warning]
        position = next(index for index, message in enumerate(behind) if message.slow_warning)
        assert sum(len(message.events) for message in behind[position:]) >= 700


async def test_quotes_and_books_are_conflated_for_the_slow_one_and_not_for_the_others() -> None:
    async with (
        serving(TOPICS) as raven,
        sloth(raven, subscription("sim/*", v1.Kind.QUOTE, v1.Kind.BOOK), window=2_000) as client,
        raven.client() as other,
    ):
        await attached(raven, 2)
        fine = other.stream()
        fine.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/*", v1.Kind.QUOTE, v1.Kind.BOOK)]))
        await fine.receive_control("subscribed")
        await fine.receive_events(2)
        raven.publish(Established([QUOTE]), Event(BOOK, BookSnapshot([1.0], [1.0], [2.0], [1.0], 1), 1))
        await fine.receive_events(3)
        for number in range(1, 501):
            raven.publish(
                Event(QUOTE, Quote(float(number), 1.0, number + 1.0, 1.0), 1),
                Event(BOOK, BookDelta([1.0], [float(number)], [], []), 1),
            )
            assert not any(event.first_sequence for event in await fine.receive_events(2))
        assert not raven.broker.statistics().slow_consumers
        await client.read_until(lambda: any(e.quote and e.quote.bid_price == 500.0 for e in client.events()))
        await client.read_until(
            lambda: any(
                (e.book_snapshot and e.book_snapshot.bid_size == [500.0]) or (e.book_delta and e.book_delta.bid_size == [500.0])
                for e in client.events()
            )
        )
        for kind in (v1.Kind.QUOTE, v1.Kind.BOOK):
            events = [e for e in client.events() if e.topic and e.topic.kind == kind and not e.flags]
            spans = [(e.first_sequence or e.sequence, e.sequence) for e in events]
            assert all(after[0] == before[1] + 1 for before, after in pairwise(spans)), spans
            assert len(events) < 100


async def test_fault_15_cancelling_in_the_middle_of_an_image_leaves_nothing_behind() -> None:
    levels = [float(n) for n in range(1, 20_001)]
    async with serving(TOPICS) as raven:
        raven.publish(Event(BOOK, BookSnapshot([], [], levels, levels), 1))
        tasks = None
        for _ in range(REPEATS):
            async with sloth(raven, subscription("sim/*", v1.Kind.BOOK)) as client:
                await client.read_until(lambda: len(client.data) > 20_000, room=False)
                client.h2.reset_stream(1)
                await client.flush()
                await until(lambda: not len(raven.broker.clients))
            await until(lambda: raven.server.connections == 0)
            left = trio.lowlevel.current_statistics().tasks_living
            tasks = tasks or left
            assert left <= tasks
        assert all(state.subscribers == 0 for state in raven.broker.directory.views(()) or ())
        state = raven.broker.directory.find(BOOK)
        assert state is not None
        assert (state.subscribers, state.audiences, state.paced) == (0, {}, {})


async def test_fault_16_the_last_of_many_commands_wins_and_nothing_comes_after_removed() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        raven.publish(Established([TRADE]))
        wanted = subscription("sim/BTC-USDT", v1.Kind.TRADE, id="s", skip_image=True)
        for number in range(200):
            call.send(subscribe=v1.SubscribeRequest(subscriptions=[wanted]))
            call.send(unsubscribe=v1.UnsubscribeRequest(ids=["s"], request_id=number))
            raven.publish(trade(number))
        removed = 0
        between = False
        while removed < 200:
            raven.publish(trade(1000 + removed))
            message = await call.receive()
            if message.subscribed:
                between = True
            elif message.unsubscribed:
                removed, between = message.unsubscribed.request_id + 1, False
            elif message.events:
                assert between, "an event came after its topic was removed"
        state = raven.broker.directory.find(TRADE)
        assert state is not None
        assert (state.subscribers, state.audiences) == (0, {})


async def test_a_client_that_does_not_read_its_answers_is_ended_by_its_controls() -> None:
    limits = BrokerLimits(OutboxLimits(control_bytes_max=2048))
    async with serving(TOPICS, limits) as raven, sloth(raven, window=0) as client:
        for number in range(200):
            client.say(ping=v1.Ping(id=number + 1))
        await client.flush()
        await until(lambda: raven.broker.statistics().slow_consumers or not len(raven.broker.clients))
        await client.read_until(lambda: client.over)
        assert client.status == "8"
