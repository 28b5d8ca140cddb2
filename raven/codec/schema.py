"""What may stand in a request, by the tags that announce it: tables made once, of the generated classes, for `wire`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from struct import Struct
from typing import Any

import attrs
import betterproto2

__all__ = ["I32", "I64", "LEN", "VARINT", "Rule", "Schema", "schema_of"]

VARINT, I64, LEN, I32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups

Convert = Callable[[Any], Any]


@attrs.frozen(eq=False)
class Rule:
    """What one tag brings.

    Args:
        name: of the field.
        wire_type: that it comes in.
        convert: from an integer or bytes to the value.
        schema: of a message field.
        repeated: whether values are kept in a list.
        packed: the least bytes of a value, where all of them stand in one field; else 0.
        once: fields of one key exclude each other and themselves; "" may come again, and the last one holds.
        single: neither of these: the value is kept as it is.
    """

    name: str
    wire_type: int
    convert: Convert
    schema: Schema | None = None
    repeated: bool = False
    packed: int = 0
    once: str = ""
    single: bool = attrs.field(init=False)

    @single.default
    def _single(self) -> bool:
        return not (self.schema or self.repeated or self.once)


@attrs.define(eq=False)
class Schema:
    """What one message type may bring: `rules` by tag, and `names` by field number."""

    message_type: type[betterproto2.Message]
    rules: dict[int, Rule] = attrs.field(factory=dict)
    names: dict[int, str] = attrs.field(factory=dict)


@cache
def schema_of(message_type: type[betterproto2.Message]) -> Schema:
    """The schema of a generated class and of all that it holds. May refer to itself."""
    return _schema(message_type, {})


def _schema(message_type: type[betterproto2.Message], known: dict[type, Schema]) -> Schema:
    if message_type in known:
        return known[message_type]
    schema = known[message_type] = Schema(message_type)
    generated: Any = message_type
    meta = generated._betterproto  # noqa: SLF001  the only description that generated classes carry
    for name, field in meta.meta_by_field_name.items():
        if field.map_meta or field.unwrap:
            raise TypeError(f"{message_type.__name__}.{name}: maps and wrapped types are not read; no request has them")
        schema.names[field.number] = name
        for rule in _rules(name, field, meta.cls_by_field[name], known):
            schema.rules[field.number << 3 | rule.wire_type] = rule
    return schema


def _rules(name: str, field: Any, value_type: Any, known: dict[type, Schema]) -> Iterator[Rule]:
    """One rule for each wire type that the field may come in."""
    kind, repeated = field.proto_type, bool(field.repeated)
    if kind == betterproto2.TYPE_MESSAGE:
        once = "" if repeated else field.group or name
        yield Rule(name, LEN, _same, _schema(value_type, known), repeated=repeated, once=once)
        return
    convert, wire_type = _scalar(kind, value_type)
    yield Rule(name, wire_type, convert, repeated=repeated, once=field.group or "")
    if repeated and wire_type != LEN:
        yield Rule(name, LEN, convert, repeated=True, packed={VARINT: 1, I64: 8, I32: 4}[wire_type])


def _scalar(kind: str, value_type: Any) -> tuple[Convert, int]:
    """How a number or text of a proto type is made, and its wire type."""
    if kind == betterproto2.TYPE_ENUM:
        return _Members(value_type).__getitem__, VARINT
    if kind in _FIXED:
        layout = Struct(_FIXED[kind])
        return partial(_first, layout), I64 if layout.size == 8 else I32
    return _OTHERS[kind]


_FIXED = {
    betterproto2.TYPE_DOUBLE: "<d",
    betterproto2.TYPE_FIXED64: "<Q",
    betterproto2.TYPE_SFIXED64: "<q",
    betterproto2.TYPE_FLOAT: "<f",
    betterproto2.TYPE_FIXED32: "<I",
    betterproto2.TYPE_SFIXED32: "<i",
}


class _Members(dict[int, Any]):
    """Of an enum, by the number on the wire. Numbers without one are made each time, so that strangers fill no memory."""

    def __init__(self, enum: Any) -> None:
        super().__init__({int(member): member for member in enum})
        self._enum = enum

    def __missing__(self, value: int) -> Any:
        return self._enum(_signed(value, 32))


def _same(value: Any) -> Any:
    return value


def _first(layout: Struct, value: bytes) -> Any:
    if len(value) != layout.size:
        raise IndexError
    return layout.unpack(value)[0]


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _unsigned(bits: int, value: int) -> int:
    return value & ((1 << bits) - 1)


def _zigzag(bits: int, value: int) -> int:
    value = _unsigned(bits, value)
    return (value >> 1) ^ -(value & 1)


_OTHERS: dict[str, tuple[Convert, int]] = {
    betterproto2.TYPE_STRING: (bytes.decode, LEN),
    betterproto2.TYPE_BYTES: (_same, LEN),
    betterproto2.TYPE_BOOL: (bool, VARINT),
    betterproto2.TYPE_INT32: (lambda value: _signed(value, 32), VARINT),
    betterproto2.TYPE_INT64: (lambda value: _signed(value, 64), VARINT),
    betterproto2.TYPE_UINT32: (partial(_unsigned, 32), VARINT),
    betterproto2.TYPE_UINT64: (partial(_unsigned, 64), VARINT),
    betterproto2.TYPE_SINT32: (partial(_zigzag, 32), VARINT),
    betterproto2.TYPE_SINT64: (partial(_zigzag, 64), VARINT),
}
