"""Line protocol: every part of a line is written by a rule of its kind, and what has no valid form is refused. Pure.

Source: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from math import isfinite

from raven.errors import InvalidValue

__all__ = ["INTEGER_MAX", "INTEGER_MIN", "float_value", "integer_value", "line_head", "name_text", "string_value"]

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

_CONTROL = dict.fromkeys((*range(32), 127, 0x85, 0x2028, 0x2029), " ")
_NAME = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_STRING = str.maketrans({'"': r"\"", "\\": r"\\"} | {chr(code): space for code, space in _CONTROL.items()})
# A backslash has no escape of its own in names: before these, or at the end, it would mean something else.
_AMBIGUOUS = re.compile(r"\\(?=[,= \\]|\Z)|[\x00-\x1f\x7f\x85\u2028\u2029]")


def name_text(text: str, field: str = "tag") -> str:
    """A measurement, tag key, tag value or field key.

    Raises:
        InvalidValue: it is empty, or has a control character or a backslash that cannot be written.
    """
    if text.isalnum():
        return text
    if not text or _AMBIGUOUS.search(text):
        raise InvalidValue(
            field, text, "a text that is not empty, without control characters, no backslash before ',', '=' or ' '"
        )
    return text.translate(_NAME)


def line_head(measurement: str, tags: dict[str, str]) -> str:
    """Measurement and tags, in the order that the server sorts them by. A tag without a value is left out.

    Raises:
        InvalidValue: a part cannot be written.
    """
    parts = [name_text(measurement, "measurement")]
    parts += [f"{name_text(key)}={name_text(value, key)}" for key, value in sorted(tags.items()) if value]
    return ",".join(parts)


def string_value(text: str) -> str:
    """A string field: quoted, with control characters as spaces, so that a point is one line."""
    return f'"{text}"' if text.isalnum() else f'"{text.translate(_STRING)}"'


def float_value(value: float) -> str:
    """A float field.

    Raises:
        InvalidValue: it is NaN or infinite, which line protocol cannot say.
    """
    if not isfinite(value):
        raise InvalidValue("field", value, "a finite number")
    return repr(float(value))


def integer_value(value: int) -> str:
    """An integer field; empty where it does not fit into 64 bits with a sign."""
    return f"{value}i" if INTEGER_MIN <= value <= INTEGER_MAX else ""
