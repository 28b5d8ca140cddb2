"""The order book that is built from a snapshot and the deltas that apply to it.

A side is two dictionaries, price to size: the levels near the touch, and the rest of them behind an edge. Each level of a delta
is one comparison with the edge and one store. An order is kept of the few near levels alone, and only while someone looks at
them; that of all is made for a whole image. The best price is bounded while levels come, and looked for when the bound no
longer proves anything: so a book is known not to be crossed without being ordered.

Compiled, a side is simpler (`raven.speedups`): two sorted columns, in which a level costs a search from the best one on.
"""

from __future__ import annotations

import abc
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from math import inf
from typing import Protocol

from raven.model.events import BookDelta, BookSnapshot
from raven.speedups import compiled

__all__ = ["OrderBook"]

NEAR_LEVELS = 64
"""Levels of a side that are taken as near when none is left, or too many are."""

NEAR_LEVELS_MAX = 128
"""Near levels of a side; one more and the outer ones go behind the edge. Many cost a look, few cost a new choice of them."""

UNSEEN_MAX = 64
"""Deltas of a side for which its order is kept up without anyone having looked."""


class OrderBook:
    """One L2 book, price to size, both sides."""

    __slots__ = ("_asks", "_bids", "depth_limit", "venue_sequence")

    def __init__(self, snapshot: BookSnapshot | None = None) -> None:
        self._bids = _make_side(True, (), ())
        self._asks = _make_side(False, (), ())
        self.venue_sequence = 0
        self.depth_limit = 0
        if snapshot is not None:
            self.reset(snapshot)

    def reset(self, snapshot: BookSnapshot) -> None:
        """Forget everything and hold what `snapshot` holds. Levels of size 0 are left out."""
        self._bids = _make_side(True, snapshot.bid_price, snapshot.bid_size)
        self._asks = _make_side(False, snapshot.ask_price, snapshot.ask_size)
        self.venue_sequence = snapshot.venue_sequence
        self.depth_limit = snapshot.depth_limit

    def apply(self, delta: BookDelta) -> bool:
        """Set each level of `delta` to its new size; size 0 removes it, and removing what is not there is nothing. Of a price
        that is there more than once the last counts.

        Returns:
            Whether the book may be crossed now; False proves that it is not.

        Raises:
            ValueError: a side has more prices than sizes, or fewer.
        """
        bids, asks, prices = self._bids, self._asks, delta.bid_price
        if len(prices):  # an array's truth is another question
            bids.set(prices, delta.bid_size)
        prices = delta.ask_price
        if len(prices):
            asks.set(prices, delta.ask_size)
        if delta.venue_sequence:
            self.venue_sequence = delta.venue_sequence
        return bids.bound >= asks.bound

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask. Exact, and cheap enough to be asked after every delta."""
        bids, asks = self._bids, self._asks
        return bids.bound >= asks.bound and bids.tighten() >= asks.bound and bids.bound >= asks.tighten()

    @property
    def best_bid(self) -> float | None:
        """The highest bid price; None when there is none."""
        bid = self._bids.tighten()
        return None if bid == -inf else bid

    @property
    def best_ask(self) -> float | None:
        """The lowest ask price; None when there is none."""
        ask = self._asks.tighten()
        return None if ask == inf else ask

    def bids(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the highest bid down; the first `depth`, or all with 0."""
        prices, sizes = self._bids.columns(depth)
        return list(zip(prices, sizes, strict=True))

    def asks(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the lowest ask up; the first `depth`, or all with 0."""
        prices, sizes = self._asks.columns(depth)
        return list(zip(prices, sizes, strict=True))

    def snapshot(self, depth: int = 0) -> BookSnapshot:
        """The book as an event's payload: the first `depth` levels a side, or all with 0."""
        return BookSnapshot(
            *self._bids.columns(depth), *self._asks.columns(depth), self.venue_sequence, depth or self.depth_limit
        )

    def __len__(self) -> int:
        """Levels on both sides."""
        return len(self._bids) + len(self._asks)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same levels; the venue's sequence does not count."""
        if not isinstance(other, OrderBook):
            return NotImplemented
        return self._bids.levels() == other._bids.levels() and self._asks.levels() == other._asks.levels()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<OrderBook {len(self._bids)} bids to {self.best_bid}, {len(self._asks)} asks from {self.best_ask}>"


class Side(Protocol):
    """Bids or asks."""

    @property
    def bound(self) -> float:
        """No price is better."""

    def set(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        """Set levels to new sizes; size 0 removes one. Raises ValueError where there are more prices than sizes, or fewer."""

    def tighten(self) -> float:
        """Make `bound` the best price, and return it; worse than any where there is none."""

    def columns(self, depth: int) -> tuple[list[float], list[float]]:
        """Prices and sizes from the best one on; the first `depth`, or all with 0."""

    def levels(self) -> dict[float, float]:
        """All of them, in no order."""

    def __len__(self) -> int:
        """Levels."""


def _make_side(bids: bool, prices: Sequence[float], sizes: Sequence[float]) -> Side:
    """Levels of size 0 are left out. Raises ValueError where there are more prices than sizes, or fewer."""
    if compiled is not None:
        return compiled.Side(bids, prices, sizes)
    return _Bids(prices, sizes) if bids else _Asks(prices, sizes)


class _Side(abc.ABC):
    """Bids or asks. Every near price is better than `edge`, and none behind it is; none at all is better than `bound`."""

    __slots__ = ("_edge", "_far", "_near", "_reach", "_unseen", "bound", "order")

    worst: float
    """Worse than any price."""

    def __init__(self, prices: Sequence[float] = (), sizes: Sequence[float] = ()) -> None:
        self.bound = self._edge = self.worst
        self._reach = 0.0  # from the best level to the edge, when that was drawn
        self.order: list[float] | None = None  # the near prices, ascending, as long as someone looks
        self._unseen = 0  # deltas since someone looked
        self._near: dict[float, float] = {}
        self._far = {price: size for price, size in dict(zip(prices, sizes, strict=True)).items() if size}
        self._choose(NEAR_LEVELS)

    def set(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        """Set levels to new sizes."""
        if self.order is None:
            self.set_unordered(prices, sizes)
        else:
            self.set_in_order(prices, sizes)

    @abc.abstractmethod
    def set_unordered(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        """Set levels while there is no order: what a price costs here is what a delta costs."""

    def set_in_order(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        """The same with the order kept up, which someone looks at after each delta."""
        if len(prices) != len(sizes):
            raise ValueError(f"{len(prices)} prices and {len(sizes)} sizes")
        near, far, order = self._near, self._far, self.order
        assert order is not None
        low, high = sorted((self._edge, -self.worst))
        try:
            for price, size in zip(prices, sizes, strict=True):
                if not low < price < high:
                    if size:
                        far[price] = size
                    else:
                        far.pop(price, None)
                elif size:
                    if price not in near:
                        insort(order, price)
                    near[price] = size
                elif near.pop(price, None) is not None:
                    del order[bisect_left(order, price)]
        finally:
            self.bound = self._first(order, 1)[0] if order else self._edge
        self._unseen += 1
        if self._unseen > UNSEEN_MAX:
            self.order = None
        if len(near) > NEAR_LEVELS_MAX:
            self._spill()

    @abc.abstractmethod
    def _first(self, order: list[float], count: int) -> list[float]:
        """Of ascending prices the best `count`, the best one first; all with 0."""

    @abc.abstractmethod
    def _beyond(self, edge: float) -> list[float]:
        """The prices behind the present edge that are better than a new one, ascending."""

    @abc.abstractmethod
    def _best(self, prices: Iterable[float]) -> float:
        """The best of some prices."""

    def tighten(self) -> float:
        """Make `bound` the best price, and return it. It costs a look at the near levels, if the best one has gone since."""
        if self.bound not in self._near:
            if self._near:
                self.bound = self._best(self._near)
            else:
                self._refill()
        return self.bound

    def columns(self, depth: int) -> tuple[list[float], list[float]]:
        """Prices and sizes from the best one on; the first `depth`, or all with 0."""
        if len(self._near) < depth <= NEAR_LEVELS_MAX // 2 and self._far:
            self._choose(max(NEAR_LEVELS, 2 * depth))
        self._unseen = 0
        if self.order is None:
            self.order = sorted(self._near)
        if depth and depth <= len(self._near):
            prices = self._first(self.order, depth)
            return prices, list(map(self._near.__getitem__, prices))
        prices = (self._first(self.order, 0) + self._first(sorted(self._far), 0))[: depth or None]
        return prices, list(map(self.levels().__getitem__, prices))

    def levels(self) -> dict[float, float]:
        """All of them, in no order."""
        return {**self._far, **self._near}

    def __len__(self) -> int:
        return len(self._near) + len(self._far)

    def _choose(self, count: int) -> None:
        """Draw the edge anew, behind the best `count` levels."""
        levels = self.levels()
        prices = self._first(sorted(levels), 0)
        near = prices[:count]
        self._near = {price: levels.pop(price) for price in near}
        self._far = levels
        self.order = None
        self._edge = prices[count] if levels else self.worst
        self._reach = self._edge - near[0] if levels else 0.0
        self.bound = near[0] if near else self.worst

    def _refill(self) -> None:
        """None is near any more: the edge goes on by as far as it reached before, without ordering what is further behind."""
        edge = self._edge + self._reach
        near = self._beyond(edge)
        if not 1 + NEAR_LEVELS // 4 <= len(near) <= NEAR_LEVELS_MAX:
            self._choose(NEAR_LEVELS)
            return
        self._near = {price: self._far.pop(price) for price in near}
        self.order, self._edge, self.bound = None, edge, self._first(near, 1)[0]

    def _spill(self) -> None:
        """Put all but the best near levels behind the edge."""
        prices = self._first(sorted(self._near), 0)
        outer = prices[NEAR_LEVELS:]
        self._far.update((price, self._near.pop(price)) for price in outer)
        self.order, self._edge = None, outer[0]


class _Bids(_Side):
    __slots__ = ()

    worst = -inf

    def set_unordered(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        if len(prices) != len(sizes):
            raise ValueError(f"{len(prices)} prices and {len(sizes)} sizes")
        near, far, edge, bound = self._near, self._far, self._edge, self.bound
        try:
            for price, size in zip(prices, sizes):  # noqa: B905  it was looked at; saying it here costs a tenth more
                if price > edge:
                    if size:
                        near[price] = size
                        if price > bound:
                            bound = price
                    else:
                        near.pop(price, None)
                elif size:
                    far[price] = size
                else:
                    far.pop(price, None)
        finally:
            self.bound = bound
        if len(near) > NEAR_LEVELS_MAX:
            self._spill()

    def _best(self, prices: Iterable[float]) -> float:
        return max(prices)

    def _first(self, order: list[float], count: int) -> list[float]:
        prices = order[-count:]
        prices.reverse()
        return prices

    def _beyond(self, edge: float) -> list[float]:
        return sorted([price for price in self._far if price > edge])


class _Asks(_Side):
    __slots__ = ()

    worst = inf

    def set_unordered(self, prices: Sequence[float], sizes: Sequence[float]) -> None:
        """As of bids, with the comparisons the other way round: one function for both would cost what is saved here."""
        if len(prices) != len(sizes):
            raise ValueError(f"{len(prices)} prices and {len(sizes)} sizes")
        near, far, edge, bound = self._near, self._far, self._edge, self.bound
        try:
            for price, size in zip(prices, sizes):  # noqa: B905  it was looked at; saying it here costs a tenth more
                if price < edge:
                    if size:
                        near[price] = size
                        if price < bound:
                            bound = price
                    else:
                        near.pop(price, None)
                elif size:
                    far[price] = size
                else:
                    far.pop(price, None)
        finally:
            self.bound = bound
        if len(near) > NEAR_LEVELS_MAX:
            self._spill()

    def _best(self, prices: Iterable[float]) -> float:
        return min(prices)

    def _first(self, order: list[float], count: int) -> list[float]:
        return order[: count or None]

    def _beyond(self, edge: float) -> list[float]:
        return sorted([price for price in self._far if price < edge])
