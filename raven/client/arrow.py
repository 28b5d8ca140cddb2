"""Trades and quotes of a stream as Arrow record batches. It needs the extra "arrow": pyarrow and numpy.

Of each element only its topic and sequence are read one by one; its columns are cut out of the bytes of all elements together.
They stand at the same distance from each element's first changing byte, whatever the topic (raven/codec/encoder.py). What is in
another layout goes the general way, and comes out as rows just the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from struct import Struct
from struct import error as struct_error
from typing import Any, TypeAlias

import attrs
import numpy as np  # type: ignore[import-not-found, unused-ignore]  # of the extra "arrow"
import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]

from raven.client.changes import Change
from raven.client.core import StreamCore
from raven.client.decode import EVENTS_TAG, Decoder, Message, Origin
from raven.client.events import Event, StreamEvent
from raven.client.feed import Feed
from raven.client.runtime import Dial, Runtime
from raven.client.streams import RecordStream
from raven.client.tracking import Tracker
from raven.client.wire import DecodeError, read_varint
from raven.model.events import Quote, Trade

__all__ = ["QUOTES", "ROWS_MAX", "TRADES", "RecordBuffer", "RecordReader", "record_stream"]

ROWS_MAX = 65_536
"""Rows of one record batch."""

_NAME = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ns", tz="UTC")
_STAMPS = [
    *(("venue", _NAME), ("symbol", _NAME), ("epoch", pa.uint64()), ("sequence", pa.uint64())),
    *(("venue_ts_ns", _TIME), ("received_ts_ns", _TIME), ("flags", pa.uint32())),
]
TRADES = pa.schema(
    [*_STAMPS, ("price", pa.float64()), ("size", pa.float64()), ("aggressor", pa.uint8()), ("trade_id", pa.string())],
    metadata={"kind": "trade"},
)
"""Columns of trades. `aggressor`: 1 buy, 2 sell, 0 not known. `flags`: bits of raven.model.events.Flag."""

QUOTES = pa.schema(
    [*_STAMPS, *((name, pa.float64()) for name in ("bid_price", "bid_size", "ask_price", "ask_size"))],
    metadata={"kind": "quote"},
)
"""Columns of quotes."""

Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

# Bytes that must stand at these distances: the layouts of raven/codec/encoder.py.
_TRADE_TAGS = {0: 0x19, 9: 0x21, 18: 0x29, 27: 0x52, 29: 0x09, 38: 0x11, 47: 0x18, 49: 0x22}
_TIMED_TAGS = {0: 0x19, 9: 0x21, 18: 0x29, 27: 0x5A, 28: 36, 29: 0x09, 38: 0x11, 47: 0x19, 56: 0x21}
_UNTIMED_TAGS = {0: 0x19, 9: 0x29, 18: 0x5A, 19: 36, 20: 0x09, 29: 0x11, 38: 0x19, 47: 0x21}
_TRADE_FIXED, _TRADE_BODY = 51, 22
_SEQUENCE = Struct("<Q").unpack_from


@attrs.define
class Segment:
    """Elements of one message that are new: where each one's first changing byte is, where it ends, its origin's number."""

    data: bytes
    stamps: list[int] = attrs.field(factory=list)
    ends: list[int] = attrs.field(factory=list)
    numbers: list[int] = attrs.field(factory=list)


class RecordReader(Decoder):
    """Reads messages as segments and, where they do not fit into one, events.

    Attributes:
        numbered: the origins by their number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbered: list[Origin] = []

    def read(self, data: bytes, tracker: Tracker) -> tuple[Sequence[Any], list[tuple[int, bytes]]]:
        """Items in order, and the controls.

        Raises:
            DecodeError: it is no message.
        """
        items: list[Any] = []
        message = Message([], [], [])
        try:
            self._read(data, tracker, items, message)
        except (IndexError, struct_error, UnicodeDecodeError) as error:
            raise DecodeError(f"a message of {len(data)} bytes cannot be read: {error}") from error
        return items, message.controls

    def _read(self, data: bytes, tracker: Tracker, items: list[Any], message: Message) -> None:
        # One long function, for the same reason as Decoder.decode.
        origins = self._origins
        segment = Segment(data)
        at, end = 0, len(data)
        while at < end:
            if data[at] != EVENTS_TAG:
                at = self._control(data, at, message)
                continue
            size = data[at + 1]
            start = at + 2
            if size > 127:
                size, start = read_varint(data, at + 1)
            at = start + size
            if at > end:
                raise DecodeError("an event ends behind its message")
            stamps = start + data[start + 1] + 11 if size > 1 else start
            rest = at - stamps
            origin = origins.get(data[start:stamps])
            if (
                origin is not None
                and rest > 51
                and data[stamps] == 0x19
                and (
                    data[stamps + 27] == 0x52
                    or (rest == 65 and data[stamps + 27] == 0x5A)
                    or (rest == 56 and data[stamps + 18] == 0x5A)
                )
            ):
                cursor = origin.cursor
                (sequence,) = _SEQUENCE(data, stamps + 1)
                if cursor is not None and sequence == cursor.expected and origin.epoch == cursor.epoch:
                    cursor.sequence = sequence
                    cursor.expected = sequence + 1
                    segment.stamps.append(stamps)
                    segment.ends.append(at)
                    segment.numbers.append(origin.number)
                    continue
            one = Message([], [], [])
            self._general(data, start, at, one)
            new = tracker.admit(one.events, one.origins)
            if one.origins[0].number < 0:
                one.origins[0].number = len(self.numbered)
                self.numbered.append(one.origins[0])
            if len(new) == 1 and _regular(new[0]) and data[start:stamps] in origins:
                segment.stamps.append(stamps)
                segment.ends.append(at)
                segment.numbers.append(one.origins[0].number)
            elif new:
                segment = _close(segment, items)
                items.extend(new)
        if segment.stamps:
            items.append(segment)


