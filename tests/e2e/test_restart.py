"""A clean restart on the same machine: clients continue with their bookmark, and nothing that was published is lost."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path

import grpc
import trio

from raven.codec.generated.raven import v1
from raven.model.events import Flag, GapCause
from tests.e2e.processes import Server
from tests.grpc.serving import Call, Peer, subscription
from tests.validators import faults

LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)
Events = list[v1.MarketEvent]


async def test_fault_20_a_client_reads_on_until_the_end_and_continues_behind_it(tmp_path: Path) -> None:
    server = Server()
    kept = {"RAVEN_DATA_DIR": str(tmp_path / "data"), "RAVEN_SERVER_HEARTBEAT_S": "0.2", "RAVEN_SERVER_DRAIN_S": "1"}
    trades = subscription("sim/BTC-USDT", v1.Kind.TRADE, v1.Kind.QUOTE)
    async with server.running(**kept) as process:
        with grpc.insecure_channel(server.target) as channel:
            call = Peer(channel).stream()
            call.send(subscribe=v1.SubscribeRequest(subscriptions=[trades]))
            before, _ = await read(call, 40)
            process.send_signal(signal.SIGTERM)
            rest, goodbye = await read(call, 10**9)
            assert goodbye is not None
            assert goodbye.reason == v1.GoodbyeReason.DRAINED
            before += rest
            with trio.fail_after(10):
                assert await process.wait() == 0
    async with server.running(**kept):
        with grpc.insecure_channel(server.target) as channel:
            call = Peer(channel).stream()
            resumed = v1.Subscription(trades.selector, bookmark=goodbye.bookmark)
            call.send(subscribe=v1.SubscribeRequest(subscriptions=[resumed]))
            assert (await call.receive_control("subscribed")).results[0].recovered
            after, _ = await read(call, 40)
    assert faults(before + after) == []
    for kind in (v1.Kind.TRADE, v1.Kind.QUOTE):
        check_continuous([event for event in before + after if event.topic and event.topic.kind == kind])


async def read(call: Call, count: int) -> tuple[Events, v1.Goodbye | None]:
    """So many events, or all until Goodbye."""
    events: Events = []
    while len(events) < count:
        message = await call.receive()
        events += message.events
        if message.goodbye is not None:
            return events, message.goodbye
    return events, None


def check_continuous(events: Events) -> None:
    """One epoch, every sequence once, and a Gap of the venue's where the server was away."""
    news = [event for event in events if not event.flags & (LOCAL | IMAGE)]
    assert len({event.epoch for event in news}) == 1
    assert all((b.first_sequence or b.sequence) == a.sequence + 1 for a, b in pairwise(news))
    assert [event.gap.cause for event in news if event.gap] == [GapCause.VENUE]
