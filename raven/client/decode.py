"""Messages of the server as events. Pure.

An element begins with what does not change for a topic and epoch, so its first bytes are looked up instead of read. Trades,
quotes and books in the layout that the server writes (raven/codec/encoder.py) are read by one `struct.unpack`; all else goes
the general way of `raven.client.wire`.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any

import attrs

from raven.client.events import Event, StreamEvent, Unknown, make_event
from raven.client.wire import NUMBERS, DecodeError, parse_payload, read_varint, text_of, walk
from raven.model.events import BookDelta, Quote, Side, Trade
from raven.model.topic import Kind, Topic

if TYPE_CHECKING:
    from raven.client.tracking import Cursor

__all__ = ["Decoder", "Message", "Origin"]

ORIGINS_MAX = 50_000
"""Topics, each in an epoch, whose first bytes are remembered; beyond it the memory begins anew."""

EVENTS, SENT_TS = 1, 15
EVENTS_TAG = 0x0A

_TRADE = Struct("<BQBqBqBBBdBdBBBB").unpack_from
_QUOTE = Struct("<BQBqBBBdBdBdBd").unpack_from
_QUOTE_TIMED = Struct("<BQBqBqBBBdBdBdBd").unpack_from
_STAMPS = Struct("<BQBqBqBB").unpack_from
_FIXED64 = Struct("<Q").unpack_from
_SFIXED64 = Struct("<q").unpack_from

_SIDES = tuple(Side)
_KINDS = {int(kind): kind for kind in Kind}


class Origin:
    """What an element's first bytes name: a topic in an epoch.

    `cursor` is for whoever follows the topic's sequence, `number` for whoever numbers origins.
    """

    __slots__ = ("cursor", "epoch", "number", "topic")

    def __init__(self, topic: Topic, epoch: int) -> None:
        self.topic = topic
        self.epoch = epoch
        self.cursor: Cursor | None = None
        self.number = -1


@attrs.define
class Message:
    """One message: `events` with the origin of each, and what stands in its other fields, as (number, bytes)."""

    events: list[StreamEvent]
    origins: list[Origin]
    controls: list[tuple[int, bytes]]


class Decoder:
    """Decodes the messages of one client, and remembers the topics that it has seen."""

    def __init__(self) -> None:
        self._origins: dict[bytes, Origin] = {}
        self._topics: dict[bytes, Topic] = {}

    def decode(self, data: bytes) -> Message:
        """One StreamMarketDataResponse, WatchMarketDataResponse, GetLatestResponse or GetHistoricalDataResponse.

        Raises:
            DecodeError: it is none.
        """
        message = Message([], [], [])
        try:
            self._decode(data, message)
        except (IndexError, struct_error, UnicodeDecodeError) as error:
            raise DecodeError(f"a message of {len(data)} bytes cannot be read: {error}") from error
        return message

    def event(self, data: bytes, start: int, end: int, origin: Origin) -> StreamEvent:
        """One element of which the first bytes are known: what stands between `start` and `end` is the rest."""
        message = Message([], [], [])
        self._general(data, start, end, message, origin)
        return message.events[0]

    def _decode(self, data: bytes, message: Message) -> None:
        # One long function: it runs for every event, and a call costs a tenth of it.
        origins = self._origins
        add_event, add_origin = message.events.append, message.origins.append
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
            if size < 2:
                self._general(data, start, at, message)
                continue
            # a topic is longer than 127 bytes only where it cannot be; then nothing is found here
            stamps = start + data[start + 1] + 11
            origin = origins.get(data[start:stamps])
            if origin is None:
                self._general(data, start, at, message)
                continue
            rest = at - stamps
            if rest >= 52 and data[stamps + 27] == 0x52:
                (a, sequence, b, venue_ts, c, received_ts, _, body, d, price, e, amount, f, side, g, id_size) = _TRADE(
                    data, stamps
                )
                if (
                    a == 0x19 and b == 0x21 and c == 0x29 and d == 0x09 and e == 0x11 and f == 0x18 and g == 0x22
                    and side < 3 and id_size < 128 and body == 22 + id_size and rest == 51 + id_size
                ):  # fmt: skip
                    trade = Trade(price, amount, _SIDES[side], data[at - id_size : at].decode())
                    add_event(Event(origin.topic, origin.epoch, sequence, trade, received_ts, venue_ts))
                    add_origin(origin)
                    continue
            elif rest == 65 and data[stamps + 27] == 0x5A:
                (a, sequence, b, venue_ts, c, received_ts, _, body, d, bid, e, bid_size, f, ask, g, ask_size) = _QUOTE_TIMED(data, stamps)  # fmt: skip  # noqa: E501
                if a == 0x19 and b == 0x21 and c == 0x29 and body == 36 and d == 0x09 and e == 0x11 and f == 0x19 and g == 0x21:
                    quote = Quote(bid, bid_size, ask, ask_size)
                    add_event(Event(origin.topic, origin.epoch, sequence, quote, received_ts, venue_ts))
                    add_origin(origin)
                    continue
            elif rest == 56 and data[stamps + 18] == 0x5A:
                (a, sequence, b, received_ts, _, body, d, bid, e, bid_size, f, ask, g, ask_size) = _QUOTE(data, stamps)
                if a == 0x19 and b == 0x29 and body == 36 and d == 0x09 and e == 0x11 and f == 0x19 and g == 0x21:
                    quote = Quote(bid, bid_size, ask, ask_size)
                    add_event(Event(origin.topic, origin.epoch, sequence, quote, received_ts))
                    add_origin(origin)
                    continue
            elif rest > 29 and data[stamps + 27] == 0x6A:
                a, sequence, b, venue_ts, c, received_ts, _, _ = _STAMPS(data, stamps)
                if a == 0x19 and b == 0x21 and c == 0x29:
                    size, first = read_varint(data, stamps + 28)
                    delta = _levels(data, first, at) if first + size == at else None
                    if delta is not None:
                        add_event(Event(origin.topic, origin.epoch, sequence, delta, received_ts, venue_ts))
                        add_origin(origin)
                        continue
            self._general(data, start, at, message)

    def _control(self, data: bytes, at: int, message: Message) -> int:
        """The field at `at`, which is not an event; where it ends."""
        key, first = read_varint(data, at)
        if key & 7 != 2:
            _, end = _skip(data, at)
        else:
            size, first = read_varint(data, first)
            end = first + size
            if end <= len(data):
                message.controls.append((key >> 3, data[first:end]))
        if end > len(data):
            raise DecodeError(f"field {key >> 3} ends behind its message")
        return end

    # ---- the general way

    def _general(self, data: bytes, start: int, end: int, message: Message, origin: Origin | None = None) -> None:
        values: dict[int, Any] = {}
        topic_raw, number, payload_raw = b"", 0, b""
        for field, wire_type, value in walk(data, start, end):
            if wire_type == 2 and field >= 10:
                payload_raw = payload_raw + value if field == number else value  # one that comes twice is merged
                number = field
            elif field == 1 and wire_type == 2:
                topic_raw += value
            elif (field == 7 and wire_type == 0) or (2 <= field <= 6 and wire_type == 1):
                values[field] = value
        origin = origin or self._origin(topic_raw, _unsigned(values.get(2)), data[start : start + len(topic_raw) + 11])
        cls = NUMBERS.get(number)
        message.origins.append(origin)
        message.events.append(
            make_event(
                origin.topic,
                origin.epoch,
                _unsigned(values.get(3)),
                Unknown(number, payload_raw) if cls is None else parse_payload(cls, payload_raw),
                _signed(values.get(5)) or 0,
                _signed(values.get(4)),
                int(values.get(7, 0)) & 0xFFFF_FFFF,
                _unsigned(values.get(6)),
            )
        )

    def _origin(self, topic_raw: bytes, epoch: int, head: bytes) -> Origin:
        """Of a topic in an epoch; remembered if an element that begins with it is written as the server does."""
        key = b"\x0a%c%b\x11%b" % (len(topic_raw) & 127, topic_raw, epoch.to_bytes(8, "little"))
        found = self._origins.get(key)
        if found is not None:
            return found
        origin = Origin(self._topic(topic_raw), epoch)
        if head == key and len(topic_raw) < 128:
            if len(self._origins) >= ORIGINS_MAX:
                self._origins.clear()
            self._origins[key] = origin
        return origin

    def _topic(self, raw: bytes) -> Topic:
        """The same object for the same bytes."""
        topic = self._topics.get(raw)
        if topic is None:
            if len(self._topics) >= ORIGINS_MAX:
                self._topics.clear()
            topic = self._topics[raw] = _parse_topic(raw)
        return topic


def _parse_topic(raw: bytes) -> Topic:
    texts, kind = {1: "", 2: "", 4: ""}, 0
    for number, wire_type, value in walk(raw):
        if wire_type == 2 and number in texts:
            texts[number] = text_of(value)
        elif (number, wire_type) == (3, 0):
            kind = int(value)
    return Topic(texts[1], texts[2], _KINDS.get(kind, kind), texts[4])  # type: ignore[arg-type]  # of a later contract


def _skip(data: bytes, at: int) -> tuple[int, int]:
    """Field number and end of a field that is not delimited."""
    key, at = read_varint(data, at)
    wire_type = key & 7
    if wire_type == 0:
        _, at = read_varint(data, at)
    elif wire_type in (1, 5):
        at += 8 if wire_type == 1 else 4
    else:
        raise DecodeError(f"field {key >> 3} has the wire type {wire_type}")
    return key >> 3, at


def _unsigned(raw: bytes | None) -> int:
    return 0 if raw is None else int(_FIXED64(raw)[0])


def _signed(raw: bytes | None) -> int | None:
    return None if raw is None else int(_SFIXED64(raw)[0])


@lru_cache(maxsize=4096)
def _doubles(count: int) -> Any:
    return Struct(f"<{count}d").unpack_from


def _levels(data: bytes, at: int, end: int) -> BookDelta | None:
    """The body of a delta in the order in which the server writes it; None if it is in another."""
    columns: list[tuple[float, ...]] = [(), (), (), ()]
    venue_sequence = number = 0
    while at < end:
        tag = data[at]
        if tag in (0x0A, 0x12, 0x1A, 0x22):
            if tag >> 3 <= number:
                return None
            number = tag >> 3
            size, at = read_varint(data, at + 1)
            if at + size > end or size & 7:
                return None
            columns[number - 1] = _doubles(size >> 3)(data, at)
            at += size
        elif tag == 0x29 and at + 9 == end:
            venue_sequence = int(_FIXED64(data, at + 1)[0])
            at = end
        else:
            return None
    return BookDelta(columns[0], columns[1], columns[2], columns[3], venue_sequence)
