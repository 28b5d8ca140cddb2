"""The events of one topic, one at a time. The nth payload is a function of seed, symbol, kind and n.

Candles and tickers are the exception: they add up the trades of the time between, and that time is the wall clock's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from raven.model.events import BookDelta, BookSnapshot, Event, Quote, Ticker, Trade
from raven.model.topic import Kind, Topic
from raven_sim.tables import BOOK_DEPTH, DRAWS, MOVE_MAX, WALK_MASK, phase
from raven_sim.tape import Bar, CandleBuilder, Market, candle, merge
from raven_sim.topics import INTERVALS_NS

__all__ = ["BookStream", "CandleStream", "QuoteStream", "Stream", "TickerStream", "TradeStream", "open_stream"]

TICKER_HOURS = 24
TOUCHED = 8  # levels at the top of a side in which sizes change

# How many ticks the best price moved away from the middle -> the levels that vanish and those that come, as ticks from the old
# best price away from the middle. A side is always BOOK_DEPTH levels, one tick apart.
_MOVES = {
    move: (range(move), range(BOOK_DEPTH, BOOK_DEPTH + move))
    if move > 0
    else (range(BOOK_DEPTH + move, BOOK_DEPTH), range(move, 0))
    for move in range(-MOVE_MAX, MOVE_MAX + 1)
}


class Stream(Protocol):
    """The events of one topic."""

    def event(self, now_ns: int) -> Event:
        """The next event; it carries `now_ns` as the venue's time and as the time of receipt, which are the same clock here."""

    def close(self) -> None:
        """Leave the market."""


class TradeStream:
    """Every trade of a symbol, ids from "1" up."""

    def __init__(self, topic: Topic, market: Market) -> None:
        self._topic = topic
        self._market = market
        market.public = True

    def event(self, now_ns: int) -> Event:
        market = self._market
        price, size, side = market.draw(now_ns)
        return Event(self._topic, Trade(price, size, side, str(market.trades)), now_ns, now_ns)

    def close(self) -> None:
        self._market.public = False


class QuoteStream:
    """Best bid and ask along the symbol's walk."""

    def __init__(self, topic: Topic, market: Market) -> None:
        self._topic = topic
        self._count = 0
        self._market = market
        self._phase = market.phase
        self._bid_phase = phase(market.seed, topic.symbol, "quote bid") % DRAWS
        self._ask_phase = phase(market.seed, topic.symbol, "quote ask") % DRAWS

    def event(self, now_ns: int) -> Event:
        market = self._market
        prices, sizes, draws = market.prices, market.sizes, market.draws
        number = self._count
        self._count = number + 1
        step = (number + self._phase) & WALK_MASK
        quote = Quote(
            prices[market.bids[step]],
            sizes[draws[(number + self._bid_phase) % DRAWS]],
            prices[market.asks[step]],
            sizes[draws[(number + self._ask_phase) % DRAWS]],
        )
        return Event(self._topic, quote, now_ns, now_ns)

    def close(self) -> None:
        pass


class BookStream:
    """A whole book first, then its changes: BOOK_DEPTH levels a side at all times, along the same walk as the quotes."""

    def __init__(self, topic: Topic, market: Market) -> None:
        self._topic = topic
        self._market = market
        self._count = 0
        self._drawn = phase(market.seed, topic.symbol, "book")

    def event(self, now_ns: int) -> Event:
        payload = self._delta() if self._count else self._snapshot()
        self._count += 1
        return Event(self._topic, payload, now_ns, now_ns)

    def close(self) -> None:
        pass

    def _snapshot(self) -> BookSnapshot:
        market = self._market
        step = market.phase & WALK_MASK
        bid, ask = market.bids[step], market.asks[step]
        return BookSnapshot(
            [market.prices[bid - level] for level in range(BOOK_DEPTH)],
            [self._size() for _ in range(BOOK_DEPTH)],
            [market.prices[ask + level] for level in range(BOOK_DEPTH)],
            [self._size() for _ in range(BOOK_DEPTH)],
            1,
            BOOK_DEPTH,
        )

    def _delta(self) -> BookDelta:
        market, number = self._market, self._count
        old, new = (number - 1 + market.phase) & WALK_MASK, (number + market.phase) & WALK_MASK
        bids = self._changes(market.bids[old], market.bids[new], -1)
        asks = self._changes(market.asks[old], market.asks[new], 1)
        return BookDelta(*bids, *asks, number + 1)

    def _changes(self, old: int, new: int, away: int) -> tuple[list[float], list[float]]:
        """Prices and new sizes of one side, whose best price goes from `old` to `new`; `away` points away from the middle."""
        all_prices = self._market.prices
        move = (new - old) * away
        # a level that is there before and after: counted from whichever best price is further out
        touched = (new if move > 0 else old) + self._draw() % TOUCHED * away
        prices, sizes = [all_prices[touched]], [self._size()]
        if move:
            gone, come = _MOVES[move]
            prices += [all_prices[old + tick * away] for tick in gone]
            sizes += [0.0] * len(gone)
            prices += [all_prices[old + tick * away] for tick in come]
            sizes += [self._size() for _ in come]
        return prices, sizes

    def _draw(self) -> int:
        self._drawn += 1
        return self._market.draws[self._drawn % DRAWS]

    def _size(self) -> float:
        return self._market.sizes[self._draw()]