def _regular(event: StreamEvent) -> bool:
    """Whether it can be a row of a segment: a segment has no flags. Its layout is looked at later."""
    return isinstance(event.payload, Trade | Quote) and not event.flags


def _close(segment: Segment, items: list[Any]) -> Segment:
    if not segment.stamps:
        return segment
    items.append(segment)
    return Segment(segment.data)


class RecordBuffer:
    """What waits to become record batches. It is read no further than `limit` rows (on_slow="wait")."""

    def __init__(self, reader: RecordReader, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        self.size = 0
        self.bookmark: bytes | None = None
        self._items: deque[Any] = deque()
        self._made: deque[Any] = deque()
        self._tables = Tables(reader)

    @property
    def full(self) -> bool:
        """Whether nothing more should be read for now."""
        return self.size >= self.limit

    def put(self, items: Sequence[Any], bookmark: bytes | None = None) -> None:
        """Take what a reader has read."""
        self._items.extend(items)
        self.size += sum(map(_rows, items))
        if bookmark is not None:
            self._items.append(bookmark)

    def take(self) -> Any:
        """The next record batch or event; None if nothing waits."""
        while not self._made:
            if not self._items:
                return None
            self._make()
        return self._made.popleft()

    def _make(self) -> None:
        """What waits, up to `ROWS_MAX` rows or the next that is none."""
        first = self._items.popleft()
        if isinstance(first, bytes):
            self.bookmark = first
            return
        rows = _rows(first)
        self.size -= rows
        if isinstance(first, Segment):
            segments = [first]
            while self._items and isinstance(self._items[0], Segment | bytes) and rows < ROWS_MAX:
                following = self._items.popleft()
                if isinstance(following, bytes):
                    self.bookmark = following
                    continue
                segments.append(following)
                rows += _rows(following)
                self.size -= _rows(following)
            self._made.extend(self._tables.of_segments(segments))
        else:
            events = [first]
            while self._items and not isinstance(self._items[0], Segment | bytes) and len(events) < ROWS_MAX:
                events.append(self._items.popleft())
            self.size -= len(events) - 1
            self._made.extend(self._tables.of_events(events))


def _rows(item: Any) -> int:
    if isinstance(item, Segment):
        return len(item.stamps)
    return 0 if isinstance(item, bytes) else 1


class Tables:
    """Makes record batches. Venues and symbols are dictionaries that grow with what has come."""

    def __init__(self, reader: RecordReader) -> None:
        self._reader = reader
        self._venues: dict[str, int] = {}
        self._symbols: dict[str, int] = {}
        self._codes: tuple[Any, Any, Any] = (np.array([], np.int32), np.array([], np.int32), np.array([], np.uint64))

    def of_segments(self, segments: Sequence[Segment]) -> list[Any]:
        """At most one batch of trades and one of quotes, and in front of them what is in no layout."""
        data = b"".join(segment.data for segment in segments)
        bases = np.repeat(_starts([len(segment.data) for segment in segments]), [len(segment.stamps) for segment in segments])
        stamps = np.concatenate([np.array(segment.stamps, np.int64) for segment in segments]) + bases
        sizes = np.concatenate([np.array(segment.ends, np.int64) for segment in segments]) + bases - stamps
        numbers = np.concatenate([np.array(segment.numbers, np.int64) for segment in segments])
        octets = np.frombuffer(data, np.uint8)
        trades = _are(octets, stamps, sizes, _TRADE_TAGS, 52)
        if trades.any():
            ids = octets[np.where(trades, stamps + 50, 0)]
            bodies = octets[np.where(trades, stamps + 28, 0)]
            sides = octets[np.where(trades, stamps + 48, 0)]
            trades &= (sizes == _TRADE_FIXED + ids) & (bodies == _TRADE_BODY + ids) & (ids < 106) & (sides < 3)
        timed = (sizes == 65) & _are(octets, stamps, sizes, _TIMED_TAGS, 65)
        untimed = (sizes == 56) & _are(octets, stamps, sizes, _UNTIMED_TAGS, 56)
        made: list[Any] = [
            self._odd(data, stamps, sizes, numbers, int(row)) for row in np.flatnonzero(~(trades | timed | untimed))
        ]
        if trades.any():
            made.append(self._trades(data, stamps[trades], numbers[trades]))
        if timed.any() or untimed.any():
            quotes = timed | untimed
            made.append(self._quotes(data, stamps[quotes], numbers[quotes], timed[quotes]))
        return made

    def of_events(self, events: Sequence[Any]) -> list[Any]:
        """Trades and quotes that were read one by one, in batches of what stands together; other events as they are."""
        made: list[Any] = []
        for cls, group in groupby(events, lambda event: type(event.payload)):
            if cls is Trade:
                made.append(_of_payloads(list(group), TRADES, ("price", "size", "aggressor", "trade_id")))
            elif cls is Quote:
                made.append(_of_payloads(list(group), QUOTES, ("bid_price", "bid_size", "ask_price", "ask_size")))
            else:
                made.extend(group)
        return made

    def _trades(self, data: bytes, stamps: Ints, numbers: Ints) -> Any:
        columns = self._stamps(data, stamps, numbers, stamps + 10, stamps + 19)
        octets = np.frombuffer(data, np.uint8)
        columns |= {
            "price": _cut(data, stamps + 30, "<f8"),
            "size": _cut(data, stamps + 39, "<f8"),
            "aggressor": octets[stamps + 48],
            "trade_id": _texts(octets, stamps + _TRADE_FIXED, octets[stamps + 50].astype(np.int64)),
        }
        return _batch(columns, TRADES)

    def _quotes(self, data: bytes, stamps: Ints, numbers: Ints, timed: Any) -> Any:
        first = stamps + np.where(timed, 29, 20)  # the tag of the first price
        columns = self._stamps(data, stamps, numbers, np.where(timed, stamps + 10, 0), stamps + np.where(timed, 19, 10))
        if not timed.all():
            columns["venue_ts_ns"] = pa.array(columns["venue_ts_ns"], mask=~timed)
        names = ("bid_price", "bid_size", "ask_price", "ask_size")
        columns |= {name: _cut(data, first + 1 + 9 * number, "<f8") for number, name in enumerate(names)}
        return _batch(columns, QUOTES)

    def _stamps(self, data: bytes, stamps: Ints, numbers: Ints, venue_ts: Ints, received_ts: Ints) -> dict[str, Any]:
        if len(self._codes[0]) < len(self._reader.numbered):
            self._codes = self._tabulate()
        venues, symbols, epochs = self._codes
        return {
            "venue": pa.DictionaryArray.from_arrays(venues[numbers], pa.array(list(self._venues), pa.string())),
            "symbol": pa.DictionaryArray.from_arrays(symbols[numbers], pa.array(list(self._symbols), pa.string())),
            "epoch": epochs[numbers],
            "sequence": _cut(data, stamps + 1, "<u8"),
            "venue_ts_ns": _cut(data, venue_ts, "<i8"),
            "received_ts_ns": _cut(data, received_ts, "<i8"),
            "flags": np.zeros(len(stamps), np.uint32),
        }

    def _tabulate(self) -> tuple[Any, Any, Any]:
        """Codes of venue and symbol, and epoch, by number of origin."""
        origins = self._reader.numbered
        return (
            np.array([self._venues.setdefault(one.topic.venue, len(self._venues)) for one in origins], np.int32),
            np.array([self._symbols.setdefault(one.topic.symbol, len(self._symbols)) for one in origins], np.int32),
            np.array([one.epoch for one in origins], np.uint64),
        )

    def _odd(self, data: bytes, stamps: Ints, sizes: Ints, numbers: Ints, row: int) -> Any:
        """What looked like a layout at first, and is none."""
        origin = self._reader.numbered[numbers[row]]
        start, end = int(stamps[row]), int(stamps[row] + sizes[row])
        event = self._reader.event(data, start, end, origin)
        return self.of_events([event])[0]


def _of_payloads(events: Sequence[Event], schema: Any, names: Sequence[str]) -> Any:
    columns: dict[str, Any] = {
        "venue": pa.array([event.topic.venue for event in events]).dictionary_encode(),
        "symbol": pa.array([event.topic.symbol for event in events]).dictionary_encode(),
    }
    for name in ("epoch", "sequence", "venue_ts_ns", "received_ts_ns", "flags"):
        columns[name] = [getattr(event, name) for event in events]
    for name in names:
        columns[name] = [getattr(event.payload, name) for event in events]
    return _batch(columns, schema)


def _batch(columns: Mapping[str, Any], schema: Any) -> Any:
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Any, kind: Any) -> Any:
    if isinstance(values, pa.Array):
        return values if values.type == kind else values.cast(kind)
    return pa.array(values, kind)


