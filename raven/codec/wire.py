"""Requests off the wire: one walk that checks every byte and makes the message.

The parser of the generated code takes what no encoder writes (truncated fields, groups, field 0, a number where text belongs),
recurses as deep as a stranger says, and holds the loop for 3 to 15 ms over a hundred subscriptions. This one refuses the
former, naming the place, and takes a fifth of the time. Unknown fields, any order of fields, explicit defaults and both forms
of repeated numbers stay valid, as https://protobuf.dev/programming-guides/encoding/ has it. Stricter than that page on purpose:
a message field that is given twice, or two of one oneof, is refused, because one of them would be lost silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import betterproto2

from raven.codec.schema import I32, I64, LEN, VARINT, Rule, Schema, schema_of
from raven.errors import InvalidValue

__all__ = ["DEPTH_MAX", "FIELDS_MAX", "ITEMS_MAX", "parse_message"]

DEPTH_MAX = 32
"""Messages within each other. The contract's own requests need 5."""

ITEMS_MAX = 2_048
"""Items of one repeated field."""

FIELDS_MAX = 32_768
"""Fields of a request, with those of the messages in it."""

NUMBER_MAX = 2**29 - 1  # of a field
TAG_BYTES_MAX, VARINT_BYTES_MAX = 5, 10

T = TypeVar("T", bound=betterproto2.Message)


