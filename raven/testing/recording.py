"""Recorded frames and golden events, as files.

Frames: one a line, the receipt time in ns, a space, the raw text. Events: one JSON object a line, floats by their repr, so that
what is read is the double that was written. A name that ends in ".gz" is compressed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, cast, get_type_hints

import attrs

from raven.errors import InvalidValue, nearest
from raven.model.events import Candle, Event, Payload, payload_kinds
from raven.model.instrument import PriceStep
from raven.model.plain import MISSING, defaults_of, has_fields, names_of
from raven.model.topic import parse_topic

__all__ = [
    "Frame",
    "event_table",
    "format_event",
    "parse_event",
    "parse_frame",
    "read_events",
    "read_frames",
    "write_events",
    "write_frames",
]

PAYLOADS = {cls.__name__: cls for cls in payload_kinds}

# What JSON has no type of its own for, by the field's name.
_NESTED: Mapping[str, Callable[[Any], Any]] = {
    "price_steps": lambda steps: tuple(PriceStep(**step) for step in steps),
    "candle": lambda candle: None if candle is None else Candle(**candle),
}


@attrs.frozen
class Frame:
    """One WebSocket message.

    Args:
        received_ts_ns: when it was read, Unix time.
        data: its payload; a text message as its UTF-8 bytes.
    """

    received_ts_ns: int
    data: bytes


# ---- frames


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of a file, in order.

    Raises:
        InvalidValue: a line is no frame; the field names file and line.
        OSError: the file cannot be read.
    """
    with _open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            yield parse_frame(line, f"{path}:{number}")


def parse_frame(line: bytes, field: str = "frame") -> Frame:
    """The frame of one line.

    >>> parse_frame(b'1700000000000000000 {"type":"heartbeat"}')
    Frame(received_ts_ns=1700000000000000000, data=b'{"type":"heartbeat"}')

    Raises:
        InvalidValue: it is none.
    """
    stamp, space, data = line.rstrip(b"\r\n").partition(b" ")
    if not (space and stamp.isdigit() and data):
        raise InvalidValue(field, line.decode(errors="replace"), "the receipt time in ns, a space, the raw text")
    return Frame(int(stamp), data)


def write_frames(path: Path, frames: Iterable[Frame]) -> None:
    """Write a file that `read_frames` reads; the same frames give the same bytes.

    Raises:
        InvalidValue: a frame is empty or has a line break in it.
    """
    _write(path, map(_frame_line, frames))


def _frame_line(frame: Frame) -> bytes:
    if not frame.data or b"\n" in frame.data or b"\r" in frame.data:
        raise InvalidValue("frame", frame.data, "a text of one line, not empty")
    return b"%d %b\n" % (frame.received_ts_ns, frame.data)


# ---- events


def event_table(event: Event) -> dict[str, Any]:
    """An event as plain data. Two events with the same numbers have the same table, whether columns are lists or tuples."""
    payload = _plain(event.payload)
    table: dict[str, Any] = {"topic": str(event.topic), "type": type(event.payload).__name__, "payload": payload}
    table["received_ts_ns"] = event.received_ts_ns
    if event.venue_ts_ns is not None:
        table["venue_ts_ns"] = event.venue_ts_ns
    if event.flags:
        table["flags"] = int(event.flags)
    return table


def format_event(event: Event) -> str:
    """One line of a file of events, without its end."""
    return json.dumps(event_table(event), separators=(",", ":"), ensure_ascii=False)


def parse_event(line: str, field: str = "event") -> Event:
    """The event that `format_event` wrote.

    Raises:
        InvalidValue: it is none; says what is wrong.
    """
    try:
        return _event(json.loads(line), field)
    except InvalidValue:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidValue(field, line, f"an event as format_event writes it ({type(error).__name__}: {error})") from error


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, in order.

    Raises:
        InvalidValue: a line is no event; the field names file and line.
        OSError: the file cannot be read.
    """
    with _open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            yield parse_event(line.decode(), f"{path}:{number}")


def write_events(path: Path, events: Iterable[Event]) -> None:
    """Write a file that `read_events` reads; the same events give the same bytes."""
    _write(path, (format_event(event).encode() + b"\n" for event in events))


def _event(table: Mapping[str, Any], field: str) -> Event:
    cls = PAYLOADS.get(table["type"])
    if cls is None:
        raise InvalidValue(f"{field}.type", table["type"], nearest(str(table["type"]), PAYLOADS))
    return Event(
        parse_topic(table["topic"], f"{field}.topic"),
        _payload(cls, table["payload"]),
        table["received_ts_ns"],
        table.get("venue_ts_ns"),
        table.get("flags", 0),
    )


def _payload(cls: type, values: Mapping[str, Any]) -> Payload:
    types = get_type_hints(cls)
    return cast(Payload, cls(**{name: _value(name, types.get(name), value) for name, value in values.items()}))


def _value(name: str, kind: Any, value: Any) -> Any:
    if name in _NESTED:
        return _NESTED[name](value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, IntEnum) else value


def _plain(value: Any) -> Any:
    """A payload, or what is in one, as what JSON can write; of what has fields those that differ from their defaults."""
    if has_fields(type(value)):
        defaults = defaults_of(type(value))
        values = {name: getattr(value, name) for name in names_of(type(value))}
        return {name: _plain(one) for name, one in values.items() if _differs(one, defaults[name])}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _differs(value: Any, default: Any) -> bool:
    if isinstance(value, list | tuple | dict) and not value:
        return False  # no field has a default that is a collection with something in it
    return default is MISSING or bool(value != default)


# ---- files


def _open(path: Path, mode: str) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, mode) if path.suffix == ".gz" else path.open(mode))


def _write(path: Path, lines: Iterable[bytes]) -> None:
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
