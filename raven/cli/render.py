"""Events as lines for people and as JSON for programs. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import betterproto2
import click

from raven.client import StreamEvent
from raven.codec.generated.raven import v1
from raven.model import events as model
from raven.model.instrument import Instrument
from raven.model.plain import has_fields, names_of
from raven.model.topic import Topic

__all__ = [
    "event_json",
    "event_line",
    "number",
    "payload_name",
    "plain",
    "status_text",
    "time_text",
    "topic_text",
    "worth_a_line",
]

SYMBOL_WIDTH, VENUE_WIDTH, KIND_WIDTH = 13, 12, 11
PAYLOADS: Mapping[type, str] = {
    model.Trade: "trade",
    model.Quote: "quote",
    model.BookSnapshot: "book_snapshot",
    model.BookDelta: "book_delta",
    model.Candle: "candle",
    model.Ticker: "ticker",
    model.Funding: "funding",
    model.MarkPrice: "mark_price",
    model.OpenInterest: "open_interest",
    model.Liquidation: "liquidation",
    Instrument: "instrument",
    model.TopicStatus: "status",
    model.Gap: "gap",
    model.Greeks: "greeks",
    model.Bar: "bar",
}
STATE_COLOURS = {"LIVE": "green", "STALE": "yellow", "RESYNCING": "yellow", "DOWN": "red", "CLOSED": "red"}
FLAGS = {1: "image", 2: "local", 4: "backfilled", 8: "suspect time", 16: "suspect value", 32: "inferred"}


def payload_name(event: StreamEvent) -> str:
    """Which payload an event has ("trade"); "unknown" for one of a later contract."""
    return PAYLOADS.get(type(event.payload), "unknown")


def topic_text(topic: v1.Topic | Topic | None) -> str:
    """venue/symbol/kind[/variant]."""
    if topic is None:
        return "?"
    text = f"{topic.venue}/{topic.symbol}/{_lower(topic.kind)}"
    return f"{text}/{topic.variant}" if topic.variant else text


def time_text(ts_ns: int | None) -> str:
    """Time of day, UTC, to the millisecond; dashes where there is none."""
    if not ts_ns:
        return "--:--:--.---"
    try:
        return datetime.fromtimestamp(ts_ns / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, ValueError, OSError):
        return "??:??:??.???"


def number(value: float | None) -> str:
    """The shortest text that reads back as the same double, without an exponent where that is short; "-" for none.

    >>> number(1e-08), number(61837.63), number(5.0), number(None)
    ('0.00000001', '61837.63', '5', '-')
    """
    if value is None:
        return "-"
    text = repr(value)
    if "e" in text and 1e-12 <= abs(value) < 1e18:
        text = f"{value:.20f}".rstrip("0") if abs(value) < 1 else f"{value:.0f}"
        text = text if float(text) == value else repr(value)
    return text.removesuffix(".0").removesuffix(".")


def status_text(status: v1.TopicStatus | model.TopicStatus) -> str:
    """State, coloured, with its cause and text."""
    state = _lower(status.state).upper()
    cause = "" if not status.cause else f" {_lower(status.cause)}"
    return click.style(state, fg=STATE_COLOURS.get(state)) + cause + (f": {status.text}" if status.text else "")


def worth_a_line(event: StreamEvent) -> bool:
    """Whether people want to read it: that a topic is live, said on subscribing, they take as read."""
    return not (event.flags & 2 and event.status is not None and event.status.state == model.State.LIVE)


def event_line(event: StreamEvent) -> str:
    """One aligned line: time, venue, symbol, kind, what happened; flags at the end."""
    topic = event.topic
    kind = _lower(topic.kind) + (f" {topic.variant}" if topic.variant else "")
    name = payload_name(event)
    describe = _LINES.get(name)
    text = describe(event.payload) if describe is not None else name
    marks = [mark for bit, mark in FLAGS.items() if event.flags & bit and bit != 2]  # that a status is local says nothing here
    tail = click.style(f"  ({', '.join(marks)})", dim=True) if marks else ""
    return (
        f"{click.style(time_text(event.received_ts_ns), dim=True)}  {topic.venue:<{VENUE_WIDTH}} "
        f"{click.style(f'{topic.symbol:<{SYMBOL_WIDTH}}', bold=True)} {kind:<{KIND_WIDTH}} {text}{tail}"
    )


def event_json(event: StreamEvent) -> str:
    """One JSON object: topic, continuity, times, flags by name, and the payload under its own name. No line break in it."""
    name = payload_name(event)
    document: dict[str, Any] = {
        **event.topic._asdict(),
        "kind": _lower(event.topic.kind),
        "epoch": event.epoch,
        "sequence": event.sequence,
        "venue_ts_ns": event.venue_ts_ns,
        "received_ts_ns": event.received_ts_ns,
        "flags": [mark.replace(" ", "_") for bit, mark in FLAGS.items() if event.flags & bit],
        "type": name,
    }
    if name != "unknown":
        document[name] = plain(event.payload)
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _trade(trade: model.Trade) -> str:
    side = {1: click.style("buy ", fg="green"), 2: click.style("sell", fg="red")}.get(int(trade.aggressor), "-   ")
    return f"{side} {number(trade.price):>12} x {number(trade.size):<12} {click.style(trade.trade_id, dim=True)}"


def _quote(quote: model.Quote) -> str:
    bid = f"{number(quote.bid_size):>12} x {click.style(f'{number(quote.bid_price):>12}', fg='green')}"
    ask = f"{click.style(f'{number(quote.ask_price):<12}', fg='red')} x {number(quote.ask_size)}"
    return f"{bid} | {ask}"


def _book(book: model.BookSnapshot) -> str:
    bid = number(book.bid_price[0]) if book.bid_price else "-"
    ask = number(book.ask_price[0]) if book.ask_price else "-"
    prices = f"{click.style(bid, fg='green')} | {click.style(ask, fg='red')}"
    return f"book of {len(book.bid_price)} bids, {len(book.ask_price)} asks, best {prices}"


def _delta(delta: model.BookDelta) -> str:
    return "  ".join(
        [
            f"{click.style('bid', fg='green')} {_level(p, s)}"
            for p, s in list(zip(delta.bid_price, delta.bid_size, strict=False))[:3]
        ]
        + [
            f"{click.style('ask', fg='red')} {_level(p, s)}"
            for p, s in list(zip(delta.ask_price, delta.ask_size, strict=False))[:3]
        ]
        + ([f"... {rest} more"] if (rest := max(len(delta.bid_price) - 3, 0) + max(len(delta.ask_price) - 3, 0)) else [])
    )


def _level(price: float, size: float) -> str:
    return f"{number(price)} x {number(size)}" if size else f"{number(price)} gone"


def _candle(candle: model.Candle) -> str:
    mark = click.style("closed", bold=True) if candle.closed else "open  "
    prices = " ".join(
        f"{name} {number(value)}"
        for name, value in (
            ("o", candle.open),
            ("h", candle.high),
            ("l", candle.low),
            ("c", candle.close),
            ("v", candle.volume),
        )
    )
    return f"{time_text(candle.open_ts_ns)[:8]} {mark} {prices}"


def _gap(gap: model.Gap) -> str:
    what = f"{gap.missed} events" if gap.missed else "events"
    which = f" {gap.first_sequence} to {gap.last_sequence}" if gap.first_sequence else ""
    return click.style(f"GAP: {what}{which} will not come ({_lower(gap.cause)})", fg="yellow")


def _instrument(instrument: Instrument) -> str:
    steps = f"price {instrument.price_increment or '-'}, size {instrument.size_increment or '-'}"
    return f"{_lower(instrument.type)} {_lower(instrument.status)}, steps: {steps} ({instrument.venue_symbol})"


def _named_numbers(payload: Any) -> str:
    return "  ".join(f"{name} {_shown(value)}" for name, value in plain(payload).items())


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


_LINES: Mapping[str, Callable[[Any], str]] = {
    "trade": _trade,
    "quote": _quote,
    "book_snapshot": _book,
    "book_delta": _delta,
    "candle": _candle,
    "gap": _gap,
    "status": status_text,
    "instrument": _instrument,
    **dict.fromkeys(("ticker", "funding", "mark_price", "open_interest", "liquidation", "greeks", "bar"), _named_numbers),
}


def _lower(value: Enum | int) -> str:
    """The name of an enum's member; the number of one of a later contract."""
    return (value.name or str(value.value)).lower() if isinstance(value, Enum) else str(value)


def plain(message: Any) -> dict[str, Any]:
    """A message as a dictionary of what it has: unset optional fields are left out, enums are their names in lower case."""
    cls = type(message)
    names = names_of(cls) if has_fields(cls) else [field.name for field in dataclasses.fields(message)]
    plain = {name: _value(getattr(message, name)) for name in names}
    return {name: value for name, value in plain.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, betterproto2.Message) or has_fields(type(value)):
        return plain(value)
    if isinstance(value, Enum):
        return _lower(value)
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return value
