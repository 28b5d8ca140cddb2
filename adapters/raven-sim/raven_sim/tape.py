"""The trades of one symbol, and the candles that are built from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from raven.model.events import Candle, Side
from raven_sim.listing import Listing
from raven_sim.tables import DRAWS, LADDER, WALK_MASK, ladder, phase, size_units, tables

__all__ = ["Bar", "CandleBuilder", "Market", "candle", "merge"]


@attrs.define
class Bar:
    """The sums of some trades in whole numbers, so that they are exact.

    Args:
        open_ts_ns, close_ts_ns: [open, close).
        first, high, low, last: places on the ladder; they mean nothing while `trades` is 0.
        units, buy_units: size increments, of all and of those whose aggressor bought.
        value: price increments x size increments.
        incomplete: the clock was set back, and other trades of the same interval are in another bar.
        shown: was published while it was open.
    """

    open_ts_ns: int
    close_ts_ns: int
    first: int = 0
    high: int = 0
    low: int = 0
    last: int = 0
    units: int = 0
    buy_units: int = 0
    value: int = 0
    trades: int = 0
    incomplete: bool = False
    shown: bool = False


class CandleBuilder:
    """Adds the trades of one symbol up, interval by interval of the wall clock.

    An interval closes with the first trade or look past its end. One that had no trade, and was never shown, is passed over.
    `closed` is emptied by the topic's turns; since a symbol trades at most once between two turns of a topic, it holds one bar
    at most.
    """

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._complete_from_ns = 0
        self.bar = Bar(0, 0)
        self.closed: deque[Bar] = deque()

    def add(self, now_ns: int, place: int, ticks: int, units: int, buy: int) -> None:
        """One trade."""
        bar = self.bar if self.bar.open_ts_ns <= now_ns < self.bar.close_ts_ns else self.roll(now_ns)
        if not bar.trades:
            bar.first = bar.high = bar.low = place
        elif place > bar.high:
            bar.high = place
        elif place < bar.low:
            bar.low = place
        bar.last = place
        bar.trades += 1
        bar.units += units
        bar.value += ticks * units
        if buy:
            bar.buy_units += units

    def look(self, now_ns: int) -> Bar:
        """The bar that is open now."""
        return self.bar if self.bar.open_ts_ns <= now_ns < self.bar.close_ts_ns else self.roll(now_ns)

    def roll(self, now_ns: int) -> Bar:
        """Close the bar and open that of `now_ns`, which lies outside it."""
        old = self.bar
        if now_ns < old.open_ts_ns:  # set back: what is open now will come again
            old.incomplete = True
            self._complete_from_ns = max(self._complete_from_ns, old.close_ts_ns)
        if old.trades or old.shown:
            self.closed.append(old)
        opened = now_ns - now_ns % self._interval_ns
        self.bar = Bar(opened, opened + self._interval_ns, incomplete=opened < self._complete_from_ns)
        return self.bar


class Market:
    """One symbol: its prices, its sizes, and its tape of trades.

    The nth trade of a symbol is a function of seed, symbol and n. While nobody has the trades as a topic (`public` is false)
    the candles and the ticker draw them, one in each round.
    """

    def __init__(self, seed: int, listing: Listing) -> None:
        chance = tables(seed)
        self.listing = listing
        self.seed = seed
        self.prices = ladder(listing)
        self.units = size_units(listing)
        self.sizes = listing.size.values(self.units)
        self.bids, self.asks, self.draws = chance.bids, chance.asks, chance.draws
        self.phase = phase(seed, listing.symbol, "walk")
        self.public = False
        self.trades = 0
        self.builders: list[CandleBuilder] = []
        self._side_phase = phase(seed, listing.symbol, "trade side") % DRAWS
        self._size_phase = phase(seed, listing.symbol, "trade size") % DRAWS
        self._lowest = listing.ticks - LADDER // 2

    def draw(self, now_ns: int) -> tuple[float, float, Side]:
        """The next trade: price, size, aggressor."""
        number = self.trades
        self.trades = number + 1
        buy = self.draws[(number + self._side_phase) % DRAWS] & 1
        place = (self.asks if buy else self.bids)[(number + self.phase) & WALK_MASK]
        size = self.draws[(number + self._size_phase) % DRAWS]
        for builder in self.builders:
            builder.add(now_ns, place, self._lowest + place, self.units[size], buy)
        return self.prices[place], self.sizes[size], _BUY if buy else _SELL


_BUY, _SELL = Side.BUY, Side.SELL  # a member of an enum costs two look-ups


def candle(market: Market, bar: Bar, *, closed: bool) -> Candle:
    """A bar as an event's payload."""
    prices, size, traded = market.prices, market.listing.size, bar.trades > 0
    return Candle(
        open_ts_ns=bar.open_ts_ns,
        close_ts_ns=bar.close_ts_ns,
        open=prices[bar.first] if traded else None,
        high=prices[bar.high] if traded else None,
        low=prices[bar.low] if traded else None,
        close=prices[bar.last] if traded else None,
        volume=size.value(bar.units),
        quote_volume=market.listing.value.value(bar.value),
        trades=bar.trades,
        taker_buy_volume=size.value(bar.buy_units),
        closed=closed,
        incomplete=bar.incomplete,
    )


def merge(bars: Sequence[Bar]) -> Bar:
    """The sums over bars that follow each other; bars without a trade do not count."""
    traded = [bar for bar in bars if bar.trades]
    if not traded:
        return Bar(0, 0)
    return Bar(
        traded[0].open_ts_ns,
        traded[-1].close_ts_ns,
        traded[0].first,
        max(bar.high for bar in traded),
        min(bar.low for bar in traded),
        traded[-1].last,
        units=sum(bar.units for bar in traded),
        value=sum(bar.value for bar in traded),
        trades=sum(bar.trades for bar in traded),
    )
