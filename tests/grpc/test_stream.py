"""Streams over a real socket, to a client that is not ours."""

from __future__ import annotations

import grpc
import pytest
import trio

from raven.adapter import Established, Event
from raven.broker import BrokerLimits, OutboxLimits
from raven.codec.generated.raven import v1
from raven.grpc import GrpcConfig
from raven.model.events import BookDelta, BookSnapshot, Quote, Trade
from raven.model.topic import Kind, Topic
from tests.grpc.serving import serving, subscription

pytestmark = pytest.mark.usefixtures("twins")

TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
QUOTE = Topic("sim", "BTC-USDT", Kind.QUOTE)
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)
ETH = Topic("sim", "ETH-USDT", Kind.TRADE)
TOPICS = (TRADE, QUOTE, BOOK, ETH)
WHOLE_BOOK = subscription("sim/BTC-USDT", v1.Kind.BOOK, slow_consumer_policy=v1.SlowConsumerPolicy.DISCONNECT)


def trades(first: int, last: int, topic: Topic = TRADE) -> list[Event]:
    return [Event(topic, Trade(100.0, 1.0, 1, str(number)), number, number) for number in range(first, last + 1)]


async def test_welcome_then_the_answer_then_the_image_then_every_event() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        raven.publish(Established([TRADE]), *trades(1, 3))
        call = client.stream()
        call.send(hello=v1.Hello(client_id="me"))
        welcome = (await call.receive()).welcome
        assert (welcome.client_id, welcome.heartbeat_interval_ms) == ("me", 5000)
        assert welcome.server_version
        assert welcome.instance_id == raven.server.instance_id
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)], request_id=7))
        answer = (await call.receive()).subscribed
        assert answer.request_id == 7
        result = answer.results[0]
        assert (result.accepted, result.topics, result.id) == (True, 1, "sub-1")
        assert result.effective.slow_consumer_policy == v1.SlowConsumerPolicy.DISCONNECT
        raven.publish(*trades(4, 5))
        events = await call.receive_events(4)
        assert [(e.sequence, e.flags, e.trade.trade_id if e.trade else "") for e in events] == [
            (4, 2, ""),
            (4, 1, "3"),
            (5, 0, "4"),
            (6, 0, "5"),
        ]


async def test_a_client_that_waits_for_its_welcome_gets_it_and_may_subscribe_without_hello() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        assert (await call.receive()).welcome.client_id.startswith("client-")
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("*/*", v1.Kind.TRADE)]))
        assert (await call.receive_control("subscribed")).results[0].topics == 2


async def test_subscribing_without_hello_is_answered_after_the_welcome() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("*/*", v1.Kind.TRADE)]))
        assert (await call.receive()).welcome is not None
        assert (await call.receive()).subscribed.results[0].accepted


async def test_subscriptions_come_and_go_while_the_stream_runs() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        for name, where in (("b", "sim/BTC-USDT"), ("e", "sim/ETH-*")):
            call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription(where, v1.Kind.TRADE, id=name)]))
            await call.receive_control("subscribed")
        raven.publish(*trades(1, 1), *trades(1, 1, ETH))
        assert {e.topic.symbol for e in await call.receive_events(4)} == {"BTC-USDT", "ETH-USDT"}
        call.send(unsubscribe=v1.UnsubscribeRequest(ids=["b", "nothing"], request_id=3))
        gone = await call.receive_control("unsubscribed")
        assert (gone.removed_ids, gone.unknown, gone.request_id) == (["b"], ["nothing"], 3)
        raven.publish(*trades(2, 2), *trades(2, 2, ETH))
        assert [(e.topic.symbol, e.sequence) for e in await call.receive_events(1)] == [("ETH-USDT", 3)]


async def test_events_of_a_flush_are_one_message() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)]))
        await call.receive_control("subscribed")
        raven.publish(*trades(1, 500))
        messages = [await call.receive() for _ in range(2)]
        assert [len(message.events) for message in messages] == [1, 501]
        assert messages[1].sent_ts_ns > 1_600_000_000_000_000_000


async def test_a_big_backlog_arrives_whole_through_small_windows() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.BOOK)]))
        await call.receive_control("subscribed")
        levels = [float(n) for n in range(1, 5001)]
        raven.publish(Event(BOOK, BookSnapshot([], [], levels, levels), 1))
        for number in range(20):
            raven.publish(Event(BOOK, BookDelta([], [], levels[:3000], [float(number + 1)] * 3000, number + 1), 2))
        events = await call.receive_events(23)
        assert [e.sequence for e in events if not e.flags] == list(range(1, 23))
        assert events[-1].book_delta.ask_size == [20.0] * 3000