class _Fault(Exception):
    """Something that no message has. `path` grows on the way out, from the place to the whole."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(expected)
        self.value = value
        self.expected = expected
        self.path: list[str] = []

    def error(self) -> InvalidValue:
        """As its reader gets it."""
        return InvalidValue(".".join(reversed(self.path)) or "message", self.value, self.expected)


def parse_message(data: bytes, message_type: type[T]) -> T:
    """The message in `data`. Fields that its type does not know are left out.

    Raises:
        InvalidValue: it is none. The field is the path of the place ("subscriptions[3].selector.venue").
    """
    try:
        message, _ = _read(data, schema_of(message_type), 1)
    except _Fault as fault:
        raise fault.error() from None
    assert isinstance(message, message_type)
    return message


# ---- the walk


def _read(data: bytes, schema: Schema, depth: int) -> tuple[betterproto2.Message, int]:
    """One message, and how many fields it has with those of the messages in it."""
    # One long function: it runs for every message of every request, and a call costs as much as a field.
    fields: dict[str, Any] = {}
    taken: set[str] = set()
    rules, at, end, count = schema.rules, 0, len(data), 0
    start, rule = 0, None
    try:
        while at < end:
            start, rule = at, None
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = _varint(data, start, TAG_BYTES_MAX)
            rule = rules.get(tag)
            wire_type = tag & 7
            if wire_type == LEN:
                size = data[at]
                at += 1
                if size > 127:
                    size, at = _varint(data, at - 1)
                value: Any = data[at : at + size]
                at += size
            elif wire_type == VARINT:
                value = data[at]
                at += 1
                if value > 127:
                    value, at = _varint(data, at - 1)
            else:
                size = _fixed_size(wire_type)
                value = data[at : at + size]
                at += size
            if at > end:
                raise IndexError
            count += 1
            if count > FIELDS_MAX:
                raise _Fault(count, f"at most {FIELDS_MAX} fields in one request")
            if rule is None:
                _check_unknown(tag, schema)
            elif rule.single:
                fields[rule.name] = rule.convert(value)
            else:
                count += _keep(fields, rule, value, taken, depth)
    except IndexError:
        raise _at(_Fault(data[start:], "a field that ends before its message does"), data, start, rule) from None
    except UnicodeDecodeError as error:
        raise _at(_Fault(error.object, "UTF-8"), data, start, rule) from None
    except _Fault as fault:
        raise _at(fault, data, start, rule) from None
    return schema.message_type(**fields), count


def _keep(fields: dict[str, Any], rule: Rule, value: Any, taken: set[str], depth: int) -> int:
    """Take a field that is a message, or may come more than once; how many fields were in it."""
    count = 0
    if rule.once:
        if rule.once in taken:
            raise _Fault("a second one", f"{rule.once} given once")
        taken.add(rule.once)
    if rule.schema is not None:
        value, count = _read_inner(value, rule.schema, depth)
    elif rule.packed:
        value = _unpack(rule, value)
        count = len(value)
    else:
        value = rule.convert(value)
    if not rule.repeated:
        fields[rule.name] = value
        return count
    items = fields.setdefault(rule.name, [])
    if rule.packed:
        items += value
    else:
        items.append(value)
    if len(items) > ITEMS_MAX:
        raise _Fault(len(items), f"at most {ITEMS_MAX} items")
    return count


def _read_inner(data: bytes, schema: Schema, depth: int) -> tuple[betterproto2.Message, int]:
    if depth >= DEPTH_MAX:
        raise _Fault(depth + 1, f"at most {DEPTH_MAX} messages within each other")
    return _read(data, schema, depth + 1)


def _varint(data: bytes, at: int, size_max: int = VARINT_BYTES_MAX) -> tuple[int, int]:
    """The number at `at`, and where it ends.

    Raises:
        _Fault: longer than any encoder writes it.
        IndexError: it goes on behind the end.
    """
    value = shift = 0
    for position in range(at, at + size_max):
        byte = data[position]
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    else:
        raise _Fault(data[at : at + size_max + 1], f"a number of at most {size_max} bytes")
    bits = 32 if size_max == TAG_BYTES_MAX else 64
    if value >> bits:
        raise _Fault(value, f"a number of at most {bits} bits")
    return value, position + 1


def _fixed_size(wire_type: int) -> int:
    if wire_type == I64:
        return 8
    if wire_type == I32:
        return 4
    raise _Fault(wire_type, "a wire type of 0, 1, 2 or 5; there are no groups")


def _check_unknown(tag: int, schema: Schema) -> None:
    """A field that the type does not know is passed over; a known one must come as its type is written."""
    number = tag >> 3
    if not 0 < number <= NUMBER_MAX:
        raise _Fault(number, f"a field number of 1 to {NUMBER_MAX}")
    name = schema.names.get(number)
    if name is not None:
        valid = " or ".join(str(key & 7) for key in sorted(schema.rules) if key >> 3 == number)
        fault = _Fault(tag & 7, f"wire type {valid}")
        fault.path.append(name)
        raise fault


def _at(fault: _Fault, data: bytes, start: int, rule: Rule | None) -> _Fault:
    """`fault`, seen from the message whose field at `start` has it."""
    if rule is not None:
        index = f"[{_items_before(data, start)}]" if rule.repeated and not rule.packed else ""
        fault.path.append(rule.name + index)
    return fault


def _items_before(data: bytes, start: int) -> int:
    """How many items of the same field stand before `start`; all of them could be read."""
    number = _varint(data, start)[0] >> 3
    return sum(tag >> 3 == number for tag in _tags(data[:start]))


def _tags(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        yield tag
        wire_type = tag & 7
        if wire_type == VARINT:
            _, at = _varint(data, at)
        elif wire_type == LEN:
            size, at = _varint(data, at)
            at += size
        else:
            at += _fixed_size(wire_type)


def _unpack(rule: Rule, data: bytes) -> list[Any]:
    """The values of a packed field."""
    convert, size = rule.convert, rule.packed
    if size > 1:
        return [convert(data[at : at + size]) for at in range(0, len(data), size)]
    if data.isascii():  # one byte each
        return list(map(convert, data[: ITEMS_MAX + 1]))
    values: list[Any] = []
    at = 0
    while at < len(data) and len(values) <= ITEMS_MAX:
        value, at = _varint(data, at)
        values.append(convert(value))
    return values
