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
    return GrpcLink(socket, GrpcConnection(str(address), address.metadata, scheme="https" if address.tls else "http"))


class GrpcLink:
    """See `raven.client.runtime.Link`."""

    def __init__(self, socket: Socket, grpc: GrpcConnection) -> None:
        self._socket = socket
        self._grpc = grpc
        self._call = 0
        self._over: CallOver | None = None
        self._broken = False

    @property
    def usable(self) -> bool:
        """Whether another call can be begun."""
        return not (self._broken or self._grpc.going_away or self._grpc.calls)

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
            data = await self._socket.receive_some(timeout_s)
            if not data:
                self._broken = True
                raise ConnectionResetError("the connection was closed")
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
            except BaseException:
                self._broken = True  # who knows how much of it went
                raise

    async def aclose(self) -> None:
        """Give up the call and the connection."""
        self._broken = True
        try:
            with suppress(OSError, ProtocolError):
                self._grpc.close()
                await self._socket.send_all(self._grpc.data_to_send())
        finally:
            await self._socket.aclose()