async def test_ping_is_answered_by_a_heartbeat_with_its_id() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(ping=v1.Ping(id=99))
        heartbeat = await call.receive_control("heartbeat")
        assert heartbeat.ping_id == 99
        assert heartbeat.server_ts_ns > 0


async def test_heartbeats_come_without_traffic() -> None:
    async with serving(TOPICS, config=GrpcConfig(heartbeat_s=0.05)) as raven, raven.client() as client:
        call = client.stream()
        beats = [await call.receive_control("heartbeat") for _ in range(2)]
        assert beats[0].server_ts_ns < beats[1].server_ts_ns
        assert beats[0].ping_id == 0


async def test_fault_14_a_half_closed_stream_goes_on_and_ends_well_when_the_server_goes() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)]))
        await call.receive_control("subscribed")
        call.half_close()
        await call.receive_events(1)
        raven.publish(*trades(1, 1))
        assert [e.sequence for e in await call.receive_events(2)] == [1, 2]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raven.server.drain, 0.2)
            assert (await call.receive_control("goodbye")).reason == v1.GoodbyeReason.DRAINED
        assert await call.outcome() == ("OK", "")
        assert not len(raven.broker.clients)


async def test_a_client_that_cancels_leaves_nothing_behind() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)]))
        await call.receive_control("subscribed")
        call.cancel()
        with trio.fail_after(5):
            await raven.broker.clients.wait_no_clients()
        assert raven.broker.directory.views([])[:0] == []
        raven.publish(*trades(1, 10))


@pytest.mark.parametrize(
    ("fields", "field", "part"),
    [
        ({"where": "Sim/BTC-USDT"}, "selector.venue", "1 to 32 of a-z"),
        ({"where": "sym/BTC-USDT"}, "selector.venue", "did you mean 'sim'"),
        ({"where": "sim/btc"}, "selector.symbol", "A-Z"),
        ({"where": "sim/*BTC"}, "selector.symbol", "prefix"),
        ({"where": "sim/BTC-USDX"}, "selector.symbol", "did you mean 'BTC-USDT'"),
        ({"where": "sim/"}, "selector.symbol", "A-Z"),
        ({"where": "sim/BTC-USDT", "kinds": []}, "selector.kinds", "KIND_TRADE"),
        ({"where": "sim/BTC-USDT", "kinds": [v1.Kind(0)]}, "selector.kinds[0]", "KIND_TRADE"),
        ({"where": "sim/BTC-USDT", "kinds": [v1.Kind(77)]}, "selector.kinds[0]", "KIND_TRADE"),
        ({"where": "sim/BTC-USDT", "variant": "%"}, "selector.variant", "A-Z"),
        ({"where": "sim/BTC-USDT", "conflate_ms": 5}, "conflate_ms", "0 for trade"),
        (
            {"where": "sim/BTC-USDT", "slow_consumer_policy": v1.SlowConsumerPolicy.CONFLATE},
            "slow_consumer_policy",
            "DISCONNECT",
        ),
        ({"where": "sim/BTC-USDT", "kinds": [v1.Kind.BOOK], "skip_image": True}, "skip_image", "needs its image"),
        ({"where": "sim/BTC-USDT", "id": "x" * 65}, "id", "64 printable"),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused_by_field_and_the_rest_stands(
    fields: dict[str, object], field: str, part: str
) -> None:
    fields = dict(fields)  # a test of another parameter has the same
    where = str(fields.pop("where"))
    kinds = fields.pop("kinds", [v1.Kind.TRADE])
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        bad = subscription(where, *kinds, **fields)  # type: ignore[misc, attr-defined]
        good = subscription("sim/ETH-USDT", v1.Kind.TRADE)
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[bad, good]))
        refused, accepted = (await call.receive_control("subscribed")).results
        assert (refused.accepted, refused.field) == (False, field)
        assert part in refused.error
        assert accepted.accepted


async def test_an_empty_subscribe_is_refused() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest())
        result = (await call.receive_control("subscribed")).results[0]
        assert (result.accepted, result.field) == (False, "subscriptions")


@pytest.mark.parametrize(
    ("requests", "part"), [([{}], "request: empty"), ([{"ping": v1.Ping()}, {"hello": v1.Hello()}], "hello")]
)
async def test_what_makes_no_sense_ends_the_stream_with_goodbye(requests: list[dict[str, object]], part: str) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        for request in requests:
            call.send(**request)
        goodbye = await call.receive_control("goodbye")
        assert goodbye.reason == v1.GoodbyeReason.PROTOCOL
        assert part in goodbye.text
        assert not goodbye.reconnect
        assert (await call.outcome())[0] == "INVALID_ARGUMENT"


async def test_a_client_id_that_cannot_be_is_invalid() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(hello=v1.Hello(client_id="a\nb"))
        status, text = await call.outcome()
        assert status == "INVALID_ARGUMENT"
        assert text.startswith("client_id: 'a\\nb' is not valid")


