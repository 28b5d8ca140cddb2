"""Events as points for people and dashboards: a measurement for each payload, typed fields. Pure.

What is written here is written down in docs/data-model.md; the events themselves stand beside it in whole
(`raven.store.influx.block_lines`). A test holds both documents together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from math import isfinite
from typing import Any

from raven.client.events import StreamEvent
from raven.model import events as model
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Topic
from raven.store.influx.lines import INTEGER_MAX, float_value, integer_value, line_head, name_text, string_value

__all__ = ["MEASUREMENTS", "PointWriter", "point_time", "topic_tags"]

HEADS_MAX = 100_000
"""Measurements with their tags that are remembered; beyond it the memory begins anew."""

BAR_VALUES_MAX = 32
"""Named numbers of a bar that become fields."""

MILLISECOND_NS = 1_000_000
_EPOCH_STEP = 7919  # a prime: places of epochs within a millisecond stand apart

MEASUREMENTS: Mapping[type, str] = {
    model.Trade: "trades",
    model.Quote: "quotes",
    model.BookSnapshot: "book_snapshots",
    model.BookDelta: "book_deltas",
    model.Candle: "candles",
    model.Ticker: "tickers",
    model.Funding: "funding",
    model.MarkPrice: "mark_prices",
    model.OpenInterest: "open_interest",
    model.Liquidation: "liquidations",
    Instrument: "instruments",
    model.TopicStatus: "status",
    model.Gap: "gaps",
    model.Greeks: "greeks",
    model.Bar: "bars",
}
"""Class of a payload to its measurement. A BookSnapshot of the kind BOOK_TOP is in "book_top"."""


def point_time(received_ts_ns: int, epoch: int, sequence: int) -> int:
    """The time of an event's point: its millisecond of receipt, and within that a place that its epoch and sequence give.

    A point is its measurement, tags and time. All events of one frame have one time of receipt, so that alone would make them
    one point; a tag that tells them apart would be a new series for each. A topic has no million events in a millisecond, so
    this keeps them apart, and as it depends on nothing but the event, writing it again writes the same point.
    """
    place = (epoch * _EPOCH_STEP + sequence) % MILLISECOND_NS
    return received_ts_ns - received_ts_ns % MILLISECOND_NS + place


def topic_tags(topic: Topic) -> dict[str, str]:
    """The tags that say which topic it is."""
    kind = topic.kind.label if isinstance(topic.kind, Kind) else str(topic.kind)
    return {"venue": topic.venue, "symbol": topic.symbol, "variant": topic.variant, "kind": kind}


class PointWriter:
    """Makes lines, and remembers the heads of those that it has made."""

    def __init__(self) -> None:
        self._heads: dict[tuple[Any, ...], str] = {}

    def line(self, event: StreamEvent) -> str:
        """The point of an event; empty for a payload of a later contract, which has no fields that we know.

        Raises:
            InvalidValue: a number is NaN or infinite, or a name cannot be written.
        """
        payload = event.payload
        cls = type(payload)
        write = _WRITERS.get(cls)
        if write is None:
            return ""
        fields, detail = write(payload)
        key = (event.topic, cls, detail)
        head = self._heads.get(key) or self._head(key)
        epoch, sequence, received = event.epoch, event.sequence, event.received_ts_ns
        # the place is that of point_time, without the call
        time_ns = received - received % MILLISECOND_NS + (epoch * _EPOCH_STEP + sequence) % MILLISECOND_NS
        venue = "" if event.venue_ts_ns is None else f",venue_ts_ns={event.venue_ts_ns}i"
        if event.flags or epoch > INTEGER_MAX or sequence > INTEGER_MAX:
            place = "".join(_integers((("epoch", epoch), ("sequence", sequence), ("flags", event.flags or None))))
            return f"{head} {fields}{place}received_ts_ns={received}i{venue} {time_ns}"
        return f"{head} {fields}epoch={epoch}i,sequence={sequence}i,received_ts_ns={received}i{venue} {time_ns}"

    def _head(self, key: tuple[Any, ...]) -> str:
        topic, cls, detail = key
        tags = topic_tags(topic)
        if cls not in (model.TopicStatus, model.Gap):  # they belong to every kind; the others' measurement says it
            del tags["kind"]
        if detail:
            tags[_DETAIL_TAGS[cls]] = detail
        measurement = "book_top" if cls is model.BookSnapshot and topic.kind == Kind.BOOK_TOP else MEASUREMENTS[cls]
        if len(self._heads) >= HEADS_MAX:
            self._heads.clear()
        head = self._heads[key] = line_head(measurement, tags)
        return head


# ---- a payload: its fields, each with a comma behind it, and the value of the tag that it has beside the topic's

Fields = tuple[str, str]
_DETAIL_TAGS: Mapping[type, str] = {model.Trade: "side", model.Liquidation: "side", model.Candle: "closed"}
_SIDES: Mapping[int, str] = {int(side): "" if side == model.Side.UNSPECIFIED else side.name.lower() for side in model.Side}


def _floats(payload: Any, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = getattr(payload, name)
        if value is not None:
            yield f"{name}={float_value(value)},"


def _integers(values: Any) -> Iterator[str]:
    for name, value in values:
        text = "" if value is None else integer_value(value)
        if text:
            yield f"{name}={text},"


def _strings(payload: Any, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = getattr(payload, name)
        if value:
            yield f"{name}={string_value(value)},"


def _enumerated(name: str, value: int) -> Iterator[str]:
    """As a word for people, and as a number for stores that take nothing else."""
    word = value.name.lower() if isinstance(value, IntEnum) else str(value)
    yield f'{name}="{word}",{name}_code={int(value)}i,'


def _trade(trade: model.Trade) -> Fields:
    price, size, trade_id = trade.price, trade.size, trade.trade_id
    side = _SIDES.get(trade.aggressor, "")
    if price is not None and size is not None and not trade.first_trade_id and isfinite(price + size):
        text = f"trade_id={string_value(trade_id)}," if trade_id else ""
        return f"price={price!r},size={size!r},{text}", side
    return "".join((*_floats(trade, ("price", "size")), *_strings(trade, ("trade_id", "first_trade_id")))), side


_QUOTE = ("bid_price", "bid_size", "ask_price", "ask_size")


def _quote(quote: model.Quote) -> Fields:
    bid, bid_size, ask, ask_size = quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size
    if bid is None or bid_size is None or ask is None or ask_size is None or not isfinite(bid + bid_size + ask + ask_size):
        return "".join(_floats(quote, _QUOTE)), ""
    return f"bid_price={bid!r},bid_size={bid_size!r},ask_price={ask!r},ask_size={ask_size!r},", ""


def _levels(book: model.BookSnapshot | model.BookDelta) -> str:
    sizes = f"bid_levels={len(book.bid_price)}i,ask_levels={len(book.ask_price)}i,"
    sequence = integer_value(book.venue_sequence) if book.venue_sequence else ""
    return f"{sizes}venue_sequence={sequence}," if sequence else sizes


def _book_delta(delta: model.BookDelta) -> Fields:
    return _levels(delta), ""


def _book_snapshot(book: model.BookSnapshot) -> Fields:
    """The touch, and how much stands behind it."""
    fields = [_levels(book)]
    for side, prices, sizes in (("bid", book.bid_price, book.bid_size), ("ask", book.ask_price, book.ask_size)):
        if prices and sizes:
            best = f"{side}_price={float_value(prices[0])},{side}_size={float_value(sizes[0])},"
            fields.append(f"{best}{side}_depth={float_value(sum(sizes))},")
    return "".join(fields), ""


_CANDLE = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume")


def _candle(candle: model.Candle) -> Fields:
    counts = (("open_ts_ns", candle.open_ts_ns), ("close_ts_ns", candle.close_ts_ns), ("trades", candle.trades))
    incomplete = "incomplete=true," if candle.incomplete else ""
    return "".join((*_floats(candle, _CANDLE), *_integers(counts), incomplete)), "true" if candle.closed else "false"


def _funding(funding: model.Funding) -> Fields:
    counts = (("funding_ts_ns", funding.funding_ts_ns), ("interval_s", funding.interval_s))
    settled = f"settled={'true' if funding.settled else 'false'},"
    return "".join((*_floats(funding, ("rate", "predicted_rate")), *_integers(counts), settled)), ""


def _liquidation(liquidation: model.Liquidation) -> Fields:
    return "".join(_floats(liquidation, ("price", "size"))), _SIDES.get(liquidation.side, "")


_INSTRUMENT = (
    *("venue_symbol", "base", "quote", "settle", "price_increment", "size_increment", "contract_size", "contract_currency"),
    *("strike", "underlying", "min_size", "min_notional"),
)


def _instrument(instrument: Instrument) -> Fields:
    enums = (("type", instrument.type), ("trading_status", instrument.status), ("size_unit", instrument.size_unit))
    times = (("expiry_ts_ns", instrument.expiry_ts_ns or None), ("listed_ts_ns", instrument.listed_ts_ns or None))
    option = _enumerated("option_type", instrument.option_type) if instrument.option_type else ()
    words = (text for name, value in enums for text in _enumerated(name, value))
    inverse = f"inverse={'true' if instrument.inverse else 'false'},"
    return "".join((*_strings(instrument, _INSTRUMENT), *words, *option, *_integers(times), inverse)), ""


def _status(status: model.TopicStatus) -> Fields:
    times = (("since_ts_ns", status.since_ts_ns or None), ("delay_ms", status.delay_ms or None))
    words = (*_enumerated("state", status.state), *_enumerated("cause", status.cause), *_strings(status, ("text",)))
    return "".join((*words, *_integers(times), "final=true," if status.final else "")), ""


def _gap(gap: model.Gap) -> Fields:
    counts = (
        ("gap_epoch", gap.epoch),
        ("first_sequence", gap.first_sequence),
        ("last_sequence", gap.last_sequence),
        ("missed", gap.missed),
    )
    return "".join((*_enumerated("cause", gap.cause), *_integers(counts))), ""


def _bar(bar: model.Bar) -> Fields:
    """Its candle, and its named numbers under names of their own, which are those of a processor and few."""
    fields = [_candle(bar.candle)[0]] if bar.candle is not None else []
    names = sorted(bar.values)[:BAR_VALUES_MAX]
    fields += [f"{name_text(f'value_{name}', 'values')}={float_value(bar.values[name])}," for name in names]
    return "".join(fields), ""


def _of_floats(*names: str) -> Callable[[Any], Fields]:
    return lambda payload: ("".join(_floats(payload, names)), "")


_WRITERS: Mapping[type, Callable[[Any], Fields]] = {
    model.Trade: _trade,
    model.Quote: _quote,
    model.BookSnapshot: _book_snapshot,
    model.BookDelta: _book_delta,
    model.Candle: _candle,
    model.Ticker: _of_floats("last_price", "open_price", "high_price", "low_price", "volume", "quote_volume"),
    model.Funding: _funding,
    model.MarkPrice: _of_floats("mark_price", "index_price"),
    model.OpenInterest: _of_floats("amount", "value"),
    model.Liquidation: _liquidation,
    Instrument: _instrument,
    model.TopicStatus: _status,
    model.Gap: _gap,
    model.Greeks: _of_floats("mark_iv", "bid_iv", "ask_iv", "delta", "gamma", "vega", "theta", "rho", "underlying_price"),
    model.Bar: _bar,
}
