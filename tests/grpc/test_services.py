"""The unary services, health and reflection, to a client that is not ours."""

from __future__ import annotations

import grpc
import pytest
import trio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from raven.adapter import Catalogue, Established, Event
from raven.codec.generated.raven import v1
from raven.grpc import GrpcConfig
from raven.model.events import BookDelta, BookSnapshot, Trade
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, PriceStep, SizeUnit
from raven.model.topic import Kind, Topic
from tests.grpc.serving import serving, subscription

TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)
ETH = Topic("sim", "ETH-USDT", Kind.TRADE)
TOPICS = (TRADE, BOOK, ETH)
CONTROL = "/raven.v1.ControlService/"


async def test_latest_is_status_then_image_of_each_topic() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        raven.publish(Established([TRADE]), Event(TRADE, Trade(61837.63, 0.02, 2, "77"), 10, 9))
        raven.publish(Event(BOOK, BookSnapshot([99.0], [1.0], [101.0], [2.0], 5), 11))
        raven.publish(Event(BOOK, BookDelta([99.0], [0.0], [101.0], [3.0], 6), 12))
        request = v1.GetLatestRequest([v1.TopicSelector("sim", "BTC-USDT")])
        answers = await client.server_stream("GetLatest", request, v1.GetLatestResponse)
        events = [event for answer in answers for event in answer.events]
        assert [e.flags for e in events] == [2, 1, 2, 1]
        assert events[1].trade == v1.Trade(61837.63, 0.02, v1.Side.SELL, "77")
        assert events[3].book_snapshot == v1.BookSnapshot([], [], [101.0], [3.0], 6)
        assert events[3].sequence == 3


async def test_topics_are_listed_with_their_state_in_pages() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        raven.publish(Established([TRADE]), Event(TRADE, Trade(1.0, 1.0, 1, "1"), 10, 9))
        token, found = "", []
        while True:
            request = v1.ListTopicsRequest(page_size=2, page_token=token)
            answer = await client.unary("ListTopics", request, v1.ListTopicsResponse)
            found.extend(answer.topics)
            token = answer.next_page_token
            if not token:
                break
        assert [(e.topic.symbol, e.topic.kind.name, e.status.state.name, e.sequence) for e in found] == [
            ("BTC-USDT", "BOOK", "DOWN", 0),
            ("BTC-USDT", "TRADE", "LIVE", 2),
            ("ETH-USDT", "TRADE", "DOWN", 0),
        ]
        only = v1.ListTopicsRequest(selectors=[v1.TopicSelector("sim", "ETH-*")])
        assert len((await client.unary("ListTopics", only, v1.ListTopicsResponse)).topics) == 1


async def test_instruments_keep_every_field() -> None:
    btc = Instrument(
        "sim",
        "BTC-USDT",
        "BTCUSDT",
        InstrumentType.SPOT,
        InstrumentStatus.TRADING,
        "BTC",
        "USDT",
        price_increment="0.01",
        size_increment="0.00001",
        size_unit=SizeUnit.BASE,
        listed_ts_ns=5,
        price_steps=(PriceStep("0", "0.01"),),
    )
    async with serving(TOPICS) as raven, raven.client() as client:
        raven.publish(Catalogue([btc, Instrument("sim", "ETH-USDT", "ETHUSDT")], 1))
        everything = await client.unary("ListInstruments", v1.ListInstrumentsRequest(), v1.ListInstrumentsResponse)
        assert [i.symbol for i in everything.instruments] == ["BTC-USDT", "ETH-USDT"]
        assert everything.instruments[0] == v1.Instrument(
            "sim",
            "BTC-USDT",
            "BTCUSDT",
            v1.InstrumentType.SPOT,
            v1.InstrumentStatus.TRADING,
            "BTC",
            "USDT",
            price_increment="0.01",
            size_increment="0.00001",
            size_unit=v1.InstrumentSizeUnit.BASE,
            listed_ts_ns=5,
            price_steps=[v1.InstrumentPriceStep("0", "0.01")],
        )
        some = await client.unary("ListInstruments", v1.ListInstrumentsRequest("*", "ETH*"), v1.ListInstrumentsResponse)
        assert [i.symbol for i in some.instruments] == ["ETH-USDT"]


