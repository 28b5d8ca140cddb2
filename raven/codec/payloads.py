"""One payload of an event, as the bytes of its field in MarketEvent: tag, length, body.

Books are written by one `struct.pack` each, everything else from a table of (number, type, attribute). Fields
are left out as proto3 leaves them out: an optional one when it is None, another when it is zero or empty. A property test holds
every class byte for byte against the generated code.

Source of numbers and types: protos/raven/v1/raven.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from struct import Struct
from typing import Any

from raven.codec.varint import varint
from raven.errors import InvalidValue
from raven.model.events import (
    Bar,
    BookDelta,
    BookSnapshot,
    Candle,
    Funding,
    Gap,
    Greeks,
    Liquidation,
    MarkPrice,
    OpenInterest,
    Payload,
    Quote,
    Ticker,
    TopicStatus,
    Trade,
)
from raven.model.instrument import Instrument, PriceStep

__all__ = ["DELTA_TAG", "NUMBERS", "encode_payload", "encode_topic", "level_heads"]

NUMBERS: Mapping[type, int] = {
    Trade: 10,
    Quote: 11,
    BookSnapshot: 12,
    BookDelta: 13,
    Candle: 14,
    Ticker: 15,
    Funding: 16,
    MarkPrice: 17,
    OpenInterest: 18,
    Liquidation: 19,
    Instrument: 20,
    TopicStatus: 21,
    Gap: 22,
    Greeks: 23,
    Bar: 24,
}
"""Class of a payload to its field number in MarketEvent."""

VARINT, I64, LEN = 0, 1, 2  # wire types, https://protobuf.dev/programming-guides/encoding/

_DOUBLE = Struct("<d").pack
_FIXED64 = Struct("<Q").pack
_SFIXED64 = Struct("<q").pack

Writer = Callable[[bytes, Any], bytes]


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def _delimited(tag: bytes, body: bytes) -> bytes:
    return tag + varint(len(body)) + body


# ---- one field; each takes the tag and the value, and writes nothing where proto3 writes nothing


def _optional_double(tag: bytes, value: float | None) -> bytes:
    if value is None:
        return b""
    if not isfinite(value):
        raise InvalidValue("payload", value, "a finite number")
    return tag + _DOUBLE(value)


def _optional_sfixed64(tag: bytes, value: int | None) -> bytes:
    return b"" if value is None else tag + _SFIXED64(value)


def _optional_fixed64(tag: bytes, value: int | None) -> bytes:
    return b"" if value is None else tag + _FIXED64(value)


def _optional_uint(tag: bytes, value: int | None) -> bytes:
    return b"" if value is None else tag + varint(value)


def _fixed64(tag: bytes, value: int) -> bytes:
    return tag + _FIXED64(value) if value else b""


def _sfixed64(tag: bytes, value: int) -> bytes:
    return tag + _SFIXED64(value) if value else b""


def _uint(tag: bytes, value: int) -> bytes:  # uint32, enum and bool alike
    return tag + varint(value) if value else b""


def _text(tag: bytes, value: str) -> bytes:
    return _delimited(tag, value.encode()) if value else b""


def _price_steps(tag: bytes, steps: Sequence[PriceStep]) -> bytes:
    return b"".join(_delimited(tag, _text(b"\x0a", step.from_price) + _text(b"\x12", step.increment)) for step in steps)


def _candle(tag: bytes, candle: Candle | None) -> bytes:
    return b"" if candle is None else _delimited(tag, _body(candle))


def _numbers_by_name(tag: bytes, values: Mapping[str, float]) -> bytes:
    return b"".join(_delimited(tag, _delimited(b"\x0a", name.encode()) + _named(value)) for name, value in values.items())


def _named(value: float) -> bytes:
    if not isfinite(value):
        raise InvalidValue("payload", value, "a finite number")
    return b"\x11" + _DOUBLE(value)


# ---- the table


_WIRE_TYPES: Mapping[Writer, int] = {
    _optional_double: I64,
    _optional_sfixed64: I64,
    _optional_fixed64: I64,
    _optional_uint: VARINT,
    _fixed64: I64,
    _sfixed64: I64,
    _uint: VARINT,
    _text: LEN,
    _price_steps: LEN,
    _candle: LEN,
    _numbers_by_name: LEN,
}


def _fields(*fields: tuple[int, Writer, str]) -> tuple[tuple[bytes, Writer, str], ...]:
    return tuple((_tag(number, _WIRE_TYPES[writer]), writer, name) for number, writer, name in fields)


def _numbered(writer: Writer, names: str, first: int = 1) -> list[tuple[int, Writer, str]]:
    return [(number, writer, name) for number, name in enumerate(names.split(), first)]


_TABLE: Mapping[type, tuple[tuple[bytes, Writer, str], ...]] = {
    Trade: _fields(
        *_numbered(_optional_double, "price size"),
        (3, _uint, "aggressor"),
        *_numbered(_text, "trade_id first_trade_id", first=4),
    ),
    Quote: _fields(*_numbered(_optional_double, "bid_price bid_size ask_price ask_size")),
    Candle: _fields(
        *_numbered(_sfixed64, "open_ts_ns close_ts_ns"),
        *_numbered(_optional_double, "open high low close volume quote_volume", first=3),
        (9, _optional_fixed64, "trades"),
        (10, _optional_double, "taker_buy_volume"),
        *_numbered(_uint, "closed incomplete", first=11),
    ),
    Ticker: _fields(*_numbered(_optional_double, "last_price open_price high_price low_price volume quote_volume")),
    Funding: _fields(
        (1, _optional_double, "rate"),
        (2, _optional_sfixed64, "funding_ts_ns"),
        (3, _optional_uint, "interval_s"),
        (4, _uint, "settled"),
        (5, _optional_double, "predicted_rate"),
    ),
    MarkPrice: _fields(*_numbered(_optional_double, "mark_price index_price")),
    OpenInterest: _fields(*_numbered(_optional_double, "amount value")),
    Liquidation: _fields(*_numbered(_optional_double, "price size"), (3, _uint, "side")),
    Greeks: _fields(
        *_numbered(_optional_double, "mark_iv bid_iv ask_iv delta gamma vega theta rho underlying_price"),
    ),
    Bar: _fields((1, _candle, "candle"), (2, _numbers_by_name, "values")),
    TopicStatus: _fields(
        *_numbered(_uint, "state cause"),
        (3, _text, "text"),
        (4, _sfixed64, "since_ts_ns"),
        *_numbered(_uint, "final delay_ms", first=5),
    ),
    Gap: _fields((1, _uint, "cause"), *_numbered(_fixed64, "epoch first_sequence last_sequence missed", first=2)),
    Instrument: _fields(
        *_numbered(_text, "venue symbol venue_symbol"),
        *_numbered(_uint, "type status", first=4),
        *_numbered(_text, "base quote settle price_increment size_increment contract_size contract_currency", first=6),
        *_numbered(_uint, "size_unit inverse", first=13),
        *_numbered(_sfixed64, "expiry_ts_ns listed_ts_ns", first=15),
        (17, _text, "strike"),
        (18, _uint, "option_type"),
        *_numbered(_text, "underlying min_size min_notional", first=19),
        (22, _price_steps, "price_steps"),
    ),
}

_TAGS = {cls: _tag(number, LEN) for cls, number in NUMBERS.items()}
DELTA_TAG = _TAGS[BookDelta]


def _body(payload: Payload) -> bytes:
    return b"".join([write(tag, getattr(payload, name)) for tag, write, name in _TABLE[type(payload)]])


def encode_payload(payload: Payload) -> bytes:
    """The field of MarketEvent that carries `payload`: tag, length, body.

    Raises:
        InvalidValue: a number is NaN or infinite, or the columns of a side have different lengths.
        KeyError: no payload class of raven.model.events.
    """
    cls = type(payload)
    if cls is BookDelta:
        return _levels(payload, 0)  # type: ignore[arg-type]
    if cls is BookSnapshot:
        return _levels(payload, payload.depth_limit)  # type: ignore[arg-type, union-attr]
    return _delimited(_TAGS[cls], _body(payload))


def _levels(book: BookSnapshot | BookDelta, depth_limit: int) -> bytes:
    """A book's payload by one `struct.pack` over the layout that its numbers of levels give it."""
    bid_price, bid_size, ask_price, ask_size = book.bid_price, book.bid_size, book.ask_price, book.ask_size
    if len(bid_price) != len(bid_size) or len(ask_price) != len(ask_size):
        _refuse_columns(book)
    # one NaN or infinity makes the sum so
    if not isfinite(sum(bid_price) + sum(bid_size) + sum(ask_price) + sum(ask_size)):
        raise InvalidValue("payload", "a level", "finite prices and sizes")
    layout = _book_layout(_TAGS[type(book)], len(bid_price), len(ask_price), bool(book.venue_sequence), depth_limit)
    pack, head, bid_head, ask_price_head, ask_head, tail = layout
    if book.venue_sequence:
        return pack(
            head,
            *bid_price,
            bid_head,
            *bid_size,
            ask_price_head,
            *ask_price,
            ask_head,
            *ask_size,
            b"\x29",
            book.venue_sequence,
            tail,
        )
    return pack(head, *bid_price, bid_head, *bid_size, ask_price_head, *ask_price, ask_head, *ask_size, tail)


