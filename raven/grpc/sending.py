"""The shortest way of bytes into a connection: past what asyncio's transports check again at each write.

A transport's `write` costs as much as the rest of a message's way to one client. So bytes go straight into the socket, or into
the TLS object, while the transport holds nothing back; whatever is left over, and everything out of the ordinary, the transport
gets, which knows what to do. Where a loop has other transports than asyncio's own, all goes through them.
"""

from __future__ import annotations

from asyncio import Transport, selector_events, sslproto
from collections.abc import Callable, Sized
from ssl import SSLError

__all__ = ["let_go", "open_way"]

NOTHING: tuple[()] = ()
Write = Callable[[bytes], None]


def open_way(transport: Transport) -> tuple[Write, Sized]:
    """How to write to a connection, and what is held back by its transport, which is to be empty when that is used.

    A write raises nothing for the peer's sake: its transport finds out what is wrong, and ends the connection.
    """
    if isinstance(transport, selector_events._SelectorSocketTransport):  # type: ignore[attr-defined]  # noqa: SLF001
        return _into_socket(transport), transport._buffer  # noqa: SLF001
    if isinstance(transport, sslproto._SSLProtocolTransport):  # noqa: SLF001
        return _into_tls(transport), NOTHING
    return _through(transport), NOTHING


def let_go(transport: Transport) -> None:
    """A connection is over: a transport of asyncio refers to itself, and would wait for the garbage collector."""
    if isinstance(transport, selector_events._SelectorSocketTransport):  # type: ignore[attr-defined]  # noqa: SLF001
        transport._read_ready_cb = _do_nothing  # noqa: SLF001


def _do_nothing() -> None:
    """When bytes come behind the end."""


def _through(transport: Transport) -> Write:
    def write_while_open(data: bytes) -> None:
        if not transport.is_closing():
            transport.write(data)

    return write_while_open


def _into_socket(transport: Transport) -> Write:
    send, write = transport._sock.send, transport.write  # type: ignore[attr-defined]  # noqa: SLF001

    def write_directly(data: bytes) -> None:
        try:
            sent = send(data)
        except OSError:  # full, or broken: it will see
            write(data)
            return
        if sent < len(data):
            write(memoryview(data)[sent:])

    return write_directly


def _into_tls(transport: Transport) -> Write:
    protocol, write = transport._ssl_protocol, transport.write  # type: ignore[attr-defined]  # noqa: SLF001
    wrapped = sslproto.SSLProtocolState.WRAPPED
    encrypt, send_encrypted = protocol._sslobj.write, protocol._process_outgoing  # noqa: SLF001

    def write_directly(data: bytes) -> None:
        if protocol._write_backlog or protocol._state is not wrapped:  # noqa: SLF001
            write(data)
            return
        try:
            taken = encrypt(data)
        except SSLError:  # it will see
            write(data)
            return
        if taken < len(data):
            write(memoryview(data)[taken:])
        else:
            send_encrypted()

    return write_directly
