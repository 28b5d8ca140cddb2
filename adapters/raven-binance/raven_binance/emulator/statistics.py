"""Candles and 24 h statistics of a generated market, as the venue tells them; pure."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from raven_binance.emulator.rules import SymbolRules
from raven_binance.market import SPOT_INTERVALS

__all__ = ["Statistics", "candle_bounds_ms"]

UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
FIRST_MONDAY_MS = 4 * UNIT_MS["d"]  # 1970-01-05

Payload = tuple[str, str]  # the stream's name after the symbol, the JSON text


def candle_bounds_ms(interval: str, now_ms: int) -> tuple[int, int]:
    """Open time and last millisecond of the candle that `now_ms` falls into; weeks begin on Mondays, all in UTC.

    >>> candle_bounds_ms("1m", 1672515782136)
    (1672515780000, 1672515839999)
    """
    if interval == "1M":
        day = datetime.fromtimestamp(now_ms / 1000, UTC)
        begin = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
        return int(begin.timestamp() * 1000), int(end.timestamp() * 1000) - 1
    size_ms = int(interval[:-1]) * UNIT_MS[interval[-1]]
    offset_ms = FIRST_MONDAY_MS if interval.endswith("w") else 0
    open_ms = (now_ms - offset_ms) // size_ms * size_ms + offset_ms
    return open_ms, open_ms + size_ms - 1


@attrs.define
class _Sums:
    """Prices in ticks, volumes in lots, over some time."""

    open: int
    high: int
    low: int
    close: int
    lots: int = 0
    value: int = 0
    buy_lots: int = 0
    buy_value: int = 0
    trades: int = 0
    first_id: int = -1
    last_id: int = -1

    def add(self, tick: int, lots: int, buys: bool, trade_id: int) -> None:
        self.open = self.open if self.trades else tick
        self.high = max(self.high, tick) if self.trades else tick
        self.low = min(self.low, tick) if self.trades else tick
        self.close = tick
        self.lots += lots
        self.value += tick * lots
        self.buy_lots += lots * buys
        self.buy_value += tick * lots * buys
        self.trades += 1
        self.first_id = trade_id if self.trades == 1 else self.first_id
        self.last_id = trade_id


@attrs.define
class _Candle:
    interval: str
    open_ms: int
    close_ms: int
    sums: _Sums
    changed: bool = True


class Statistics:
    """One symbol's candles of every interval, and its statistics since the beginning.

    Args:
        tick: the price to begin with.
    """

    def __init__(self, rules: SymbolRules, tick: int, start_ms: int) -> None:
        self._rules = rules
        self._day = _Sums(tick, tick, tick, tick)
        self._candles = [self._new(interval, start_ms) for interval in SPOT_INTERVALS]

    def add_trade(self, now_ms: int, tick: int, lots: int, buys: bool, trade_id: int) -> None:
        """A trade happened; `payloads` is called at each whole second, so it belongs to the candles that are open."""
        del now_ms
        self._day.add(tick, lots, buys, trade_id)
        for candle in self._candles:
            candle.sums.add(tick, lots, buys, trade_id)
            candle.changed = True

    def payloads(self, now_ms: int) -> list[Payload]:
        """Candles that changed or are over, and the ticker."""
        told: list[Payload] = []
        for index, candle in enumerate(self._candles):
            over = candle.close_ms < now_ms
            if candle.changed or over:
                told.append((f"kline_{candle.interval}", self._kline(candle, now_ms, over)))
                candle.changed = False
            if over:
                self._candles[index] = self._new(candle.interval, now_ms)
        return [*told, ("ticker", self._ticker(now_ms))]

    def _new(self, interval: str, now_ms: int) -> _Candle:
        tick = self._day.close
        return _Candle(interval, *candle_bounds_ms(interval, now_ms), _Sums(tick, tick, tick, tick))

    def _kline(self, candle: _Candle, now_ms: int, over: bool) -> str:
        rules, sums = self._rules, candle.sums
        return (
            f'{{"e":"kline","E":{now_ms},"s":"{rules.symbol}","k":{{"t":{candle.open_ms},"T":{candle.close_ms},'
            f'"s":"{rules.symbol}","i":"{candle.interval}","f":{sums.first_id},"L":{sums.last_id},'
            f'"o":"{rules.price(sums.open)}","c":"{rules.price(sums.close)}","h":"{rules.price(sums.high)}",'
            f'"l":"{rules.price(sums.low)}","v":"{rules.size(sums.lots)}","n":{sums.trades},"x":{"true" if over else "false"},'
            f'"q":"{rules.value(sums.value)}","V":"{rules.size(sums.buy_lots)}","Q":"{rules.value(sums.buy_value)}","B":"0"}}}}'
        )

    def _ticker(self, now_ms: int) -> str:
        rules, sums = self._rules, self._day
        return (
            f'{{"e":"24hrTicker","E":{now_ms},"s":"{rules.symbol}","c":"{rules.price(sums.close)}",'
            f'"o":"{rules.price(sums.open)}","h":"{rules.price(sums.high)}","l":"{rules.price(sums.low)}",'
            f'"v":"{rules.size(sums.lots)}","q":"{rules.value(sums.value)}","O":{now_ms - UNIT_MS["d"]},"C":{now_ms},'
            f'"F":{sums.first_id},"L":{sums.last_id},"n":{sums.trades}}}'
        )
