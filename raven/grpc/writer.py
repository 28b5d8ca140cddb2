"""The way of an outbox's bytes into the HTTP/2 connection of its client, without a task in between.

Per flush one gRPC message, in as many DATA frames as the peer's frame size asks for, and one write to the socket. Where a
window is closed or the socket is full the rest stays: `RavenProtocol` calls `flush` again when there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from grpclib.protocol import Stream
from h2.exceptions import ProtocolError

from raven.broker.outbox import Outbox
from raven.codec.encoder import sent_ts
from raven.grpc.protocol import RavenConnection

__all__ = ["StreamWriter"]

log = structlog.stdlib.get_logger("raven.grpc")


class StreamWriter:
    """Writes one outbox into one HTTP/2 stream. Its response headers must have been sent.

    Args:
        stream: grpclib's protocol stream.
        now_ns: wall clock, for sent_ts_ns.
    """

    def __init__(self, stream: Stream, outbox: Outbox, now_ns: Callable[[], int]) -> None:
        assert stream.id is not None
        assert isinstance(stream.connection, RavenConnection)
        self._id = stream.id
        self._connection = stream.connection
        self._h2 = stream.connection._connection  # noqa: SLF001  grpclib has no public name for it
        self._transport = stream.connection._transport  # noqa: SLF001
        self._outbox = outbox
        self._now_ns = now_ns
        self._rest = memoryview(b"")  # of the message that is begun
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._connection.writers[self._id] = self
        outbox.writer = self

    def flush(self) -> None:
        """Write what the windows and the socket take now."""
        if self._closed:
            return
        if self._transport.is_closing():  # the client has gone; grpclib will cancel the call
            self.close()
            return
        try:
            while self._connection.write_ready.is_set() and self._next() and self._write():
                pass
        except (
            ProtocolError,
            OSError,
            KeyError,
        ) as error:  # the stream or the connection is gone; grpclib will cancel the call
            log.debug("a stream ended while it was written to", error=str(error))
            self.close()
        if self._idle is not None and not self._idle.done() and not self._rest and self._outbox.empty:
            self._idle.set_result(None)

    def _next(self) -> bool:
        if not self._rest:
            message = self._outbox.take(sent_ts(self._now_ns()))
            if message is None:
                return False
            self._rest = memoryview(b"\0" + len(message).to_bytes(4, "big") + message)
        return True

    def _write(self) -> bool:
        """Write as much of the message as the windows take, in one write; whether it was all of it."""
        rest, h2, stream_id = self._rest, self._h2, self._id
        room = min(h2.local_flow_control_window(stream_id), len(rest))
        if room <= 0:
            return False
        frame_max = h2.max_outbound_frame_size
        for start in range(0, room, frame_max):
            h2.send_data(stream_id, rest[start : min(start + frame_max, room)])
        self._rest = rest[room:]
        self._transport.write(h2.data_to_send())
        return not self._rest

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until everything is written, at most so long; whether it is."""
        self.flush()
        if self._rest or not self._outbox.empty:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._idle}, timeout=timeout_s)
        return not self._rest and self._outbox.empty

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        self._connection.writers.pop(self._id, None)
        self._outbox.clear()
