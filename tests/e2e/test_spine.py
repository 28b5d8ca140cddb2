"""Frames that the venue really sent reach a gRPC client in another process: complete, in order, with the venue's numbers."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
import trio

from raven.codec.generated.raven import v1
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot
from tests.e2e import collector
from tests.e2e.processes import Server, process, raven_command
from tests.e2e.recording import Recorded, read_recording
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "frames" / "binance-spot-btcusdt.frames.gz"
SYNTHETIC = ROOT / "adapters" / "raven-binance" / "tests" / "data" / "synthetic-spot.frames.gz"
LIVE = v1.TopicStatusState.LIVE

CONFIG = """
[[feeds]]
name = "{venue}"
adapter = "{venue}"
symbols = [{symbols}]
kinds = ["trade", "quote", "book"]
[feeds.options]
ws_url = "ws://127.0.0.1:{ws}"
rest_url = "http://127.0.0.1:{rest}"
"""


@attrs.frozen
class Venue:
    """One of the venue's markets: its adapter, how it ends a canonical symbol, and what else its options say."""

    name: str
    suffix: str = ""
    options: str = ""

    def canonical(self, symbol: str) -> str:
        return f"{symbol.removesuffix('USDT')}-USDT{self.suffix}"


SPOT = Venue("binance-spot")


@pytest.mark.parametrize("file", [REAL, SYNTHETIC], ids=["real", "synthetic"])
async def test_every_frame_arrives_once_in_order_with_its_numbers(file: Path, tmp_path: Path) -> None:
    if not file.exists():
        pytest.skip(f"{file.name} is not here: the recorded frames lie beside the checkout, in ../shared/frames")
    await check_recording(SPOT, file, tmp_path)


async def check_recording(venue: Venue, file: Path, tmp_path: Path) -> None:
    """Everything that the file has of trades, quotes and books comes out at the other end."""
    recorded = read_recording(file)
    events = await replay(venue, file, recorded, tmp_path)
    for symbol, frames in recorded.items():
        check_symbol([event for event in events if event.topic and event.topic.symbol == venue.canonical(symbol)], frames)


async def replay(venue: Venue, file: Path, recorded: dict[str, Recorded], tmp_path: Path) -> list[v1.MarketEvent]:
    """Raven first, then the client, then the venue, flat out: so that the client is there before the first frame."""
    ws, rest, server, out = free_port(), free_port(), Server(), tmp_path / "messages"
    config = tmp_path / "raven.toml"
    symbols = ", ".join(f'"{venue.canonical(symbol)}"' for symbol in recorded)
    config.write_text(CONFIG.format(venue=venue.name, symbols=symbols, ws=ws, rest=rest) + venue.options)
    expected = sum(len(one.trades) + len(one.quotes) + len(one.deltas) + 1 for one in recorded.values())
    emulator = raven_command(
        "emulate", venue.name, "--frames", str(file), "--speed", "0", "--port", str(ws), "--rest-port", str(rest)
    )
    async with server.running(config):
        client = [sys.executable, str(Path(collector.__file__)), server.target, str(out), str(expected), venue.name]
        async with (
            process(client, lambda line: line == "subscribed", cwd=ROOT, PYTHONPATH=str(ROOT)) as reading,
            process(emulator, lambda line: "is emulated at" in line),
        ):
            with trio.fail_after(90):
                await reading.wait()
    return [event for message in collector.read_messages(out) for event in message.events]


def check_symbol(events: list[v1.MarketEvent], frames: Recorded) -> None:
    by_kind: dict[v1.Kind, list[v1.MarketEvent]] = {}
    for event in events:
        assert event.topic is not None
        if event.flags == 0:
            by_kind.setdefault(event.topic.kind, []).append(event)
    for kind in (v1.Kind.TRADE, v1.Kind.QUOTE, v1.Kind.BOOK):
        check_continuity(by_kind[kind])
    check_trades([e for e in by_kind[v1.Kind.TRADE] if e.trade], frames)
    check_quotes([e for e in by_kind[v1.Kind.QUOTE] if e.quote], frames)
    check_book(by_kind[v1.Kind.BOOK], frames)


def check_continuity(events: list[v1.MarketEvent]) -> None:
    """One epoch, sequences without a hole, no gap, and live exactly once."""
    assert len({event.epoch for event in events}) == 1
    assert [event.sequence for event in events] == list(range(events[0].sequence, events[0].sequence + len(events)))
    assert not [event for event in events if event.gap]
    assert [event.status.state for event in events if event.status and event.status.state == LIVE] == [LIVE]


def same(number: float | None, text: str) -> bool:
    """The double is the nearest to the venue's decimal, and reads back as that decimal."""
    return number == float(text) and Decimal(repr(number)) == Decimal(text)


def check_trades(events: list[v1.MarketEvent], frames: Recorded) -> None:
    assert [event.trade.trade_id for event in events if event.trade] == [str(trade[0]) for trade in frames.trades]
    for event, (_, price, size, buyer_is_maker, ts_ms) in zip(events, frames.trades, strict=True):
        assert event.trade is not None
        assert same(event.trade.price, price)
        assert same(event.trade.size, size)
        assert event.trade.aggressor == (v1.Side.SELL if buyer_is_maker else v1.Side.BUY)
        assert event.venue_ts_ns == ts_ms * 1_000_000


def check_quotes(events: list[v1.MarketEvent], frames: Recorded) -> None:
    assert len(events) == len(frames.quotes)
    for event, (*texts, ts_ms) in zip(events, frames.quotes, strict=True):
        quote = event.quote
        assert quote is not None
        numbers = (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size)
        assert all(same(number, text) for number, text in zip(numbers, texts, strict=True))
        assert event.venue_ts_ns == (None if ts_ms is None else ts_ms * 1_000_000)


def check_book(events: list[v1.MarketEvent], frames: Recorded) -> None:
    times = [event.venue_ts_ns for event in events if event.book_delta]
    deltas = [event.book_delta for event in events if event.book_delta]
    snapshots = [event.book_snapshot for event in events if event.book_snapshot]
    assert [delta.venue_sequence for delta in deltas] == [delta[0] for delta in frames.deltas]
    assert times == [ts_ms * 1_000_000 for *_, ts_ms in frames.deltas]
    assert len(snapshots) == 1
    for delta, (_, bids, asks, _) in zip(deltas, frames.deltas, strict=True):
        for prices, sizes, levels in ((delta.bid_price, delta.bid_size, bids), (delta.ask_price, delta.ask_size, asks)):
            assert [(p, q) for p, q in zip(prices, sizes, strict=True)] == [(float(p), float(q)) for p, q in levels]
    book = OrderBook()
    for event in events:
        if event.book_snapshot:
            s = event.book_snapshot
            book.reset(BookSnapshot(s.bid_price, s.bid_size, s.ask_price, s.ask_size))
        elif event.book_delta:
            d = event.book_delta
            book.apply(BookDelta(d.bid_price, d.bid_size, d.ask_price, d.ask_size))
    assert dict(book.bids()) == frames.bids
    assert dict(book.asks()) == frames.asks
