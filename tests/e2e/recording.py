"""Recorded Binance frames read by the plainest code, which shares nothing with the adapter: json, float, dictionaries."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import attrs

Levels = dict[str, str]


@attrs.define
class Recorded:
    """What one symbol's frames say, as the venue's own texts.

    Args:
        trades: t, price, size, m, T (ms); without those that USD-M marks as no trade of the market (X).
        quotes: bid price, bid size, ask price, ask size, T (ms) or None where the venue does not say.
        deltas: those that follow the snapshot: u, bids, asks, T or else E (ms).
        snapshot: the REST answer.
        bids, asks: the book at the end.
    """

    trades: list[tuple[int, str, str, bool, int]] = attrs.field(factory=list)
    quotes: list[tuple[str, str, str, str, int | None]] = attrs.field(factory=list)
    deltas: list[tuple[int, list[list[str]], list[list[str]], int]] = attrs.field(factory=list)
    snapshot: dict[str, Any] = attrs.field(factory=dict)
    bids: dict[float, float] = attrs.field(factory=dict)
    asks: dict[float, float] = attrs.field(factory=dict)

    def build_book(self) -> None:
        """Snapshot, then every delta: a size of zero removes."""
        self.bids = {float(p): float(q) for p, q in self.snapshot["bids"] if float(q)}
        self.asks = {float(p): float(q) for p, q in self.snapshot["asks"] if float(q)}
        for _, bids, asks, _ in self.deltas:
            for side, levels in ((self.bids, bids), (self.asks, asks)):
                for price, size in levels:
                    if float(size):
                        side[float(price)] = float(size)
                    else:
                        side.pop(float(price), None)


def read_recording(file: Path, default_symbol: str = "BTCUSDT") -> dict[str, Recorded]:
    """By the venue's symbol."""
    found: dict[str, Recorded] = {}
    early: dict[str, list[Any]] = {}
    with gzip.open(file, "rt") as lines:
        for line in lines:
            frame = json.loads(line.partition(" ")[2])
            data = frame.get("data", frame)
            stream = frame.get("stream", "")
            symbol = data.get("s") or (stream.partition("@")[0].upper() if stream else default_symbol)
            one = found.setdefault(symbol, Recorded())
            kind = data.get("e")
            if kind == "trade":
                if data.get("X", "MARKET") == "MARKET":
                    one.trades.append((data["t"], data["p"], data["q"], data["m"], data["T"]))
            elif kind == "depthUpdate":
                early.setdefault(symbol, []).append((data["u"], data["b"], data["a"], data.get("T", data["E"])))
            elif "lastUpdateId" in data:
                one.snapshot = data
            elif kind in (None, "bookTicker"):  # spot's has no name
                one.quotes.append((data["b"], data["B"], data["a"], data["A"], data.get("T")))
    for symbol, one in found.items():
        one.deltas = [delta for delta in early[symbol] if delta[0] > one.snapshot["lastUpdateId"]]
        one.build_book()
    return found
