"""The frames that both programs are fed with: recorded ones, with ids that go up, made into WebSocket frames beforehand.

Prices, sizes and their order are the recording's. One trade frame serves two streams: it is the recorded `@trade`, and says
`aggTrade` and its id under `a` too, because that is the stream that cryptofeed subscribes to. Each program takes what it knows.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

__all__ = ["NAMES", "Workload", "find_recording", "make_workload"]

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT.parent / "shared" / "frames" / "binance-spot-btcusdt.frames.gz"
SYNTHETIC = ROOT / "adapters" / "raven-binance" / "tests" / "data" / "synthetic-spot.frames.gz"
NAMES = ("trades", "depth")
LEVELS_A_SIDE = 10  # of one depth frame: 20 levels in all

Level = list[str]


@dataclass(frozen=True)
class Workload:
    """What the venue has to say.

    Args:
        primer: the frame that a connection begins with; whoever has taken it in is ready.
        flow: `events` frames, one behind the other.
        snapshot: the body of the REST answer that the depth frames go on from.
        best: best bid and ask, and `levels`: on both sides, of the book after the last frame.
    """

    name: str
    events: int
    primer: bytes
    flow: bytes
    snapshot: bytes = b"{}"
    best: tuple[float, float] = (0.0, 0.0)
    levels: int = 0


def find_recording() -> Path:
    """The real recording where it is there, else the synthetic one of the repository."""
    return RECORDED if RECORDED.exists() else SYNTHETIC


def make_workload(name: str, events: int, recording: Path) -> Workload:
    """`events` frames of `name` ("trades" or "depth")."""
    return (_trades if name == "trades" else _depth)(events, recording)


def _trades(events: int, recording: Path) -> Workload:
    recorded = [data for data in _messages(recording) if data.get("e") == "trade" and data["s"] == "BTCUSDT"]
    frames = [_trade(data, number) for number, data in enumerate(islice(cycle(recorded), events + 1), recorded[0]["t"])]
    return Workload("trades", events, frames[0], b"".join(frames[1:]))


def _trade(data: dict[str, object], number: int) -> bytes:
    return _frame("btcusdt@trade", {**data, "e": "aggTrade", "a": number, "t": number})


def _depth(events: int, recording: Path) -> Workload:
    snapshot, updates = _book(recording)
    last_id = snapshot["lastUpdateId"]
    body = {**snapshot, "bids": snapshot["bids"][:1000], "asks": snapshot["asks"][:1000]}
    changes = list(_regrouped(updates))
    primer = _depth_frame(last_id, *changes[0])
    flow = (_depth_frame(last_id + 20 * number, *change) for number, change in enumerate(islice(cycle(changes), events), 1))
    bids, asks = _kept(body["bids"], changes, events, 0), _kept(body["asks"], changes, events, 1)
    best = (max(map(float, bids)), min(map(float, asks)))
    return Workload("depth", events, primer, b"".join(flow), _json(body), best, len(bids) + len(asks))


def _depth_frame(last_id: int, event_time: int, bids: list[Level], asks: list[Level]) -> bytes:
    data = {"e": "depthUpdate", "E": event_time, "s": "BTCUSDT", "U": last_id - 19, "u": last_id, "b": bids, "a": asks}
    return _frame("btcusdt@depth@100ms", data)


def _regrouped(updates: list[dict[str, object]]) -> Iterator[tuple[int, list[Level], list[Level]]]:
    """The changes of the recording in groups of ten a side, each price once a group; its time is that of the last one in it."""
    waiting: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for update in updates:
        for side, levels in zip(waiting, (update["b"], update["a"]), strict=True):
            side.update(levels)
        while min(map(len, waiting)) >= LEVELS_A_SIDE:
            bids, asks = ([[price, side.pop(price)] for price in list(side)[:LEVELS_A_SIDE]] for side in waiting)
            yield int(update["E"]), bids, asks


def _kept(levels: list[Level], changes: list[tuple[int, list[Level], list[Level]]], events: int, side: int) -> dict[str, str]:
    """One side of the book after all frames. Going over the recording twice leaves what going over it more often leaves."""
    book = dict(levels)
    whole, rest = divmod(events, len(changes))
    for change in [*changes * min(whole, 1), *changes[:rest]]:
        book.update(change[1 + side])
    return {price: size for price, size in book.items() if float(size)}


def _book(recording: Path) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The recorded snapshot, and the updates of its symbol that follow it."""
    snapshot: dict[str, object] = {}
    updates = []
    for data in _messages(recording):
        if "lastUpdateId" in data and not snapshot:
            snapshot = data
        elif data.get("e") == "depthUpdate" and data["s"] == "BTCUSDT" and snapshot and data["u"] > snapshot["lastUpdateId"]:
            updates.append(data)
    return snapshot, updates


def _messages(recording: Path) -> Iterator[dict[str, object]]:
    with gzip.open(recording, "rb") as lines:
        for line in lines:
            message = json.loads(line.split(b" ", 1)[1])
            if message.get("stream", "btcusdt").startswith("btcusdt"):
                yield message.get("data", message)


def _frame(stream: str, data: dict[str, object]) -> bytes:
    """An unmasked WebSocket text frame (RFC 6455, 5.2)."""
    payload = _json({"stream": stream, "data": data})
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
