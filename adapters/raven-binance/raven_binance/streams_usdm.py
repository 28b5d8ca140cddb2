"""Streams as USD-M has them: trades with their origin, books by `pu`, mark price and funding, forced orders."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from raven.adapter import Count, Kind, Output, Topic
from raven.model.events import Event, Funding, Liquidation, MarkPrice, Payload, Trade
from raven_binance.streams import BUY, FOREIGN, OTHER_BUSINESS, REPEATED, SELL, SUSPECT, BookStream, Stream, TradeStream
from raven_binance.streams_statistics import Newest
from raven_binance.wire import time_ns
from raven_binance.wire_usdm import (
    MARKET_TRADE,
    MarkPriceMessage,
    parse_aggregate,
    parse_force_order,
    parse_mark_price,
    parse_optional,
    parse_usdm_depth_update,
    parse_usdm_trade,
)

__all__ = ["AggregateStream", "LiquidationStream", "MarkPriceStream", "UsdmBookStream", "UsdmTradeStream", "interval_key"]

NO_TRADE = (Count("excluded_trade"),)
UNFILLED = (Count("unfilled_liquidation"),)
SIDES = {"BUY": BUY, "SELL": SELL}


def interval_key(venue_symbol: str) -> str:
    """Where a session's memory has the symbol's funding interval, in seconds."""
    return f"funding_interval:{venue_symbol}"


class UsdmTradeStream(TradeStream):
    """`@trade`. What is not of the market (insurance fund, auto-deleveraging) has an id of the same row and is counted only."""

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One trade, or one booking of the venue."""
        message = parse_usdm_trade(frame)
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        if message.origin != MARKET_TRADE:
            return self._follow(message.trade_id, NO_TRADE, received_ts_ns)
        trade = Trade(message.price, message.size, SELL if message.buyer_is_maker else BUY, str(message.trade_id))
        flags = 0 if message.price else SUSPECT
        event = Event(self.topic, trade, received_ts_ns, time_ns(message.trade_time), flags)
        return self._follow(message.trade_id, (event,), received_ts_ns)


class AggregateStream(TradeStream):
    """`@aggTrade`: the fills of one taker order at one price as one trade. The ids of aggregates go up by one.

    The trade ids within do not: bookings of the venue are left out of aggregates and have ids too.
    """

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One aggregate."""
        message = parse_aggregate(frame)
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        aggressor = SELL if message.buyer_is_maker else BUY
        trade = Trade(message.price, message.size, aggressor, str(message.last_id), str(message.first_id))
        flags = 0 if message.price else SUSPECT
        event = Event(self.topic, trade, received_ts_ns, time_ns(message.trade_time), flags)
        return self._follow(message.aggregate_id, (event,), received_ts_ns)


class UsdmBookStream(BookStream):
    """`@depth` with `pu`: the last id of the update before, because ids are shared by all symbols and have holes."""

    _read = staticmethod(parse_usdm_depth_update)


class MarkPriceStream(Stream):
    """`@markPrice@1s`, which feeds two topics: the mark price and the funding. It has one of them or both."""

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        super().__init__(topic, venue_symbol, memory)
        self._key = f"{topic.venue}/{topic.symbol}/markPrice"
        self._newest = Newest(memory, self._key)
        self._fed: dict[Kind, Topic] = {topic.kind: topic}

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Mark price, funding, or both."""
        return tuple(self._fed.values())

    def join(self, topic: Topic) -> bool:
        """Feed the other one too."""
        if topic.symbol != self.topic.symbol or topic.kind in self._fed:
            return False
        self._fed[topic.kind] = topic
        return True

    def leave(self, topic: Topic) -> bool:
        """Feed only the other one."""
        del self._fed[topic.kind]
        return not self._fed

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """The mark price and the estimated funding rate as they are now."""
        message = parse_mark_price(frame)
        payloads = {Kind.MARK_PRICE: _mark_price(message), Kind.FUNDING: self._funding(message)}
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        if not self._newest.takes(message.event_time):
            return REPEATED
        venue_ts_ns = time_ns(message.event_time)
        return [Event(topic, payloads[kind], received_ts_ns, venue_ts_ns) for kind, topic in self._fed.items()]

    def _funding(self, message: MarkPriceMessage) -> Payload:
        rate = parse_optional(message.funding_rate, "r")
        return Funding(rate, time_ns(message.funding_time), self._memory.get(interval_key(self.venue_symbol)))


def _mark_price(message: MarkPriceMessage) -> Payload:
    return MarkPrice(parse_optional(message.mark_price, "p"), parse_optional(message.index_price, "i"))


class LiquidationStream(Stream):
    """`@forceOrder`: at most one a second and symbol, the latest. It is a sample and never all of them."""

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        super().__init__(topic, venue_symbol, memory)
        self._newest = Newest(memory, self._key)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One forced order, with what was filled of it at the average price."""
        message = parse_force_order(frame)
        order = message.order
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        if not self._newest.takes(message.event_time):
            return REPEATED
        if not order.filled:
            return UNFILLED
        liquidation = Liquidation(order.average_price, order.filled, SIDES.get(order.side, 0))
        flags = 0 if order.average_price and order.side in SIDES else SUSPECT
        return (Event(self.topic, liquidation, received_ts_ns, time_ns(order.trade_time), flags),)