@pytest.mark.parametrize(
    ("method", "request_", "answer", "part"),
    [
        ("GetLatest", v1.GetLatestRequest(), v1.GetLatestResponse, "selectors: [] is not valid: at least one selector"),
        (
            "GetLatest",
            v1.GetLatestRequest([v1.TopicSelector("x", "*")]),
            v1.GetLatestResponse,
            "selectors[0].venue: 'x' is not served",
        ),
        (
            "GetLatest",
            v1.GetLatestRequest([v1.TopicSelector("sim", "")]),
            v1.GetLatestResponse,
            "selectors[0].symbol: '' is not valid",
        ),
        (
            "GetLatest",
            v1.GetLatestRequest([v1.TopicSelector("sim", "*")] * 101),
            v1.GetLatestResponse,
            "selectors: 101 is not valid: at most 100",
        ),
    ],
)
async def test_bad_requests_are_invalid_arguments_that_name_the_field(
    method: str, request_: v1.GetLatestRequest, answer: type[v1.GetLatestResponse], part: str
) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        with pytest.raises(grpc.RpcError) as caught:
            await client.server_stream(method, request_, answer)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert part in caught.value.details()
        assert raven.metric("errors_total", component="grpc", kind="invalid_argument") == 1


@pytest.mark.parametrize(
    "request_",
    [v1.ListTopicsRequest(page_token="not ours"), v1.ListTopicsRequest(selectors=[v1.TopicSelector("sim", "A*B")])],
)
async def test_bad_listing_requests_too(request_: v1.ListTopicsRequest) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            await client.unary("ListTopics", request_, v1.ListTopicsResponse)


async def test_an_unknown_venue_of_instruments_names_those_there_are() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        with pytest.raises(grpc.RpcError, match="venue: 'syn' is not valid: valid are sim"):
            await client.unary("ListInstruments", v1.ListInstrumentsRequest("syn"), v1.ListInstrumentsResponse)


async def test_bytes_that_are_no_message_are_an_invalid_argument() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.channel.unary_unary("/raven.v1.MarketDataService/ListTopics")
        with pytest.raises(grpc.RpcError, match="no valid ListTopicsRequest") as caught:
            await trio.to_thread.run_sync(lambda: call(b"\x0a\xff", timeout=5))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_method_that_nobody_knows_is_unimplemented() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            await client.unary("Nonsense", v1.ListTopicsRequest(), v1.ListTopicsResponse)


async def test_answers_are_timed_and_connections_counted() -> None:
    async with serving(TOPICS) as raven:
        assert raven.metric("grpc_active_connections") == 0
        async with raven.client() as client:
            await client.unary("ListTopics", v1.ListTopicsRequest(), v1.ListTopicsResponse)
            assert raven.metric("grpc_active_connections") == 1
            assert raven.metric("response_latency_seconds_count", method="ListTopics") == 1
            assert 0 < raven.metric("response_latency_seconds_sum", method="ListTopics") < 5
        with trio.fail_after(5):
            while raven.metric("grpc_active_connections"):
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("service", ["", "raven.v1.MarketDataService", "raven.v1.ControlService"])
async def test_health_checks_and_watches(service: str) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        path = "/grpc.health.v1.Health/"
        request = HealthCheckRequest(service=service)
        serialize = HealthCheckRequest.SerializeToString
        check = client.channel.unary_unary(path + "Check", serialize, HealthCheckResponse.FromString)
        answer = await trio.to_thread.run_sync(lambda: check(request, timeout=5))
        assert answer.status == HealthCheckResponse.SERVING
        watch = client.channel.unary_stream(path + "Watch", serialize, HealthCheckResponse.FromString)(request, timeout=20)
        assert (await trio.to_thread.run_sync(next, watch)).status == HealthCheckResponse.SERVING
        await raven.server.drain(0.0)
        assert (await trio.to_thread.run_sync(next, watch)).status == HealthCheckResponse.NOT_SERVING
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_the_contract(version: str) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        requests = [
            ServerReflectionRequest(list_services=""),
            ServerReflectionRequest(file_containing_symbol="raven.v1.MarketDataService"),
        ]
        services, file = await trio.to_thread.run_sync(lambda: list(call(iter(requests), timeout=5)))
        names = {service.name for service in services.list_services_response.service}
        assert {"raven.v1.MarketDataService", "raven.v1.ControlService", "grpc.health.v1.Health"} <= names
        described = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
        assert described.name == "raven/v1/raven.proto"
        assert {"StreamMarketData", "ListTopics"} <= {method.name for method in described.service[0].method}


