"""conflate_ms: at most one event of a topic in so many milliseconds, and never an old one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import trio

from raven.adapter import Established, Event
from raven.adapter.batch import Batch, Down
from raven.broker import Client, Subscription
from raven.codec.generated.raven import v1
from raven.model.events import Candle, Quote, StatusCause
from raven.model.topic import Kind, Selector, Topic
from tests.broker.bench import QUOTE, VENUE, Bench, make_bench, pipe_of, read

CANDLE = Topic(VENUE, "BTC-USDT", Kind.CANDLE, "1m")


def quote(bid: float) -> Event:
    return Event(QUOTE, Quote(bid, 1.0, bid + 1, 1.0), 5, 4)


def candle(close: float, *, closed: bool) -> Event:
    return Event(CANDLE, Candle(0, 60, close, close, close, close, 1.0, closed=closed), 5, 4)


@asynccontextmanager
async def running(conflate_ms: int, *kinds: Kind) -> AsyncIterator[tuple[Bench, Client]]:
    """A broker whose pacer runs, and a client that wants an event in so many milliseconds."""
    bench = make_bench()
    client = bench.client()
    subscription = Subscription("s", Selector(VENUE, "BTC-USDT", frozenset(kinds)), conflate_ms=conflate_ms)
    assert bench.broker.clients.subscribe(client, subscription).accepted
    send, receive = trio.open_memory_channel[Batch](0)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.broker.run, receive)
        bench.publish(Established([QUOTE, CANDLE]))
        yield bench, client
        send.close()
        nursery.cancel_scope.cancel()


def told(events: list[v1.MarketEvent]) -> list[tuple[int, int]]:
    return [(event.first_sequence, event.sequence) for event in events]


async def test_the_first_goes_at_once_and_the_newest_when_its_time_has_come(autojump_clock: trio.testing.MockClock) -> None:
    async with running(100, Kind.QUOTE) as (bench, client):
        read(client)
        bench.publish(quote(1.0))
        assert told(read(client)) == [(0, 2)]
        for bid in (2.0, 3.0, 4.0):
            await trio.sleep(0.02)
            bench.publish(quote(bid))
        assert read(client) == []
        await trio.sleep(0.05)
        (event,) = read(client)
        assert told([event]) == [(3, 5)]
        assert event.quote is not None
        assert event.quote.bid_price == 4.0
        await trio.sleep(0.2)
        bench.publish(quote(5.0))
        assert told(read(client)) == [(0, 6)]


async def test_events_in_any_second_are_at_most_as_many_as_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    async with running(250, Kind.QUOTE) as (bench, client):
        read(client)
        times = []
        for number in range(1000):
            await trio.sleep(0.005)
            bench.publish(quote(float(number)))
            times += [trio.current_time()] * len(read(client))
        assert 20 <= len(times) <= 21
        assert all(later - earlier >= 0.249 for earlier, later in pairwise(times))


async def test_a_closed_candle_and_a_status_do_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    async with running(1000, Kind.CANDLE) as (bench, client):
        read(client)
        bench.publish(candle(1.0, closed=False))
        bench.publish(candle(2.0, closed=False))
        bench.publish(candle(3.0, closed=True))
        events = read(client)
        assert told(events) == [(0, 2), (3, 4)]
        assert events[1].candle is not None
        assert events[1].candle.closed
        bench.publish(Down([CANDLE], StatusCause.FEED_DOWN, "gone"))
        assert [event.status is not None for event in read(client)] == [True]


async def test_a_client_with_an_interval_that_does_not_read_gets_the_newest(autojump_clock: trio.testing.MockClock) -> None:
    async with running(100, Kind.QUOTE) as (bench, client):
        read(client)
        pipe_of(client).room = 0
        client.outbox.flush()
        for number in range(50):
            bench.publish(quote(float(number)))
            await trio.sleep(0.03)
        assert len(client.outbox) == 1
        pipe_of(client).open()
        (event,) = read(client)
        assert told([event]) == [(2, 51)]


async def test_without_the_interval_every_event_comes_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running(1000, Kind.QUOTE) as (bench, client):
        read(client)
        every = Subscription("every", Selector(VENUE, "BTC-USDT", frozenset({Kind.QUOTE})), skip_image=True)
        assert bench.broker.clients.subscribe(client, every).accepted
        bench.publish(quote(1.0), quote(2.0), quote(3.0))
        assert told(read(client)) == [(0, 2), (0, 3), (0, 4)]
        bench.broker.clients.unsubscribe(client, ["every"], [])
        bench.publish(quote(4.0), quote(5.0))
        assert told(read(client)) == [(5, 6)]
        bench.publish(quote(6.0))
        bench.broker.clients.unsubscribe(client, ["s"], [])
        await trio.sleep(2)
        assert read(client) == []
