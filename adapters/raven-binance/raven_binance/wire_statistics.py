"""What the venue computes itself: candles and 24 h statistics. The same on spot and on USD-M."""

from __future__ import annotations

from msgspec import Struct, field

from raven_binance.wire import Number, UpdateId, VenueTime, frame_parser

__all__ = ["Kline", "KlineMessage", "TickerMessage", "parse_kline", "parse_ticker"]


class Kline(Struct, gc=False):
    """`k` of a candle's message. The close time is the last millisecond that belongs to it; `closed` says that it is final."""

    open_time: VenueTime = field(name="t")
    close_time: VenueTime = field(name="T")
    open: Number = field(name="o")
    high: Number = field(name="h")
    low: Number = field(name="l")
    close: Number = field(name="c")
    volume: Number = field(name="v")
    quote_volume: Number = field(name="q")
    trades: UpdateId = field(name="n")
    taker_buy_volume: Number = field(name="V")
    closed: bool = field(name="x")


class KlineMessage(Struct, gc=False):
    """`<symbol>@kline_<interval>`."""

    event_time: VenueTime = field(name="E")
    kline: Kline = field(name="k")
    business: int = field(name="st", default=0)


class TickerMessage(Struct, gc=False):
    """`<symbol>@ticker`: the last 24 hours."""

    event_time: VenueTime = field(name="E")
    last_price: Number = field(name="c")
    open_price: Number = field(name="o")
    high_price: Number = field(name="h")
    low_price: Number = field(name="l")
    volume: Number = field(name="v")
    quote_volume: Number = field(name="q")
    business: int = field(name="st", default=0)


parse_kline = frame_parser("kline", KlineMessage)
parse_ticker = frame_parser("24hrTicker", TickerMessage)