async def test_reflection_can_be_off() -> None:
    async with serving(TOPICS, config=GrpcConfig(reflection=False)) as raven, raven.client() as client:
        call = client.channel.unary_unary("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            await trio.to_thread.run_sync(lambda: call(b"", timeout=5))


async def test_subscriptions_of_a_client_can_be_changed_from_outside_its_stream() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.stream()
        call.send(hello=v1.Hello(client_id="me"))
        await call.receive_control("welcome")
        add = v1.SubscribeRequest("me", [subscription("sim/BTC-USDT", v1.Kind.TRADE, id="t")], 5)
        answer = await client.unary("Subscribe", add, v1.SubscribeResponse)
        assert (answer.request_id, answer.results[0].accepted, answer.results[0].topics) == (5, True, 1)
        assert (await call.receive_control("subscribed")).results[0].id == "t"
        raven.publish(Event(TRADE, Trade(1.0, 1.0, 1, "1"), 5, 5))
        assert [event.sequence for event in await call.receive_events(3)] == [0, 1, 2]
        listed = await client.unary("ListSubscriptions", v1.ListSubscriptionsRequest("me"), v1.ListSubscriptionsResponse)
        assert [(e.client_id, e.connected, [s.id for s in e.subscriptions]) for e in listed.entries] == [("me", True, ["t"])]
        remove = v1.UnsubscribeRequest("me", ids=["t", "x"])
        removed = await client.unary("Unsubscribe", remove, v1.UnsubscribeResponse)
        assert (removed.removed_ids, removed.unknown) == (["t"], ["x"])
        assert (await call.receive_control("unsubscribed")).removed_ids == ["t"]


async def test_subscriptions_of_a_client_that_is_away_hold_at_its_restore() -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        wanted = [subscription("sim/BTC-USDT", v1.Kind.TRADE), subscription("nix/*", v1.Kind.TRADE)]
        answer = await client.unary("Subscribe", v1.SubscribeRequest("me", wanted), v1.SubscribeResponse)
        assert [(result.accepted, result.field) for result in answer.results] == [(True, ""), (False, "selector.venue")]
        more = v1.SubscribeRequest("me", [subscription("sim/ETH-USDT", v1.Kind.TRADE)])
        assert (await client.unary("Subscribe", more, v1.SubscribeResponse)).results[0].id == "sub-2"
        gone = await client.unary("Unsubscribe", v1.UnsubscribeRequest("me", ids=["sub-1"]), v1.UnsubscribeResponse)
        assert gone.removed_ids == ["sub-1"]
        call = client.stream()
        call.send(hello=v1.Hello(client_id="me", restore=True))
        welcome = await call.receive_control("welcome")
        assert [restored.id for restored in welcome.restored] == ["sub-2"]
        assert [event.topic.symbol for event in await call.receive_events(1) if event.topic] == ["ETH-USDT"]
        call.cancel()
        with trio.fail_after(5):
            await raven.broker.clients.wait_no_clients()
        listed = await client.unary("ListSubscriptions", v1.ListSubscriptionsRequest(), v1.ListSubscriptionsResponse)
        assert [(entry.client_id, entry.connected) for entry in listed.entries] == [("me", False)]
        call = client.stream()
        call.send(hello=v1.Hello(client_id="me"))
        assert (await call.receive_control("welcome")).restored == []
        listed = await client.unary("ListSubscriptions", v1.ListSubscriptionsRequest("me"), v1.ListSubscriptionsResponse)
        assert listed.entries[0].subscriptions == []


@pytest.mark.parametrize(
    ("method", "request_"), [("Subscribe", v1.SubscribeRequest()), ("Unsubscribe", v1.UnsubscribeRequest())]
)
async def test_the_unary_calls_need_a_client_id(method: str, request_: object) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        with pytest.raises(grpc.RpcError, match="client_id: '' is not valid"):
            await client.unary(method, request_, v1.SubscribeResponse)


@pytest.mark.parametrize("method", ["ListTopics", "GetLatest", "StreamMarketData"])
async def test_a_request_that_is_too_long_is_refused_at_its_prefix(method: str) -> None:
    async with serving(TOPICS) as raven, raven.client() as client:
        call = client.channel.stream_stream(f"/raven.v1.MarketDataService/{method}")
        with pytest.raises(grpc.RpcError, match="a request of 20000000 bytes: at most 262144") as caught:
            await trio.to_thread.run_sync(lambda: list(call(iter([bytes(20_000_000)]), timeout=10)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await client.unary("ListTopics", v1.ListTopicsRequest(), v1.ListTopicsResponse)
