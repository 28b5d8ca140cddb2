"""What waits for one client: events and control messages, in the order in which they are to be read.

The broker puts the bytes of events in; `flush` asks the writer, who owns the way to the client, to take as much as the client's
windows allow. Nothing here waits. A full outbox is no error: the broker asks `overfull` after each flush and ends the client.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import attrs

__all__ = ["MESSAGE_BYTES_MAX", "Outbox", "OutboxLimits", "OutboxStatistics", "OutboxWriter"]

MESSAGE_BYTES_MAX = 1024 * 1024
"""A message is at most this long, unless one event alone is longer (raven.proto, StreamMarketDataResponse)."""


@attrs.frozen
class OutboxLimits:
    """What may wait for one client.

    Args:
        events_max: events.
        bytes_max: bytes of events.
        control_bytes_max: bytes of control messages.
    """

    events_max: int = 16_384
    bytes_max: int = 8 * 1024 * 1024
    control_bytes_max: int = 64 * 1024


@attrs.frozen
class OutboxStatistics:
    """A view of one outbox. What was taken by the writer counts as sent."""

    events_queued: int
    bytes_queued: int
    events_sent: int
    bytes_sent: int
    messages_sent: int


class OutboxWriter(Protocol):
    """The way to the client."""

    def flush(self) -> None:
        """Take from the outbox what can be written now, and write it. Never blocks, never raises."""


class Outbox:
    """Events and controls of one client."""

    __slots__ = (
        "_controls_bytes",
        "_events",
        "_messages_sent",
        "_segments",
        "_tail",
        "bytes_queued",
        "bytes_sent",
        "dirty",
        "events_sent",
        "limits",
        "writer",
    )

    def __init__(self, limits: OutboxLimits) -> None:
        self.limits = limits
        self.writer: OutboxWriter | None = None
        self.dirty = False  # the broker's mark: has something since the last flush
        # A list holds elements of events, bytes are one whole control message.
        self._segments: deque[list[bytes] | bytes] = deque()
        self._tail: list[bytes] | None = None
        self._events = 0
        self.bytes_queued = 0
        self._controls_bytes = 0
        self.events_sent = 0
        self.bytes_sent = 0
        self._messages_sent = 0

    def __len__(self) -> int:
        """Events that wait."""
        return self._events

    @property
    def empty(self) -> bool:
        """Whether nothing waits, neither events nor controls."""
        return not self._segments

    def put(self, element: bytes) -> None:
        """Append one event, as its `events` element."""
        tail = self._tail
        if tail is None:
            self._tail = tail = []
            self._segments.append(tail)
        tail.append(element)
        self._events += 1
        self.bytes_queued += len(element)

    def put_control(self, message: bytes) -> None:
        """Append one whole control message."""
        self._segments.append(message)
        self._tail = None
        self._controls_bytes += len(message)

    def overfull(self) -> str:
        """Which limit is passed, in words; empty when none is."""
        limits = self.limits
        if self._events > limits.events_max:
            return f"{self._events} events wait, the limit is {limits.events_max}"
        if self.bytes_queued > limits.bytes_max:
            return f"{self.bytes_queued} bytes of events wait, the limit is {limits.bytes_max}"
        if self._controls_bytes > limits.control_bytes_max:
            return f"{self._controls_bytes} bytes of control messages wait, the limit is {limits.control_bytes_max}"
        return ""

    def take(self, trailer: bytes) -> bytes | None:
        """The next message, with `trailer` (the field sent_ts_ns) behind it; None when nothing waits.

        All events that wait in front of the next control are joined into one message, up to MESSAGE_BYTES_MAX.
        """
        if not self._segments:
            return None
        segment = self._segments[0]
        if isinstance(segment, bytes):
            self._segments.popleft()
            self._controls_bytes -= len(segment)
            message = segment + trailer
        else:
            message = self._take_events(segment, trailer)
        self._messages_sent += 1
        self.bytes_sent += len(message)
        return message

    def _take_events(self, segment: list[bytes], trailer: bytes) -> bytes:
        taken = segment
        if self.bytes_queued > MESSAGE_BYTES_MAX:
            count = _fitting(segment, MESSAGE_BYTES_MAX)
            taken = segment[:count]
            del segment[:count]
        if taken is segment or not segment:
            self._segments.popleft()
            if segment is self._tail:
                self._tail = None
        taken.append(trailer)
        message = b"".join(taken)
        self._events -= len(taken) - 1
        self.events_sent += len(taken) - 1
        self.bytes_queued -= len(message) - len(trailer)
        return message

    def clear(self) -> None:
        """Forget all that waits: the client is gone, or is told that it is."""
        self._segments.clear()
        self._tail = None
        self._events = self.bytes_queued = self._controls_bytes = 0

    def flush(self) -> None:
        """Have the writer take what it can."""
        self.dirty = False
        if self.writer is not None:
            self.writer.flush()

    def statistics(self) -> OutboxStatistics:
        """How much waits and how much was sent."""
        return OutboxStatistics(self._events, self.bytes_queued, self.events_sent, self.bytes_sent, self._messages_sent)


def _fitting(elements: list[bytes], size_max: int) -> int:
    """How many of `elements`, from the first, are at most `size_max` bytes together; at least 1."""
    size = 0
    for count, element in enumerate(elements):
        size += len(element)
        if size > size_max:
            return max(count, 1)
    return len(elements)
