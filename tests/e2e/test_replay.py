"""`raven replay`: what a server has kept, told to clients of another one, flat out and at a pace; with real processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from statistics import median

import attrs
import pytest
import trio
from msgspec.structs import replace

import raven.client.trio as client_of_trio
from raven.app import App
from raven.client.events import StreamEvent
from raven.config import Config, ResolvedFeed, resolve_feeds
from raven.config.sources import load_config
from raven.errors import ClientError, StartupError, StoreError
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Gap, State, TopicStatus, Trade
from raven.model.topic import Kind, Selector, Topic
from raven.replay_app import ReplayApp, ReplayOptions
from raven.store.sqlite import SqliteHistory
from raven.store.sqlite.past import ReadOnlyHistory
from tests.e2e.processes import process, raven_command, run_command
from tests.ports import free_port
from tests.store.test_backup import EVER

RECORDED_S = 1.5
CONFIG = """
[server]
port = 0
[health]
port = 0
[metrics]
port = 0
[[feeds]]
name = "sim"
adapter = "sim"
symbols = ["BTC-USDT", "ETH-USDT"]
kinds = ["trade", "quote", "book", "book_top"]
[feeds.options]
rate = 50
"""
ALL = (Selector("*", "*", variant="*"),)
Key = tuple[str, Kind]


@attrs.frozen
class Recorded:
    """A data directory, and what its history has, in the order of each topic."""

    data: Path
    events: dict[Topic, list[StreamEvent]]

    @property
    def history(self) -> Path:
        return self.data / "history"

    @property
    def bounds(self) -> tuple[int, int]:
        times = [event.received_ts_ns for events in self.events.values() for event in events]
        return min(times), max(times) + 1


def settings(directory: Path) -> tuple[Config, tuple[ResolvedFeed, ...]]:
    file = directory / "raven.toml"
    file.write_text(CONFIG)
    loaded = load_config(file, {})
    return loaded.value, resolve_feeds(loaded.value, loaded.provenance)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The simulated venue for two seconds, through a whole server."""
    directory = tmp_path_factory.mktemp("recorded")
    config, feeds = settings(directory)

    async def record() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(App(config, feeds, directory / "data").run)
            await trio.sleep(RECORDED_S)  # what happens meanwhile is what is wanted
            os.kill(os.getpid(), 2)

    trio.run(record)
    return Recorded(directory / "data", read(directory / "data" / "history"))


def read(directory: Path) -> dict[Topic, list[StreamEvent]]:
    from raven.client.decode import Decoder

    with closing(SqliteHistory(directory)) as history:
        return {
            topic: Decoder().decode(b"".join(block.elements for block in history.blocks(topic, EVER))).events
            for topic in history.topics(EVER)
        }


@asynccontextmanager
async def replaying(recorded: Recorded, **options: object) -> AsyncIterator[tuple[str, ReplayApp]]:
    """A replay in this process, until it ends by itself or the block is left."""
    start_ns, end_ns = recorded.bounds
    chosen = attrs.evolve(ReplayOptions(ALL, start_ns, end_ns), **options)  # type: ignore[arg-type]
    config, _ = settings(recorded.data.parent)
    with closing(ReadOnlyHistory(recorded.history)) as history:
        app = ReplayApp(config, history, chosen)
        async with trio.open_nursery() as nursery:
            yield await nursery.start(app.run), app
            nursery.cancel_scope.cancel()


async def follow(target: str, kinds: str = "trade,quote,book") -> tuple[list[StreamEvent], list[float]]:
    """Everything up to the topics' end, and when each event came."""
    events: list[StreamEvent] = []
    times: list[float] = []
    closed: set[Topic] = set()
    with trio.fail_after(20):
        async with client_of_trio.connect(target) as client:
            async for batch in client.stream("*/*", kinds=kinds).batches:
                events += batch.events
                times += [trio.current_time()] * len(batch.events)
                closed |= {e.topic for e in batch.events if isinstance(e.payload, TopicStatus) and e.payload.final}
                if len(closed) == 2 * len(kinds.split(",")):
                    return events, times
    raise AssertionError("the stream ended before its topics")


