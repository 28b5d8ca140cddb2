"""Where two things that should be the same are not: the first place, by its path."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from raven.adapter import Established, Event, Output, Refused, Resync, Topic
from raven.errors import shown
from raven.model.plain import has_fields, names_of

__all__ = ["event_difference", "named", "output_difference", "value_difference"]


def event_difference(expected: Sequence[Event], found: Sequence[Event]) -> str:
    """The first place where two lists of events are not the same; empty where there is none."""
    return _difference("event", expected, found)


def output_difference(expected: Sequence[Output], found: Sequence[Output]) -> str:
    """The same of outputs of any class."""
    return _difference("output", expected, found)


def _difference(what: str, expected: Sequence[Output], found: Sequence[Output]) -> str:
    for place, (one, other) in enumerate(itertools.zip_longest(expected, found)):
        if one is None or other is None:
            return f"{what} {place} should be {named(one)} and is {named(other)}"
        if _subject(one) != _subject(other):
            return f"{what} {place} should be {named(one)} and is {named(other)}"
        if differing := value_difference(one, other):
            return f"{what} {place}, {named(one)}: {differing}"
    return ""


def _subject(output: Output) -> tuple[object, ...]:
    if isinstance(output, Event):
        return Event, output.topic, type(output.payload)
    if isinstance(output, Established):
        return Established, *output.topics
    return type(output), getattr(output, "topic", None)


def named(output: Output | None) -> str:
    """An output in a few words: "Trade of example/BTC-USD/trade"; "none"."""
    match output:
        case None:
            return "none"
        case Event(topic, payload):
            return f"{type(payload).__name__} of {topic}"
        case Refused(topic) | Resync(topic):
            return f"{type(output).__name__} of {topic}"
        case Established(topics):
            return f"Established of {', '.join(map(str, topics))}"
    return type(output).__name__


def value_difference(one: Any, other: Any, path: str = "") -> str:
    """The first difference of two values, by its path ("payload.bid_price[3] should be 1.0 and is 2.0"); empty without one.

    Columns are compared by their numbers: a tuple equals a list of the same.
    """
    for place, mine, theirs in _parts(one, other):
        inner = value_difference(mine, theirs, f"{path}{place}" if path else place.removeprefix("."))
        if inner:
            return inner
    if _is_whole(one, other):
        return "" if one == other else f"{path or 'it'} should be {_text(one)} and is {_text(other)}"
    return ""


def _parts(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    if _is_whole(one, other):
        return
    if has_fields(type(one)):
        for name in names_of(type(one)):
            yield f".{name}", getattr(one, name), getattr(other, name)
    elif isinstance(one, Mapping):
        for key in dict.fromkeys((*one, *other)):
            yield f"[{key!r}]", one.get(key), other.get(key)
    else:
        for place, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield f"[{place}]", mine, theirs


def _is_whole(one: Any, other: Any) -> bool:
    """Whether they are compared as they are, because they have no parts, or not the same ones."""
    if has_fields(type(one)):
        return type(one) is not type(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return False
    return not (_is_column(one) and _is_column(other) and len(one) == len(other))


def _is_column(value: Any) -> bool:
    return isinstance(value, list | tuple) and not isinstance(value, Topic)


def _text(value: Any) -> str:
    if isinstance(value, Topic):
        return str(value)
    return value.name if isinstance(value, Enum) else shown(value)
