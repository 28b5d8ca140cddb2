"""The order book that is built from a snapshot and the deltas that apply to it.

A side is a dictionary (price to size) and, while someone looks, a sorted list of its prices: finding a price is one bisection
in C, inserting one is a move of at most some ten kilobytes, and both ends are there without work. The list is ascending on both
sides; the best bid is its last, the best ask its first. A book that nobody looks at goes without, which saves half of a delta.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from raven.model.events import BookDelta, BookSnapshot

__all__ = ["OrderBook"]

UNSEEN_MAX = 64
"""Deltas of a side for which its list is kept up without anyone having looked. Sorting anew costs some ten times a delta."""


class OrderBook:
    """One L2 book, price to size, both sides."""

    __slots__ = ("_asks", "_bids", "depth_limit", "venue_sequence")

    def __init__(self, snapshot: BookSnapshot | None = None) -> None:
        self._bids = _Side()
        self._asks = _Side()
        self.venue_sequence = 0
        self.depth_limit = 0
        if snapshot is not None:
            self.reset(snapshot)

    def reset(self, snapshot: BookSnapshot) -> None:
        """Forget everything and hold what `snapshot` holds. Levels of size 0 are left out."""
        self._bids = _Side(snapshot.bid_price, snapshot.bid_size)
        self._asks = _Side(snapshot.ask_price, snapshot.ask_size)
        self.venue_sequence = snapshot.venue_sequence
        self.depth_limit = snapshot.depth_limit

    def apply(self, delta: BookDelta) -> None:
        """Set each level of `delta` to its new size; size 0 removes it, and removing what is not there is nothing."""
        if delta.bid_price:
            self._bids.set(delta.bid_price, delta.bid_size)
        if delta.ask_price:
            self._asks.set(delta.ask_price, delta.ask_size)
        if delta.venue_sequence:
            self.venue_sequence = delta.venue_sequence

    @property
    def best_bid(self) -> float | None:
        """The highest bid price; None when there is none."""
        prices = self._bids.prices()
        return prices[-1] if prices else None

    @property
    def best_ask(self) -> float | None:
        """The lowest ask price; None when there is none."""
        prices = self._asks.prices()
        return prices[0] if prices else None

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        bids, asks = self._bids.prices(), self._asks.prices()
        return bool(bids and asks and bids[-1] >= asks[0])

    def bids(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the highest bid down; the first `depth`, or all with 0."""
        prices, sizes = self._bids.highest(depth)
        return list(zip(prices, sizes, strict=True))

    def asks(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the lowest ask up; the first `depth`, or all with 0."""
        prices, sizes = self._asks.lowest(depth)
        return list(zip(prices, sizes, strict=True))

    def snapshot(self, depth: int = 0) -> BookSnapshot:
        """The book as an event's payload: the first `depth` levels a side, or all with 0."""
        return BookSnapshot(
            *self._bids.highest(depth), *self._asks.lowest(depth), self.venue_sequence, depth or self.depth_limit
        )

    def __len__(self) -> int:
        """Levels on both sides."""
        return len(self._bids.levels) + len(self._asks.levels)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same levels; the venue's sequence does not count."""
        if not isinstance(other, OrderBook):
            return NotImplemented
        return self._bids.levels == other._bids.levels and self._asks.levels == other._asks.levels

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        bids, asks = len(self._bids.levels), len(self._asks.levels)
        return f"<OrderBook {bids} bids to {self.best_bid}, {asks} asks from {self.best_ask}>"


class _Side:
    """Bids or asks: `levels`, and their prices in order as long as that is asked for."""

    __slots__ = ("_ordered", "_unseen", "levels")

    def __init__(self, prices: Sequence[float] = (), sizes: Sequence[float] = ()) -> None:
        self.levels = {price: size for price, size in zip(prices, sizes, strict=True) if size}
        self._ordered: list[float] | None = None
        self._unseen = 0  # deltas since someone last looked

    def set(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        """Size 0 removes a level. Of a price that is there more than once the last counts."""
        levels, ordered = self.levels, self._ordered
        if ordered is None:
            for price, size in zip(prices, sizes, strict=True):
                if size:
                    levels[price] = size
                else:
                    levels.pop(price, None)
            return
        for price, size in zip(prices, sizes, strict=True):
            if size:
                if price not in levels:
                    insort(ordered, price)
                levels[price] = size
            elif levels.pop(price, None) is not None:
                del ordered[bisect_left(ordered, price)]
        self._unseen += 1
        if self._unseen > UNSEEN_MAX:
            self._ordered = None

    def prices(self) -> list[float]:
        """All prices, ascending; only to be read."""
        self._unseen = 0
        if self._ordered is None:
            self._ordered = sorted(self.levels)
        return self._ordered

    def highest(self, depth: int) -> tuple[list[float], list[float]]:
        """Prices and sizes from the highest price down; the first `depth`, or all with 0."""
        prices = self.prices()[-depth:]
        prices.reverse()
        return prices, list(map(self.levels.__getitem__, prices))

    def lowest(self, depth: int) -> tuple[list[float], list[float]]:
        """Prices and sizes from the lowest price up; the first `depth`, or all with 0."""
        prices = self.prices()[: depth or None]
        return prices, list(map(self.levels.__getitem__, prices))
