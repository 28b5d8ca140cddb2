"""Streams that tell how things stand, once a second or so: candles and 24 h statistics, on spot and on USD-M.

Their messages have no numbers in a row, so what is lost between two of them cannot be seen; each holds the whole state again.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from raven.adapter import Output, Topic
from raven.model.events import Candle, Event, Gap, GapCause, Ticker
from raven_binance.streams import FOREIGN, OTHER_BUSINESS, REPEATED, Stream
from raven_binance.wire import time_ns
from raven_binance.wire_statistics import Kline, parse_kline, parse_ticker

__all__ = ["CandleStream", "Newest", "TickerStream"]

CLOCK_BACK_MS = 60_000  # an older message is a late or repeated one; by more than this the venue's clock was set


class Newest:
    """Tells a new message from a repeated or late one, by the time that the venue wrote on it.

    Args:
        memory: kept from one connection to the next.
        key: of this stream in it.
    """

    def __init__(self, memory: MutableMapping[str, Any], key: str) -> None:
        self._memory = memory
        self._key = key
        self._last_ms: int = memory.get(key, 0)

    def takes(self, event_ms: int) -> bool:
        """Whether this one is newer than all before."""
        if self._last_ms - CLOCK_BACK_MS < event_ms <= self._last_ms:
            return False
        self._memory[self._key] = self._last_ms = event_ms
        return True


class TickerStream(Stream):
    """`@ticker`."""

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        super().__init__(topic, venue_symbol, memory)
        self._newest = Newest(memory, self._key)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """The last 24 hours as they are now."""
        message = parse_ticker(frame)
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        if not self._newest.takes(message.event_time):
            return REPEATED
        ticker = Ticker(
            message.last_price,
            message.open_price,
            message.high_price,
            message.low_price,
            message.volume,
            message.quote_volume,
        )
        return (Event(self.topic, ticker, received_ts_ns, time_ns(message.event_time)),)


class CandleStream(Stream):
    """`@kline_<interval>`. The venue says itself when a candle is closed, so what is missing is only ever a closing."""

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        super().__init__(topic, venue_symbol, memory)
        # The latest message: open and event time (ms), and whether it closed its candle.
        self._last: tuple[int, int, bool] | None = memory.get(self._key)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """The candle as it is now. A Gap before it where the candle before was never closed."""
        message = parse_kline(frame)
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        kline, last = message.kline, self._last
        if last is not None and _is_over(kline, message.event_time, last):
            return REPEATED
        unclosed = last is not None and kline.open_time > last[0] and not last[2]
        self._memory[self._key] = self._last = kline.open_time, message.event_time, kline.closed
        event = Event(self.topic, candle_of(kline), received_ts_ns, time_ns(message.event_time))
        return (Event(self.topic, Gap(GapCause.VENUE, missed=1), received_ts_ns), event) if unclosed else (event,)


def _is_over(kline: Kline, event_ms: int, last: tuple[int, int, bool]) -> bool:
    """Whether nothing new can come of `kline`: of an earlier candle, of one that is closed, or an older message."""
    open_ms, last_ms, closed = last
    return kline.open_time < open_ms or (kline.open_time == open_ms and (closed or event_ms <= last_ms))


def candle_of(kline: Kline) -> Candle:
    """The candle; without prices where no trade fell into it, whatever the venue writes there."""
    candle = Candle(
        time_ns(kline.open_time) or 0,
        time_ns(kline.close_time + 1) or 0,
        volume=kline.volume,
        quote_volume=kline.quote_volume,
        trades=kline.trades,
        taker_buy_volume=kline.taker_buy_volume,
        closed=kline.closed,
    )
    if kline.trades:
        candle.open, candle.high, candle.low, candle.close = kline.open, kline.high, kline.low, kline.close
    return candle
