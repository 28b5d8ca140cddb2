"""Latest values across a crash, with real processes: they are there at once, and marked as what they are."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import grpc
import trio

from raven.codec.generated.raven import v1
from raven.model.events import Flag
from tests.e2e.processes import Server
from tests.grpc.serving import Peer, subscription
from tests.store.latest.redis_servers import redis_server
from tests.validators import faults

IMAGE = int(Flag.IMAGE)
DOWN = v1.TopicStatusState.DOWN
KINDS = (v1.Kind.TRADE, v1.Kind.QUOTE, v1.Kind.BOOK)
NAMES = ("book", "quote", "trade")
ALL = v1.TopicSelector("sim", "BTC-USDT", list(KINDS))

FEED = """
[server]
heartbeat_s = 0.2
[cache]
write_s = 0.1
[[feeds]]
name = "sim"
symbols = ["BTC-USDT"]
kinds = ["trade", "quote", "book"]
"""
LIVE_FEED = FEED + 'adapter = "sim"\n'
# the same venue, whom nobody can reach
DEAD_FEED = FEED + 'adapter = "binance-spot"\n[feeds.options]\nws_url = "ws://127.0.0.1:1"\nrest_url = "http://127.0.0.1:1"\n'


class House:
    """A server that is started again and again on the same data."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.server = Server()
        self.env = {"RAVEN_DATA_DIR": str(directory / "data"), **env}
        self._file = directory / "raven.toml"

    def config(self, text: str) -> Path:
        self._file.write_text(text)
        return self._file


async def latest(channel: grpc.Channel) -> list[v1.MarketEvent]:
    request = v1.GetLatestRequest([ALL])
    answers: Sequence[v1.GetLatestResponse] = await Peer(channel).server_stream("GetLatest", request, v1.GetLatestResponse)
    return [event for answer in answers for event in answer.events]


def images(events: Sequence[v1.MarketEvent]) -> list[v1.MarketEvent]:
    return [event for event in events if event.flags & IMAGE]


async def until_stored(channel: grpc.Channel, house: House) -> list[v1.MarketEvent]:
    """All topics have values, and a write has begun after that."""
    with trio.fail_after(15):
        while len(images(before := await latest(channel))) < len(KINDS):
            await trio.lowlevel.checkpoint()  # a server has no other way to tell
        written = await metric(house, "raven_cache_written_total")
        while await metric(house, "raven_cache_written_total") < written + 2 * len(KINDS):
            await trio.lowlevel.checkpoint()
    return before


