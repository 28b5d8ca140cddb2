"""grpclib's view of one connection: its streams, their writers, and what h2 tells of them."""

from __future__ import annotations

import asyncio
import time
from asyncio import Transport
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Literal, Protocol

from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import Connection, EventsProcessor, Stream
from grpclib.server import Handler
from grpclib.utils import Wrapper
from h2.errors import ErrorCodes
from h2.events import Event as H2Event
from h2.events import RemoteSettingsChanged, WindowUpdated
from h2.exceptions import ProtocolError
from h2.stream import StreamState

from raven.grpc.http2 import ServerConnection
from raven.grpc.receiving import RavenStream

__all__ = ["RavenConnection", "RavenProcessor", "Writer"]

_NEVER = asyncio.Event()

SEASONED_S = 1.0
"""A call that was open for so long may be reset uncounted: who opens calls to reset them does not wait."""


class Writer(Protocol):
    """What wants to know when there may be room."""

    def flush(self) -> None:
        """Write what can be written now. Never raises."""


class WriteGate(asyncio.Event):
    """Whether the socket takes more; behind the end of a connection, which its transport may outlive, it never does."""

    left = False
    open = False  # as `is_set`, for those who ask before each message

    def set(self) -> None:
        """The socket takes more."""
        super().set()
        self.open = True

    def clear(self) -> None:
        """It does not."""
        super().clear()
        self.open = False

    def leave(self) -> None:
        """The end. Who waits is told."""
        self.left = True
        self.set()
        self.clear()

    async def wait(self) -> Literal[True]:
        """Until the socket takes more.

        Raises:
            StreamTerminatedError: it never will.
        """
        if not self.left:
            await super().wait()
        if self.left:
            raise StreamTerminatedError("the connection is ended")
        return True


class RavenConnection(Connection):
    """Knows the writers of its streams."""

    def __init__(self, connection: ServerConnection, transport: Transport, *, config: Configuration) -> None:
        super().__init__(connection, transport, config=config)
        self.h2 = connection
        self.stream_close_waiter = _NEVER  # only clients wait for it
        self.write_ready: WriteGate = WriteGate()
        self.write_ready.set()
        self.writers: dict[int, Writer] = {}
        self.opened: set[int] = set()  # streams whose windows have opened since their writers were told; 0 = all
        self.owed_bytes = 0  # answers to frames that were written since the socket is full

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> RavenStream:
        """A stream whose requests have a limit."""
        return RavenStream(self, self._connection, self._transport, stream_id=stream_id, wrapper=wrapper)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.write_ready.left or bool(super().is_closing())

    def ack(self, stream_id: int, size: int) -> None:
        """So many bytes of a stream were read."""
        if not self.is_closing():
            super().ack(stream_id, size)

    def flush(self) -> None:
        """Write what h2 has ready: answers to frames, windows; of calls only the ends."""
        if self.is_closing():
            return
        data = self.h2.data_to_send()
        if data:
            self._transport.write(data)
            if not self.write_ready.is_set():
                self.owed_bytes += len(data)

    def leave(self) -> None:
        """Nobody writes here any more. The transport stays open until the client has read what is there."""
        self.write_ready.leave()

    def resume_writing(self) -> None:
        """The socket takes more."""
        if not self.write_ready.left:
            self.owed_bytes = 0
            super().resume_writing()
            self.flush_writers()

    def flush_writers(self) -> None:
        """There may be room for every stream."""
        for writer in list(self.writers.values()):
            writer.flush()

    def flush_opened(self) -> None:
        """There may be room for the streams whose windows have opened."""
        opened, self.opened = self.opened, set()
        if 0 in opened:
            self.flush_writers()
        else:
            for stream_id in opened:
                if writer := self.writers.get(stream_id):
                    writer.flush()