def book_of(events: Sequence[StreamEvent]) -> OrderBook:
    book = OrderBook()
    for event in events:
        if isinstance(event.payload, BookSnapshot):
            book.reset(event.payload)
        elif isinstance(event.payload, BookDelta):
            book.apply(event.payload)
    return book


def news(events: Sequence[StreamEvent]) -> dict[Key, list[tuple[object, int]]]:
    """What happened, by symbol and kind: payload and time; what is told to the client alone, and the end, left out."""
    found: dict[Key, list[tuple[object, int]]] = {}
    for event in events:
        payload = event.payload
        if event.flags or (isinstance(payload, TopicStatus) and payload.final):
            continue
        payload = replace(payload, epoch=0) if isinstance(payload, Gap) else payload
        found.setdefault((event.topic.symbol, event.topic.kind), []).append((payload, event.received_ts_ns))
    return found


async def test_flat_out_every_event_is_told_once_in_order_under_another_venue(recorded: Recorded) -> None:
    async with replaying(recorded, speed=0.0) as (target, app):
        events, _ = await follow(target)
    assert {event.topic.venue for event in events} == {"sim-replay"}
    assert "sim-replay/BTC-USDT/book_top/20" in map(str, app.topics)
    was = [event for of in recorded.events.values() for event in of if event.topic.kind in (1, 2, 3)]
    assert news(events) == news(was)
    assert len(was) > 100
    for symbol in ("BTC-USDT", "ETH-USDT"):
        of_book = [event for event in events if event.topic == Topic("sim-replay", symbol, Kind.BOOK)]
        sequences = [event.sequence for event in of_book if not event.flags]
        assert sequences == list(range(1, len(sequences) + 1))
        assert book_of(of_book).snapshot() == book_of(recorded.events[Topic("sim", symbol, Kind.BOOK)]).snapshot()
    assert app.progress().complete


async def test_at_ten_times_the_speed_it_takes_a_tenth_of_the_time(recorded: Recorded) -> None:
    start_ns, end_ns = recorded.bounds
    async with replaying(recorded, speed=10.0) as (target, _):
        events, times = await follow(target)
    told = [(event.received_ts_ns, at) for event, at in zip(events, times, strict=True) if not event.flags]
    first_ns, began = told[0]
    late = [at - began - (ts_ns - first_ns) / 1e10 for ts_ns, at in told[:-6]]
    assert median(late) < 0.1, "each comes when its time has come; a busy machine is late now and then"
    assert min(late) > -0.02, "and never before"
    assert times[-1] - times[0] > 0.9 * (end_ns - start_ns) / 1e10


async def test_a_start_in_the_middle_begins_with_images(recorded: Recorded) -> None:
    start_ns, end_ns = recorded.bounds
    middle = (start_ns + end_ns) // 2
    async with replaying(recorded, speed=0.0, start_ns=middle) as (target, _):
        events, _ = await follow(target, "book")
    topic = Topic("sim-replay", "BTC-USDT", Kind.BOOK)
    of_book = [event for event in events if event.topic == topic]
    assert [event.is_image for event in of_book[:2]] == [False, True], "its status, its image"
    assert isinstance(of_book[0].payload, TopicStatus)
    assert of_book[0].payload.state == State.LIVE
    assert of_book[1].received_ts_ns < middle
    assert all(event.received_ts_ns >= middle for event in of_book[2:])
    assert book_of(of_book).snapshot() == book_of(recorded.events[Topic("sim", "BTC-USDT", Kind.BOOK)]).snapshot()


