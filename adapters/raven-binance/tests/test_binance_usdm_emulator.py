"""The emulator of USD-M: its paths over real sockets, its generator, and all kinds from it through the sessions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from raven.adapter import (
    Catalogue,
    Connection,
    Count,
    Emulator,
    EmulatorOptions,
    Event,
    FeedSpec,
    Fetch,
    Kind,
    Reply,
    Send,
    Topic,
)
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Gap, Trade
from raven_binance import BinanceSpotAdapter, BinanceUsdmAdapter
from raven_binance.emulator import UsdmEmulator
from raven_binance.emulator.books import EmulatedBook, Stage
from raven_binance.emulator.contracts import DEPTH_TOPICS, generate_contracts, synthetic_usdm_records
from raven_binance.emulator.control import open_subscriptions
from raven_binance.emulator.frames import Record, combined, load_frames
from raven_binance.emulator.generator import SYNTHETIC_START_NS
from raven_binance.emulator.profile import USDM_PROFILE

DEADLINE_S = 10.0
PUBLIC, MARKET = ("trade", "bookTicker", "depth@100ms"), ("kline_1m", "ticker", "markPrice@1s", "forceOrder")


@asynccontextmanager
async def running(emulator: Emulator, options: EmulatorOptions) -> AsyncIterator[tuple[str, str, httpx.AsyncClient]]:
    """The two addresses of a running emulator, and a client for the second."""
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery, httpx.AsyncClient(timeout=DEADLINE_S) as http:
            urls = await nursery.start(emulator.run, options)
            yield urls["ws_url"], urls["rest_url"], http
            nursery.cancel_scope.cancel()


def frames_of(records: Sequence[Record], *streams: str) -> list[str]:
    return [combined(record) for record in records if record.stream in streams]


async def read(ws: WebSocketConnection, count: int) -> list[str]:
    return [await ws.get_message() for _ in range(count)]


# Paths.


@pytest.mark.parametrize(
    ("path", "served"),
    [
        ("/public/stream", {"a@trade", "a@bookTicker", "a@depth@0ms", "a@depth"}),
        ("/stream", {"a@trade", "a@bookTicker", "a@depth@0ms", "a@depth"}),
        ("/market/stream", {"a@aggTrade", "a@markPrice@1s", "a@kline_1m", "a@ticker", "a@forceOrder"}),
        ("/private/stream", set()),
    ],
)
def test_what_comes_over_each_path(path: str, served: set[str]) -> None:
    subscriptions = open_subscriptions(path, USDM_PROFILE.routes)
    assert subscriptions is not None
    names = ["trade", "bookTicker", "depth@0ms", "depth", "aggTrade", "markPrice@1s", "kline_1m", "ticker", "forceOrder"]
    asked = [f"a@{name}" for name in names]
    assert json.loads(subscriptions.answer(json.dumps({"method": "SUBSCRIBE", "params": asked, "id": 1}))) == {
        "result": None,
        "id": 1,
    }
    assert json.loads(subscriptions.answer('{"method":"LIST_SUBSCRIPTIONS","id":2}'))["result"] == asked
    assert set(subscriptions.streams) == served
    subscriptions.answer(json.dumps({"method": "UNSUBSCRIBE", "params": asked, "id": 3}))
    assert not subscriptions.streams


@pytest.mark.parametrize("path", ["/nowhere/stream", "/public", "/public/market/ws", "/"])
def test_an_address_that_leads_nowhere(path: str) -> None:
    assert open_subscriptions(path, USDM_PROFILE.routes) is None


async def test_a_stream_on_the_wrong_path_is_confirmed_and_silent(synthetic_usdm: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("raven_binance.emulator.server.START_WAIT_S", 1.0)  # not all streams are subscribed here
    records = load_frames(synthetic_usdm)
    trades, marks = (frames_of(records, f"btcusdt@{name}") for name in ("trade", "markPrice@1s"))
    async with (
        running(UsdmEmulator(), EmulatorOptions(frames=synthetic_usdm, speed=0)) as (ws_url, _, _),
        open_websocket_url(f"{ws_url}/public/stream") as public,
        open_websocket_url(f"{ws_url}/market/stream?streams=btcusdt@trade/btcusdt@markPrice@1s") as market,
    ):
        await public.send_message('{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@markPrice@1s"],"id":1}')
        assert json.loads(await public.get_message()) == {"result": None, "id": 1}
        assert await read(public, len(trades)) == trades
        assert await read(market, len(marks)) == marks
        for ws in (public, market):  # all was played, and nothing else came
            await ws.send_message('{"method":"LIST_SUBSCRIPTIONS","id":2}')
            listed = json.loads(await ws.get_message())
            assert listed == {"result": ["btcusdt@trade", "btcusdt@markPrice@1s"], "id": 2}


async def test_the_rest_answers(synthetic_usdm: Path) -> None:
    async with running(UsdmEmulator(), EmulatorOptions(frames=synthetic_usdm)) as (_, rest_url, http):

        async def get(path: str) -> Any:
            return (await http.get(f"{rest_url}{path}")).json()

        assert await get("/fapi/v1/ping") == {}
        listed = (await get("/fapi/v1/exchangeInfo?symbol=BTCUSDT"))["symbols"]  # the venue does not look at it
        assert [entry["symbol"] for entry in listed] == ["BTCUSDT", "ETHUSDT"]
        interest = await get("/fapi/v1/openInterest?symbol=BTCUSDT")
        assert set(interest) == {"openInterest", "symbol", "time"}
        assert (await get("/fapi/v1/openInterest?symbol=NOUSDT"))["code"] == -1121
        assert [entry["symbol"] for entry in await get("/fapi/v1/fundingInfo")] == ["BTCUSDT"]
        for path in ("/api/v3/depth?symbol=BTCUSDT", "/fapi/v1/nothing", "/fapi/v1/"):
            assert (await http.get(rest_url + path)).status_code == 404, path


# The generator.


def test_the_committed_recording_is_what_the_generator_makes(synthetic_usdm: Path) -> None:
    assert list(load_frames(synthetic_usdm)) == synthetic_usdm_records()
    assert synthetic_usdm.stat().st_size < 120_000


def test_generated_frames_agree_with_each_other() -> None:
    """Trade ids without holes, deltas that chain by `pu` with holes between, books that never cross, every stream there."""
    books: dict[str, EmulatedBook] = {}
    last: dict[tuple[str, str], int] = {}
    seen: Counter[str] = Counter()
    for record in islice(generate_contracts(3, SYNTHETIC_START_NS), 6_000):
        data, key = json.loads(record.payload), (record.symbol, record.topic)
        book = books.setdefault(record.symbol, EmulatedBook())
        seen[record.topic] += 1
        if record.is_snapshot:
            book.on_snapshot(record.payload)
        elif record.topic in ("trade", "aggTrade"):
            number = data["t" if record.topic == "trade" else "a"]
            assert number == last.get(key, number - 1) + 1
            last[key] = number
        elif record.topic in DEPTH_TOPICS:
            assert data["pu"] == last.get(key, data["pu"])
            assert data["pu"] < data["U"] <= data["u"]
            last[key] = data["u"]
            book.on_delta(record.payload)
            if book.stage is not Stage.AHEAD:
                assert float(book.bids()[0][0]) < float(book.asks()[0][0])
    assert set(books) == {"BTCUSDT", "ETHUSDT", "BTCUSDT_261225"}
    candles = {f"kline_{interval}" for interval in BinanceUsdmAdapter.capabilities.intervals}
    assert {*PUBLIC, *MARKET, *DEPTH_TOPICS, *candles, "aggTrade", "snapshot"} == set(seen)


def test_a_snapshot_answer_says_its_times() -> None:
    book = EmulatedBook()
    book.on_snapshot('{"lastUpdateId":7,"E":30,"T":20,"bids":[["10.0","1"]],"asks":[]}')
    assert json.loads(book.reply(5)) == {"lastUpdateId": 7, "E": 30, "T": 20, "bids": [["10.0", "1"]], "asks": []}
    book.pass_barrier()
    book.on_delta('{"U":9,"u":9,"pu":7,"E":50,"T":40,"b":[],"a":[["11.0","1"]]}')
    assert json.loads(book.reply(5)) == {"lastUpdateId": 9, "E": 50, "T": 40, "bids": [["10.0", "1"]], "asks": [["11.0", "1"]]}


# Through the sessions.


class Runner:
    """The least that drives the sessions of a feed: carries out Send and Fetch, and keeps the rest."""

    def __init__(self, adapter: Any, feed: FeedSpec, http: httpx.AsyncClient, enough: Any) -> None:
        self.adapter, self.feed, self.http = adapter, feed, http
        self.outputs: list[Any] = []
        self.enough = enough
        self.done = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for connection in self.adapter.connections(self.feed):
                nursery.start_soon(self.connect, connection, nursery)
            await self.done.wait()
            nursery.cancel_scope.cancel()

    async def connect(self, connection: Connection, nursery: trio.Nursery) -> None:
        session = self.adapter.session(self.feed, connection, {})
        async with open_websocket_url(connection.url, max_message_size=1 << 22) as ws:
            await self.carry_out(session.on_connect(0), session, ws, nursery)
            while True:
                frame = await ws.get_message()
                await self.carry_out(session.on_frame(frame.encode(), 0), session, ws, nursery)

    async def carry_out(self, outputs: Any, session: Any, ws: WebSocketConnection, nursery: trio.Nursery) -> None:
        self.outputs += outputs
        for output in outputs:
            if isinstance(output, Send):
                await ws.send_message(output.data)
            elif isinstance(output, Fetch):
                nursery.start_soon(self.fetch, output, session, ws, nursery)
        if self.enough(self.outputs):
            self.done.set()

    async def fetch(self, request: Fetch, session: Any, ws: WebSocketConnection, nursery: trio.Nursery) -> None:
        answer = await self.http.get(request.url)
        await self.carry_out(session.on_reply(request, Reply(answer.status_code, answer.content, 0)), session, ws, nursery)


def topics_of(adapter: Any, venue: str, symbols: Sequence[str]) -> tuple[Topic, ...]:
    kinds = sorted(adapter.capabilities.kinds)
    return tuple(Topic(venue, symbol, kind, "1m" if kind is Kind.CANDLE else "") for symbol in symbols for kind in kinds)


def of_kinds(outputs: Sequence[Any]) -> set[Kind]:
    seen = {output.topic.kind for output in outputs if isinstance(output, Event)}
    return seen | ({Kind.INSTRUMENT} if any(isinstance(output, Catalogue) for output in outputs) else set())


@pytest.mark.parametrize(
    ("adapter", "venue", "symbols"),
    [
        (BinanceSpotAdapter(), "binance-spot", ["BTC-USDT", "ETH-USDT"]),
        (BinanceUsdmAdapter(), "binance-usdm", ["BTC-USDT-PERP", "ETH-USDT-PERP"]),
    ],
)
async def test_every_declared_kind_flows_from_the_generated_market(adapter: Any, venue: str, symbols: list[str]) -> None:
    async with running(adapter.emulator(), EmulatorOptions(speed=0)) as (ws_url, rest_url, http):
        options = adapter.options_type(ws_url=ws_url, rest_url=rest_url)
        feed = FeedSpec(venue, topics_of(adapter, venue, symbols), options)
        runner = Runner(adapter, feed, http, lambda outputs: of_kinds(outputs) == adapter.capabilities.kinds)
        await runner.run()
    assert of_kinds(runner.outputs) == adapter.capabilities.kinds
    assert not [output for output in runner.outputs if isinstance(output, Event) and isinstance(output.payload, Gap)]


@pytest.mark.parametrize("trade_stream", ["trade", "aggTrade"])
async def test_either_stream_of_trades_and_a_book_of_another_speed(trade_stream: str) -> None:
    topics = tuple(Topic("binance-usdm", "BTC-USDT-20261225", kind) for kind in (Kind.TRADE, Kind.BOOK))

    def enough(outputs: Sequence[Any]) -> bool:
        kinds = Counter(type(output.payload) for output in outputs if isinstance(output, Event))
        return kinds[Trade] > 50 and kinds[BookDelta] > 20

    adapter = BinanceUsdmAdapter()
    async with running(UsdmEmulator(), EmulatorOptions(speed=0)) as (ws_url, rest_url, http):
        options = adapter.options_type(ws_url=ws_url, rest_url=rest_url, trade_stream=trade_stream, depth_speed="250ms")
        runner = Runner(adapter, FeedSpec("binance-usdm", topics, options), http, enough)
        await runner.run()
    assert not [output for output in runner.outputs if isinstance(output, Event) and isinstance(output.payload, Gap)]
    assert {output.what for output in runner.outputs if isinstance(output, Count)} <= {"excluded_trade"}


async def test_the_sessions_and_the_emulator_agree(synthetic_usdm: Path) -> None:
    """Flat out over both paths: every frame of the recording once, and the books that the emulator has."""
    records = load_frames(synthetic_usdm)
    adapter, symbols = BinanceUsdmAdapter(), ["BTC-USDT-PERP", "ETH-USDT-PERP"]
    last = {record.stream: json.loads(record.payload)["u"] for record in records if record.topic == "depth@100ms"}

    def enough(outputs: Sequence[Any]) -> bool:
        ends = {output.payload.venue_sequence for output in outputs if isinstance(getattr(output, "payload", 0), BookDelta)}
        return ends >= set(last.values())

    async with running(UsdmEmulator(), EmulatorOptions(frames=synthetic_usdm, speed=0)) as (ws_url, rest_url, http):
        feed = FeedSpec("binance-usdm", topics_of(adapter, "binance-usdm", symbols), adapter.options_type(ws_url, rest_url))
        runner = Runner(adapter, feed, http, enough)
        await runner.run()
        books = {
            symbol: (await http.get(f"{rest_url}/fapi/v1/depth?symbol={symbol}")).json() for symbol in ("BTCUSDT", "ETHUSDT")
        }
    events = [output for output in runner.outputs if isinstance(output, Event)]
    for symbol, name in (("BTC-USDT-PERP", "BTCUSDT"), ("ETH-USDT-PERP", "ETHUSDT")):
        book = OrderBook()
        for event in events:
            if event.topic.symbol == symbol and isinstance(event.payload, BookSnapshot):
                book.reset(event.payload)
            elif event.topic.symbol == symbol and isinstance(event.payload, BookDelta):
                book.apply(event.payload)
        assert book.venue_sequence == books[name]["lastUpdateId"]
        assert book.bids(100) == [(float(price), float(size)) for price, size in books[name]["bids"]]
        assert book.asks(100) == [(float(price), float(size)) for price, size in books[name]["asks"]]
