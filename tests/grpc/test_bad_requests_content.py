"""What a request may not say (rows 22 to 27 and 29 of bad input), over a real socket.

After each an honest call is answered on the same connection.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
from grpclib.const import Status
from grpclib.health.v1.health_pb2 import HealthCheckRequest
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest

from raven.adapter import Established, Event
from raven.broker import BrokerLimits
from raven.codec.generated.raven import v1
from raven.codec.varint import varint
from raven.model.events import Trade
from raven.model.topic import Kind, Topic
from tests.grpc.raw_calls import RawPeer, call_headers, framed, peer_of_a_server, raw_peer, refused, refused_after_headers
from tests.grpc.serving import Call, Peer, Serving, serving, subscription

TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
TOPICS = (
    TRADE,
    Topic("sim", "ETH-USDT", Kind.TRADE),
    Topic("sim", "BTC-USDT", Kind.CANDLE, "1m"),
    Topic("sim", "BTC-USDT", Kind.BOOK_TOP, "20"),
)


def delimited(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


# ---- 22: no protobuf


SUBSCRIBE = 2  # of StreamMarketDataRequest, and `subscriptions` of SubscribeRequest
NO_PROTOBUF = {
    "truncated field": (b"\x0a\x05sim", "subscriptions[1].selector.venue: b'\\n\\x05sim'"),
    "group": (b"\x0b\x0c", "subscriptions[1].selector: 3 is not valid: a wire type"),
    "end of a group": (b"\x0c", "subscriptions[1].selector: 4 is not valid: a wire type"),
    "field 0": (b"\x02\x00", "subscriptions[1].selector: 0 is not valid: a field number"),
    "20-byte number": (b"\x18" + b"\x80" * 19 + b"\x01", "subscriptions[1].selector.kinds[0]: b'\\x80"),
    "20-byte tag": (b"\x80" * 19 + b"\x01", "subscriptions[1].selector: b'\\x80"),
    "no UTF-8": (b"\x12\x02\xc3\x28", "subscriptions[1].selector.symbol: b'\\xc3(' is not valid: UTF-8"),
    "a surrogate": (b"\x12\x03\xed\xa0\x80", "subscriptions[1].selector.symbol: b'\\xed\\xa0\\x80' is not valid: UTF-8"),
    "a number for text": (b"\x08\x01", "subscriptions[1].selector.venue: 0 is not valid: wire type 2"),
}


@pytest.mark.parametrize("name", NO_PROTOBUF)
@pytest.mark.parametrize("method", ["StreamMarketData", "WatchMarketData", "Subscribe"])
async def test_bad_input_22_what_is_no_protobuf_is_refused_at_its_place(method: str, name: str) -> None:
    inner, part = NO_PROTOBUF[name]
    good = bytes(subscription("sim/BTC-USDT", v1.Kind.TRADE))
    message = delimited(2, good) + delimited(2, delimited(1, inner))
    if method == "StreamMarketData":
        message, part = delimited(SUBSCRIBE, message), f"subscribe.{part}"
    if method == "WatchMarketData":
        message = delimited(1, good) + delimited(1, delimited(1, inner))
    async with peer_of_a_server() as (raven, peer):
        answer = await peer.answer(call_headers(method), framed(message), end=False)
        refused_after_headers(answer, Status.INVALID_ARGUMENT, part)
        assert "the request is no valid " in answer.text
        assert len(raven.broker.clients) == 0


async def test_bad_input_22_unknown_fields_any_order_and_defaults_stay_valid() -> None:
    selector = b"\x22\x00" + delimited(2, b"ETH-*") + b"\xf8\x7f\x01" + delimited(1, b"sim") + b"\x1a\x00"
    message = b"\x10\x00" + delimited(99, b"later") + delimited(1, selector) + b"\x1a\x00"
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(), framed(message))
        assert [e.topic.symbol for e in v1.ListTopicsResponse.parse(answer.messages()[0]).topics if e.topic] == ["ETH-USDT"]


@pytest.mark.parametrize(
    ("path", "request_type"),
    [
        ("/grpc.health.v1.Health/Check", HealthCheckRequest),
        ("/grpc.health.v1.Health/Watch", HealthCheckRequest),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ServerReflectionRequest),
    ],
)
@pytest.mark.parametrize("message", [b"\x0a\x05a", b"\x0a\x02\xc3\x28", b"\x02\x00", b"\x0b" * 3_000], ids=repr)
async def test_bad_input_22_health_and_reflection_too(path: str, request_type: type, message: bytes) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(path=path), framed(message), end=False)
        refused_after_headers(answer, Status.INVALID_ARGUMENT, f"the request is no valid {request_type.__name__}")


# ---- 23: nesting


def nested(number: int, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = delimited(number, data)
    return data


@pytest.mark.parametrize("number", [1, 2, 15])
@pytest.mark.parametrize("method", ["ListTopics", "StreamMarketData", "GetLatest"])
async def test_bad_input_23_nesting_is_refused_or_passed_over(method: str, number: int) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(method, grpc_timeout="2S"), framed(nested(number, 3_000)))
        assert answer.status in (Status.OK.value, Status.INVALID_ARGUMENT.value)


async def test_bad_input_23_groups_within_groups_are_refused() -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(), framed(b"\x7b" * 3_000 + b"\x7c" * 3_000))
        refused(answer, Status.INVALID_ARGUMENT, "message: 3 is not valid: a wire type of 0, 1, 2 or 5; there are no groups")


# ---- 24: counts


@pytest.mark.parametrize(
    ("message", "status", "part"),
    [
        (b"\x12\x00" * 200_000, Status.RESOURCE_EXHAUSTED, "a request of 400000 bytes"),
        (b"\x12\x00" * 131_000, Status.INVALID_ARGUMENT, "subscriptions[2048]: 2049 is not valid: at most 2048 items"),
        (delimited(2, delimited(1, b"\x18\x01" * 130_000)), Status.INVALID_ARGUMENT, "kinds[2048]: 2049 is not valid"),
        (delimited(2, delimited(1, delimited(3, b"\x01" * 260_000))), Status.INVALID_ARGUMENT, "kinds: 2049 is not valid"),
        (b"\x78\x01" * 131_000, Status.INVALID_ARGUMENT, "at most 32768 fields in one request"),
    ],
    ids=["200k subscriptions", "131k subscriptions", "kinds", "packed kinds", "unknown fields"],
)
async def test_bad_input_24_many_items_are_refused_before_they_cost_anything(message: bytes, status: Status, part: str) -> None:
    async with peer_of_a_server() as (_, peer):
        started = time.perf_counter()
        answer = await peer.answer(call_headers("Subscribe"), framed(message), end=False)
        refused(answer, status, part)
        assert time.perf_counter() - started < 1  # 20 ms on a quiet machine; parsing all of it took 0.3 to 2.6 s


# ---- 25: values


@asynccontextmanager
async def client_of_a_server(limits: BrokerLimits | None = None) -> AsyncIterator[tuple[Serving, Peer]]:
    async with serving(TOPICS, limits) as raven, raven.client() as client:
        yield raven, client
        honest = await client.unary("ListTopics", v1.ListTopicsRequest(), v1.ListTopicsResponse)
        assert len(honest.topics) == len(TOPICS)
        assert raven.metric("errors_total", component="grpc", kind="internal") == 0


@pytest.mark.parametrize(
    ("sub", "field", "part"),
    [
        (subscription("sim/*", v1.Kind(99)), "selector.kinds[0]", "99 is not valid: one of KIND_TRADE"),
        (subscription("sim/*", v1.Kind.TRADE, v1.Kind(-1)), "selector.kinds[1]", "-1 is not valid: one of KIND_TRADE"),
        (subscription("sim/*", v1.Kind.UNSPECIFIED), "selector.kinds[0]", "0 is not valid: one of KIND_TRADE"),
        (subscription("sim/*"), "selector.kinds", "at least one of KIND_TRADE"),
        (
            subscription("sim/*", v1.Kind.TRADE, slow_consumer_policy=v1.SlowConsumerPolicy(7)),
            "slow_consumer_policy",
            "7 is not valid",
        ),
        (subscription("sim/*", v1.Kind.TRADE, conflate_ms=2**32 - 1), "conflate_ms", "4294967295 is not valid"),
        (subscription("sim/*", v1.Kind.TRADE, id="x" * 65), "id", "at most 64 printable characters"),
        (subscription("sim/*", v1.Kind.TRADE, id="a\x00b"), "id", "at most 64 printable characters"),
        (v1.Subscription(), "selector", "None is not valid"),
        (subscription("sim/BTC-USDT", v1.Kind.BOOK_TOP, variant="1000000000"), "selector", "1000000000"),
        (subscription("sim/BTC-USDT", v1.Kind.BOOK_TOP, variant="-5"), "selector.variant", "'-5' is not valid"),
        (subscription("sim/BTC-USDT", v1.Kind.CANDLE, variant="0"), "selector", "0"),
        (subscription("sim/BTC-USDT", v1.Kind.CANDLE, variant="9223372036854775808"), "selector.variant", "is not valid"),
    ],
    ids=lambda value: None if isinstance(value, str) else "s",
)
async def test_bad_input_25_a_value_out_of_range_is_refused_by_its_field(sub: v1.Subscription, field: str, part: str) -> None:
    async with client_of_a_server() as (_, client):
        call = client.stream()
        good = subscription("sim/ETH-USDT", v1.Kind.TRADE, id="good")
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[sub, good]))
        bad, well = (await call.receive_control("subscribed")).results
        assert (bad.accepted, well.accepted) == (False, True)
        assert bad.field.startswith(field)
        assert part in bad.error
        call.cancel()


@pytest.mark.parametrize("page_size", [1, 2**32 - 1])
async def test_bad_input_25_a_page_has_its_limit_whatever_is_asked(page_size: int) -> None:
    async with client_of_a_server() as (_, client):
        answer = await client.unary("ListTopics", v1.ListTopicsRequest(page_size=page_size), v1.ListTopicsResponse)
        assert len(answer.topics) == min(page_size, len(TOPICS))


@pytest.mark.parametrize("token", ["!", "not ours", "\N{RIGHT-TO-LEFT OVERRIDE}", "/w==", "x" * 100_000])
async def test_bad_input_25_a_page_token_that_is_none_is_an_invalid_argument(token: str) -> None:
    async with client_of_a_server() as (_, client):
        with pytest.raises(grpc.RpcError, match=r"page_token: .* is not valid") as caught:
            await client.unary("ListTopics", v1.ListTopicsRequest(page_token=token), v1.ListTopicsResponse)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(caught.value.details()) < 300


# ---- 26: names


BAD_NAMES = {
    "empty": "",
    "4 KB": "A" * 4096,
    "65 characters": "A" * 65,
    "NUL": "BTC\x00USDT",
    "newline": "BTC-USDT\n",
    "carriage return": "BTC\r\nX: y",
    "right to left": "BTC\N{RIGHT-TO-LEFT OVERRIDE}TDSU",
    "homoglyph": "BT\N{CYRILLIC CAPITAL LETTER ES}-USDT",
    "full width": "\N{FULLWIDTH LATIN CAPITAL LETTER B}TC-USDT",
    "combining": "BTC\N{COMBINING ACUTE ACCENT}",
    "braces": "{BTC-USDT}",
    "slash": "BTC/USDT",
    "blank": "BTC USDT",
    "comma and equals": "BTC,x=y",
    "lower case": "btc-usdt",
    "star in the middle": "B*C",
    "star first": "*USDT",
    "stars": "**",
    "dot first": ".BTC",
    "glob": "BTC-?",
    "format": "%s%n",
}


VALID_THERE = {"venue": "lower case", "variant": "empty"}


@pytest.mark.parametrize("where", ["venue", "symbol", "variant"])
async def test_bad_input_26_names_outside_their_character_set_are_refused(where: str) -> None:
    bad = {name: value for name, value in BAD_NAMES.items() if VALID_THERE.get(where) != name}
    named = {"venue": "sim", "symbol": "BTC-USDT", "kinds": [v1.Kind.TRADE]}
    selectors = {name: v1.TopicSelector(**(named | {where: value})) for name, value in bad.items()}
    async with client_of_a_server() as (_, client):
        call = client.stream()
        subscriptions = [v1.Subscription(selector, id=name) for name, selector in selectors.items()]
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[*subscriptions, subscription("sim/ETH-USDT", v1.Kind.TRADE)]))
        *refusals, well = (await call.receive_control("subscribed")).results
        assert well.accepted
        assert [refusal.id for refusal in refusals] == list(bad)
        for refusal in refusals:
            assert_named(refusal, f"selector.{where}")
        call.cancel()
        for selector in selectors.values():
            with pytest.raises(grpc.RpcError, match=rf"selectors\[0\].{where}: ") as caught:
                await client.unary("ListTopics", v1.ListTopicsRequest([selector]), v1.ListTopicsResponse)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def assert_named(refusal: v1.SubscribeResponseResult, field: str) -> None:
    """A refusal that names the field, and that can be shown to anybody."""
    assert (refusal.accepted, refusal.field) == (False, field)
    assert refusal.error.isprintable()
    assert refusal.error.isascii()
    assert len(refusal.error) < 300


async def test_bad_input_26_stars_everywhere_match_what_there_is_up_to_the_limit() -> None:
    everything = v1.Subscription(v1.TopicSelector("*", "*", [v1.Kind(n) for n in range(1, 14)], "*"))
    async with client_of_a_server() as (_, client):
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[everything]))
        assert (await call.receive_control("subscribed")).results[0].topics == len(TOPICS)
        call.cancel()
    async with client_of_a_server(BrokerLimits(topics_max=3)) as (_, client):
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[everything]))
        (result,) = (await call.receive_control("subscribed")).results
        assert (result.accepted, result.field) == (False, "selector")
        assert "a client has at most 3" in result.error
        call.cancel()


# ---- 27: bookmarks and resume points


def resume(epoch: int, sequence: int) -> dict[str, Any]:
    return {"resume": [v1.ResumePoint(v1.Topic("sim", "BTC-USDT", v1.Kind.TRADE), epoch, sequence)]}


@pytest.mark.parametrize(
    "point",
    [
        {"bookmark": b"forged"},
        {"bookmark": bytes(100_000)},
        {"bookmark": b"\xff" * 16},
        resume(0, 0),
        resume(1, 1),
        resume(2**64 - 1, 2**64 - 1),
        resume(7, 7) | {"bookmark": b"both"},
    ],
    ids=["forged", "long", "ones", "zero", "unknown epoch", "future", "both"],
)
async def test_bad_input_27_a_forged_or_future_resume_point_is_a_gap_and_an_image(point: dict[str, Any]) -> None:
    async with client_of_a_server() as (raven, client):
        raven.publish(Established([TRADE]), Event(TRADE, Trade(1.0, 1.0, 1, "1"), 5, 5))
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE, **point)]))
        (result,) = (await call.receive_control("subscribed")).results
        assert (result.accepted, result.recovered) == (True, False)
        assert_told_then_whole(await call.receive_events(3))
        raven.publish(Event(TRADE, Trade(2.0, 1.0, 1, "2"), 6, 6))
        (event,) = await call.receive_events(1)
        assert (event.sequence, event.flags, event.trade and event.trade.trade_id) == (3, 0, "2")
        call.cancel()


def assert_told_then_whole(events: list[v1.MarketEvent]) -> None:
    status, gap, image = events
    assert status.status is not None
    assert gap.gap is not None
    assert gap.gap.cause is v1.GapCause.RESUME_TOO_OLD
    assert (image.flags, image.sequence, image.trade and image.trade.trade_id) == (1, 2, "1")


@pytest.mark.parametrize(
    "point", [v1.ResumePoint(), v1.ResumePoint(v1.Topic("nix", "\n", v1.Kind(77), "*" * 100), 5, 5)], ids=["empty", "other"]
)
async def test_bad_input_27_a_resume_point_of_no_topic_of_the_subscription_takes_nothing_away(point: v1.ResumePoint) -> None:
    async with client_of_a_server() as (raven, client):
        raven.publish(Established([TRADE]), Event(TRADE, Trade(1.0, 1.0, 1, "1"), 5, 5))
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE, resume=[point])]))
        assert (await call.receive_control("subscribed")).results[0].accepted
        raven.publish(Event(TRADE, Trade(2.0, 1.0, 1, "2"), 6, 6))
        events: list[v1.MarketEvent] = []
        while not events or events[-1].flags:
            events += await call.receive_events(1)
        assert [(event.sequence, event.flags) for event in events if event.trade] == [(2, 1), (3, 0)]
        call.cancel()


async def test_bad_input_27_a_forged_bookmark_of_a_restore_is_no_error_either() -> None:
    async with client_of_a_server() as (_, client):
        call = client.stream()
        call.send(hello=v1.Hello("me", restore=True, bookmark=b"\0" * 50))
        assert (await call.receive_control("welcome")).restored == []
        call.cancel()


# ---- 29: subscriptions against each other


async def test_bad_input_29_the_same_id_twice_replaces_and_the_answer_says_so() -> None:
    async with client_of_a_server() as (_, client):
        call = client.stream()
        twice = [subscription("sim/BTC-USDT", v1.Kind.TRADE, id="a"), subscription("sim/ETH-USDT", v1.Kind.TRADE, id="a")]
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[*twice, subscription("nix/*", v1.Kind.TRADE, id="a")]))
        results = (await call.receive_control("subscribed")).results
        assert [(result.id, result.accepted) for result in results] == [("a", True), ("a", True), ("a", False)]
        assert await subscribed(client, call) == [("a", "ETH-USDT")]
        call.cancel()


async def subscribed(client: Peer, call: Call) -> list[tuple[str, str]]:
    listed = await client.unary("ListSubscriptions", v1.ListSubscriptionsRequest(), v1.ListSubscriptionsResponse)
    (entry,) = listed.entries
    return [(one.id, one.selector.symbol) for one in entry.subscriptions if one.selector]


async def test_bad_input_29_what_is_not_subscribed_is_answered_as_unknown() -> None:
    async with client_of_a_server() as (_, client):
        call = client.stream()
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE, id="a")]))
        await call.receive_control("subscribed")
        bad = v1.TopicSelector("SIM", "*", [v1.Kind.TRADE])
        other = v1.TopicSelector("sim", "ETH-*", [v1.Kind.TRADE])
        call.send(unsubscribe=v1.UnsubscribeRequest(ids=["b", "", "a", "a", "\n" * 50], selectors=[bad, other]))
        answer = await call.receive_control("unsubscribed")
        assert answer.removed_ids == ["a"]
        assert answer.unknown[:4] == ["b", "", "\n" * 50, "sim/ETH-*/trade"]
        assert "selectors[0].venue: 'SIM' is not valid" in answer.unknown[4]
        call.cancel()


async def test_bad_input_29_subscribing_after_draining_is_answered_too() -> None:
    async with serving(TOPICS) as raven, raven.client() as client, trio.open_nursery() as nursery:
        call = client.stream()
        await call.receive_control("welcome")
        nursery.start_soon(raven.server.drain, 5.0)
        await call.receive_control("draining")
        call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)], request_id=4))
        answer = await call.receive_control("subscribed")
        assert (answer.request_id, len(answer.results)) == (4, 1)
        call.cancel()


@pytest.mark.parametrize(
    "request_",
    [b"", b"\x7a\x00", bytes(v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest()))],
    ids=["empty", "unknown", "no subscription"],
)
async def test_bad_input_29_a_request_without_content_is_told_so(request_: bytes) -> None:
    async with serving(TOPICS) as raven, raw_peer(raven.port) as peer:
        stream_id = await open_stream(peer)
        await peer.send(stream_id, framed(request_))
        answer = await peer.wait(stream_id, messages=2)
        said = v1.StreamMarketDataResponse.parse(answer.messages()[1])
        if said.subscribed:
            assert [result.accepted for result in said.subscribed.results] == [False]
        else:
            assert said.goodbye is not None
            assert (said.goodbye.reason, said.goodbye.reconnect) == (v1.GoodbyeReason.PROTOCOL, False)


async def open_stream(peer: RawPeer) -> int:
    hello = framed(bytes(v1.StreamMarketDataRequest(hello=v1.Hello())))
    stream_id = await peer.begin(call_headers("StreamMarketData"), hello)
    await peer.wait(stream_id, messages=1)
    return stream_id
