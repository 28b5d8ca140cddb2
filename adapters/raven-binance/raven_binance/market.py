"""What one of Binance's markets has that another has not: paths, stream names, budgets, instruments. Spot is here, USD-M in
`usdm`; the session is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import attrs

from raven.adapter import Kind, Output, Topic
from raven.errors import InvalidValue
from raven.model.instrument import Instrument
from raven_binance.catalogue import ListedSymbol, spot_instrument
from raven_binance.streams import BookStream, QuoteStream, Stream, TradeStream
from raven_binance.streams_statistics import CandleStream, TickerStream
from raven_binance.symbols import format_stream_symbol, format_venue_symbol

__all__ = ["SPOT", "SPOT_INTERVALS", "USDM_INTERVALS", "Market", "StreamKind", "plain"]

USDM_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
SPOT_INTERVALS = ("1s", *USDM_INTERVALS)

FetchSnapshot = Callable[[BookStream], list[Output]]
StreamMaker = Callable[[Topic, str, MutableMapping[str, Any], FetchSnapshot], Stream]


def plain(kind: type[Stream]) -> StreamMaker:
    """The maker of a stream that needs no snapshots."""
    return lambda topic, venue_symbol, memory, _: kind(topic, venue_symbol, memory)


@attrs.frozen
class StreamKind:
    """How a kind of topic is had from the venue.

    Args:
        suffix: of the stream's name ("trade" in "btcusdt@trade"); "{variant}" in it is the topic's.
        make: makes the object that decodes it.
        route: the connection that it comes over, a key of the market's `routes`.
        rare: there may be nothing for days, so silence says nothing.
        steady: something comes every few seconds, in any market that is open.
    """

    suffix: str
    make: StreamMaker
    route: str = "main"
    rare: bool = False
    steady: bool = False


@attrs.frozen
class Market:
    """One market of the venue.

    Args:
        title: for people.
        streams: by the kind that they feed.
        rest_routes: kinds that REST feeds, each with the connection whose session asks for it.
        routes: connections by name, with the path of each.
        intervals: of candles.
        depth_path, exchange_info_path, open_interest_path, funding_info_path: of the REST endpoints; empty where there is none.
        depth_weights: the `limit`s that a depth request may have, and what each costs of the REST budget.
        exchange_info_weight: what that request costs.
        lists_by_symbol: whether `exchangeInfo` can be asked for some symbols; else all of them come.
        weight_per_s, burst_weight: the part of the REST budget that one session may use, evenly and at once, as others on this
            address want some too.
        format_symbol: a canonical symbol in the venue's spelling; raises InvalidValue.
        instrument: an entry of `exchangeInfo` as an instrument; None where it has no canonical symbol.
    """

    title: str
    streams: Mapping[Kind, StreamKind]
    rest_routes: Mapping[Kind, str]
    routes: Mapping[str, str]
    intervals: tuple[str, ...]
    depth_path: str
    depth_weights: Mapping[int, int]
    exchange_info_path: str
    exchange_info_weight: int
    lists_by_symbol: bool
    weight_per_s: float
    burst_weight: float
    format_symbol: Callable[[str], str]
    instrument: Callable[[str, ListedSymbol], Instrument | None]
    open_interest_path: str = ""
    funding_info_path: str = ""

    @property
    def kinds(self) -> frozenset[Kind]:
        """What it feeds."""
        return frozenset({*self.streams, *self.rest_routes})

    def check(self, topic: Topic) -> str:
        """The venue's symbol of a topic that this market can feed. Raises InvalidValue for any other."""
        if topic.kind not in self.kinds:
            known = ", ".join(sorted(kind.label for kind in self.kinds))
            raise InvalidValue("kinds", topic.kind.label, f"{self.title} feeds {known}")
        if topic.kind is Kind.CANDLE and topic.variant not in self.intervals:
            raise InvalidValue("intervals", topic.variant, f"one of {', '.join(self.intervals)}")
        return self.format_symbol(topic.symbol)

    def stream_name(self, topic: Topic) -> str | None:
        """The stream that feeds `topic`; None for one that REST feeds."""
        kind = self.streams.get(topic.kind)
        if kind is None:
            return None
        suffix = kind.suffix.format(variant=topic.variant)
        return f"{format_stream_symbol(self.format_symbol(topic.symbol))}@{suffix}"


SPOT = Market(
    title="Binance spot",
    streams={
        Kind.TRADE: StreamKind("trade", plain(TradeStream)),
        Kind.QUOTE: StreamKind("bookTicker", plain(QuoteStream)),
        Kind.BOOK: StreamKind("depth@100ms", BookStream),
        Kind.CANDLE: StreamKind("kline_{variant}", plain(CandleStream)),
        Kind.TICKER: StreamKind("ticker", plain(TickerStream)),
    },
    rest_routes={Kind.INSTRUMENT: "main"},
    routes={"main": "/stream"},
    intervals=SPOT_INTERVALS,
    depth_path="/api/v3/depth",
    depth_weights={5: 5, 10: 5, 20: 5, 50: 5, 100: 5, 500: 25, 1000: 50, 5000: 250},
    exchange_info_path="/api/v3/exchangeInfo",
    exchange_info_weight=20,
    lists_by_symbol=True,
    weight_per_s=50.0,  # of 6,000 a minute and address
    burst_weight=1_000,
    format_symbol=format_venue_symbol,
    instrument=spot_instrument,
)
