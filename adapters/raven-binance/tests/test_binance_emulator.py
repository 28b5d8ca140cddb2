"""The emulator over real sockets, by clients that know nothing of it; and a session that is driven against it."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from raven.adapter import EmulatorOptions, Event, Fetch, Reply, Send
from raven.errors import StartupError
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot
from raven_binance import BinanceSpotAdapter
from raven_binance.emulator import SpotEmulator, connections, rest
from raven_binance.emulator.frames import Record, combined, load_frames

DEADLINE_S = 10.0
BTC = ("btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms")
ETH = tuple(name.replace("btc", "eth") for name in BTC)
FRAME_BYTES_MAX = 1 << 22


class Venue:
    """A running emulator and the way to it."""

    def __init__(self, urls: dict[str, str], http: httpx.AsyncClient) -> None:
        self.ws_url, self.rest_url = urls["ws_url"], urls["rest_url"]
        self.http = http

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(self.rest_url + path, timeout=DEADLINE_S)

    def open(self, path: str = "/stream") -> Any:
        return open_websocket_url(self.ws_url + path, max_message_size=FRAME_BYTES_MAX)


@asynccontextmanager
async def running(options: EmulatorOptions) -> AsyncIterator[Venue]:
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery, httpx.AsyncClient() as http:
            yield Venue(dict(await nursery.start(SpotEmulator().run, options)), http)
            nursery.cancel_scope.cancel()


async def connect(venue: Venue) -> trio.SocketStream:
    host, _, port = venue.ws_url.removeprefix("ws://").partition(":")
    return await trio.open_tcp_stream(host, int(port))


async def open_by_hand(venue: Venue, path: str, status: bytes = b"101") -> trio.SocketStream:
    """A connection after its handshake was answered, with nobody behind it."""
    stream = await connect(venue)
    await stream.send_all(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive_some(1)
    assert head.startswith(b"HTTP/1.1 " + status)
    return stream


async def ask(ws: WebSocketConnection, method: str, *params: Any) -> Any:
    """Send a control message, return the next message."""
    await ws.send_message(json.dumps({"method": method, "params": params, "id": 1}))
    return json.loads(await ws.get_message())


async def subscribe(ws: WebSocketConnection, *streams: str) -> None:
    assert await ask(ws, "SUBSCRIBE", *streams) == {"result": None, "id": 1}


def frames_of(records: tuple[Record, ...], *streams: str) -> list[str]:
    return [combined(record) for record in records if record.stream in streams]


async def read(ws: WebSocketConnection, count: int) -> list[str]:
    return [await ws.get_message() for _ in range(count)]


async def test_every_frame_comes_once_and_in_order_and_the_snapshot_is_the_recorded_one(synthetic: Path) -> None:
    records = load_frames(synthetic)
    expected = frames_of(records, *BTC, *ETH)
    snapshots: dict[str, Any] = {}
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, *BTC, *ETH)

        async def fetch(symbol: str) -> None:
            snapshots[symbol] = (await venue.get(f"/api/v3/depth?symbol={symbol}&limit=1000")).json()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, "BTCUSDT")
            nursery.start_soon(fetch, "ETHUSDT")
            assert await read(ws, len(expected)) == expected
    recorded = {record.symbol: json.loads(record.payload) for record in records if record.is_snapshot}
    assert snapshots == recorded


async def test_nothing_begins_before_somebody_subscribed(synthetic: Path) -> None:
    """A client that is connected for a while and then subscribes gets the first frame."""
    first = frames_of(load_frames(synthetic), "btcusdt@trade")[0]
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        assert await ask(ws, "LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
        await venue.get("/api/v3/time")
        await subscribe(ws, "btcusdt@trade")
        assert await ws.get_message() == first


async def test_streams_that_are_subscribed_one_after_the_other_miss_nothing(synthetic: Path) -> None:
    records = load_frames(synthetic)
    expected = frames_of(records, "ethusdt@trade", "btcusdt@trade")
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, "ethusdt@trade")
        await subscribe(ws, "btcusdt@trade")
        assert await read(ws, len(expected)) == expected


async def test_each_client_gets_its_own_streams_in_its_own_form(synthetic: Path) -> None:
    records = load_frames(synthetic)
    raw = [record.payload for record in records if record.stream == "btcusdt@trade"]
    wrapped = frames_of(records, "ethusdt@trade")
    async with (
        running(EmulatorOptions(frames=synthetic, speed=0)) as venue,
        venue.open("/ws/btcusdt@trade") as one,
        venue.open("/stream?streams=ethusdt@trade") as other,
    ):
        got: dict[str, list[str]] = {}

        async def collect(name: str, ws: WebSocketConnection, count: int) -> None:
            got[name] = await read(ws, count)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, "raw", one, len(raw))
            nursery.start_soon(collect, "wrapped", other, len(wrapped))
    assert got == {"raw": raw, "wrapped": wrapped}


async def test_after_unsubscribing_no_frame_comes(synthetic: Path) -> None:
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, "btcusdt@trade", "ethusdt@trade")
        await ws.send_message('{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":2}')
        seen: Counter[str] = Counter()
        while True:
            message = json.loads(await ws.get_message())
            if "id" in message:
                break
            seen[message["stream"]] += 1
        total = len(frames_of(load_frames(synthetic), "ethusdt@trade"))
        rest_of_it = await read(ws, total - seen["ethusdt@trade"])
        assert {json.loads(message)["stream"] for message in rest_of_it} <= {"ethusdt@trade"}


async def test_a_slow_client_slows_the_timeline_and_loses_nothing(synthetic: Path) -> None:
    """It does not read while another request is served; the timeline cannot have passed it by."""
    records = load_frames(synthetic)
    expected = frames_of(records, *BTC)
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, *BTC)
        snapshot = (await venue.get("/api/v3/depth?symbol=BTCUSDT&limit=1000")).json()
        for _ in range(3):
            await venue.get("/api/v3/ping")
        assert await read(ws, len(expected)) == expected
        assert snapshot["lastUpdateId"] == next(
            json.loads(record.payload)["lastUpdateId"] for record in records if record.stream == "btcusdt@snapshot"
        )


async def test_later_depth_answers_are_the_book_as_it_is_then(synthetic: Path) -> None:
    records = load_frames(synthetic)
    expected = frames_of(records, *BTC)
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, *BTC)
        image = (await venue.get("/api/v3/depth?symbol=BTCUSDT&limit=1000")).json()
        frames = [json.loads(message) for message in await read(ws, len(expected))]
        last = (await venue.get("/api/v3/depth?symbol=BTCUSDT&limit=5000")).json()
        few = (await venue.get("/api/v3/depth?symbol=BTCUSDT&limit=5")).json()
    sides = {side: dict(map(tuple, image[side])) for side in ("bids", "asks")}
    for data in (frame["data"] for frame in frames if "depth" in frame["stream"]):
        if data["u"] > image["lastUpdateId"]:
            for side in ("bids", "asks"):
                sides[side].update(map(tuple, data[side[0]]))
    for side in ("bids", "asks"):
        assert dict(map(tuple, last[side])) == {price: size for price, size in sides[side].items() if float(size)}
    assert last["lastUpdateId"] == max(frame["data"]["u"] for frame in frames if "depth" in frame["stream"])
    assert few["bids"] == last["bids"][:5]


async def test_a_depth_request_before_its_time_is_held_but_not_for_ever(synthetic: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rest, "BARRIER_WAIT_S", 0.05)
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue:
        answer = await venue.get("/api/v3/depth?symbol=BTCUSDT")
    assert (answer.status_code, answer.json()["code"]) == (503, -1001)


async def test_the_timeline_does_not_wait_for_ever_either(synthetic: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("raven_binance.emulator.server.BARRIER_WAIT_S", 0.05)
    expected = frames_of(load_frames(synthetic), *BTC)
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, *BTC)
        assert await read(ws, len(expected)) == expected


async def test_the_pace_of_the_recording(tmp_path: Path) -> None:
    """Two trades one second apart, at ten times the pace: the second comes at least 0.1 s after the first."""
    path = tmp_path / "two.frames"
    path.write_text(
        "".join(f'{stamp} {{"stream":"btcusdt@trade","data":{{"t":{stamp}}}}}\n' for stamp in (10**18, 10**18 + 10**9))
    )
    async with running(EmulatorOptions(frames=path, speed=10)) as venue, venue.open() as ws:
        await subscribe(ws, "btcusdt@trade")
        await ws.get_message()
        before = trio.current_time()
        await ws.get_message()
        assert 0.05 < trio.current_time() - before < 1.0


async def test_generated_frames_never_end() -> None:
    async with running(EmulatorOptions(speed=0, seed=7)) as venue, venue.open() as ws:
        await subscribe(ws, "btcusdt@trade")
        ids = [json.loads(message)["data"]["t"] for message in await read(ws, 300)]
        assert ids == list(range(ids[0], ids[0] + 300))


async def test_the_connection_stays_open_after_the_last_frame(synthetic: Path) -> None:
    expected = frames_of(load_frames(synthetic), "btcusdt@trade")
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue, venue.open() as ws:
        await subscribe(ws, "btcusdt@trade")
        await read(ws, len(expected))
        assert await ask(ws, "LIST_SUBSCRIPTIONS") == {"result": ["btcusdt@trade"], "id": 1}


async def test_the_other_rest_answers(synthetic: Path) -> None:
    async with running(EmulatorOptions(frames=synthetic)) as venue:
        assert (await venue.get("/api/v3/ping")).json() == {}
        assert set((await venue.get("/api/v3/time")).json()) == {"serverTime"}
        listed = (await venue.get("/api/v3/exchangeInfo")).json()["symbols"]
        assert {entry["symbol"] for entry in listed} == {"BTCUSDT", "ETHUSDT"}
        one = (await venue.get("/api/v3/exchangeInfo?symbol=ETHUSDT")).json()["symbols"]
        asked = (await venue.get("/api/v3/exchangeInfo?symbols=%5B%22ETHUSDT%22%5D")).json()["symbols"]
        assert [entry["symbol"] for entry in one] == [entry["symbol"] for entry in asked] == ["ETHUSDT"]
        for path, status, code in (
            ("/api/v3/exchangeInfo?symbols=%5B%22ETHUSDT%22,%22NOUSDT%22%5D", 400, -1121),
            ("/api/v3/exchangeInfo?symbols=ETHUSDT", 400, -1100),
            ("/api/v3/depth", 400, -1102),
            ("/api/v3/depth?symbol=NOUSDT", 400, -1121),
            ("/api/v3/depth?symbol=BTCUSDT&limit=-1", 400, -1100),
            ("/api/v3/depth?symbol=BTCUSDT&limit=" + "9" * 5000, 400, -1100),
            ("/api/v3/nothing", 404, -1),
        ):
            answer = await venue.get(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path


async def test_too_many_messages_end_the_connection(synthetic: Path) -> None:
    async with running(EmulatorOptions(frames=synthetic)) as venue, await open_by_hand(venue, "/ws") as stream:
        message = b'{"method":"LIST_SUBSCRIPTIONS"}'
        await stream.send_all(
            (b"\x81" + bytes([0x80 | len(message)]) + bytes(4) + message) * (connections.INCOMING_PER_S_MAX + 1)
        )
        received = b""
        while b"Too many requests" not in received:
            part = await stream.receive_some()
            assert part, received
            received += part
        assert received.count(b'{"result":[],"id":null}') == connections.INCOMING_PER_S_MAX
        assert (1008).to_bytes(2, "big") + b"Too many requests" in received


async def test_a_silent_client_is_pinged_and_then_cut(synthetic: Path, monkeypatch: Any) -> None:
    """This client does its handshake by hand and answers no ping."""
    monkeypatch.setattr(connections, "PING_EVERY_S", 0.01)
    monkeypatch.setattr(connections, "PONG_DEADLINE_S", 0.05)
    async with running(EmulatorOptions(frames=synthetic)) as venue:
        async with await open_by_hand(venue, "/ws") as stream:
            received = b"".join([bytes(part) async for part in stream])  # ends when it is cut
        assert b"\x89\x04" in received  # a ping with four bytes


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00\x01\x02", b"GET / HTTP/1.0\r\n\r\n", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_what_a_stranger_sends_harms_nobody(garbage: bytes, synthetic: Path) -> None:
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue:
        async with await connect(venue) as stream:
            await stream.send_all(garbage)
        async with venue.open() as ws:
            await subscribe(ws, "btcusdt@trade")
            assert "btcusdt@trade" in await ws.get_message()


async def test_an_address_that_leads_nowhere_is_refused(synthetic: Path) -> None:
    async with running(EmulatorOptions(frames=synthetic)) as venue, await open_by_hand(venue, "/nowhere", b"404"):
        pass


@pytest.mark.parametrize("flag", ["port", "rest_port"])
async def test_a_port_that_is_taken(flag: str, synthetic: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = EmulatorOptions(frames=synthetic, **{flag: port})  # type: ignore[arg-type]
        with pytest.raises(StartupError, match=rf"port {port} on 127.0.0.1 is taken: .*--{flag.replace('_', '-')}"):
            await SpotEmulator().run(options)


async def test_what_it_reports_are_the_adapters_options(synthetic: Path) -> None:
    adapter = BinanceSpotAdapter()
    emulator = adapter.emulator()
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(emulator.run, EmulatorOptions(frames=synthetic))
        options = adapter.options_type(**urls)
        nursery.cancel_scope.cancel()
    assert options.ws_url.startswith("ws://127.0.0.1:")


class Runner:
    """The least that drives a session: carries out Send and Fetch, and keeps the events."""

    def __init__(self, venue: Venue, driver: Any) -> None:
        self.venue, self.session = venue, driver.session
        self.events: list[Event] = []

    async def run(self, ws: WebSocketConnection, frames: int) -> None:
        async with trio.open_nursery() as nursery:
            await self.carry_out(self.session.on_connect(0), ws, nursery)
            for _ in range(frames):
                frame = await ws.get_message()
                await self.carry_out(self.session.on_frame(frame.encode(), 0), ws, nursery)

    async def carry_out(self, outputs: Any, ws: WebSocketConnection, nursery: trio.Nursery) -> None:
        for output in outputs:
            if isinstance(output, Send):
                await ws.send_message(output.data)
            elif isinstance(output, Fetch):
                nursery.start_soon(self.fetch, output, ws, nursery)
            elif isinstance(output, Event):
                self.events.append(output)

    async def fetch(self, request: Fetch, ws: WebSocketConnection, nursery: trio.Nursery) -> None:
        answer = await self.venue.http.get(request.url, timeout=DEADLINE_S)
        await self.carry_out(self.session.on_reply(request, Reply(answer.status_code, answer.content, 0)), ws, nursery)


async def test_the_session_and_the_emulator_agree(synthetic: Path, driver: Any, topics: Any) -> None:
    """Over real sockets, flat out: each trade and quote once, and the books that the emulator has."""
    records = load_frames(synthetic)
    async with running(EmulatorOptions(frames=synthetic, speed=0)) as venue:
        runner = Runner(venue, driver(*topics("BTC-USDT", "ETH-USDT"), ws_url=venue.ws_url, rest_url=venue.rest_url))
        async with venue.open() as ws:
            await runner.run(ws, 1 + len(frames_of(records, *BTC, *ETH)))
        books = {
            symbol: (await venue.get(f"/api/v3/depth?symbol={symbol}&limit=5000")).json() for symbol in ("BTCUSDT", "ETHUSDT")
        }
    counts = Counter((event.topic.symbol, event.topic.kind.label) for event in runner.events)
    for symbol, name in (("BTC-USDT", "btcusdt"), ("ETH-USDT", "ethusdt")):
        assert counts[symbol, "trade"] == len(frames_of(records, f"{name}@trade"))
        assert counts[symbol, "quote"] == len(frames_of(records, f"{name}@bookTicker"))
        book = OrderBook()
        for event in runner.events:
            if event.topic.symbol == symbol and isinstance(event.payload, BookSnapshot):
                book.reset(event.payload)
            elif event.topic.symbol == symbol and isinstance(event.payload, BookDelta):
                book.apply(event.payload)
        expected = books[name.upper()]
        assert book.venue_sequence == expected["lastUpdateId"]
        assert book.bids() == [(float(price), float(size)) for price, size in expected["bids"]]
        assert book.asks() == [(float(price), float(size)) for price, size in expected["asks"]]
