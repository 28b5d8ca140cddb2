"""grpclib's server as Raven runs it: our way to accept connections, our protocol for each of them, our codec.

asyncio's own accepting knows no limit, and where there are no file descriptors it reports that once for each connection that it
would have accepted at that time. So a Trio task accepts, and hands each socket to the loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl

import grpclib.server
import structlog
import trio
import trio_asyncio
from grpclib.const import Handler

from raven.grpc.calls import Calls
from raven.grpc.codec import MessageCodec
from raven.grpc.connections import Connections, EndObserver
from raven.grpc.limits import READ_BYTES, ConnectionLimits
from raven.grpc.protocol import RavenProtocol
from raven.grpc.sparing import Sparing

__all__ = ["Listener"]

ACCEPTED_MAX = 64
"""Connections that are accepted before others have their turn."""

PAUSE_MIN_S, PAUSE_MAX_S = 0.01, 1.0
"""Before it is tried again where the system has no means for one more connection."""

TLS_SHUTDOWN_S = 2.0

_NOT_YET = (BlockingIOError, InterruptedError, ConnectionAbortedError)
_USELESS_SOCKET = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})

log = structlog.stdlib.get_logger("raven.grpc")


class Listener(grpclib.server.Server):
    """Accepts connections up to the limit, and owns the calls on them.

    Args:
        mapping: path of a method to what serves it.
        connections: who keeps account of them.
        tls: None = plain.
    """

    def __init__(
        self,
        mapping: dict[str, Handler],
        connections: Connections,
        observer: EndObserver,
        limits: ConnectionLimits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__([], codec=MessageCodec())
        self._mapping = mapping
        self._connections = connections
        self._observer = observer
        self._limits = limits
        self._tls = tls
        self._opening = 0
        self._sparing = Sparing()
        self._read_buffer = memoryview(bytearray(READ_BYTES))

    async def serve(self, sock: socket.socket) -> None:
        """Accept connections until cancelled; then `sock` is closed."""
        sock.setblocking(False)
        try:
            async with trio.open_nursery() as nursery:
                pause_s = PAUSE_MIN_S
                while True:
                    await trio.lowlevel.wait_readable(sock)
                    if self._accept_some(sock, nursery):
                        pause_s = PAUSE_MIN_S
                    else:
                        await trio.sleep(pause_s)
                        pause_s = min(2 * pause_s, PAUSE_MAX_S)
        finally:
            sock.close()

    def _accept_some(self, sock: socket.socket, nursery: trio.Nursery) -> bool:
        """Whether it may go on at once."""
        for _ in range(ACCEPTED_MAX):
            try:
                accepted, _ = sock.accept()
            except _NOT_YET:
                return True
            except OSError as error:
                if error.errno in _USELESS_SOCKET:
                    raise
                self._say_no_means(error)
                return False
            self._take(accepted, nursery)
        return True

    def _take(self, accepted: socket.socket, nursery: trio.Nursery) -> None:
        limit = self._limits.connections_max
        if len(self._connections) + self._opening >= limit:
            self._connections.ended(_peer(accepted), "limit", f"{limit} connections are open: [server] connections_max")
            accepted.close()
            return
        accepted.setblocking(False)
        self._opening += 1
        if self._tls is None:
            self._open(accepted)
        else:
            nursery.start_soon(self._open_with_tls, accepted, self._tls)

    def _open(self, accepted: socket.socket) -> None:
        """Make a connection of a socket.

        What `connect_accepted_socket` does for a plain one, without the two tasks and the future that it takes for each: they
        are a tenth of what a client costs that comes back, and nobody waits for them.
        """
        self._loop._make_socket_transport(accepted, self._protocol_factory())  # type: ignore[attr-defined]  # noqa: SLF001
        self._loop.call_soon(self._opened)  # behind connection_made

    def _opened(self) -> None:
        self._opening -= 1

    async def _open_with_tls(self, accepted: socket.socket, tls: ssl.SSLContext) -> None:
        """Make a connection of a socket after the handshake."""
        peer, protocol = _peer(accepted), self._protocol_factory()
        try:
            await trio_asyncio.aio_as_trio(self._loop.connect_accepted_socket)(
                lambda: protocol,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=self._limits.handshake_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
        except OSError as error:  # errors of TLS are such
            protocol.handler.close()
            self._connections.ended(peer, "tls", str(error))
        except trio.Cancelled:
            accepted.close()
            raise
        finally:
            self._opening -= 1

    def _say_no_means(self, error: OSError) -> None:
        """Of the system: no file descriptor, no memory. Clients wait in the backlog meanwhile."""
        name = errno.errorcode.get(error.errno or 0, "unknown")
        self._observer.error("accept", name.lower())
        passed = self._sparing.due(name)
        if passed is not None:
            text = os.strerror(error.errno or 0)
            log.error("no connection can be accepted", error=f"{name}: {text}", open=len(self._connections), more=passed)

    def _protocol_factory(self) -> RavenProtocol:
        return RavenProtocol(Calls.on(self), self._config, self._limits, self._connections, read_buffer=self._read_buffer)

    def close(self) -> None:
        """Cancel all calls."""
        for calls in list(self._handlers):  # those without a call leave at once
            calls.close()

    async def wait_closed(self) -> None:
        """Wait until all calls have ended; in asyncio."""
        if self._handlers:
            await asyncio.gather(*(calls.wait_closed() for calls in self._handlers))


def _peer(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return "unknown"
    return f"{host}:{port}"
