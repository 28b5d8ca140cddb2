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
LEVELS = 20  # of one depth frame, on both sides together

Level = list[str]
Change = tuple[int, list[Level], list[Level]]
"""The time of a depth frame, its bids, its asks."""


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
    body = _without_leftovers({**snapshot, "bids": snapshot["bids"][:1000], "asks": snapshot["asks"][:1000]}, updates)
    changes = list(_regrouped(body, updates))
    primer = _depth_frame(last_id, *changes[0])
    flow = (_depth_frame(last_id + 20 * number, *change) for number, change in enumerate(islice(cycle(changes), events), 1))
    bids, asks = _kept(body["bids"], changes, events, 0), _kept(body["asks"], changes, events, 1)
    best = (max(map(float, bids)), min(map(float, asks)))
    return Workload("depth", events, primer, b"".join(flow), _json(body), best, len(bids) + len(asks))


def _depth_frame(last_id: int, event_time: int, bids: list[Level], asks: list[Level]) -> bytes:
    data = {"e": "depthUpdate", "E": event_time, "s": "BTCUSDT", "U": last_id - 19, "u": last_id, "b": bids, "a": asks}
    return _frame("btcusdt@depth@100ms", data)


def _regrouped(snapshot: dict[str, list[Level]], updates: list[dict[str, object]]) -> Iterator[Change]:
    """The changes of the recording, 20 a frame whatever their side, and at the end those that lead back to the snapshot.

    The book is never crossed: a frame that is cut out of an update has its removals in front of what it sets.
    """
    waiting: list[tuple[int, Level]] = []
    event_time = 0
    for event_time, sides in _there_and_back(snapshot, updates):
        steps = [(side, level) for side, levels in enumerate(sides) for level in levels]
        waiting += sorted(steps, key=lambda step: float(step[1][1]) > 0)
        while len(waiting) >= LEVELS:
            taken, waiting = waiting[:LEVELS], waiting[LEVELS:]
            yield event_time, *([level for at, level in taken if at == side] for side in (0, 1))
    if waiting:
        yield event_time, *([level for at, level in waiting if at == side] for side in (0, 1))


def _there_and_back(
    snapshot: dict[str, list[Level]], updates: list[dict[str, object]]
) -> Iterator[tuple[int, list[list[Level]]]]:
    """Every update, then one that undoes them all: the recording is gone over again and again."""
    began = [dict(snapshot["bids"]), dict(snapshot["asks"])]
    ends = [dict(side) for side in began]
    for update in updates:
        yield int(update["E"]), [update["b"], update["a"]]
        for side, levels in zip(ends, (update["b"], update["a"]), strict=True):
            side.update(levels)
    back = [
        [[price, began_with.get(price, "0")] for price, size in end.items() if began_with.get(price, "0") != size]
        for began_with, end in zip(began, ends, strict=True)
    ]
    yield int(updates[-1]["E"]), back


def _without_leftovers(snapshot: dict[str, list[Level]], updates: list[dict[str, object]]) -> dict[str, list[Level]]:
    """A snapshot without the levels that cross the book later though no update ever names them.

    The recorded stream begins some updates behind its snapshot, so that what those removed is still there.
    """
    named = [{price for update in updates for price, _ in update[side]} for side in "ba"]
    touch: tuple[set[float], set[float]] = (set(), set())
    for update in updates:
        for prices, side in zip(touch, "ba", strict=True):
            prices.update(float(price) for price, size in update[side] if float(size))
    lowest_ask, highest_bid = min(touch[1]), max(touch[0])
    bids = [level for level in snapshot["bids"] if level[0] in named[0] or float(level[0]) < lowest_ask]
    asks = [level for level in snapshot["asks"] if level[0] in named[1] or float(level[0]) > highest_bid]
    return {**snapshot, "bids": bids, "asks": asks}


def _kept(levels: list[Level], changes: list[Change], events: int, side: int) -> dict[str, str]:
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
