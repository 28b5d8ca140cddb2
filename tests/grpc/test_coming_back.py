"""Leaving and coming back over real sockets: bookmarks, takeover, draining, and what operators do about clients."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import trio

from raven.adapter import Established, Event
from raven.broker import BrokerLimits, OutboxLimits
from raven.codec.generated.raven import v1
from raven.grpc import GrpcConfig
from raven.model.events import Flag, Trade
from raven.model.topic import Kind, Topic
from tests.grpc.serving import Call, Serving, serving, subscription
from tests.grpc.strangers.stranger import (
    DATA,
    EMPTY_MESSAGE,
    END_STREAM,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    STREAM,
    frame,
    guest,
    reset,
)

CONTROL = "/raven.v1.ControlService/"
TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
ETH = Topic("sim", "ETH-USDT", Kind.TRADE)
TOPICS = (TRADE, ETH)
LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)
ALL = subscription("sim/*", v1.Kind.TRADE, id="all")


def trades(first: int, last: int, topic: Topic = TRADE) -> list[Event]:
    return [Event(topic, Trade(100.0, 1.0, 1, str(number)), number, number) for number in range(first, last + 1)]


async def begun(call: Call, *subscriptions: v1.Subscription, **hello: Any) -> Any:
    """Say hello and subscribe; the answer."""
    call.send(hello=v1.Hello(**hello))
    call.send(subscribe=v1.SubscribeRequest(subscriptions=list(subscriptions)))
    return (await call.receive_control("subscribed")).results


async def left(raven: Serving, call: Call) -> None:
    call.cancel()
    with trio.fail_after(10):
        await raven.broker.clients.wait_no_clients()


async def test_a_heartbeat_s_bookmark_continues_a_subscription_without_gap_or_double() -> None:
    async with serving(TOPICS, config=GrpcConfig(heartbeat_s=0.05)) as raven, raven.client() as client:
        raven.publish(Established(TOPICS))
        first = client.stream()
        await begun(first, ALL, client_id="me")
        raven.publish(*trades(1, 5))
        seen = [e.sequence for e in await first.receive_events(7) if e.trade and not e.flags]
        bookmark = (await first.receive_control("heartbeat")).bookmark
        await left(raven, first)
        raven.publish(*trades(6, 9), *trades(1, 2, ETH))
        again = client.stream()
        (result,) = await begun(again, v1.Subscription(ALL.selector, id="all", bookmark=bookmark), client_id="me")
        raven.publish(*trades(10, 10))
        events = await again.receive_events(9)
        assert result.recovered
        assert not any(event.flags & IMAGE for event in events)
        seen += [e.sequence for e in events if e.topic.symbol == "BTC-USDT" and not e.flags]
        assert seen == list(range(2, 12))
        assert [e.sequence for e in events if e.topic.symbol == "ETH-USDT" and not e.flags] == [2, 3]


async def test_hello_restores_and_continues_all_subscriptions_behind_a_bookmark() -> None:
    async with serving(TOPICS, config=GrpcConfig(heartbeat_s=0.05)) as raven, raven.client() as client:
        raven.publish(Established(TOPICS))
        first = client.stream()
        one, two = subscription("sim/BTC-USDT", v1.Kind.TRADE), subscription("sim/ETH-USDT", v1.Kind.TRADE)
        await begun(first, one, two, client_id="me")
        bookmark = (await first.receive_control("heartbeat")).bookmark
        await left(raven, first)
        raven.publish(*trades(1, 3), *trades(1, 3, ETH))
        again = client.stream()
        again.send(hello=v1.Hello("me", restore=True, bookmark=bookmark))
        assert len((await again.receive_control("welcome")).restored) == 2
        events = await again.receive_events(8)
        for symbol in ("BTC-USDT", "ETH-USDT"):
            assert [e.sequence for e in events if e.topic.symbol == symbol and not e.flags] == [2, 3, 4]


async def test_fault_19_what_is_gone_is_a_gap_and_the_latest_state() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        raven.publish(Established(TOPICS), *trades(1, 1))
        state = raven.broker.directory.find(TRADE)
        assert state is not None
        call = client.stream()
        point = v1.ResumePoint(v1.Topic("sim", "BTC-USDT", v1.Kind.TRADE), state.epoch - 1, 5)
        (result,) = await begun(call, v1.Subscription(subscription("sim/BTC-USDT", v1.Kind.TRADE).selector, resume=[point]))
        assert not result.recovered
        events = await call.receive_events(3)
        assert [event.flags for event in events] == [LOCAL, LOCAL, IMAGE]
        assert events[1].gap is not None
        assert (events[1].gap.cause, events[1].gap.epoch, events[1].gap.first_sequence) == (
            v1.GapCause.RESUME_TOO_OLD,
            state.epoch - 1,
            6,
        )


async def test_the_goodbye_of_a_slow_client_has_a_bookmark_in_front_of_what_it_missed() -> None:
    limits = BrokerLimits(OutboxLimits(events_max=500))
    async with serving(TOPICS, limits) as raven, raven.client() as client:
        raven.publish(Established(TOPICS))
        slow = client.stream()
        await begun(slow, ALL, client_id="me")
        number = 0
        while not raven.broker.statistics().slow_consumers:
            raven.publish(*(Event(TRADE, Trade(1.0, 1.0, 1, "x" * 90), 5, 4) for _ in range(200)))
            number += 200
        got: list[int] = []
        goodbye = None
        while goodbye is None:
            message = await slow.receive()
            got += [e.sequence for e in message.events if e.topic.symbol == "BTC-USDT" and not e.flags]
            goodbye = message.goodbye
        assert (await slow.outcome())[0] == "RESOURCE_EXHAUSTED"
        again = client.stream()
        (result,) = await begun(again, v1.Subscription(ALL.selector, bookmark=goodbye.bookmark), client_id="me")
        assert result.recovered
        while not got or got[-1] < number + 1:
            came = [e.sequence for e in (await again.receive()).events if e.topic.symbol == "BTC-USDT" and not e.flags]
            got += [sequence for sequence in came if not got or sequence > got[-1]]
        assert got == list(range(2, number + 2)) or got == list(range(1, number + 2))


class TestDraining:
    async def test_clients_are_told_where_to_continue_and_new_streams_are_refused(self) -> None:
        async with serving(TOPICS) as raven, raven.client() as client, trio.open_nursery() as nursery:
            raven.publish(Established(TOPICS), *trades(1, 3))
            call = client.stream()
            await begun(call, ALL)
            nursery.start_soon(raven.server.drain, 5.0)
            draining = await call.receive_control("draining")
            assert 0 < draining.deadline_ms <= 5000
            assert 0 <= draining.retry_after_ms <= 1250
            assert draining.bookmark == raven.broker.clients.bookmark()
            raven.publish(*trades(4, 4))  # data goes on
            assert (await call.receive_events(1))[0].sequence == 5
            async with raven.client() as late:
                with pytest.raises(grpc.RpcError, match="shutting down") as caught:
                    await late.stream().receive()
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            call.half_close()
            call.cancel()

    async def test_fault_20_a_connection_hears_goaway_twice(self) -> None:
        """First that the next calls are wanted elsewhere, while those that run go on; at the end which ones were taken."""
        async with AsyncExitStack() as running, AsyncExitStack() as connected:
            raven = await running.enter_async_context(serving(TOPICS))
            one = await connected.enter_async_context(guest(raven.port))
            await one.send(one.call(1, STREAM))
            await one.read_until(HEADERS, 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(raven.server.drain, 60.0)
                await one.read_until(GOAWAY)
                await one.send(one.call(3), frame(DATA, END_STREAM, 3, EMPTY_MESSAGE))
                await one.read_until(HEADERS, 3, END_STREAM)
                await one.send(reset(1))  # the last client leaves
            await running.aclose()
            await one.read_to_end()
        said = [(found.payload[:4], found.payload[4:8]) for found in one.frames if found.type == GOAWAY]
        no_error = NO_ERROR.to_bytes(4, "big")
        assert said == [((2**31 - 1).to_bytes(4, "big"), no_error), ((3).to_bytes(4, "big"), no_error)]

    async def test_an_operator_asks_for_it(self) -> None:
        async with serving(TOPICS) as raven, raven.client() as client:
            call = client.stream()
            await call.receive()
            answer = await client.unary("Drain", v1.DrainRequest(1500), v1.DrainResponse, CONTROL)
            assert answer.clients == 1
            with trio.fail_after(5):
                assert await raven.server.wait_drain_requested() == 1.5


class TestOperators:
    async def test_clients_are_listed_with_what_they_got(self) -> None:
        async with serving(TOPICS) as raven, raven.client() as client:
            raven.publish(Established(TOPICS))
            calls = {name: client.stream() for name in ("b", "a")}
            for name, call in calls.items():
                await begun(call, ALL, client_id=name)
            raven.publish(*trades(1, 3))
            await call.receive_events(5)
            answer = await client.unary("ListClients", v1.ListClientsRequest(), v1.ListClientsResponse, CONTROL)
            assert [entry.client_id for entry in answer.clients] == ["a", "b"]
            entry = answer.clients[0]
            assert (entry.topics, entry.events_missed, entry.bytes_queued) == (2, 0, 0)
            assert entry.events_sent >= 5
            assert entry.bytes_sent > 300
            assert entry.peer.startswith("127.0.0.1:")
            assert entry.connected_since_ts_ns
            assert entry.instance_id == raven.server.instance_id
            page = await client.unary("ListClients", v1.ListClientsRequest(1), v1.ListClientsResponse, CONTROL)
            assert [entry.client_id for entry in page.clients] == ["a"]
            assert page.next_page_token

    async def test_one_is_disconnected_and_may_come_back(self) -> None:
        async with serving(TOPICS) as raven, raven.client() as client:
            call = client.stream()
            await begun(call, ALL, client_id="me")
            request = v1.DisconnectClientRequest("me", "too many of you")
            await client.unary("DisconnectClient", request, v1.DisconnectClientResponse, CONTROL)
            goodbye = await call.receive_control("goodbye")
            assert (goodbye.reason, goodbye.text, goodbye.reconnect) == (v1.GoodbyeReason.OPERATOR, "too many of you", True)
            assert (await call.outcome())[0] == "UNAVAILABLE"
            with pytest.raises(grpc.RpcError, match="'me' is not connected") as caught:
                await client.unary("DisconnectClient", request, v1.DisconnectClientResponse, CONTROL)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            again = client.stream()
            again.send(hello=v1.Hello("me", restore=True))
            assert [one.id for one in (await again.receive_control("welcome")).restored] == ["all"]


async def test_a_crowd_is_let_in_one_after_the_other_and_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven.grpc.admission.BURST", 10)
    config = GrpcConfig(streams_per_s=100.0)
    async with serving(TOPICS, config=config) as raven, raven.client() as client:
        began = trio.current_time()
        calls = [client.stream() for _ in range(50)]
        for number, call in enumerate(calls):
            call.send(hello=v1.Hello(client_id=f"c{number}"))
        for call in calls:
            await call.receive_control("welcome")
        assert trio.current_time() - began >= 0.35  # ten at once, forty at 100 a second
        for call in calls:
            call.cancel()
