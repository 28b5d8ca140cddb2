"""Events in what a socket brought, counted as it comes: one counter per connection. Only the standard library.

Every event of a run has the same encoded size. Where a protocol puts nothing but fixed bytes around it, bytes are divided by
that size; gRPC is walked frame by frame and message by message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

__all__ = ["Counter", "FixedCounter", "GrpcCounter", "Shape"]

_FRAME = Struct(">IBI")  # length and type in one, flags, stream
_STAMP = Struct("<q")
_BEGINNING = Struct(">IBIBI")  # and of a gRPC message: compressed, length
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK, END_STREAM = 1, 1
PING_SIZE = 8
SENT_TS_SIZE = 9  # what Raven's messages have behind their events

NATS_PING = b"PING\r\n"  # in between, once in minutes; too short to count as an event

WINDOW = 2**31 - 1
WINDOW_UPDATE_AFTER = 2**30


@dataclass(frozen=True)
class Shape:
    """How an encoded trade looks to one who counts bytes.

    Args:
        size: of one `events` element.
        stamp: where in it venue_ts_ns is, eight bytes, little end first.
        head: its first two bytes.
    """

    size: int
    stamp: int
    head: bytes

    @property
    def facts(self) -> dict[str, object]:
        """For JSON."""
        return {"size": self.size, "stamp": self.stamp, "head": self.head.hex()}


class Counter:
    """Events of one connection so far.

    Attributes:
        messages: whatever the protocol calls so; 0 where it has none.
        started: the answer to the request has begun.
        ended: why no more will come; empty while it goes on.
        stamps: a list here gets the time stamp of each event; None = they are not looked at.
    """

    messages = 0
    started = False
    ended = ""
    stamps: list[int] | None = None

    def feed(self, data: memoryview) -> int:
        """Some bytes came; how many events became whole with them."""
        raise NotImplementedError


class FixedCounter(Counter):
    """Events with the same bytes around each.

    Args:
        size: of an event with all that is around it.
        stamp: where in that its time stamp is.
        greeting: what the server says before, by its last bytes.
    """

    def __init__(self, size: int, stamp: int, greeting: bytes) -> None:
        self._size = size
        self._stamp = stamp
        self._greeting = greeting
        self._before = b""
        self._partial = 0  # bytes of an event that is not whole
        self._rest = b""  # of an event that is not whole; kept for stamps alone

    def feed(self, data: memoryview) -> int:
        """Some bytes came; how many events became whole with them."""
        if self.started:
            events, self._partial = divmod(self._partial + len(data), self._size)
            if self.stamps is not None:
                self._take_stamps(self._rest + data, self.stamps)
            return events
        self._before += data
        _, found, rest = self._before.partition(self._greeting)
        self.started = bool(found)
        return self.feed(memoryview(rest)) if found else 0

    def _take_stamps(self, data: bytes, stamps: list[int]) -> None:
        position = 0
        while True:
            if data.startswith(NATS_PING, position):
                position += len(NATS_PING)
            if position + self._size > len(data):
                break
            stamps.append(_STAMP.unpack_from(data, position + self._stamp)[0])
            position += self._size
        self._rest = data[position:]


class GrpcCounter(Counter):
    """Events in the messages of one gRPC stream over HTTP/2.

    Args:
        shape: of an event, as an element of a repeated field 1 of the message.
        answer: writes to the server (acknowledgements, windows).
    """

    def __init__(self, shape: Shape, answer: Callable[[bytes], object]) -> None:
        self._size = shape.size
        self._stamp = shape.stamp
        self._head = shape.head
        self._head1 = shape.head[1]
        self._stamps_of = Struct(f"<{shape.stamp}xq{shape.size - shape.stamp - 8}x").iter_unpack
        self._answer = answer
        self._rest = b""  # of a frame that is not whole
        self._message = bytearray()  # of one that takes several frames
        self._unanswered = 0

    def feed(self, data: memoryview | bytes) -> int:
        """Some bytes came; how many events became whole with them. One long function: readers must not be what limits."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        size, position, counted = len(data), 0, 0
        self._unanswered += size
        while position + 14 <= size:
            head, flags, _, compressed, length = _BEGINNING.unpack_from(data, position)
            end = position + 9 + (head >> 8)
            if head & 0xFF or head >> 8 != length + 5 or end > size or self._message or flags or compressed:
                break
            events, more = divmod(length, self._size)
            if events and more in (0, SENT_TS_SIZE) and data[position + 14] == 0x0A and data[position + 15] == self._head1:
                counted += events
                self.messages += 1
                if self.stamps is not None:
                    found = self._stamps_of(data[position + 14 : position + 14 + events * self._size])
                    self.stamps.extend([stamp for (stamp,) in found])
            else:
                counted += self._count_message(bytes(data[position + 14 : end]))
            position = end
        if position < size:
            counted += self._walk(bytes(data[position:]))
        if self._unanswered > WINDOW_UPDATE_AFTER:
            self._open_windows()
        return counted

    def _walk(self, data: bytes) -> int:
        position = counted = 0
        while position + 9 <= len(data):
            head, flags, _ = _FRAME.unpack_from(data, position)
            end = position + 9 + (head >> 8)
            if end > len(data):
                break
            if head & 0xFF == DATA:
                self._message += data[position + 9 : end]
                counted += self._whole_messages()
            self._control(head & 0xFF, flags, data[position + 9 : end])
            position = end
        self._rest = data[position:]
        return counted

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == HEADERS:
            self.started = True
        elif kind == SETTINGS and not flags & ACK:
            self._answer(_FRAME.pack(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._answer(_FRAME.pack(PING_SIZE << 8 | PING, ACK, 0) + payload)
        elif kind in (RST_STREAM, GOAWAY):
            self.ended = f"{'RST_STREAM' if kind == RST_STREAM else 'GOAWAY'} {payload.hex()}"
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended = self.ended or "the server ended the stream"

    def _whole_messages(self) -> int:
        counted = 0
        while len(self._message) >= 5:
            end = 5 + int.from_bytes(self._message[1:5], "big")
            if len(self._message) < end:
                break
            counted += self._count_message(bytes(self._message[5:end]))
            del self._message[:end]
        return counted

    def _count_message(self, message: bytes) -> int:
        self.messages += 1
        trades = [element for element in elements(message) if len(element) == self._size and element.startswith(self._head)]
        if self.stamps is not None:
            self.stamps.extend(_STAMP.unpack_from(element, self._stamp)[0] for element in trades)
        return len(trades)

    def _open_windows(self) -> None:
        update = (self._unanswered & WINDOW).to_bytes(4, "big")
        self._answer(b"".join(_FRAME.pack(4 << 8 | 8, 0, stream) + update for stream in (0, 1)))
        self._unanswered = 0


def elements(message: bytes) -> Iterator[bytes]:
    """The elements of field 1 of a message, each with its tag and length; other fields are skipped."""
    position = 0
    while position < len(message):
        begun = position
        tag, position = _varint(message, position)
        if tag & 7 == 2:
            length, position = _varint(message, position)
            position += length
        elif tag & 7 == 0:
            _, position = _varint(message, position)
        else:
            position += 8 if tag & 7 == 1 else 4
        if tag == 0x0A:
            yield message[begun:position]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