class TapeStream:
    """What candles and tickers share: they add up the symbol's tape, and keep it going while nobody has it as a topic."""

    def __init__(self, topic: Topic, market: Market, interval: str) -> None:
        self._topic = topic
        self._market = market
        self._builder = CandleBuilder(INTERVALS_NS[interval])
        self._seen = market.trades
        market.builders.append(self._builder)

    def close(self) -> None:
        self._market.builders.remove(self._builder)

    def _keep_trading(self, now_ns: int) -> None:
        """Draw a trade if there was none since this topic's last turn."""
        if not self._market.public and self._market.trades == self._seen:
            self._market.draw(now_ns)
        self._seen = self._market.trades


class CandleStream(TapeStream):
    """Candles of one interval over the symbol's tape: the one that is open, and each that closed, once, in order.

    OHLC and volumes are exact sums of the trades; which trades fall into a candle depends on the wall clock.
    """

    def __init__(self, topic: Topic, market: Market) -> None:
        super().__init__(topic, market, topic.variant)

    def event(self, now_ns: int) -> Event:
        self._keep_trading(now_ns)
        builder = self._builder
        running = builder.bar if builder.closed else builder.look(now_ns)
        closed = bool(builder.closed)
        bar = builder.closed.popleft() if closed else running
        bar.shown = True
        return Event(self._topic, candle(self._market, bar, closed=closed), now_ns, now_ns)


class TickerStream(TapeStream):
    """Statistics of the tape over the last 24 hours of the wall clock, the hour that runs and the 23 before it."""

    def __init__(self, topic: Topic, market: Market) -> None:
        super().__init__(topic, market, "1h")
        self._hours: deque[Bar] = deque(maxlen=TICKER_HOURS - 1)

    def event(self, now_ns: int) -> Event:
        self._keep_trading(now_ns)
        running = self._builder.look(now_ns)
        while self._builder.closed:
            self._hours.append(self._builder.closed.popleft())
        oldest_ns = running.close_ts_ns - TICKER_HOURS * INTERVALS_NS["1h"]
        bar = merge([hour for hour in self._hours if hour.open_ts_ns >= oldest_ns] + [running])
        return Event(self._topic, self._ticker(bar), now_ns, now_ns)

    def _ticker(self, bar: Bar) -> Ticker:
        if not bar.trades:
            return Ticker()
        totals = candle(self._market, bar, closed=False)
        return Ticker(totals.close, totals.open, totals.high, totals.low, totals.volume, totals.quote_volume)


_STREAMS: Mapping[Kind, Callable[[Topic, Market], Stream]] = {
    Kind.TRADE: TradeStream,
    Kind.QUOTE: QuoteStream,
    Kind.BOOK: BookStream,
    Kind.CANDLE: CandleStream,
    Kind.TICKER: TickerStream,
}


def open_stream(topic: Topic, market: Market) -> Stream | None:
    """The stream of a topic; None for INSTRUMENT, whose events come with the catalogue."""
    kind = _STREAMS.get(topic.kind)
    return kind(topic, market) if kind is not None else None
