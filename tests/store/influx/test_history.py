"""History in a real InfluxDB, behind nginx as influxdb-client meets 2.x: written, read back, and what faults do to it."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from msgspec.structs import replace

from raven.errors import StartupError, StoreError
from raven.model import events as model
from raven.model.topic import Kind, Selector, Topic
from raven.store.blocks import Block, Image, TimeRange
from raven.store.config import HistoryConfig, InfluxConfig
from raven.store.elements import split, stamps
from raven.store.influx import InfluxHistory, open_influx_history, reading
from raven.store.influx.block_lines import SPAN_NS
from raven.store.influx.breaker import BreakerState
from raven.store.influx.endpoint import EndpointStatistics
from raven.store.influx.influxql import QueryClient
from raven.store.influx.influxql import string as quoted
from raven.store.opening import endpoint_statistics, open_history
from raven.store.query import StoredHistory
from tests.ports import free_port
from tests.store.influx import smoke
from tests.store.influx.samples import EPOCH, PAYLOADS, START_NS, TRADES, block_of, event, image_of, trades, trades_block
from tests.store.influx.servers import PASSWORD, USERNAME, InfluxServer, influx_server, missing

SECOND_NS = 1_000_000_000
ALL = TimeRange(START_NS - SECOND_NS, START_NS + 86_400 * SECOND_NS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    """One for all tests; each has a database of its own."""
    if missing():
        pytest.skip(missing())
    with influx_server(tmp_path_factory.mktemp("influx")) as started:
        yield started


@pytest.fixture
def database(server: InfluxServer, request: pytest.FixtureRequest) -> str:
    server.create(request.node.name)
    return str(request.node.name)


def config(*endpoints: InfluxConfig) -> HistoryConfig:
    return HistoryConfig(backend="influxdb", influxdb=endpoints)


@asynccontextmanager
async def opened(directory: Path, *endpoints: InfluxConfig) -> AsyncIterator[InfluxHistory]:
    with trio.fail_after(15):
        async with open_influx_history(config(*endpoints), directory) as history:
            yield history


async def write(history: InfluxHistory, blocks: Sequence[Block], images: Sequence[Image] = ()) -> None:
    await trio.to_thread.run_sync(history.write, blocks, images)


async def in_thread(ask: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(ask)


async def read(history: InfluxHistory, topic: Topic, within: TimeRange = ALL) -> list[Block]:
    blocks: list[Block] = await in_thread(lambda: list(history.blocks(topic, within)))
    return blocks


async def wait_until(history: InfluxHistory, holds: Callable[[EndpointStatistics], bool], name: str = "") -> EndpointStatistics:
    """The statistics of an endpoint as soon as they are so."""
    while True:
        found = next(each for each in history.endpoints() if name in ("", each.name))
        if holds(found):
            return found
        await trio.sleep(0.005)  # what is waited for happens in a thread and in another process


async def drained(history: InfluxHistory, name: str = "") -> EndpointStatistics:
    return await wait_until(history, lambda each: not each.waits, name)


def joined(blocks: Sequence[Block]) -> bytes:
    return b"".join(block.elements for block in blocks)


def assert_in_order(blocks: Sequence[Block]) -> None:
    places = [(block.epoch, block.first_sequence, block.last_sequence) for block in blocks]
    assert places == sorted(places)
    for before, after in pairwise(places):
        assert before[0] < after[0] or before[2] < after[1]


# ---- what is written is there


async def test_every_kind_is_written_and_read_back(server: InfluxServer, database: str, tmp_path: Path) -> None:
    blocks, sequences = [], dict[Topic, int]()
    for number, (kind, variant, payload) in enumerate(PAYLOADS):
        topic = Topic("sim", "BTC-USDT", kind, variant)
        sequences[topic] = sequences.get(topic, 0) + 1
        received = START_NS + number * SECOND_NS
        blocks.append(block_of(topic, [event(topic, payload, received, received - 7, number % 2 * 4)], sequences[topic]))
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, blocks)
        statistics = await drained(history)
        assert (statistics.points_rejected, statistics.requests_failed, history.unreadable) == (0, 0, 0)
        assert await in_thread(lambda: history.topics(ALL)) == sorted(sequences)
        for topic in sequences:
            found = await read(history, topic)
            assert found == [block for block in blocks if block.topic == topic]
        assert await in_thread(lambda: history.holes(ALL)) == []
    for measurement, field in (("trades", "price"), ("book_top", "bid_price"), ("candles", "open"), ("instruments", "base")):
        assert server.count(measurement, field, database) >= 1
    assert server.count("status", "state", database) == server.count("gaps", "missed", database) == 1
    [trade, _] = server.rows('SELECT * FROM "trades" ORDER BY time', database)
    assert (trade["price"], trade["size"], trade["side"], trade["trade_id"]) == (64000.12, 0.001, "buy", "12345")
    assert (trade["epoch"], trade["sequence"], trade["received_ts_ns"]) == (EPOCH, 1, START_NS)
    [quote] = server.rows('SELECT * FROM "quotes" WHERE "sequence" = 2', database)
    assert (quote["ask_price"], quote["ask_size"]) == (5e-324, 1.7976931348623157e308)


async def test_trades_of_one_nanosecond_stay_apart_and_retries_change_nothing(
    server: InfluxServer, database: str, tmp_path: Path
) -> None:
    block = trades_block(2_500, step_ns=0)
    async with opened(tmp_path, server.config(database)) as history:
        for _ in range(3):
            await write(history, [block])
        assert (await drained(history)).points_rejected == 0
        found = await read(history, TRADES)
    assert server.count("trades", "price", database) == 2_500
    assert joined(found) == block.elements


async def test_a_large_book_and_its_images(server: InfluxServer, database: str, tmp_path: Path) -> None:
    topic = Topic("sim", "BTC-USDT", Kind.BOOK)
    prices = [math.sqrt(number) for number in range(1, 6_001)]
    book = model.BookSnapshot(prices[::-1], prices, prices, prices[::-1], 5)
    block = block_of(topic, [event(topic, book, START_NS), *trades(3, START_NS + 1, topic=topic)])
    images = [image_of(topic, book, sequence, START_NS + sequence * SECOND_NS) for sequence in (5, 6, 7)]
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, [block], images)
        await drained(history)
        assert joined(await read(history, topic)) == block.elements
        for before_s, sequence in ((5, None), (6, 5), (6.5, 6), (7, 6), (1_000, 7)):
            found = await in_thread(lambda: history.image(topic, START_NS + int(before_s * SECOND_NS)))  # noqa: B023
            assert found == next((image for image in images if image.sequence == sequence), None)
        assert await in_thread(lambda: history.image(TRADES, START_NS * 2)) is None


async def test_ranges_by_either_clock(server: InfluxServer, database: str, tmp_path: Path) -> None:
    """Blocks of a second each, whose venue's time is an hour behind: those that touch a range, and no others."""
    blocks = []
    for number in range(50):
        at = START_NS + number * SECOND_NS
        made = [replace(each, venue_ts_ns=at - 3_600 * SECOND_NS) for each in trades(10, at, SECOND_NS // 10)]
        blocks.append(block_of(TRADES, made, number * 10 + 1))
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, blocks)
        await drained(history)

        async def places(start_s: float, end_s: float, venue: bool = False) -> list[int]:
            start, end = (START_NS + int(each * SECOND_NS) for each in (start_s, end_s))
            return [block.first_sequence // 10 for block in await read(history, TRADES, TimeRange(start, end, venue))]

        assert await places(0, 50) == list(range(50))
        assert await places(10, 12) == [10, 11]
        assert await places(10.95, 11) == []  # the last trade of a second is at .9
        assert await places(10.85, 11.000000001) == [10, 11]
        assert await places(10.9, 10.900000001) == [10]
        assert await places(-5, 0) == []
        assert await places(-3600, -3598.5, venue=True) == [0, 1]
        assert await places(0, 50, venue=True) == []
        assert await in_thread(lambda: history.topics(TimeRange(START_NS * 2, START_NS * 3))) == []
        assert await places(0, 10**8) == list(range(50))
        assert [block.first_sequence for block in await read(history, TRADES, TimeRange(-(2**63), 2**63))][:2] == [1, 11]


async def test_pages_overlaps_and_epochs(
    server: InfluxServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that were written again in other pieces give each event once, over many pages and two epochs."""
    monkeypatch.setattr(reading, "PAGE_ROWS_MAX", 7)
    events = trades(300)
    pieces = [(0, 4), (0, 9), (4, 20), (15, 30), *((at, at + 5) for at in range(30, 300, 5))]
    blocks = [block_of(TRADES, events[first:last], first + 1) for first, last in pieces]
    later = trades_block(60, START_NS + SECOND_NS, epoch=EPOCH + 1000)
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, [*blocks, later])
        await drained(history)
        found = await read(history, TRADES)
    assert joined(found) == block_of(TRADES, events).elements + later.elements
    assert_in_order(found)


async def test_a_clock_that_was_set_back_changes_no_order(server: InfluxServer, database: str, tmp_path: Path) -> None:
    steps_s = (100, 101, 40, 41, 102, 103)
    blocks = [trades_block(700, START_NS + at * SECOND_NS, number * 700 + 1) for number, at in enumerate(steps_s)]
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, blocks)
        await drained(history)
        found = await read(history, TRADES)
        assert_in_order(found)
        assert joined(found) == joined(blocks)


async def test_a_block_that_lasts_long_is_found_by_its_end(server: InfluxServer, database: str, tmp_path: Path) -> None:
    block = trades_block(20, step_ns=SPAN_NS // 3)
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, [block])
        await drained(history)
        last = TimeRange(block.last_ts_ns, block.last_ts_ns + 1)
        assert (await read(history, TRADES, last))[-1].last_sequence == 20
        assert joined(await read(history, TRADES)) == block.elements


async def test_what_is_on_its_way_is_waited_for_by_who_asks(server: InfluxServer, database: str, tmp_path: Path) -> None:
    """A client that reads up to now has everything that was kept when it asked, and is told of no hole."""
    async with opened(tmp_path, server.config(database)) as history:
        for number in range(10):
            await write(history, [trades_block(100, START_NS + number * SECOND_NS, number * 100 + 1)])
            assert await in_thread(lambda: history.holes(ALL)) == []
            assert (await read(history, TRADES))[-1].last_sequence == number * 100 + 100


async def test_history_goes_through_the_query_engine(server: InfluxServer, database: str, tmp_path: Path) -> None:
    """Pages, windows and a range over several topics, as GetHistoricalData asks; and a Gap for what an outage keeps away."""
    other = TRADES._replace(symbol="ETH-USDT")
    blocks = [
        block_of(topic, trades(100, START_NS + number * SECOND_NS, topic=topic), number * 100 + 1)
        for number in range(30)
        for topic in (TRADES, other)
    ]
    selectors = [Selector("*", "*", frozenset({Kind.TRADE}))]
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, blocks)
        stored = StoredHistory(history, trio.lowlevel.checkpoint)

        def ask(token: str = "", limit: int = 0) -> tuple[int, bool, str]:
            options = {"start_ns": START_NS, "end_ns": START_NS + 40 * SECOND_NS, "limit": limit}
            reading = stored.read(selectors, now_ns=START_NS * 2, page_token=token, **options)
            count = 0
            while not reading.done:
                count += sum(chunk.count for chunk in reading.step())
            return count, reading.complete, reading.page_token

        assert (await in_thread(ask))[:2] == (6_000, True)
        token, counts = "", []
        for _ in range(4):
            count, _, token = await in_thread(lambda: ask(token, 1_700))  # noqa: B023
            counts.append(count)
        assert counts == [1_700, 1_700, 1_700, 900]
        await in_thread(server.kill)
        try:
            await write(history, [trades_block(100, START_NS + 30 * SECOND_NS, 3_001)])
            await wait_until(history, lambda each: each.breaker is BreakerState.OPEN)
        finally:
            await in_thread(server.start_influxd)
        await drained(history)
        assert (await in_thread(ask))[:2] == (6_100, True)


# ---- bad input


@pytest.mark.parametrize("text", ["x' OR '1'='1", 'x\'; DROP DATABASE "a"; --', 'a"b', "a\\", "a\\' OR 1=1 --", "é, =\t"])
async def test_names_in_a_query_are_escaped(server: InfluxServer, tmp_path: Path, text: str) -> None:
    server.create("escaped")
    async with opened(tmp_path, server.config("escaped")) as history:
        await write(history, [trades_block(5)])
        await drained(history)
        for topic in (Topic(text, "BTC-USDT", Kind.TRADE), Topic("sim", text, Kind.TRADE), TRADES._replace(variant=text)):
            assert await read(history, topic) == []
            assert await in_thread(lambda: history.image(topic, START_NS * 2)) is None  # noqa: B023
        assert len(await read(history, TRADES)) == 1


async def test_a_string_literal_is_what_it_was(server: InfluxServer, database: str) -> None:
    """Hostile texts are found again as the values of tags by their literals, and nothing else is."""
    texts = ["x' OR '1'='1", "'", "''", 'a"b', "a\\b", "\\'"]
    lines = [f"m,t={text.replace(' ', chr(92) + ' ').replace('=', chr(92) + '=')} v={n}i {n}" for n, text in enumerate(texts)]
    response = server._direct.post("/write", params={"db": database}, content="\n".join(lines).encode())
    assert response.status_code == 204, response.text
    client = QueryClient(server.config(database))
    for number, text in enumerate(texts):
        [found] = await in_thread(lambda: client.ask(f'SELECT "v" FROM "m" WHERE "t" = {quoted(text)}'))  # noqa: B023
        assert [row["v"] for series in found for row in series.rows()] == [number]
    client.close()


async def test_a_bad_line_is_set_aside_and_the_batch_goes_on(server: InfluxServer, database: str, tmp_path: Path) -> None:
    """Somebody has written prices as texts: InfluxDB refuses ours by name. All else is written, and history is whole."""
    server._direct.post("/write", params={"db": database}, content=f'trades,venue=sim,symbol=BTC-USDT price="text" {START_NS}')
    async with opened(tmp_path, server.config(database)) as history:
        quotes = block_of(Topic("sim", "BTC-USDT", Kind.QUOTE), [event(TRADES, model.Quote(1.0, 1.0, 2.0, 1.0), START_NS)] * 40)
        await write(history, [quotes, trades_block(1)])
        statistics = await drained(history)
        assert (statistics.points_rejected, statistics.points_written) == (1, 42)
        assert joined(await read(history, TRADES)) == trades_block(1).elements
        assert await in_thread(lambda: history.holes(ALL)) == []
    assert server.count("quotes", "bid_price", database) == 40
    [file] = (tmp_path / "spool" / database / "rejected").iterdir()
    comment, line = file.read_text().splitlines()
    assert "field type conflict" in comment
    assert line.startswith("trades,side=buy,symbol=BTC-USDT,venue=sim price=100.0,")


async def test_a_point_of_somebody_else_is_an_error_and_no_event(server: InfluxServer, database: str, tmp_path: Path) -> None:
    line = (
        f'raven_blocks,venue=sim,symbol=BTC-USDT,kind=trade epoch=1i,first_ts_ns=1i,last_ts_ns={START_NS}i,data="%" {START_NS}'
    )
    server._direct.post("/write", params={"db": database}, content=f"{line}\nraven_blocks,venue=X epoch=1i {START_NS}")
    async with opened(tmp_path, server.config(database)) as history:
        assert await in_thread(lambda: history.topics(ALL)) == [TRADES]
        with pytest.raises(StoreError, match="a point of history has no whole numbers"):
            await read(history, TRADES)


async def test_events_that_cannot_be_read_are_counted_and_stop_nobody(
    server: InfluxServer, database: str, tmp_path: Path
) -> None:
    broken = attrs.evolve(trades_block(1), elements=b"\x0a\xff\xff")
    unknown_epoch = trades_block(1, epoch=2**63)
    async with opened(tmp_path, server.config(database)) as history:
        await write(history, [broken, unknown_epoch, trades_block(3)])
        await drained(history)
        assert history.unreadable >= 2
        assert joined(await read(history, TRADES)).endswith(trades_block(3).elements)


# ---- faults


async def test_a_wrong_token_is_told_and_nothing_is_lost(
    server: InfluxServer, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = server.config(database, token="hunter2")
    async with opened(tmp_path, wrong) as history:
        await write(history, [trades_block(10)])
        statistics = await wait_until(history, lambda each: each.breaker is BreakerState.OPEN)
        assert statistics.reason.startswith("401 Unauthorized: unauthorized access (valid: a token")
        assert statistics.spool_points == 11
        with pytest.raises(StoreError, match=f"history endpoint {database}: 401 unauthorized access"):
            await read(history, TRADES)
    told = capsys.readouterr()
    assert "401" in told.out + told.err
    assert "hunter2" not in told.out + told.err
    async with opened(tmp_path, server.config(database)) as history:  # somebody has mended it
        await drained(history)
        assert joined(await read(history, TRADES)) == trades_block(10).elements


async def test_an_unknown_bucket_waits_until_it_is_there(server: InfluxServer, tmp_path: Path) -> None:
    server.ask('DROP DATABASE "later"')
    async with opened(tmp_path, server.config("later")) as history:
        await write(history, [trades_block(10)])
        statistics = await wait_until(history, lambda each: each.breaker is BreakerState.OPEN)
        assert statistics.reason.startswith("404 Not Found: database not found")
        server.create("later")
        await drained(history)
        assert joined(await read(history, TRADES)) == trades_block(10).elements


async def test_a_server_that_is_killed_under_load_has_everything_afterwards(
    server: InfluxServer, database: str, tmp_path: Path
) -> None:
    """SIGKILL while batches come in, some seconds of nothing, and back: each point is there, once, in order."""
    count = 60
    async with opened(tmp_path, server.config(database, batch_points=200)) as history:
        for number in range(count):
            if number == 15:
                await in_thread(server.kill)
            if number == 40:
                await wait_until(history, lambda each: each.breaker is BreakerState.OPEN)
                await in_thread(server.start_influxd)
            began = trio.current_time()
            await write(history, [trades_block(100, START_NS + number * SECOND_NS, number * 100 + 1)])
            assert trio.current_time() - began < 1.0
        statistics = await drained(history)
        assert statistics.requests_failed > 0
        assert (statistics.points_dropped, statistics.points_rejected) == (0, 0)
        assert statistics.breaker is BreakerState.CLOSED
        found = await read(history, TRADES)
        assert await in_thread(lambda: history.holes(ALL)) == []
    assert server.count("trades", "price", database) == count * 100
    assert [stamps(each)[0] for each in split(joined(found))] == list(range(1, count * 100 + 1))


async def test_a_server_that_hangs_holds_nobody(server: InfluxServer, database: str, tmp_path: Path) -> None:
    """SIGSTOP: requests run into their time limit, writing and the end do not wait for them."""
    async with opened(tmp_path, server.config(database, timeout_s=0.5)) as history:
        server.signal(signal.SIGSTOP)
        try:
            began = trio.current_time()
            await write(history, [trades_block(10)])
            assert trio.current_time() - began < 0.5
            statistics = await wait_until(history, lambda each: each.breaker is BreakerState.OPEN)
            assert "timed out" in statistics.reason.lower()
            assert await in_thread(lambda: history.holes(ALL)) == [(START_NS, START_NS + 9_000_001)]
            with pytest.raises(StoreError, match="Timeout"):
                await read(history, TRADES)
        finally:
            server.signal(signal.SIGCONT)
        await drained(history)
        assert joined(await read(history, TRADES)) == trades_block(10).elements


async def test_a_dead_endpoint_holds_no_other(server: InfluxServer, database: str, tmp_path: Path) -> None:
    dead = InfluxConfig(f"http://127.0.0.1:{free_port()}", name="dead", timeout_s=1.0)
    async with opened(tmp_path, dead, server.config(database)) as history:
        for number in range(20):
            await write(history, [trades_block(50, START_NS + number * SECOND_NS, number * 50 + 1)])
        await drained(history, database)
        waiting = await wait_until(history, lambda each: each.breaker is BreakerState.OPEN, "dead")
        assert waiting.spool_points == 20 * 51
        assert joined(await read(history, TRADES)).count(b"BTC-USDT") == 1_000
        assert await in_thread(lambda: history.holes(ALL)) == []  # of the one that answers
    assert (tmp_path / "spool" / "dead").is_dir()


async def test_only_a_dead_endpoint_is_an_error_with_its_name(tmp_path: Path) -> None:
    async with opened(tmp_path, InfluxConfig(f"http://127.0.0.1:{free_port()}", name="dead", timeout_s=1.0)) as history:
        for ask in (
            lambda: history.topics(ALL),
            lambda: list(history.blocks(TRADES, ALL)),
            lambda: history.image(TRADES, START_NS),
        ):
            with pytest.raises(StoreError, match="history endpoint dead: ConnectError"):
                await in_thread(ask)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs to be root, to mount a small file system")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


async def test_a_full_disk_is_told_and_what_does_not_fit_waits_in_memory(
    server: InfluxServer, database: str, small_disk: Path
) -> None:
    """The disk fills while the database is away; both come back, and each point is there."""
    server.ask(f'DROP DATABASE "{database}"')
    count = 15
    async with opened(small_disk, server.config(database)) as history:
        for number in range(count):
            await write(history, [trades_block(1_000, START_NS + number * SECOND_NS, number * 1_000 + 1, 1)])
        [statistics] = history.endpoints()
        assert statistics.disk == "No space left on device"
        assert statistics.points_dropped == 0
        assert statistics.spool_points >= count * 1_000
        server.create(database)
        statistics = await drained(history)
        assert (statistics.reason, statistics.points_dropped) == ("", 0)
        await write(history, [trades_block(1, START_NS + count * SECOND_NS, count * 1_000 + 1)])
        assert (await drained(history)).disk == ""
        found = await read(history, TRADES)
    assert [stamps(each)[0] for each in split(joined(found))] == list(range(1, count * 1_000 + 2))


CHILD = """
import sys
from pathlib import Path
from raven.store.config import HistoryConfig, InfluxConfig
from raven.store.influx import InfluxHistory
from tests.store.influx.samples import START_NS, trades_block

url, name, directory = sys.argv[1:]
endpoint = InfluxConfig(url, name=name, database=name, batch_points=50)
history = InfluxHistory(HistoryConfig(backend="influxdb", influxdb=(endpoint,)), Path(directory))
for number in range(100_000):
    history.write([trades_block(20, START_NS + number * 1_000_000_000, number * 20 + 1)], [])
    print(number, flush=True)
"""


async def test_a_killed_process_has_lost_nothing_that_was_written(server: InfluxServer, database: str, tmp_path: Path) -> None:
    """kill -9 of a recorder whose endpoint is down: the next one writes what its `write` had returned for, in order."""
    url = f"http://127.0.0.1:{free_port()}"
    child = subprocess.Popen([sys.executable, "-c", CHILD, url, database, tmp_path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as told:
        try:
            done = next(int(line) for line in told if int(line) >= 20)
        finally:
            child.kill()
            child.wait()
    async with opened(tmp_path, server.config(database)) as history:
        await drained(history)
        found = await read(history, TRADES, TimeRange(START_NS, START_NS * 2))
    sequences = [stamps(each)[0] for each in split(joined(found))]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) >= (done + 1) * 20
    assert server.count("trades", "price", database) >= (done + 1) * 20


async def test_what_waits_for_an_endpoint_that_is_gone_is_told(
    server: InfluxServer, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = InfluxConfig(f"http://127.0.0.1:{free_port()}", name="renamed", timeout_s=1.0)
    async with opened(tmp_path, dead) as history:
        await write(history, [trades_block(10)])
    capsys.readouterr()
    async with opened(tmp_path, server.config(database)):
        told = capsys.readouterr()
    assert "history waits for an endpoint that is not configured" in told.out + told.err
    assert "spool/renamed" in told.out + told.err


# ---- what cannot be


def test_no_endpoint_and_a_directory_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"history\.influxdb: .*INFLUXDB_URL"):
        InfluxHistory(HistoryConfig(backend="influxdb"), tmp_path)
    (tmp_path / "spool").write_text("")
    with pytest.raises(StartupError, match=r"data\.dir: "):
        InfluxHistory(config(InfluxConfig("http://x")), tmp_path)


async def test_it_is_opened_as_the_operator_says(server: InfluxServer, database: str, tmp_path: Path) -> None:
    async with open_history(config(server.config(database)), tmp_path) as history:
        assert history is not None
        await in_thread(lambda: history.write([trades_block(10)], []))
        [endpoint] = endpoint_statistics(history)
        assert endpoint.name == database
    assert server.count("trades", "price", database) == 10  # what waited at the end was written
    async with open_history(HistoryConfig(backend="none"), tmp_path) as none:
        assert endpoint_statistics(none) == ()


@pytest.mark.parametrize("right", [True, False])
def test_the_smoke_test_that_users_run(server: InfluxServer, right: bool, capsys: pytest.CaptureFixture[str]) -> None:
    server.create("smoke")
    token = f"{USERNAME}:{PASSWORD}" if right else "wrong"
    environ = {"INFLUXDB_URL": server.config("x").url, "INFLUXDB_BUCKET": "smoke", "INFLUXDB_TOKEN": token}
    assert smoke.main(environ) == (0 if right else 1)
    told = capsys.readouterr().out
    assert ("every kind of event was written and read back" in told) == right
    assert ("not everything was taken" in told) != right
