"""One HTTP/2 connection of a client: grpclib's protocol with its edges closed.

Under trio-asyncio an exception that leaves a protocol callback would end the process, so `RavenProtocol` contains every fault
of a connection at one point. What opens a window (WINDOW_UPDATE, SETTINGS, a drained socket) calls the stream writers directly,
without a task in between.
"""

from __future__ import annotations

import socket
from asyncio import BaseTransport, Transport
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

import structlog
from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor, H2Protocol
from grpclib.utils import Wrapper
from h2.config import H2Configuration
from h2.events import Event as H2Event
from h2.events import RemoteSettingsChanged, WindowUpdated

from raven.grpc.receiving import RavenStream

__all__ = ["RavenConnection", "RavenProtocol", "Writer"]

log = structlog.stdlib.get_logger("raven.grpc")


class Writer(Protocol):
    """What wants to know when there may be room."""

    def flush(self) -> None:
        """Write what can be written now. Never raises."""


class RavenConnection(Connection):
    """Knows the writers of its streams."""

    def __init__(self, connection: Any, transport: Transport, *, config: Configuration) -> None:
        super().__init__(connection, transport, config=config)
        self.writers: dict[int, Writer] = {}

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> RavenStream:
        """A stream whose requests have a limit."""
        return RavenStream(self, self._connection, self._transport, stream_id=stream_id, wrapper=wrapper)

    def resume_writing(self) -> None:
        """The socket takes more."""
        super().resume_writing()
        self.flush_writers()

    def flush_writers(self) -> None:
        """There may be room for every stream."""
        for writer in list(self.writers.values()):
            writer.flush()


class RavenProcessor(EventsProcessor):
    """Ignores what it does not know, and tells writers about windows."""

    connection: RavenConnection

    def process(self, event: H2Event) -> None:
        """Handle one event of h2; frames of a kind that nobody knows are no fault (RFC 9113, 4.1)."""
        processors = getattr(self, "processors", None)
        if processors is not None and event.__class__ in processors:
            processors[event.__class__](event)

    def process_window_updated(self, event: WindowUpdated) -> None:
        """A window has opened, of one stream or of all."""
        super().process_window_updated(event)
        if event.stream_id:
            writer = self.connection.writers.get(event.stream_id)
            if writer is not None:
                writer.flush()
        else:
            self.connection.flush_writers()

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:
        """The initial window of all streams may have changed, and the frame size."""
        super().process_remote_settings_changed(event)
        self.connection.flush_writers()


class RavenProtocol(H2Protocol):
    """Contains a connection's faults.

    Args:
        on_open, on_close: called with this protocol.
        on_fault: called with the name of an unexpected error.
    """

    connection: RavenConnection
    processor: RavenProcessor

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        h2_config: H2Configuration,
        *,
        on_open: Callable[[RavenProtocol], None],
        on_close: Callable[[RavenProtocol], None],
        on_fault: Callable[[str], None],
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._on_open = on_open
        self._on_close = on_close
        self._on_fault = on_fault
        self._transport: Transport | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(Transport, transport)
        with suppress(OSError):  # gone already. asyncio does this only for sockets made with IPPROTO_TCP
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        made = self.connection
        self.connection = RavenConnection(made._connection, self._transport, config=self.config)  # noqa: SLF001
        self.processor = RavenProcessor(self.handler, self.connection)
        self._on_open(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came. A fault of this connection ends this connection and nothing else."""
        try:
            super().data_received(data)
        except Exception as error:
            self._on_fault(type(error).__name__)
            log.warning("a connection broke", error=f"{type(error).__name__}: {error}", exc_info=True)
            self.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The socket is gone."""
        super().connection_lost(exc)
        self._on_close(self)

    def say_goaway(self) -> None:
        """Tell the client that no further call will be taken here."""
        if self._transport is not None and not self._transport.is_closing():
            self.connection._connection.close_connection()  # noqa: SLF001
            self.connection.flush()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()
