"""Binance USD-M futures as a `Market`. Its streams come over two paths (the venue's change of 2026-04-23); a stream that is
asked for on the wrong one is confirmed, and then nothing comes."""

from __future__ import annotations

from raven.adapter import Kind
from raven_binance.catalogue import usdm_instrument
from raven_binance.market import USDM_INTERVALS, Market, StreamKind, plain
from raven_binance.streams import QuoteStream
from raven_binance.streams_statistics import CandleStream, TickerStream
from raven_binance.streams_usdm import AggregateStream, LiquidationStream, MarkPriceStream, UsdmBookStream, UsdmTradeStream
from raven_binance.symbols import format_contract_symbol

__all__ = ["AGGREGATES", "DEPTH_SPEEDS", "TRADES", "usdm_market"]

PUBLIC, MARKET = "public", "market"
TRADES, AGGREGATES = "trade", "aggTrade"
DEPTH_SPEEDS = ("0ms", "100ms", "250ms", "500ms")
DEPTH_SPEED_UNNAMED = "250ms"  # the stream's name does not say it

_TRADE_STREAMS = {
    TRADES: StreamKind("trade", plain(UsdmTradeStream), PUBLIC),  # not in the venue's pages; tools that use it take it there
    AGGREGATES: StreamKind("aggTrade", plain(AggregateStream), MARKET),
}


def usdm_market(trade_stream: str = TRADES, depth_speed: str = "100ms") -> Market:
    """The market with these choices: a key of the trade streams, one of `DEPTH_SPEEDS`."""
    depth = "depth" if depth_speed == DEPTH_SPEED_UNNAMED else f"depth@{depth_speed}"
    mark_price = StreamKind("markPrice@1s", plain(MarkPriceStream), MARKET, steady=True)
    return Market(
        title="Binance USD-M futures",
        streams={
            Kind.TRADE: _TRADE_STREAMS[trade_stream],
            Kind.QUOTE: StreamKind("bookTicker", plain(QuoteStream), PUBLIC, steady=True),
            Kind.BOOK: StreamKind(depth, UsdmBookStream, PUBLIC, steady=True),
            Kind.CANDLE: StreamKind("kline_{variant}", plain(CandleStream), MARKET),
            Kind.TICKER: StreamKind("ticker", plain(TickerStream), MARKET),
            Kind.MARK_PRICE: mark_price,
            Kind.FUNDING: mark_price,
            Kind.LIQUIDATION: StreamKind("forceOrder", plain(LiquidationStream), MARKET, rare=True),
        },
        rest_routes={Kind.INSTRUMENT: PUBLIC, Kind.OPEN_INTEREST: MARKET},
        routes={PUBLIC: "/public/stream", MARKET: "/market/stream"},
        intervals=USDM_INTERVALS,
        depth_path="/fapi/v1/depth",
        depth_weights={5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20},
        exchange_info_path="/fapi/v1/exchangeInfo",
        exchange_info_weight=1,
        lists_by_symbol=False,
        weight_per_s=10.0,  # of 2,400 a minute and address, or of 1,200 as some say; and there are two sessions
        burst_weight=200,
        format_symbol=format_contract_symbol,
        instrument=usdm_instrument,
        open_interest_path="/fapi/v1/openInterest",
        funding_info_path="/fapi/v1/fundingInfo",
    )