async def test_a_loop_begins_again_and_operators_see_what_it_is(recorded: Recorded) -> None:
    async with replaying(recorded, speed=0.0, loop=True, health_port=0) as (target, app):
        async with client_of_trio.connect(target) as client:
            with trio.fail_after(20):
                (feed,) = await client.feeds()
                assert (feed.name, feed.adapter) == ("sim-replay", "replay")
                with pytest.raises(ClientError, match="it cannot be started or stopped"):
                    await client.stop_feed("sim-replay")
                trades: list[StreamEvent] = []
                async for event in client.stream("sim-replay/BTC-USDT", kinds="trade"):
                    trades.append(event)
                    if [e for e in trades if isinstance(e.payload, Gap)] and isinstance(event.payload, Trade):
                        break
        (health,) = app.health().feeds
    times = [event.received_ts_ns for event in trades if isinstance(event.payload, Trade) and not event.flags]
    assert times[-1] == times[0]
    assert (health.name, health.state) == ("sim-replay", "live")


async def test_the_command_beside_a_tail(recorded: Recorded) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in recorded.data.rglob("*.sqlite")}
    port = free_port()
    command = raven_command(
        "replay", "BTC-USDT", "--kind", "trade", "--speed", "0", "--exit", "--port", str(port), "--data-dir", str(recorded.data)
    )
    lines: list[str] = []
    count = len([e for e in recorded.events[Topic("sim", "BTC-USDT", Kind.TRADE)] if e.flags == 0]) + 1

    def ready(line: str) -> bool:
        lines.append(line)
        return "Ctrl-C ends it" in line

    async with process(command, ready, cwd=recorded.data.parent) as served:
        tail = await run_command(
            "tail", "--json", "--server", f"127.0.0.1:{port}", "--kind", "trade", "--limit", str(count + 1)
        )
        with trio.fail_after(10):
            assert await served.wait() == 0
    assert tail.returncode == 0, tail.stderr
    told = [json.loads(line) for line in tail.stdout.splitlines()]
    assert {event["venue"] for event in told} == {"sim-replay"}
    text = "\n".join(lines)
    assert "Raven is replaying." in text
    assert "1, of sim-replay" in text
    assert "flat out" in text
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in recorded.data.rglob("*.sqlite")}
    assert after == before


async def test_it_reads_beside_the_server_and_ends_when_its_clients_have_left(recorded: Recorded) -> None:
    from raven.store import open_data_dir

    with open_data_dir(recorded.data):
        with trio.fail_after(20):
            async with replaying(recorded, speed=0.0) as (target, app):
                await follow(target, "trade")
                began = time.monotonic()
                while app.progress().clients:
                    await trio.lowlevel.checkpoint()
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--speed", "-1"], "-1.0 is not valid: 0 (flat out) or more", 2),
        (["--from", "2020-01-01", "--to", "2020-01-02"], "nothing is kept of that time: there is ", 1),
        (["BTC-EUR"], "raven: nothing is kept of */BTC-EUR", 1),
        (["--suffix", "_x"], "suffix: 'sim_x' is not valid", 1),
        (["--from", "1h ago", "--to", "2h ago"], "'2h ago' is before --from '1h ago'", 2),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str],
    said: str,
    code: int,
    recorded: Recorded,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from raven.cli import main

    monkeypatch.chdir(recorded.data.parent)
    assert main.run(["replay", "--data-dir", str(recorded.data), *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_reading_alone_touches_nothing_and_tells_what_is_damaged(recorded: Recorded, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="there is no history in"):
        ReadOnlyHistory(tmp_path / "none")
    directory = tmp_path / "history"
    directory.mkdir()
    (path,) = recorded.history.glob("*.sqlite")
    (directory / path.name).write_bytes(path.read_bytes())
    (directory / "2020-01-01.sqlite").write_bytes(b"no database" * 1000)
    there = sorted(directory.iterdir())
    with closing(ReadOnlyHistory(directory)) as history:
        assert history.bounds == recorded.bounds or history.bounds[0] == recorded.bounds[0]  # type: ignore[index]
        assert history.topics(EVER) == sorted(recorded.events)
        assert [end - start for start, end in history.holes(EVER)] == [86_400 * 10**9]
        for topic in recorded.events:
            count = sum(block.count for block in history.blocks(topic, EVER))
            assert count == len(recorded.events[topic])
        with pytest.raises(StoreError, match="for reading alone"):
            history.write([], [])
    assert sorted(directory.iterdir()) == there
