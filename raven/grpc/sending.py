"""The shortest way of bytes into a connection: past what asyncio's transports check again at each write.

A transport's `write` costs as much as the rest of a message's way to one client. So bytes go straight into the socket, or into
the TLS object, while the transport holds nothing back; whatever is left over, and everything out of the ordinary, the transport
gets, which knows what to do. Where a loop has other transports than asyncio's own, all goes through them.
"""

from __future__ import annotations

from asyncio import Transport, selector_events, sslproto
from collections.abc import Callable, Sized
from typing import Any

import attrs

__all__ = ["Tls", "Way", "let_go", "open_way"]

NOTHING: tuple[()] = ()
Bytes = bytes | memoryview


@attrs.frozen
class Tls:
    """How bytes are encrypted on their way.

    Args:
        encrypt: takes bytes, and returns how many. Raises SSLError.
        read: what that gave.
        backlog, protocol, wrapped: bytes may be encrypted as long as the backlog is empty, and `protocol._state` is `wrapped`.
        push: takes what is encrypted and did not go into the socket.
    """

    encrypt: Callable[[Bytes], int]
    read: Callable[[], bytes]
    backlog: Sized
    protocol: Any
    wrapped: object
    push: Callable[[memoryview], None]


@attrs.frozen
class Way:
    """How to write to a connection.

    Args:
        write: takes everything, and raises nothing for the peer's sake: the transport finds out what is wrong, and ends the
            connection.
        held: what is held back by the transport, which is to be empty when bytes go past it.
        send: into the socket, as much as it takes at once. Raises OSError. None = all goes through `write`.
        fileno: of that socket; -1 when it is closed.
        tls: what is to be done in front of that; None = nothing.
    """

    write: Callable[[Bytes], None]
    held: Sized = NOTHING
    send: Callable[[bytes], int] | None = None
    fileno: Callable[[], int] | None = None
    tls: Tls | None = None


def open_way(transport: Transport) -> Way:
    """The shortest that there is."""
    if (socket := _socket_of(transport)) is not None:
        return Way(transport.write, transport._buffer, socket.send, socket.fileno)  # type: ignore[attr-defined]  # noqa: SLF001
    if isinstance(transport, sslproto._SSLProtocolTransport):  # noqa: SLF001
        protocol: Any = transport._ssl_protocol  # noqa: SLF001
        below = protocol._transport  # noqa: SLF001
        if (socket := _socket_of(below)) is not None:
            return Way(transport.write, below._buffer, socket.send, socket.fileno, _open_tls(protocol, below))  # noqa: SLF001
        return Way(transport.write)
    return Way(_through(transport))


def _socket_of(transport: Any) -> Any:
    """The socket of asyncio's own transport; None where there is none, or it is over already."""
    if isinstance(transport, selector_events._SelectorSocketTransport):  # type: ignore[attr-defined]  # noqa: SLF001
        return transport._sock  # noqa: SLF001
    return None


def _open_tls(protocol: Any, below: Transport) -> Tls:
    def push(rest: memoryview) -> None:
        below.write(rest)
        protocol._control_app_writing()  # noqa: SLF001  which says when too much is held

    return Tls(
        encrypt=protocol._sslobj._sslobj.write,  # noqa: SLF001  the C object itself
        read=protocol._outgoing.read,  # noqa: SLF001
        backlog=protocol._write_backlog,  # noqa: SLF001
        protocol=protocol,
        wrapped=sslproto.SSLProtocolState.WRAPPED,
        push=push,
    )


def let_go(transport: Transport) -> None:
    """A connection is over: a transport of asyncio refers to itself, and would wait for the garbage collector."""
    if isinstance(transport, selector_events._SelectorSocketTransport):  # type: ignore[attr-defined]  # noqa: SLF001
        transport._read_ready_cb = _do_nothing  # noqa: SLF001


def _do_nothing() -> None:
    """When bytes come behind the end."""


def _through(transport: Transport) -> Callable[[Bytes], None]:
    def write_while_open(data: Bytes) -> None:
        if not transport.is_closing():
            transport.write(data)

    return write_while_open
