"""GetHistoricalData of a real server over a store in memory: messages, errors, pace, backpressure."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from raven.codec.generated.raven import v1
from raven.errors import StoreError
from raven.grpc import GrpcConfig
from raven.grpc import history as history_module
from raven.model.topic import Topic
from raven.store import query as query_module
from raven.store.blocks import TimeRange
from raven.store.query import StoredHistory
from tests.grpc.raw_calls import PAIR, call_headers, framed, raw_peer
from tests.grpc.serving import SERVICE, Peer, Serving, serving
from tests.store.memory_history import BTC, ETH, MemoryHistory, trades

SECOND = 10**9
WANTED = v1.TopicSelector("sim", "*", [v1.Kind.TRADE])


async def nothing() -> None:
    """Nothing waits to be written."""


def request(**fields: Any) -> v1.GetHistoricalDataRequest:
    return v1.GetHistoricalDataRequest(**{"selectors": [WANTED], "end_ts_ns": 10**15, **fields})


@asynccontextmanager
async def history_of(store: MemoryHistory, config: GrpcConfig | None = None, flush: Any = nothing) -> AsyncIterator[Serving]:
    async with serving(PAIR, config=config) as raven:
        raven.server.historical.history = StoredHistory(store, flush)
        yield raven


async def asked(peer: Peer, **fields: Any) -> list[v1.GetHistoricalDataResponse]:
    return await peer.server_stream("GetHistoricalData", request(**fields), v1.GetHistoricalDataResponse)


def sequences(messages: Sequence[v1.GetHistoricalDataResponse]) -> list[tuple[str, int]]:
    return [(event.topic.symbol[:3], event.sequence) for message in messages for event in message.events if event.topic]


def small() -> MemoryHistory:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(n * SECOND, None) for n in range(1, 6)])])
    store.write([trades(ETH, 1, 1, [(3 * SECOND, 2 * SECOND)])])
    return store


ALL = [("BTC", 1), ("BTC", 2), ("BTC", 3), ("ETH", 1), ("BTC", 4), ("BTC", 5)]


async def test_a_range_with_its_end_and_every_field() -> None:
    async with history_of(small()) as raven, raven.client() as peer:
        messages = await asked(peer)
        assert sequences(messages) == ALL
        assert [(message.end, message.complete) for message in messages] == [(True, True)]
        assert sequences(await asked(peer, start_ts_ns=2 * SECOND, end_ts_ns=4 * SECOND)) == ALL[1:4]
        assert sequences(await asked(peer, clock=v1.GetHistoricalDataRequestClock.VENUE, end_ts_ns=3 * SECOND)) == [
            ("BTC", 1), ("BTC", 2), ("ETH", 1)]  # fmt: skip
        page = await asked(peer, limit=4)
        assert sequences(page) == ALL[:4]
        assert sequences(await asked(peer, limit=4, page_token=page[-1].next_page_token)) == ALL[4:]
        image = await asked(peer, start_ts_ns=3 * SECOND + 1, include_image=True)
        assert [(event.flags, event.sequence) for m in image for event in m.events] == [(1, 3), (1, 1), (0, 4), (0, 5)]


async def test_nothing_is_an_answer_too() -> None:
    async with history_of(MemoryHistory()) as raven, raven.client() as peer:
        [message] = await asked(peer)
        assert (message.events, message.end, message.complete) == ([], True, True)
        [again] = await asked(peer, page_token=message.next_page_token)
        assert (again.events, again.end) == ([], True)


async def test_a_hole_makes_it_incomplete() -> None:
    store = small()
    store.lost = [(4 * SECOND, 5 * SECOND)]
    async with history_of(store) as raven, raven.client() as peer:
        messages = await asked(peer)
    assert (messages[-1].end, messages[-1].complete) == (True, False)
    gaps = [event for message in messages for event in message.events if event.gap]
    assert [(gap.gap and gap.gap.cause, gap.flags) for gap in gaps] == [(v1.GapCause.STORE, 2)] * 2


TEN_YEARS = 3_650 * 86_400 * SECOND


@pytest.fixture(scope="module")
def refusing() -> Iterator[int]:
    """The port of a server that runs in a thread, as long as the module does."""
    started, stop = threading.Event(), trio.Event()
    port: list[Any] = []

    async def run() -> None:
        async with history_of(small()) as raven:
            port.extend((raven.port, trio.lowlevel.current_trio_token()))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    started.wait(10)
    yield port[0]
    trio.from_thread.run_sync(stop.set, trio_token=port[1])
    thread.join(10)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"start_ts_ns": 5, "end_ts_ns": 4}, "end_ts_ns: 4 is not valid: not before start_ts_ns (5), or 0 for now"),
        ({"start_ts_ns": -1}, "start_ts_ns: -1 is not valid: nanoseconds since 1970, 0 or more"),
        ({"end_ts_ns": -5}, "end_ts_ns: -5 is not valid: nanoseconds since 1970, or 0 for now"),
        ({"start_ts_ns": 2**62, "end_ts_ns": 0}, f"end_ts_ns: 0 is not valid: not before start_ts_ns ({2**62})"),
        ({"limit": 4_000_000_000}, "limit: 4000000000 is not valid: 1 to 1000000000 events, or 0 for all"),
        ({"clock": 9}, "clock: 9 is not valid: CLOCK_RECEIVED, CLOCK_VENUE, or unset"),
        ({"replay_speed": -1.0}, "replay_speed: -1.0 is not valid: 0.001 to 100,000, or 0 for as fast as it can"),
        ({"replay_speed": math.nan}, "replay_speed: nan is not valid"),
        ({"replay_speed": math.inf}, "replay_speed: inf is not valid"),
        ({"replay_speed": 1e9}, "replay_speed: 1000000000.0 is not valid"),
        ({"page_token": "made-up"}, "page_token: 'made-up' is not valid: empty, or a next_page_token as it came"),
        ({"selectors": []}, "selectors: [] is not valid: at least one selector"),
        (
            {"selectors": [v1.TopicSelector("sim", "BTC-USDT")]},
            "selectors[0].kinds: [] is not valid: at least one of KIND_TRADE",
        ),
        ({"selectors": [v1.TopicSelector("sim", "btc' OR 1=1", [v1.Kind.TRADE])]}, "selectors[0].symbol: "),
        ({"selectors": [WANTED] * 101}, "selectors: 101 is not valid: at most 100"),
    ],
)
def test_bad_input_is_refused_by_name(refusing: int, fields: dict[str, Any], text: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{refusing}") as channel:
        call = channel.unary_stream(SERVICE + "GetHistoricalData", request_serializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(request(**fields), timeout=10))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert text in caught.value.details()  # type: ignore[attr-defined]


def test_ten_years_are_fine(refusing: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{refusing}") as channel:
        call = channel.unary_stream(SERVICE + "GetHistoricalData", bytes, v1.GetHistoricalDataResponse.parse)
        messages = list(call(request(end_ts_ns=TEN_YEARS), timeout=10))
    assert sequences(messages) == ALL


async def status_of(peer: Peer, **fields: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        await asked(peer, **fields)
    return caught.value.code().name, caught.value.details()  # type: ignore[attr-defined]


async def test_a_token_of_another_query_names_itself() -> None:
    async with history_of(small()) as raven, raven.client() as peer:
        token = (await asked(peer, limit=1))[-1].next_page_token
        code, text = await status_of(peer, page_token=token, start_ts_ns=1)
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("page_token: ")
    assert "another" not in text
    assert "other selectors, range, clock or include_image" in text


async def test_without_a_history_it_says_what_would_keep_one() -> None:
    async with serving(PAIR) as raven, raven.client() as peer:
        code, text = await status_of(peer)
    assert code == "FAILED_PRECONDITION"
    assert "[history] backend" in text


async def test_a_store_that_is_away_is_unavailable() -> None:
    class Away(MemoryHistory):
        def topics(self, within: TimeRange) -> list[Topic]:
            raise StoreError("the disk is on fire")

    async with history_of(Away()) as raven, raven.client() as peer:
        assert await status_of(peer) == ("UNAVAILABLE", "the history cannot be read: the disk is on fire")


async def test_what_was_published_a_moment_ago_is_waited_for() -> None:
    store, flushes = small(), []
    before_ns = time.time_ns()

    async def flush() -> None:
        flushes.append(1)
        store.write([trades(BTC, 1, 6, [(before_ns, None)])])

    async with history_of(store, flush=flush) as raven, raven.client() as peer:
        messages = await asked(peer, end_ts_ns=0)
        assert sequences(messages) == [*ALL, ("BTC", 6)]
        assert len(flushes) == 1
        assert sequences(await asked(peer, end_ts_ns=0, page_token=messages[-1].next_page_token)) == []
        await asked(peer)  # long ago
        assert len(flushes) == 1


async def test_what_cannot_be_written_in_time_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "FLUSH_WAIT_MAX_S", 0.01)
    async with history_of(small(), flush=trio.sleep_forever) as raven, raven.client() as peer:
        messages = await asked(peer, end_ts_ns=0)
    assert sequences(messages) == ALL
    assert [message.complete for message in messages] == [False]


async def test_events_come_at_the_pace_at_which_they_happened() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(100 * SECOND + n * SECOND, None) for n in range(5)])])
    async with history_of(store) as raven, raven.client() as peer:
        call = peer.channel.unary_stream(SERVICE + "GetHistoricalData", bytes, v1.GetHistoricalDataResponse.parse)
        began = time.monotonic()
        answers = call(request(replay_speed=10.0), timeout=10)
        came = []
        for _ in range(5):
            message = await trio.to_thread.run_sync(next, answers)
            came.append((message.events[0].sequence, len(message.events), time.monotonic() - began))
    assert [(sequence, count) for sequence, count, _ in came] == [(n, 1) for n in range(1, 6)]
    first_s = came[0][2]
    for sequence, _, at_s in came:
        assert at_s - first_s >= 0.1 * (sequence - 1) - 0.03  # when the client's thread ran is not ours to say
    assert first_s < 2.0  # it does not wait for the time since 1970


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  what is waited for tells nobody
            await trio.sleep(0.01)


def large(blocks: int) -> MemoryHistory:
    store = MemoryHistory()
    store.write(
        [
            trades(BTC, 1, 1000 * number - 999, [(SECOND * number + n, 5) for n in range(1000)])
            for number in range(1, 1 + blocks)
        ]
    )
    return store


async def test_who_takes_nothing_is_not_read_for_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", 512 * 1024)
    store = large(60)
    config = GrpcConfig(stall_s=0.4)
    async with history_of(store, config) as raven, raw_peer(raven.port) as peer:
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        stream = await peer.begin(call_headers("GetHistoricalData"), framed(bytes(request())), end=True)
        calls = raven.server.historical
        await until(lambda: calls._running == 1)
        await until(lambda: calls._running == 0)
        assert 0 < store.blocks_read < 25  # of 60
        answer = await peer.wait(stream)
        assert answer.reset == ErrorCodes.ENHANCE_YOUR_CALM
        assert len(answer.data) == 65_535


async def test_a_client_that_reads_slowly_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", 300 * 1024)
    async with history_of(large(12)) as raven, raw_peer(raven.port) as peer:
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        answer = await peer.answer(call_headers("GetHistoricalData"), framed(bytes(request())))
        messages = [v1.GetHistoricalDataResponse.parse(data) for data in answer.messages()]
    assert [sequence for _, sequence in sequences(messages)] == list(range(1, 12_001))
    assert max(map(len, answer.messages())) <= 257 * 1024
    assert all(message.next_page_token for message in messages)


async def test_more_queries_than_are_answered_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "QUERIES_MAX", 1)
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(SECOND, None), (3_600 * SECOND, None)])])
    async with history_of(store) as raven, raven.client() as peer:
        call = peer.channel.unary_stream(SERVICE + "GetHistoricalData", bytes, v1.GetHistoricalDataResponse.parse)
        answers = call(request(replay_speed=1.0), timeout=10)
        await trio.to_thread.run_sync(next, answers)
        assert await status_of(peer) == (
            "RESOURCE_EXHAUSTED", "1 queries of history are being answered: try again later")  # fmt: skip
        answers.cancel()
        await until(lambda: raven.server.historical._running == 0)
        assert sequences(await asked(peer)) == [("BTC", 1), ("BTC", 2)]
