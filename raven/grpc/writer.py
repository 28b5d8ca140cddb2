"""The way of messages into the HTTP/2 connection of their client, without a task in between.

Events do not pass through h2, whose `send_data` costs more than all the rest of their way: the writer makes the DATA frames
itself, and keeps the two windows of flow control in h2's state true. Per flush it writes one gRPC message, in as many frames as
the peer's frame size asks for, by one write to the socket. Where a window is closed or the socket is full the rest stays, and
`RavenProtocol` calls `flush` when there is room again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct

import structlog
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import Stream

from raven.broker.outbox import Outbox
from raven.codec.encoder import sent_ts
from raven.grpc.lane import open_lane
from raven.grpc.protocol import RavenConnection
from raven.grpc.sending import open_way

__all__ = ["StreamWriter"]

log = structlog.stdlib.get_logger("raven.grpc")

# RFC 9113, 4.1: length in 24 bits, type DATA = 0, no flags, stream; then gRPC's prefix: not compressed, length
_FRAME = Struct(">HBxxL").pack
_PREFIX = Struct(">xL").pack


class StreamWriter:
    """Writes one outbox into one HTTP/2 stream. Its response headers must have been sent.

    Args:
        stream: grpclib's protocol stream.
        now_ns: wall clock, for sent_ts_ns.

    Raises:
        StreamTerminatedError: the client has reset the stream already.
    """

    __slots__ = (
        "_closed",
        "_connection",
        "_gate",
        "_h2",
        "_h2_stream",
        "_id",
        "_idle",
        "_now_ns",
        "_outbox",
        "_rest",
        "_transport",
        "lane",
    )

    def __init__(self, stream: Stream, outbox: Outbox, now_ns: Callable[[], int]) -> None:
        assert stream.id is not None
        assert isinstance(stream.connection, RavenConnection)
        self._id = stream.id
        self._connection = stream.connection
        self._h2 = stream.connection._connection  # noqa: SLF001  grpclib has no public name for it
        if self._id not in self._h2.streams:
            raise StreamTerminatedError("reset before its first message")
        self._h2_stream = self._h2.streams[self._id]
        self._transport = stream.connection._transport  # noqa: SLF001
        self._gate = self._connection.write_ready
        self.lane = open_lane(self._h2, self._h2_stream, self._gate, open_way(self._transport))
        self._outbox = outbox
        self._now_ns = now_ns
        self._rest: memoryview | None = None  # of the message that is begun, with its prefix
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._connection.writers[self._id] = self
        outbox.writer = self

    # ---- what the outbox asks for

    def begin(self, message: bytes) -> bool:
        """Write a message that nothing waits in front of, as far as it goes. See OutboxWriter."""
        if self._gone():
            return True
        self._rest = memoryview(_PREFIX(len(message)) + message)
        return self.drain()

    def drain(self) -> bool:
        """Write what was begun, then what the outbox has, as far as it goes. See OutboxWriter."""
        while self._gate.open and not self._gone():
            if self._rest is None:
                message = self._outbox.take(sent_ts(self._now_ns()))
                if message is None:
                    break
                self._rest = memoryview(_PREFIX(len(message)) + message)
            if not self._write_some(self._rest):
                break
        done = self._closed or (self._rest is None and self._outbox.empty)
        if done and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return done

    def _write_some(self, rest: memoryview) -> bool:
        """As much of a message as the windows take, in one write; whether it was anything."""
        h2, stream, number = self._h2, self._h2_stream, self._id
        room = min(h2.outbound_flow_control_window, stream.outbound_flow_control_window, len(rest))
        if room <= 0:
            return False
        frame_max = h2.max_outbound_frame_size
        pieces: list[bytes | memoryview] = []
        for start in range(0, room, frame_max):
            size = min(frame_max, room - start)
            pieces += (_FRAME(size >> 8, size & 255, number), rest[start : start + size])
        h2.outbound_flow_control_window -= room
        stream.outbound_flow_control_window -= room
        self._rest = rest[room:] if room < len(rest) else None
        self._transport.write(b"".join(pieces))
        return True

    def _gone(self) -> bool:
        """Whether the client has gone or has reset the stream; grpclib will cancel the call."""
        if self._transport.is_closing() or self._h2_stream.closed:
            self.close()
        return self._closed

    # ---- what others ask for

    def flush(self) -> None:
        """There may be room again."""
        self._outbox.flush()

    @property
    def bytes_waiting(self) -> int:
        """What was taken and has not reached the network: the rest of a message, and what the transport holds."""
        return self._buffered() + (0 if self._rest is None else len(self._rest))

    def _buffered(self) -> int:
        """What the transport holds; one that was aborted knows nothing of its buffer any more."""
        return 0 if self._transport.is_closing() else int(self._transport.get_write_buffer_size())

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until everything is written, at most so long; whether it is."""
        self._outbox.flush()
        if not (self._closed or (self._rest is None and self._outbox.empty)):
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._idle}, timeout=timeout_s)
        return self._rest is None and self._outbox.empty

    def give_up(self) -> None:
        """The client did not take its last message: one whose socket is full hears nothing any more, so its connection goes."""
        if self._buffered():
            self._transport.abort()
        self.close()

    def close(self) -> None:
        """Write nothing more."""
        self._closed = self.lane.closed = True
        self._rest = None
        self._connection.writers.pop(self._id, None)
        self._outbox.clear()
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
