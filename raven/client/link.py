"""One gRPC connection over a socket of either library, one call at a time."""

from __future__ import annotations

from contextlib import suppress

from h2.exceptions import ProtocolError

from raven.client.http2 import CallEnded, GrpcConnection, MessageReceived
from raven.client.runtime import Address, CallOver, Runtime, Socket

__all__ = ["GrpcLink", "dial"]


async def dial(runtime: Runtime, address: Address, timeout_s: float) -> GrpcLink:
    """A new connection.

    Raises:
        OSError, TimeoutError: there is none to be had.
    """
    socket = await runtime.open_socket(address, timeout_s)
    grpc = GrpcConnection(str(address), address.metadata, scheme="https" if address.tls else "http")
    link = GrpcLink(socket, grpc, maybe_tls=address.tls is None)
    try:
        await link.begin()
    except BaseException:
        await link.aclose()
        raise
    return link


class GrpcLink:
    """See `raven.client.runtime.Link`.

    Args:
        maybe_tls: a server that hangs up without a word may want TLS.
    """

    def __init__(self, socket: Socket, grpc: GrpcConnection, *, maybe_tls: bool = False) -> None:
        self._socket = socket
        self._silent = maybe_tls
        self._grpc = grpc
        self._call = 0
        self._over: CallOver | None = None
        self._broken = False
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether another call can be begun."""
        return not (self._broken or self._grpc.going_away or self._grpc.calls)

    async def begin(self) -> None:
        """Say HTTP/2: a server gives up a connection that says nothing, and the first call may come later."""
        await self._flush()

    async def start(self, path: str, timeout_s: float | None = None) -> None:
        """Begin a call."""
        self._over = None
        self._call = self._grpc.start(path, timeout_s=timeout_s)
        await self._flush()

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message of the call."""
        self._grpc.send(self._call, message, end=end)
        await self._flush()

    async def receive(self, timeout_s: float | None = None) -> list[bytes]:
        """The messages that have come."""
        while True:
            if self._over is not None:
                raise self._over
            try:
                data = await self._socket.receive_some(timeout_s)
            except ConnectionError:  # how an end comes that left some of our bytes unread
                self._broken = True
                if self._silent and not self._closed:
                    raise self._closed_by_server() from None  # the system's words would be taken for the reason
                raise
            if not data:
                self._broken = True
                raise self._closed_by_server()
            self._silent = False
            messages = self._take(data)
            await self._flush()
            if messages:
                return messages

    def _take(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        for event in self._grpc.receive(data):
            if isinstance(event, MessageReceived) and event.call == self._call:
                messages.append(event.data)
            elif isinstance(event, CallEnded) and event.call == self._call:
                self._over = CallOver(event.status, event.message)
        return messages

    async def _flush(self) -> None:
        data = self._grpc.data_to_send()
        if data:
            try:
                await self._socket.send_all(data)
            except BaseException as error:
                self._broken = True  # who knows how much of it went
                if self._silent and isinstance(error, ConnectionError):
                    raise self._closed_by_server() from None  # the system's words would be taken for the reason
                raise

    def _closed_by_server(self) -> ConnectionResetError:
        hint = " without a word: does the server want TLS?" if self._silent else ""
        return ConnectionResetError(f"the connection was closed{hint}")

    async def aclose(self) -> None:
        """Give up the call and the connection, once; who waits in `receive` gets an OSError."""
        if self._closed:
            return
        self._broken = self._closed = True
        try:
            with suppress(OSError, ProtocolError):
                self._grpc.close()
                await self._socket.send_all(self._grpc.data_to_send())
        finally:
            await self._socket.aclose()
