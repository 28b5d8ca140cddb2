"""Protobuf wire bytes as payloads of raven.model, from a table of field numbers. Pure.

This is the general way: any order of fields, unknown fields passed over, the last value of a field counts, sub-messages that
come twice are merged. The short way for what the server writes most is in `raven.client.decode`. A property test holds it
against the generated code.

Source of numbers and types: protos/raven/v1/raven.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from struct import Struct, unpack_from
from typing import Any, TypeVar

from raven.errors import RavenError
from raven.model import events as model
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, OptionType, PriceStep, SizeUnit

__all__ = ["NUMBERS", "DecodeError", "parse_payload", "read_varint", "text_of", "walk"]

VARINT, I64, LEN, I32 = 0, 1, 2, 5
VARINT_BYTES_MAX = 10

_FIXED64 = Struct("<Q").unpack_from
_SFIXED64 = Struct("<q").unpack_from
_DOUBLE = Struct("<d").unpack_from

Value = Any  # int of a varint, bytes of the rest
E = TypeVar("E", bound=IntEnum)


class DecodeError(RavenError):
    """Bytes that are no message of the contract."""


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Value of the varint at `at`, and where it ends.

    Raises:
        DecodeError: it does not end.
    """
    value = shift = 0
    for position in range(at, min(at + VARINT_BYTES_MAX, len(data))):
        byte = data[position]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
        shift += 7
    raise DecodeError(f"a varint at byte {at} does not end")


def walk(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int, Value]]:
    """(field number, wire type, value) of each field of a message; the value of what is no varint is its bytes.

    Raises:
        DecodeError: it is no message.
    """
    end = len(data) if end is None else end
    while at < end:
        key, at = read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, wire_type, value
        else:
            size, at = _size(data, at, wire_type, number)
            if at + size > end:
                raise DecodeError(f"field {number} ends behind its message")
            yield number, wire_type, data[at : at + size]
            at += size
    if at != end:
        raise DecodeError("the last field ends behind its message")


def _size(data: bytes, at: int, wire_type: int, number: int) -> tuple[int, int]:
    if wire_type == LEN:
        return read_varint(data, at)
    if wire_type in (I64, I32):
        return 8 if wire_type == I64 else 4, at
    raise DecodeError(f"field {number} has the wire type {wire_type}")


