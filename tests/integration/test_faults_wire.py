"""What the emulator cannot do, because it never negotiates compression: a venue that does, and sends a bomb."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, MutableMapping, Sequence
from functools import partial
from random import Random
from typing import Any, ClassVar

import pytest
import trio

from raven.adapter import Adapter, Capabilities, Connection, Established, Event, FeedSpec, Output, Session
from raven.adapter.batch import Batch, BatchItem, Carry, Down
from raven.feed.limits import FeedLimits
from raven.model.events import StatusCause, Trade
from raven.model.topic import Kind, Topic
from raven.supervisor import ConfiguredFeed, Supervisor, SupervisorConfig
from tests.feed.feed_peers import accept_websocket, tcp_peer, until_closed, ws_frame

TOPIC = Topic("plain", "BTC-USDT", Kind.TRADE)
MESSAGE_BYTES_MAX = 1024 * 1024
DEADLINE_S = 10.0


def trade(message: bytes) -> Trade:
    return Trade(1.0, 1.0, 1, str(len(message)))


LAST = trade(b"back")


class PlainSession(Session):
    """A trade for each message."""

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        return [Established([TOPIC])]

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        return [Event(TOPIC, trade(frame), received_ts_ns)]


class PlainAdapter(Adapter):
    api: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({Kind.TRADE}))

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return [Connection("main", feed.options, feed.topics, frame_bytes_max=MESSAGE_BYTES_MAX)]

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        return PlainSession()


def deflated(message: bytes) -> bytes:
    """One compressed message (RFC 7692, 7.2.1)."""
    squeezer = zlib.compressobj(9, wbits=-15)
    data = squeezer.compress(message) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    return ws_frame(data.removesuffix(b"\0\0\xff\xff"), rsv1=True)


async def answer(stream: trio.abc.Stream, lives: Iterator[bytes]) -> None:
    await accept_websocket(stream, extension=b"permessage-deflate", then=next(lives))
    await until_closed(stream)


@pytest.mark.parametrize("bomb_bytes", [MESSAGE_BYTES_MAX + 1, 64 * MESSAGE_BYTES_MAX], ids=["just over", "64 MiB"])
async def test_a_deflate_bomb_costs_the_connection_and_no_more(bomb_bytes: int) -> None:
    """Bad input 33: the limit is on what a message inflates to; the next connection is as if nothing had been."""
    lives = iter([deflated(b"a" * MESSAGE_BYTES_MAX) + deflated(b"\0" * bomb_bytes) + deflated(b"lost"), deflated(b"back")])
    items: list[BatchItem] = []
    send, receive = trio.open_memory_channel[Batch](8)
    with trio.fail_after(DEADLINE_S):
        async with tcp_peer(partial(answer, lives=lives)) as port, trio.open_nursery() as nursery:
            spec = FeedSpec("plain", (TOPIC,), f"ws://127.0.0.1:{port}/")
            supervisor = Supervisor(
                [ConfiguredFeed(spec, PlainAdapter(), "plain", "0")],
                send,
                random=Random(1),
                config=SupervisorConfig(backoff_base_s=0.05),
                limits=FeedLimits(),
            )
            await nursery.start(supervisor.run)
            async for batch in receive:
                items += batch.items
                if any(isinstance(item, Event) and item.payload == LAST for item in items):
                    break
            nursery.cancel_scope.cancel()
    down = [item for item in items if isinstance(item, Down)][:1]
    assert [type(item) for item in items] == [Carry, Established, Event, Down, Established, Event]
    assert down[0].cause is StatusCause.FEED_DOWN
    assert f"over the limit of {MESSAGE_BYTES_MAX} bytes" in down[0].text
