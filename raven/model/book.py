"""The order book that is built from a snapshot and the deltas that apply to it.

A side is a dictionary (price to size) and a sorted list of its prices: finding a price is one bisection in C, inserting one is
a move of at most some ten kilobytes, and both ends are there without work. The list is ascending on both sides; the best bid
is its last, the best ask its first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from raven.model.events import BookDelta, BookSnapshot

__all__ = ["OrderBook"]


class OrderBook:
    """One L2 book, price to size, both sides."""

    __slots__ = ("_ask_prices", "_asks", "_bid_prices", "_bids", "depth_limit", "venue_sequence")

    def __init__(self, snapshot: BookSnapshot | None = None) -> None:
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        self._bid_prices: list[float] = []
        self._ask_prices: list[float] = []
        self.venue_sequence = 0
        self.depth_limit = 0
        if snapshot is not None:
            self.reset(snapshot)

    def reset(self, snapshot: BookSnapshot) -> None:
        """Forget everything and hold what `snapshot` holds. Levels of size 0 are left out."""
        self._bids = _levels(snapshot.bid_price, snapshot.bid_size)
        self._asks = _levels(snapshot.ask_price, snapshot.ask_size)
        self._bid_prices = sorted(self._bids)
        self._ask_prices = sorted(self._asks)
        self.venue_sequence = snapshot.venue_sequence
        self.depth_limit = snapshot.depth_limit

    def apply(self, delta: BookDelta) -> None:
        """Set each level of `delta` to its new size; size 0 removes it, and removing what is not there is nothing."""
        _apply(self._bids, self._bid_prices, delta.bid_price, delta.bid_size)
        _apply(self._asks, self._ask_prices, delta.ask_price, delta.ask_size)
        if delta.venue_sequence:
            self.venue_sequence = delta.venue_sequence

    @property
    def best_bid(self) -> float | None:
        """The highest bid price; None when there is none."""
        return self._bid_prices[-1] if self._bid_prices else None

    @property
    def best_ask(self) -> float | None:
        """The lowest ask price; None when there is none."""
        return self._ask_prices[0] if self._ask_prices else None

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask."""
        return bool(self._bid_prices and self._ask_prices and self._bid_prices[-1] >= self._ask_prices[0])

    def bids(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the highest bid down; the first `depth`, or all with 0."""
        prices = self._bid_prices[-depth:] if depth else self._bid_prices
        return [(price, self._bids[price]) for price in reversed(prices)]

    def asks(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the lowest ask up; the first `depth`, or all with 0."""
        prices = self._ask_prices[:depth] if depth else self._ask_prices
        return [(price, self._asks[price]) for price in prices]

    def snapshot(self, depth: int = 0) -> BookSnapshot:
        """The book as an event's payload: the first `depth` levels a side, or all with 0."""
        bid_prices = self._bid_prices[-depth:] if depth else self._bid_prices[:]
        bid_prices.reverse()
        ask_prices = self._ask_prices[:depth] if depth else self._ask_prices[:]
        return BookSnapshot(
            bid_prices,
            list(map(self._bids.__getitem__, bid_prices)),
            ask_prices,
            list(map(self._asks.__getitem__, ask_prices)),
            self.venue_sequence,
            depth or self.depth_limit,
        )

    def __len__(self) -> int:
        """Levels on both sides."""
        return len(self._bids) + len(self._asks)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same levels; the venue's sequence does not count."""
        if not isinstance(other, OrderBook):
            return NotImplemented
        return self._bids == other._bids and self._asks == other._asks

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<OrderBook {len(self._bids)} bids to {self.best_bid}, {len(self._asks)} asks from {self.best_ask}>"


def _levels(prices: Sequence[float], sizes: Sequence[float]) -> dict[float, float]:
    return {price: size for price, size in zip(prices, sizes, strict=True) if size}


def _apply(levels: dict[float, float], ordered: list[float], prices: Iterable[float], sizes: Iterable[float]) -> None:
    for price, size in zip(prices, sizes, strict=True):
        if size:
            if price not in levels:
                insort(ordered, price)
            levels[price] = size
        elif levels.pop(price, None) is not None:
            del ordered[bisect_left(ordered, price)]