def _starts(sizes: Sequence[int]) -> Ints:
    """Where each begins when they stand behind each other."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def _are(octets: Any, stamps: Ints, sizes: Ints, tags: Mapping[int, int], size_min: int) -> Any:
    """Which rows have these bytes at these distances."""
    fit = sizes >= size_min
    rows = np.flatnonzero(fit)
    at = stamps[rows]
    same = np.ones(len(rows), bool)
    for distance, tag in tags.items():
        same &= octets[at + distance] == tag
    fit[rows] = same
    return fit


def _cut(data: bytes, at: Ints, kind: str) -> Any:
    """The 8 bytes that begin at each of `at`, as numbers."""
    windows: Any = np.ndarray((len(data) - 7,), np.dtype(kind), buffer=data, strides=(1,))
    return windows[at]


def _texts(octets: Any, starts: Ints, sizes: Ints) -> Any:
    """Texts of these places. They are checked to be UTF-8.

    Raises:
        UnicodeDecodeError: one is none.
    """
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    if len(sizes) and (sizes == sizes[0]).all():
        letters = octets[starts[:, None] + np.arange(sizes[0])].tobytes()
    else:
        letters = octets[np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])].tobytes()
    if not letters.isascii():
        letters.decode()
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(letters))


def record_stream(
    core: Callable[..., StreamCore], runtime: Runtime, dial: Dial, buffer_max: int, on_change: Callable[[Change], None] | None
) -> RecordStream:
    """See `raven.client.Client.record_batches`."""
    reader = RecordReader()
    buffer = RecordBuffer(reader, buffer_max)
    return RecordStream(Feed(core(reader=reader), buffer, runtime, dial, on_change), buffer, runtime)
