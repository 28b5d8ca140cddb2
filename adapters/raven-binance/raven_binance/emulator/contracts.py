"""A generated market in the frames of USD-M; pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from random import Random

from raven_binance.emulator import generator
from raven_binance.emulator.frames import Record
from raven_binance.emulator.generator import SYNTHETIC_START_NS, Payload, SpotMarket, generate
from raven_binance.emulator.rules import CONTRACTS, NO_DELIVERY_MS, SymbolRules
from raven_binance.usdm import DEPTH_SPEEDS, usdm_market

__all__ = ["DEPTH_TOPICS", "SYNTHETIC_USDM_FRAMES", "ContractMarket", "generate_contracts", "synthetic_usdm_records"]

SYNTHETIC_USDM_FRAMES = 2_000
RECORDED_TOPICS = generator.RECORDED_TOPICS | {"kline_1m", "ticker", "markPrice@1s", "forceOrder"}
DEPTH_TOPICS = tuple("depth" if speed == "250ms" else f"depth@{speed}" for speed in DEPTH_SPEEDS)
ID_HOLE_MAX = 40  # update ids are shared by all symbols
NOT_MARKET_EVERY = 50  # each so-manieth trade is a booking of the venue
LIQUIDATION_SHARE = 0.25  # of the seconds
FUNDING_EVERY_MS = 8 * 3_600_000
INTERVALS = frozenset(f"kline_{interval}" for interval in usdm_market().intervals)


class ContractMarket(SpotMarket):
    """One contract's market."""

    def __init__(self, rules: SymbolRules, random: Random, start_ns: int) -> None:
        super().__init__(rules, random, start_ns)
        self._other = Random(f"{rules.symbol}/{start_ns}").random  # for what has no part in the book

    def statistics(self, now_ms: int) -> list[Payload]:
        """Also the mark price, and sometimes a forced order."""
        told = [(topic, text) for topic, text in super().statistics(now_ms) if topic == "ticker" or topic in INTERVALS]
        told.append(("markPrice@1s", self._mark_price(now_ms)))
        if self._other() < LIQUIDATION_SHARE:
            told.append(("forceOrder", self._force_order(now_ms)))
        return told

    def _ids_taken(self) -> int:
        return 1 + int(self._random() * ID_HOLE_MAX)

    def _depth_payloads(self, now_ms: int, flushed: int, bids: str, asks: str) -> list[Payload]:
        text = (
            f'{{"e":"depthUpdate","E":{now_ms},"T":{now_ms - 2},"s":"{self._rules.symbol}","U":{flushed + 1},'
            f'"u":{self._update_id},"pu":{flushed},"b":{bids},"a":{asks}}}'
        )
        return [(topic, text) for topic in DEPTH_TOPICS]

    def _trade_payloads(self, now_ms: int, tick: int, lots: int, buys: bool) -> list[Payload]:
        head = f'"E":{now_ms},"T":{now_ms - 1},"s":"{self._rules.symbol}"'
        tail = f'"p":"{self._price(tick)}","q":"{self._size(lots)}"'
        maker = "false" if buys else "true"
        if self._trade_id % NOT_MARKET_EVERY == 0:
            return [("trade", f'{{"e":"trade",{head},"t":{self._trade_id},{tail},"X":"INSURANCE_FUND","m":{maker}}}')]
        ids = f'"f":{self._trade_id},"l":{self._trade_id}'
        aggregate_id = self._trade_id - self._trade_id // NOT_MARKET_EVERY
        return [
            ("trade", f'{{"e":"trade",{head},"t":{self._trade_id},{tail},"X":"MARKET","m":{maker}}}'),
            ("aggTrade", f'{{"e":"aggTrade",{head},"a":{aggregate_id},{tail},{ids},"m":{maker}}}'),
        ]

    def _book_ticker(self, now_ms: int) -> str:
        text = super()._book_ticker(now_ms)
        return f'{{"e":"bookTicker",{text[1:-1]},"T":{now_ms - 1},"E":{now_ms}}}'

    def _snapshot(self, now_ms: int) -> str:
        head, _, levels = super()._snapshot(now_ms).partition(",")
        return f'{head},"E":{now_ms},"T":{now_ms - 3},{levels}'

    def _mark_price(self, now_ms: int) -> str:
        bid, _, ask, _ = self._top()
        index = self._price((bid + ask) // 2)
        perpetual = self._rules.delivery_ms == NO_DELIVERY_MS
        funding = now_ms // FUNDING_EVERY_MS * FUNDING_EVERY_MS + FUNDING_EVERY_MS
        rate = f"{int(self._other() * 30_000) - 10_000:+09d}"
        rate = f"{'-' if rate[0] == '-' else ''}0.{rate[1:]}"
        return (
            f'{{"e":"markPriceUpdate","E":{now_ms},"s":"{self._rules.symbol}","p":"{self._price(bid)}","i":"{index}",'
            f'"P":"{index}","r":"{rate if perpetual else ""}","T":{funding if perpetual else 0}}}'
        )

    def _force_order(self, now_ms: int) -> str:
        bid, _, ask, _ = self._top()
        sells = self._other() < 0.5
        price, size = self._price(bid - 20 if sells else ask + 20), self._size(1 + int(self._other() * 500))
        return (
            f'{{"e":"forceOrder","E":{now_ms},"o":{{"s":"{self._rules.symbol}","S":"{"SELL" if sells else "BUY"}","o":"LIMIT",'
            f'"f":"IOC","q":"{size}","p":"{price}","ap":"{self._price(bid if sells else ask)}","X":"FILLED","l":"{size}",'
            f'"z":"{size}","T":{now_ms - 5}}}}}'
        )


generate_contracts = partial(generate, symbols=CONTRACTS, kind=ContractMarket)


def synthetic_usdm_records(count: int = SYNTHETIC_USDM_FRAMES) -> list[Record]:
    """The recording of USD-M that is committed with the tests."""
    records: Iterator[Record] = generate(1, SYNTHETIC_START_NS, CONTRACTS[:2], ContractMarket)
    return list(islice((record for record in records if record.topic in RECORDED_TOPICS), count))