async def test_the_same_client_id_takes_over() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        first, second = client.stream(), client.stream()
        first.send(hello=v1.Hello(client_id="me"))
        await first.receive_control("welcome")
        second.send(hello=v1.Hello(client_id="me"))
        await second.receive_control("welcome")
        assert (await first.receive_control("goodbye")).reason == v1.GoodbyeReason.REPLACED
        assert (await first.outcome())[0] == "ABORTED"
        assert raven.server.connections == 1


async def test_a_client_that_does_not_read_is_ended_and_another_never_notices() -> None:
    limits = BrokerLimits(OutboxLimits(events_max=100))
    async with serving(TOPICS, limits) as raven, raven.client() as slow_client, raven.client() as client:
        slow, fine = slow_client.stream(), client.stream()
        for call in (slow, fine):
            call.send(subscribe=v1.SubscribeRequest(subscriptions=[WHOLE_BOOK]))
            await call.receive_control("subscribed")
            await call.receive_events(1)
        levels = [float(n) for n in range(1, 2001)]
        raven.publish(Event(BOOK, BookSnapshot([], [], levels, levels), 1))
        await fine.receive_events(2)
        for number in range(1, 1500):
            raven.publish(Event(BOOK, BookDelta([], [], levels, [float(number)] * 2000, number), 2))
            assert len(await fine.receive_events(1)) == 1
            if raven.broker.statistics().slow_consumers:
                break
        else:
            pytest.fail("a client that read nothing was never ended")
        assert (await slow.outcome())[0] in ("RESOURCE_EXHAUSTED", "INTERNAL")  # the message that was begun cannot end
        raven.publish(Event(BOOK, BookDelta([], [], [1.0], [7.0], 9999), 2))
        assert (await fine.receive_events(1))[-1].book_delta.venue_sequence == 9999


async def test_a_stalled_client_is_ended_after_its_time() -> None:
    limits = BrokerLimits(OutboxLimits(events_max=1_000_000, bytes_max=1_000_000_000))
    config = GrpcConfig(heartbeat_s=0.05, stall_s=0.3)
    async with serving(TOPICS, limits, config) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[WHOLE_BOOK]))
        await call.receive_control("subscribed")
        levels = [float(n) for n in range(1, 10_001)]
        raven.publish(Event(BOOK, BookSnapshot([], [], levels, levels), 1))
        number = 0
        with trio.fail_after(20):
            while len(raven.broker.clients):  # it never takes them all, and is ended with room to spare
                number += 1
                raven.publish(Event(BOOK, BookDelta([], [], levels, [float(number)] * 10_000, number), 2))
                await trio.sleep(0.001)
        assert raven.broker.statistics().slow_consumers == 1


async def test_watch_subscribes_once_and_streams() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.watch(subscription("sim/*", v1.Kind.TRADE, v1.Kind.QUOTE))
        assert len(await call.receive_events(3)) == 3
        raven.publish(Event(QUOTE, Quote(1.0, 2.0, 3.0, 4.0), 5))
        events = await call.receive_events(2)
        assert events[1].quote == v1.Quote(1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("subscriptions", "part"),
    [
        ([], "subscriptions: \\[\\] is not valid: at least one"),
        ([subscription("nix/*", v1.Kind.TRADE)], "subscriptions\\[0\\].selector.venue.*valid are sim|did you mean"),
        ([v1.Subscription()], "subscriptions\\[0\\].selector"),
    ],
)
async def test_watch_refuses_what_cannot_be(subscriptions: list[v1.Subscription], part: str) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as caught:
            await client.watch(*subscriptions).receive()
        assert caught.match(part)
        assert len(raven.broker.clients) == 0


async def test_draining_is_told_data_goes_on_and_the_last_are_ended() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)]))
        await call.receive_control("subscribed")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raven.server.drain, 0.5)
            draining = await call.receive_control("draining")
            assert draining.deadline_ms == 500
            raven.publish(*trades(1, 1))
            assert [e.sequence for e in await call.receive_events(2)] == [1, 2]
            assert (await call.receive_control("goodbye")).reason == v1.GoodbyeReason.DRAINED
        assert await call.outcome() == ("OK", "")


async def test_a_stream_without_controls_ends_when_draining_begins() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.watch(subscription("sim/*", v1.Kind.TRADE))
        await call.receive_events(2)
        with trio.fail_after(5):
            await raven.server.drain(60.0)
        assert await call.outcome() == ("OK", "")


async def test_draining_without_clients_takes_no_time(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(TOPICS) as raven:
        started = trio.current_time()
        await raven.server.drain(60.0)
        assert trio.current_time() == started