def text_of(raw: bytes) -> str:
    """UTF-8 as text.

    Raises:
        DecodeError: it is none.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"a text is no UTF-8: {error}") from None


# ---- one value; each takes what `walk` gives, and what the attribute has so far

Reader = Callable[[Value, Any], Any]


def _double(raw: Value, _: Any) -> float:
    return float(_DOUBLE(raw)[0])


def _fixed(raw: Value, _: Any) -> int:
    return int(_FIXED64(raw)[0])


def _sfixed(raw: Value, _: Any) -> int:
    return int(_SFIXED64(raw)[0])


def _uint32(value: Value, _: Any) -> int:
    return int(value) & 0xFFFF_FFFF


def _bool(value: Value, _: Any) -> bool:
    return bool(value)


def _text(raw: Value, _: Any) -> str:
    return text_of(raw)


def _doubles(raw: Value, before: Any) -> tuple[float, ...]:
    """Packed, or (8 bytes are the same either way) one by one."""
    if len(raw) % 8:
        raise DecodeError(f"a column of {len(raw)} bytes is none of doubles")
    return (*before, *unpack_from(f"<{len(raw) // 8}d", raw))


_ZEROS: dict[Reader, IntEnum] = {}  # what an enum's reader would give for a field that is not there


def _enum(cls: type[E]) -> Reader:
    members = {int(member): member for member in cls}

    def read(value: Value, _: Any) -> E | int:
        number = _signed32(value)
        return members.get(number, number)

    _ZEROS[read] = cls(0)
    return read


def _signed32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - 2**32 if value >= 2**31 else value


def _step(raw: Value, before: Any) -> tuple[PriceStep, ...]:
    texts = {number: text_of(value) for number, wire_type, value in walk(raw) if wire_type == LEN}
    return (*before, PriceStep(texts.get(1, ""), texts.get(2, "")))


def _candle(raw: Value, before: Any) -> model.Candle:
    candle: model.Candle = _fill(model.Candle, raw, before)
    return candle


def _named_number(raw: Value, before: Any) -> dict[str, float]:
    name, value = "", 0.0
    for number, wire_type, field in walk(raw):
        if (number, wire_type) == (1, LEN):
            name = text_of(field)
        elif (number, wire_type) == (2, I64):
            value = _double(field, None)
    return {**before, name: value}


# ---- the table

_WIRE_TYPES: Mapping[Reader, int] = {
    _double: I64,
    _fixed: I64,
    _sfixed: I64,
    _uint32: VARINT,
    _bool: VARINT,
    **dict.fromkeys((_text, _doubles, _step, _candle, _named_number), LEN),
}

Fields = Mapping[tuple[int, int], tuple[str, Reader]]


def _fields(*fields: tuple[int, Reader, str]) -> Fields:
    table = {(number, _WIRE_TYPES.get(reader, VARINT)): (name, reader) for number, reader, name in fields}
    unpacked = {(number, I64): (name, reader) for number, reader, name in fields if reader is _doubles}
    return {**table, **unpacked}


def _row(reader: Reader, names: str, first: int = 1) -> list[tuple[int, Reader, str]]:
    return [(number, reader, name) for number, name in enumerate(names.split(), first)]


_LEVELS = [*_row(_doubles, "bid_price bid_size ask_price ask_size"), (5, _fixed, "venue_sequence")]

_TABLE: Mapping[type, Fields] = {
    model.Trade: _fields(
        *_row(_double, "price size"), (3, _enum(model.Side), "aggressor"), *_row(_text, "trade_id first_trade_id", 4)
    ),
    model.Quote: _fields(*_row(_double, "bid_price bid_size ask_price ask_size")),
    model.BookSnapshot: _fields(*_LEVELS, (6, _uint32, "depth_limit")),
    model.BookDelta: _fields(*_LEVELS),
    model.Candle: _fields(
        *_row(_sfixed, "open_ts_ns close_ts_ns"),
        *_row(_double, "open high low close volume quote_volume", 3),
        (9, _fixed, "trades"),
        (10, _double, "taker_buy_volume"),
        *_row(_bool, "closed incomplete", 11),
    ),
    model.Ticker: _fields(*_row(_double, "last_price open_price high_price low_price volume quote_volume")),
    model.Funding: _fields(
        (1, _double, "rate"),
        (2, _sfixed, "funding_ts_ns"),
        (3, _uint32, "interval_s"),
        (4, _bool, "settled"),
        (5, _double, "predicted_rate"),
    ),
    model.MarkPrice: _fields(*_row(_double, "mark_price index_price")),
    model.OpenInterest: _fields(*_row(_double, "amount value")),
    model.Liquidation: _fields(*_row(_double, "price size"), (3, _enum(model.Side), "side")),
    model.Greeks: _fields(*_row(_double, "mark_iv bid_iv ask_iv delta gamma vega theta rho underlying_price")),
    model.Bar: _fields((1, _candle, "candle"), (2, _named_number, "values")),
    model.TopicStatus: _fields(
        (1, _enum(model.State), "state"),
        (2, _enum(model.StatusCause), "cause"),
        (3, _text, "text"),
        (4, _sfixed, "since_ts_ns"),
        (5, _bool, "final"),
        (6, _uint32, "delay_ms"),
    ),
    model.Gap: _fields((1, _enum(model.GapCause), "cause"), *_row(_fixed, "epoch first_sequence last_sequence missed", 2)),
    Instrument: _fields(
        *_row(_text, "venue symbol venue_symbol"),
        (4, _enum(InstrumentType), "type"),
        (5, _enum(InstrumentStatus), "status"),
        *_row(_text, "base quote settle price_increment size_increment contract_size contract_currency", 6),
        (13, _enum(SizeUnit), "size_unit"),
        (14, _bool, "inverse"),
        *_row(_sfixed, "expiry_ts_ns listed_ts_ns", 15),
        (17, _text, "strike"),
        (18, _enum(OptionType), "option_type"),
        *_row(_text, "underlying min_size min_notional", 19),
        (22, _step, "price_steps"),
    ),
}

NUMBERS: Mapping[int, type] = dict(
    enumerate(
        (
            *(model.Trade, model.Quote, model.BookSnapshot, model.BookDelta, model.Candle, model.Ticker, model.Funding),
            *(model.MarkPrice, model.OpenInterest, model.Liquidation, Instrument, model.TopicStatus, model.Gap),
            *(model.Greeks, model.Bar),
        ),
        10,
    )
)
"""Field number in MarketEvent to the class of the payload."""

_EMPTY: Mapping[Reader, Any] = {_doubles: (), _step: (), _named_number: {}, _candle: None}
_NAMES = {"venue": "", "symbol": "", "venue_symbol": ""}
_DEFAULTS: Mapping[type, Mapping[str, Any]] = {
    cls: {
        **(_NAMES if cls is Instrument else {}),
        **{name: _ZEROS[reader] for name, reader in fields.values() if reader in _ZEROS},
    }
    for cls, fields in _TABLE.items()
}


def parse_payload(cls: type, raw: bytes) -> Any:
    """The body of a payload's field as a `cls`.

    Raises:
        DecodeError: it is none.
    """
    return _fill(cls, raw, None)


def _fill(cls: type, raw: bytes, before: Any) -> Any:
    fields = _TABLE[cls]
    values: dict[str, Any] = dict(_DEFAULTS[cls])
    if before is not None:
        values.update({name: getattr(before, name) for name, _ in fields.values()})
    for number, wire_type, value in walk(raw):
        field = fields.get((number, wire_type))
        if field is not None:
            name, reader = field
            values[name] = reader(value, values.get(name, _EMPTY.get(reader)))
    return cls(**values)
