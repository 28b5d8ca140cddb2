"""What stands between clients and servers: it forwards connections, to another server when told so, and cuts them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

CHUNK_BYTES = 64 * 1024


class Balancer:
    """Forwards TCP connections.

    Attributes:
        port: where clients connect to.
        backend: the port of the server that new connections go to; 0 = they are closed at once.
        connections: how many have been taken.
    """

    def __init__(self, port: int, backend: int) -> None:
        self.port = port
        self.backend = backend
        self.connections = 0
        self._scopes: set[trio.CancelScope] = set()

    @property
    def open(self) -> int:
        """Connections that stand."""
        return len(self._scopes)

    def cut(self) -> None:
        """Break all connections, with what is under way in them."""
        for scope in self._scopes:
            scope.cancel()

    async def forward(self, client: trio.SocketStream) -> None:
        """One connection, to its end."""
        self.connections += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with (
                    client,
                    await trio.open_tcp_stream("127.0.0.1", self.backend) as server,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(_pump, client, server, scope)
                    nursery.start_soon(_pump, server, client, scope)
            except OSError:
                pass  # the server is not there
            finally:
                self._scopes.discard(scope)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream, whole: trio.CancelScope) -> None:
    """Bytes of one direction, to its end, which is that of the connection."""
    try:
        async for chunk in source:
            await sink.send_all(chunk)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    whole.cancel()


@asynccontextmanager
async def balancing(backend: int = 0) -> AsyncIterator[Balancer]:
    """A balancer in front of the server at port `backend` of this machine."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        balancer = Balancer(listener.socket.getsockname()[1], backend)
        nursery.start_soon(trio.serve_listeners, balancer.forward, [listener])
        yield balancer
        nursery.cancel_scope.cancel()