async def metric(house: House, name: str) -> float:
    text = (await house.server.get("/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.split(" ")[0].partition("{")[0] == name)


async def killed(process: trio.Process) -> None:
    process.send_signal(signal.SIGKILL)
    with trio.fail_after(10):
        await process.wait()


async def test_after_a_kill_the_last_values_are_there_and_marked_though_the_venue_is_not(tmp_path: Path) -> None:
    house = House(tmp_path)
    wanted = subscription("sim/BTC-USDT", *KINDS)
    async with house.server.running(house.config(LIVE_FEED), **house.env) as process:
        with grpc.insecure_channel(house.server.target) as channel:
            call = Peer(channel).stream()
            call.send(hello=v1.Hello(client_id="desk"))
            call.send(subscribe=v1.SubscribeRequest(subscriptions=[wanted]))
            await call.receive_control("subscribed")
            before = images(await until_stored(channel, house))
            await killed(process)
    async with house.server.running(house.config(DEAD_FEED), **house.env):
        with grpc.insecure_channel(house.server.target) as channel:
            after = await latest(channel)
            check_marked(before, after)
            call = Peer(channel).stream()
            call.send(hello=v1.Hello(client_id="desk", restore=True))
            welcome = await call.receive_control("welcome")
            assert [one.id for one in welcome.restored] == ["sub-1"]
            record = await call.receive_events(2 * len(KINDS))
            check_marked(before, record)
            assert faults(record) == []
    async with house.server.running(house.config(DEAD_FEED), **house.env):  # the end before was a clean one
        with grpc.insecure_channel(house.server.target) as channel:
            check_goes_on(after, await latest(channel))


def check_values(before: Sequence[v1.MarketEvent], after: Sequence[v1.MarketEvent]) -> list[v1.MarketEvent]:
    """The value of every topic, none of which is older than what was seen, each in an epoch of its own."""
    old = {event.topic.kind: event for event in before if event.topic}
    new = {event.topic.kind: event for event in images(after) if event.topic}
    assert old.keys() == new.keys() == set(KINDS)
    for kind, event in new.items():
        assert event.received_ts_ns >= old[kind].received_ts_ns
        assert event.epoch > old[kind].epoch
    return list(new.values())


def check_marked(before: Sequence[v1.MarketEvent], after: Sequence[v1.MarketEvent]) -> None:
    """Every topic is DOWN, and has a value that is not older than what was seen, in an epoch of its own."""
    states = [event.status.state for event in after if event.status is not None]
    assert states[: len(KINDS)] == [DOWN] * len(KINDS)
    for event in check_values(before, after):
        assert event.sequence in (1, 2)  # DOWN, and perhaps DOWN again for another cause
        assert event.trade or event.quote or (event.book_snapshot and event.book_snapshot.bid_price)


def check_goes_on(before: Sequence[v1.MarketEvent], after: Sequence[v1.MarketEvent]) -> None:
    """The same values in the same epochs, and still DOWN."""
    old = {event.topic.kind: event for event in images(before) if event.topic}
    new = {event.topic.kind: event for event in images(after) if event.topic}
    assert old.keys() == new.keys()
    for kind, event in new.items():
        assert event.epoch == old[kind].epoch
        assert event.sequence >= old[kind].sequence
        assert (event.trade, event.quote, event.book_snapshot) == (old[kind].trade, old[kind].quote, old[kind].book_snapshot)
    assert {event.status.state for event in after if event.status} == {DOWN}


async def test_redis_may_go_and_come_back_and_no_client_notices(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        url = f"redis://127.0.0.1:{redis.port}"
        house = House(tmp_path, REDIS_URL=url, RAVEN_CACHE_TIMEOUT_S="0.5")
        busy = LIVE_FEED + "[feeds.options]\nrate = 1000\nburst = 10\n"
        async with house.server.running(house.config(busy), **house.env):
            with grpc.insecure_channel(house.server.target) as channel:
                call = Peer(channel).stream()
                call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", *KINDS)]))
                record = await call.receive_events(1_000)
                await until_up(house, 1, written=3)
                redis.kill()
                await until_up(house, 0)
                assert (await house.server.get("/health")).json()["components"]["cache"]["state"] == "degraded"
                assert (await house.server.get("/health/ready")).status_code == 200
                record += await call.receive_events(2_000)
                redis.start()
                await until_up(house, 1)
                assert sorted(redis.ask("SMEMBERS", "rv:{sim}:topics")) == [f"sim/BTC-USDT/{kind}".encode() for kind in NAMES]
                record += await call.receive_events(1_000)
        assert faults(record) == []
        assert [event for event in record if event.gap] == []


async def test_a_redis_that_is_started_after_the_server_is_read_then(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as redis:
        house = House(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}", RAVEN_CACHE_TIMEOUT_S="0.5")
        async with house.server.running(house.config(LIVE_FEED), **house.env) as process:
            with grpc.insecure_channel(house.server.target) as channel:
                call = Peer(channel).stream()
                call.send(hello=v1.Hello(client_id="desk"))
                call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", *KINDS)]))
                await call.receive_control("subscribed")
                before = images(await until_stored(channel, house))
                await killed(process)
        redis.kill()
        async with house.server.running(house.config(DEAD_FEED), **house.env):
            with grpc.insecure_channel(house.server.target) as channel:
                assert images(await latest(channel)) == []
                call = Peer(channel).stream()
                call.send(subscribe=v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", *KINDS)]))
                record = await call.receive_events(len(KINDS))
                redis.start()
                await until_up(house, 1)
                after = await latest(channel)
                check_old(before, after)
                record += await call.receive_events(len(KINDS))
                assert faults(record) == []
                returned = Peer(channel).stream()
                returned.send(hello=v1.Hello(client_id="desk", restore=True))
                welcome = await returned.receive_control("welcome")
                assert [one.id for one in welcome.restored] == ["sub-1"]


def check_old(before: Sequence[v1.MarketEvent], after: Sequence[v1.MarketEvent]) -> None:
    """Every topic is DOWN and has a value that is not older than what was seen."""
    assert {event.status.state for event in after if event.status} == {DOWN}
    for event in check_values(before, after):
        assert event.trade or event.quote or (event.book_snapshot and event.book_snapshot.bid_price)


async def until_up(house: House, up: int, written: int = 0) -> None:
    """The metrics say so, and that so many values have been written."""
    with trio.fail_after(15):
        while await metric(house, "raven_cache_up") != up or await metric(house, "raven_cache_written_total") < written:
            await trio.lowlevel.checkpoint()