class RavenProcessor(EventsProcessor):
    """Ignores what it does not know, notes whose windows have opened, and leaves no call half closed."""

    connection: RavenConnection
    handler: Handler

    def __init__(self, handler: Any, connection: RavenConnection) -> None:
        super().__init__(handler, connection)
        self.client_leaves = (
            False  # it has sent GOAWAY: it makes no more calls, and those that run are to be finished (RFC 9113, 6.8)
        )
        self._ended = False
        self._stalled: dict[int, tuple[int, float]] = {}

    def process(self, event: H2Event) -> None:
        """Handle one event of h2; what nobody knows is no fault."""
        processors = getattr(self, "processors", None)
        if processors is not None and event.__class__ in processors:
            processors[event.__class__](event)

    def process_window_updated(self, event: WindowUpdated) -> None:
        """A window has opened, of one stream or of all."""
        self.connection.opened.add(event.stream_id or 0)

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:
        """The initial window of all streams may have changed, and the frame size."""
        super().process_remote_settings_changed(event)
        self.connection.opened.add(0)

    def tell_opened(self) -> None:
        """Tell calls and writers that windows have opened."""
        opened = self.connection.opened
        if opened:
            streams = self.streams.values() if 0 in opened else filter(None, map(self.streams.get, opened))
            for stream in streams:
                stream.window_updated.set()
            self.connection.flush_opened()

    def register(self, stream: Stream) -> Callable[[], None]:
        """As grpclib, and see to it that the client's side of the call ends with ours.

        A client may leave its side open when it has its answer. It would count as a call for ever, and could send for ever.
        """
        release = super().register(stream)

        def release_stream() -> None:
            release()
            self._close(stream)
            if self.client_leaves and not self.streams and not self.connection.is_closing():
                self.connection.close()

        return release_stream

    def _close(self, stream: Stream) -> None:
        assert stream.id is not None
        h2_stream = self.connection.h2.streams.get(stream.id)
        if h2_stream is None or h2_stream.closed or self.connection.is_closing() or self.handler.closing:
            return
        answered = h2_stream.state_machine.state is StreamState.HALF_CLOSED_LOCAL
        with suppress(ProtocolError):
            self.connection.h2.reset_stream(stream.id, ErrorCodes.NO_ERROR if answered else ErrorCodes.INTERNAL_ERROR)
            self.connection.flush()

    def is_seasoned(self, stream_id: int) -> bool:
        """Whether a call is open, and has been for a while."""
        stream = self.streams.get(stream_id)
        return stream is not None and stream.created is not None and time.monotonic() - stream.created >= SEASONED_S

    # ---- calls that must end

    def stalled(self, now: float, stall_s: float) -> list[Stream]:
        """Calls without a writer that have waited so long for a window to open, and have sent nothing."""
        before, self._stalled = self._stalled, {}
        for stream in self._blocked():
            assert stream.id is not None
            sent, since = before.get(stream.id, (stream.data_sent, now))
            self._stalled[stream.id] = (sent, since) if sent == stream.data_sent else (stream.data_sent, now)
        return [self.streams[stream_id] for stream_id, (_, since) in self._stalled.items() if now - since >= stall_s]

    def _blocked(self) -> Iterator[Stream]:
        h2 = self.connection.h2
        for stream_id, stream in self.streams.items():
            h2_stream = h2.streams.get(stream_id)
            if h2_stream is None or stream_id in self.connection.writers:
                continue
            if min(h2.outbound_flow_control_window, h2_stream.outbound_flow_control_window) <= 0:
                yield stream

    def end_call(self, stream: Stream, text: str) -> None:
        """End one call, whose answer cannot be sent; its client reads RESOURCE_EXHAUSTED in the code."""
        assert stream.id is not None
        with suppress(ProtocolError):
            self.connection.h2.reset_stream(stream.id, ErrorCodes.ENHANCE_YOUR_CALM)
            self.connection.flush()
        stream.__terminated__(text)
        self.handler.cancel(stream)

    def end_calls(self, text: str) -> None:
        """End all calls; the transport stays as it is."""
        if self._ended:
            return
        self._ended = True
        self.handler.close()
        for stream in list(self.streams.values()):
            stream.__terminated__(text)

    def close(self, reason: str = "Connection closed") -> None:
        """The connection is over."""
        self.end_calls(reason)
        self.connection.close()
        if hasattr(self, "processors"):
            del self.processors  # they refer to us
