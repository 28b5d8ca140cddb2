"""Fault 17: everybody is cut at once and comes back. The full size is `nox -s bench -- resume`; this is the same, smaller.

The server under test has a broker and sockets and no store of any kind, so what the clients are given comes from its ring.
"""

from __future__ import annotations

from itertools import count, pairwise

import attrs
import trio

from raven.adapter import Established, Event
from raven.client import GapEvent, Subscribed
from raven.client.changes import Change
from raven.client.client import Client
from raven.client.events import StreamEvent
from raven.client.trio import connect
from raven.grpc import GrpcConfig
from raven.model.events import Flag, Trade
from raven.model.topic import Kind, Topic
from tests.grpc.serving import Serving, serving

CLIENTS = 100
TOPICS = tuple(Topic("sim", f"{name}-USDT", Kind.TRADE) for name in ("BTC", "ETH", "SOL"))
MISSED = 5
PAUSE_S = 0.25
LIMIT_S = 30.0
LAST = "last"
NOT_NEWS = int(Flag.IMAGE | Flag.LOCAL)


@attrs.define(eq=False)
class Follower:
    """One client: what it was given, and what became of its connection."""

    events: list[StreamEvent] = attrs.field(factory=list)
    recovered: list[bool] = attrs.field(factory=list)
    began: trio.Event = attrs.field(factory=trio.Event)
    came_back: trio.Event = attrs.field(factory=trio.Event)

    def on_change(self, change: Change) -> None:
        if isinstance(change, Subscribed):
            self.recovered.append(all(result.recovered for result in change.results))
            (self.began if len(self.recovered) == 1 else self.came_back).set()

    async def follow(self, client: Client) -> None:
        """Until the last trade of each topic has come."""
        left = len(TOPICS)
        async for event in client.stream("sim/*", kinds="trade", on_change=self.on_change):
            self.events.append(event)
            left -= event.trade is not None and event.trade.trade_id == LAST
            if not left:
                return

    def news(self, topic: Topic) -> list[tuple[int, int]]:
        """Epoch and sequence of what is news of a topic."""
        return [(e.epoch, e.sequence) for e in self.events if e.topic == topic and not e.flags & NOT_NEWS]


def publish(raven: Serving, name: str) -> None:
    raven.publish(*(Event(topic, Trade(100.0, 1.0, 1, name), 5, 4) for topic in TOPICS))


async def publish_steadily(raven: Serving, scope: trio.CancelScope) -> None:
    with scope:
        for number in count(1):
            publish(raven, str(number))
            await trio.sleep(PAUSE_S)


async def test_fault_17_a_crowd_that_is_cut_at_once_comes_back_from_the_ring_with_nothing_lost_and_nothing_twice() -> None:
    followers, steady = [Follower() for _ in range(CLIENTS)], trio.CancelScope()
    async with serving(TOPICS, config=GrpcConfig(heartbeat_s=0.5)) as raven:
        raven.publish(Established(TOPICS))
        with trio.fail_after(LIMIT_S):
            async with connect(f"127.0.0.1:{raven.port}") as client, trio.open_nursery() as nursery:
                nursery.start_soon(publish_steadily, raven, steady)
                for follower in followers:
                    nursery.start_soon(follower.follow, client)
                for follower in followers:
                    await follower.began.wait()
                for connection in raven.server._connections:
                    connection.abort()
                for number in range(MISSED):
                    publish(raven, f"missed {number}")
                for follower in followers:
                    await follower.came_back.wait()
                steady.cancel()
                publish(raven, LAST)
    for follower in followers:
        assert follower.recovered == [False, True]
        assert not any(isinstance(event, GapEvent) for event in follower.events)
        for topic in TOPICS:
            news = follower.news(topic)
            assert len(news) > MISSED
            assert all(later == (epoch, sequence + 1) for (epoch, sequence), later in pairwise(news))
