"""A seeded market in the venue's own frames: several symbols, each with a book, trades and quotes that agree; pure.

The same seed and start give the same frames on every Python: only `Random.random` and exact arithmetic are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from random import Random

import attrs

from raven_binance.emulator.frames import Record
from raven_binance.emulator.rules import SYMBOLS, SymbolRules
from raven_binance.emulator.statistics import Statistics

__all__ = ["SYNTHETIC_FRAMES", "SpotMarket", "generate", "synthetic_records"]

EVENTS_PER_S = 200  # of all symbols together
DEPTH_EVERY_NS = 100_000_000
STATISTICS_EVERY_NS = 1_000_000_000
RECORDED_TOPICS = frozenset({"trade", "bookTicker", "depth@100ms", "snapshot"})
TRADE_SHARE = 0.3
REMOVE_SHARE = 0.35
LEVELS_AT_FIRST = 100
LEVELS_MIN, LEVELS_MAX = 20, 400
NEAR_TICKS = 40  # how far from the other side's best a level changes
SNAPSHOT_AFTER_DEPTHS = 3
LATENCY_NS = 1_500_000
SYNTHETIC_FRAMES = 3_000
SYNTHETIC_START_NS = 1_700_000_000_000_000_000

Payload = tuple[str, str]  # the stream's name after the symbol, the JSON text


def generate(
    seed: int, start_ns: int, symbols: Sequence[SymbolRules] = SYMBOLS, kind: type[SpotMarket] | None = None
) -> Iterator[Record]:
    """Frames without end, and each symbol's depth snapshot once.

    Args:
        start_ns: Unix time of the first; ids grow from it too, so that a later run has higher ones.
        kind: of each symbol's market; spot by default.
    """
    random = Random(seed)
    markets = [(kind or SpotMarket)(rules, Random(f"{seed}/{rules.symbol}"), start_ns) for rules in symbols]
    now_ns, flush_ns = start_ns, start_ns + DEPTH_EVERY_NS
    while True:
        now_ns += int((0.2 + 1.6 * random.random()) * 1_000_000_000 / EVENTS_PER_S)
        while now_ns >= flush_ns:
            for market in markets:
                yield from market.records(flush_ns, market.depth(flush_ns // 1_000_000))
                if flush_ns % STATISTICS_EVERY_NS == 0:
                    yield from market.records(flush_ns, market.statistics(flush_ns // 1_000_000))
            flush_ns += DEPTH_EVERY_NS
        market = markets[int(random.random() * len(markets))]
        yield from market.records(now_ns, market.step(now_ns // 1_000_000))


def synthetic_records(count: int = SYNTHETIC_FRAMES) -> list[Record]:
    """The recording of spot that is committed with the tests: trades, quotes and books."""
    records = generate(1, SYNTHETIC_START_NS, SYMBOLS[:2])
    return list(islice((record for record in records if record.topic in RECORDED_TOPICS), count))


@attrs.define
class _Side:
    """One side of a book: ticks to lots, and what changed since the last depth update."""

    sign: int  # +1 bids, -1 asks: the best has the highest sign * tick
    lots: dict[int, int] = attrs.field(factory=dict)
    changed: dict[int, int] = attrs.field(factory=dict)

    @property
    def best(self) -> int:
        return max(self.lots) if self.sign > 0 else min(self.lots)

    @property
    def worst(self) -> int:
        return min(self.lots) if self.sign > 0 else max(self.lots)

    def put(self, tick: int, lots: int) -> None:
        self.changed[tick] = lots
        if lots:
            self.lots[tick] = lots
        else:
            self.lots.pop(tick, None)

    def levels(self, of: Mapping[int, int]) -> list[tuple[int, int]]:
        return sorted(of.items(), reverse=self.sign > 0)


class SpotMarket:
    """One symbol's market, in the frames of spot."""

    def __init__(self, rules: SymbolRules, random: Random, start_ns: int) -> None:
        self._rules = rules
        self._random = random.random
        self._bids, self._asks = _Side(+1), _Side(-1)
        self._update_id = self._flushed_id = start_ns // 100_000
        self._trade_id = start_ns // 1_000_000
        self._depths = 0
        self._snapshot_due = False
        middle = rules.price_units // rules.tick_units
        self._statistics = Statistics(rules, middle, start_ns // 1_000_000)
        for distance in range(1, LEVELS_AT_FIRST + 1):
            self._bids.lots[middle - distance] = self._some_lots()
            self._asks.lots[middle + distance] = self._some_lots()

    def records(self, now_ns: int, payloads: list[Payload]) -> Iterator[Record]:
        """`payloads` as a recorder would have had them."""
        name = self._rules.symbol.lower()
        for topic, payload in payloads:
            yield Record(now_ns + LATENCY_NS, f"{name}@{topic}", payload)

    def step(self, now_ms: int) -> list[Payload]:
        """One thing happens: a level changes, or there is a trade. A snapshot that is due falls between two depth updates."""
        top = self._top()
        payloads = self._trade(now_ms) if self._random() < TRADE_SHARE else self._change()
        if self._top() != top:
            payloads.append(("bookTicker", self._book_ticker(now_ms)))
        if self._snapshot_due:
            self._snapshot_due = False
            payloads.append(("snapshot", self._snapshot(now_ms)))
        return payloads

    def statistics(self, now_ms: int) -> list[Payload]:
        """What the venue tells each second: candles and 24 hours."""
        return self._statistics.payloads(now_ms)

    def depth(self, now_ms: int) -> list[Payload]:
        """What changed since the last one, if anything."""
        if self._update_id == self._flushed_id:
            return []
        flushed, self._flushed_id = self._flushed_id, self._update_id
        bids, asks = (self._texts(side, side.changed) for side in (self._bids, self._asks))
        self._bids.changed.clear()
        self._asks.changed.clear()
        self._depths += 1
        self._snapshot_due = self._depths == SNAPSHOT_AFTER_DEPTHS
        return self._depth_payloads(now_ms, flushed, bids, asks)

    def _depth_payloads(self, now_ms: int, flushed: int, bids: str, asks: str) -> list[Payload]:
        head = f'{{"e":"depthUpdate","E":{now_ms},"s":"{self._rules.symbol}","U":{flushed + 1},"u":{self._update_id}'
        return [("depth@100ms", f'{head},"b":{bids},"a":{asks}}}')]

    def _change(self) -> list[Payload]:
        side, other = (self._bids, self._asks) if self._random() < 0.5 else (self._asks, self._bids)
        spread = self._random()
        tick = other.best - side.sign * (1 + int(spread * spread * NEAR_TICKS))
        removes = tick in side.lots and len(side.lots) > LEVELS_MIN and self._random() < REMOVE_SHARE
        self._put(side, tick, 0 if removes else self._some_lots())
        return []

    def _trade(self, now_ms: int) -> list[Payload]:
        buys = self._random() < 0.5
        side = self._asks if buys else self._bids
        tick = side.best
        lots = min(side.lots[tick], self._some_lots())
        if len(side.lots) <= LEVELS_MIN:
            self._put(side, side.worst - side.sign, self._some_lots())
        self._put(side, tick, side.lots[tick] - lots)
        self._trade_id += 1
        self._statistics.add_trade(now_ms, tick, lots, buys, self._trade_id)
        return self._trade_payloads(now_ms, tick, lots, buys)

    def _ids_taken(self) -> int:
        """How many update ids a change takes."""
        return 1

    def _put(self, side: _Side, tick: int, lots: int) -> None:
        self._update_id += self._ids_taken()
        side.put(tick, lots)
        if len(side.lots) > LEVELS_MAX:
            side.put(side.worst, 0)

    def _some_lots(self) -> int:
        part = self._random()
        return 1 + int(part * part * self._rules.lots_usual)

    def _top(self) -> tuple[int, int, int, int]:
        bid, ask = self._bids.best, self._asks.best
        return bid, self._bids.lots[bid], ask, self._asks.lots[ask]

    def _trade_payloads(self, now_ms: int, tick: int, lots: int, buys: bool) -> list[Payload]:
        text = (
            f'{{"e":"trade","E":{now_ms},"s":"{self._rules.symbol}","t":{self._trade_id},"p":"{self._price(tick)}",'
            f'"q":"{self._size(lots)}","T":{now_ms},"m":{"false" if buys else "true"},"M":true}}'
        )
        return [("trade", text)]

    def _book_ticker(self, now_ms: int) -> str:
        del now_ms  # spot does not say when
        bid, bid_lots, ask, ask_lots = self._top()
        return (
            f'{{"u":{self._update_id},"s":"{self._rules.symbol}","b":"{self._price(bid)}","B":"{self._size(bid_lots)}",'
            f'"a":"{self._price(ask)}","A":"{self._size(ask_lots)}"}}'
        )

    def _snapshot(self, now_ms: int) -> str:
        del now_ms
        bids, asks = (self._texts(side, side.lots) for side in (self._bids, self._asks))
        return f'{{"lastUpdateId":{self._update_id},"bids":{bids},"asks":{asks}}}'

    def _texts(self, side: _Side, of: Mapping[int, int]) -> str:
        levels = (f'["{self._price(tick)}","{self._size(lots)}"]' for tick, lots in side.levels(of))
        return f"[{','.join(levels)}]"

    def _price(self, tick: int) -> str:
        return self._rules.price(tick)

    def _size(self, lots: int) -> str:
        return self._rules.size(lots)
