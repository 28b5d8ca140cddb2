"""History that flows into live: a real server with its simulated venue and its embedded history."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trio

import raven.client.trio
from raven.client.events import StreamEvent
from raven.codec.generated.raven import v1
from raven.model.events import Flag
from tests.e2e.processes import Server, environment, raven_command
from tests.grpc.serving import Peer

KINDS = "trade,quote,book,candle,ticker"
LIVE_EVENTS = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process for all tests."""
    server, data = Server(), str(tmp_path_factory.mktemp("data"))
    env = environment(**server.ports, RAVEN_DATA_DIR=data)
    with subprocess.Popen(raven_command("serve"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as process:
        assert process.stdout is not None
        assert any(b"Ctrl-C ends it" in line for line in process.stdout)
        yield server
        process.terminate()


async def until_kept(client: raven.client.Client, count: int) -> None:
    await client.topics()  # HTTP/2 has begun
    async with client.stream("sim/*", kinds=KINDS, variant="*") as live:
        for _ in range(count):
            await anext(live)


def topic_of(event: Any) -> tuple[str, str, int, str]:
    topic = event.topic
    return topic.venue, topic.symbol, int(topic.kind), topic.variant


async def test_who_reads_history_and_goes_on_live_misses_nothing_and_gets_nothing_twice(server: Server) -> None:
    async with raven.client.trio.connect(server.target) as client:
        await until_kept(client, 200)
        stream = client.history("sim/*", kinds=KINDS, variant="*")
        kept = [event async for event in stream]
        points = stream.resume_points()
        assert stream.complete is True
        live = await _live(server.port, points)
    seen: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for event in [*kept, *live]:
        assert not getattr(event, "gap", None) or event.gap.cause == v1.GapCause.VENUE
        if not event.flags & v1.EventFlag.LOCAL:
            seen[topic_of(event)].append((event.epoch, event.sequence))
    assert len(seen) == len(points) > 5
    for topic, places in seen.items():
        assert places == [(places[0][0], number) for number in range(1, len(places) + 1)], topic
    assert sum(map(len, seen.values())) > len(kept) + LIVE_EVENTS // 2


async def test_the_library_goes_on_behind_what_was_kept(server: Server) -> None:
    seen: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    async with raven.client.trio.connect(server.target) as client:
        await until_kept(client, 200)
        kept = client.history("sim/*", kinds="trade,quote")
        async for event in kept:
            seen[event.topic].append((event.epoch, event.sequence))
        assert kept.complete
        async with client.stream("sim/*", kinds="trade,quote", after=kept.places) as live:
            for _ in range(LIVE_EVENTS):
                event = await anext(live)
                assert not event.is_image, event
                if not event.flags & Flag.LOCAL:
                    seen[event.topic].append((event.epoch, event.sequence))
    assert len(seen) == len(kept.places) > 5
    for topic, places in seen.items():
        assert places == [(places[0][0], number) for number in range(1, len(places) + 1)], topic


async def _live(port: int, points: list[v1.ResumePoint]) -> list[v1.MarketEvent]:
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    try:
        call = Peer(channel).watch(*_subscriptions(points))
        events = await call.receive_events(LIVE_EVENTS)
        call.cancel()
        return events
    finally:
        await trio.to_thread.run_sync(channel.close)


def _subscriptions(points: list[v1.ResumePoint]) -> list[v1.Subscription]:
    return [
        v1.Subscription(
            v1.TopicSelector(point.topic.venue, point.topic.symbol, [point.topic.kind], point.topic.variant), resume=[point]
        )
        for point in points
        if point.topic
    ]


async def test_what_was_published_just_now_is_there(server: Server) -> None:
    async with raven.client.trio.connect(server.target) as client:
        async with client.stream("sim/BTC-USDT", kinds="quote", images=False) as live:
            for _ in range(20):
                last: StreamEvent = await anext(live)
        kept = [event async for event in client.history("sim/BTC-USDT", kinds="quote")]
        assert (last.epoch, last.sequence) in {(event.epoch, event.sequence) for event in kept}


async def test_a_book_of_the_past_is_the_book_that_was_live(server: Server) -> None:
    """The image at a moment, with the deltas behind it, against the book that the server has now."""
    from raven.model.book import OrderBook
    from raven.model.events import BookDelta, BookSnapshot

    async with raven.client.trio.connect(server.target) as client:
        await until_kept(client, 200)
        start = time.time_ns() - 500_000_000
        books: dict[Any, OrderBook] = {}
        at: dict[Any, int] = {}
        images = 0
        async for event in client.history("sim/*", kinds="book", start=start, include_image=True):
            images += event.is_image
            if isinstance(event.payload, BookSnapshot):
                books[event.topic] = OrderBook(event.payload)
            elif isinstance(event.payload, BookDelta):
                assert event.sequence == at[event.topic] + 1
                books[event.topic].apply(event.payload)
            at[event.topic] = event.sequence
        assert images == len(books) > 1
        now = await client.latest("sim/*", kinds="book")
        for event in now:
            if isinstance(event.payload, BookSnapshot) and event.sequence == at[event.topic]:
                assert OrderBook(event.payload) == books[event.topic]
        final = [event for event in now if event.book_snapshot]
        again = client.history(
            "sim/*", kinds="book", start=max(event.received_ts_ns for event in final) + 1, include_image=True
        )
        compared = 0
        async for event in again:
            same = [one for one in final if one.topic == event.topic and one.sequence == event.sequence]
            if event.is_image and same and event.book_snapshot and same[0].book_snapshot:
                assert OrderBook(event.book_snapshot) == OrderBook(same[0].book_snapshot)
                compared += 1
        assert compared
