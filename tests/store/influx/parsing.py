"""Line protocol read by the letter of its specification, to hold what is written against it."""

from __future__ import annotations

import attrs

__all__ = ["Point", "parse_line"]


@attrs.frozen
class Point:
    """One line."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, float | int | str | bool]
    time_ns: int


def parse_line(line: str) -> Point:
    """Raises AssertionError or ValueError: it is no line."""
    assert "\n" not in line
    head, rest = _until(line, " ")
    parts = _split(head, ",")
    tags = dict(_pair(part) for part in parts[1:])
    fields: dict[str, float | int | str | bool] = {}
    while True:
        key, rest = _until(rest, "=")
        if rest.startswith('"'):
            value, rest = _quoted(rest)
            fields[_plain(key)] = value
        else:
            end = min(place for place in (rest.find(","), rest.find(" ")) if place >= 0)
            text, rest = rest[:end], rest[end:]
            fields[_plain(key)] = _value(text)
        if rest.startswith(" "):
            return Point(_plain(parts[0]), tags, fields, int(rest[1:]))
        assert rest.startswith(","), rest
        rest = rest[1:]


def _value(text: str) -> float | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text[:-1]) if text.endswith("i") else float(text)


def _quoted(text: str) -> tuple[str, str]:
    out, at = [], 1
    while text[at] != '"':
        if text[at] == "\\" and text[at + 1] in '"\\':
            at += 1
        out.append(text[at])
        at += 1
    return "".join(out), text[at + 1 :]


def _until(text: str, separator: str) -> tuple[str, str]:
    """Up to the first separator without a backslash before it, and what comes behind it."""
    at = 0
    while text[at] != separator:
        at += 2 if text[at] == "\\" and text[at + 1] in ",= " else 1
    return text[:at], text[at + 1 :]


def _split(text: str, separator: str) -> list[str]:
    parts = []
    rest = text + separator
    while rest:
        part, rest = _until(rest, separator)
        parts.append(part)
    return parts


def _pair(text: str) -> tuple[str, str]:
    key, value = _until(text, "=")
    return _plain(key), _plain(value)


def _plain(text: str) -> str:
    for letter in ",= ":
        text = text.replace(f"\\{letter}", letter)
    return text