@lru_cache(maxsize=4096)  # deltas have few different shapes; whole books are rare
def _book_layout(
    tag: bytes, bids: int, asks: int, sequenced: bool, depth_limit: int
) -> tuple[Callable[..., bytes], bytes, bytes, bytes, bytes, bytes]:
    tail = _uint(b"\x30", depth_limit)
    heads = level_heads(tag, bids, asks, 9 * sequenced + len(tail))
    columns = "".join(f"{len(head)}s{count}d" for head, count in zip(heads, (bids, bids, asks, asks), strict=True))
    pack = Struct(f"<{columns}{'1sQ' if sequenced else ''}{len(tail)}s").pack
    return pack, heads[0], heads[1], heads[2], heads[3], tail


def level_heads(tag: bytes, bids: int, asks: int, behind: int) -> list[bytes]:
    """What stands in front of the four columns of a book's payload, the payload's own tag and length with the first of them.

    Args:
        bids, asks: how many levels.
        behind: bytes of the payload behind its columns.
    """
    heads = [
        _tag(number, LEN) + varint(count * 8) if count else b"" for number, count in enumerate((bids, bids, asks, asks), 1)
    ]
    heads[0] = tag + varint(sum(map(len, heads)) + 16 * (bids + asks) + behind) + heads[0]
    return heads


def _refuse_columns(book: BookSnapshot | BookDelta) -> None:
    for side, prices, sizes in (("bid", book.bid_price, book.bid_size), ("ask", book.ask_price, book.ask_size)):
        if len(prices) != len(sizes):
            raise InvalidValue(f"{side}_size", len(sizes), f"as many as {side}_price has, {len(prices)}")


def encode_topic(venue: str, symbol: str, kind: int, variant: str) -> bytes:
    """The body of a raven.v1.Topic."""
    return _text(b"\x0a", venue) + _text(b"\x12", symbol) + _uint(b"\x18", kind) + _text(b"\x22", variant)
