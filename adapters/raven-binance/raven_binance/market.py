"""What one of Binance's markets has that another has not: paths, stream names, instruments. Spot is here; a second market is a
second `Market` with its own streams, under the same session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import attrs

from raven.adapter import Kind, Output, Topic
from raven.model.instrument import Instrument
from raven_binance.catalogue import SpotSymbol, spot_instrument
from raven_binance.streams import BookStream, QuoteStream, Stream, TradeStream
from raven_binance.symbols import format_stream_symbol, format_venue_symbol

__all__ = ["SPOT", "Market", "StreamKind"]

FetchSnapshot = Callable[[BookStream], list[Output]]
StreamMaker = Callable[[Topic, str, MutableMapping[str, Any], FetchSnapshot], Stream]


@attrs.frozen
class StreamKind:
    """How a kind of topic is had from the venue.

    Args:
        suffix: of the stream's name ("trade" in "btcusdt@trade").
        make: makes the object that decodes it.
    """

    suffix: str
    make: StreamMaker


@attrs.frozen
class Market:
    """One market of the venue.

    Args:
        streams: by the kind that they feed.
        depth_path, exchange_info_path: of the REST endpoints.
        depth_weights: the `limit`s that a depth request may have, and what each costs of the REST budget.
        exchange_info_weight: what that request costs.
        weight_per_s: the part of the REST budget (6,000 a minute and address on spot) that one session may use, as others on
            this address want some too.
        format_symbol: a canonical symbol in the venue's spelling; raises InvalidValue.
        instrument: an entry of `exchangeInfo` as an instrument; None where it has no canonical symbol.
    """

    streams: Mapping[Kind, StreamKind]
    depth_path: str
    depth_weights: Mapping[int, int]
    exchange_info_path: str
    exchange_info_weight: int
    weight_per_s: float
    format_symbol: Callable[[str], str]
    instrument: Callable[[str, SpotSymbol], Instrument | None]

    def stream_name(self, topic: Topic) -> str | None:
        """The stream that feeds `topic`; None for one that REST feeds."""
        kind = self.streams.get(topic.kind)
        return f"{format_stream_symbol(self.format_symbol(topic.symbol))}@{kind.suffix}" if kind else None


def _trades(topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any], _: FetchSnapshot) -> Stream:
    return TradeStream(topic, venue_symbol, memory)


def _quotes(topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any], _: FetchSnapshot) -> Stream:
    return QuoteStream(topic, venue_symbol, memory)


SPOT = Market(
    streams={
        Kind.TRADE: StreamKind("trade", _trades),
        Kind.QUOTE: StreamKind("bookTicker", _quotes),
        Kind.BOOK: StreamKind("depth@100ms", BookStream),
    },
    depth_path="/api/v3/depth",
    depth_weights={5: 5, 10: 5, 20: 5, 50: 5, 100: 5, 500: 25, 1000: 50, 5000: 250},
    exchange_info_path="/api/v3/exchangeInfo",
    exchange_info_weight=20,
    weight_per_s=50.0,
    format_symbol=format_venue_symbol,
    instrument=spot_instrument,
)
