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
Bytes = bytes | memoryview
Send = Callable[[Bytes], int]
Write = Callable[[Bytes], None]


def open_way(transport: Transport) -> tuple[Send | None, Write, Sized]:
    """How to write to a connection.

    Returns:
        What may take less than all, or raise OSError where it takes nothing: what is left goes to the second. None where there
        is no such way.
        What takes everything, and raises nothing for the peer's sake: the transport finds out what is wrong, and ends the
        connection.
        What is held back by the transport, which is to be empty when the first is used.
    """
    of_socket = isinstance(transport, selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]  # noqa: SLF001
    if of_socket and transport._sock is not None:  # type: ignore[attr-defined]  # noqa: SLF001  else it is over already
        return transport._sock.send, transport.write, transport._buffer  # type: ignore[attr-defined]  # noqa: SLF001
    if isinstance(transport, sslproto._SSLProtocolTransport):  # noqa: SLF001
        return _into_tls(transport), transport.write, NOTHING
    return None, _through(transport), NOTHING


def _into_tls(transport: Transport) -> Send | None:
    """Encrypts, and sends what that gives, if nothing is held back on either side of it; else it takes nothing."""
    protocol = transport._ssl_protocol  # type: ignore[attr-defined]  # noqa: SLF001
    below, backlog = protocol._transport, protocol._write_backlog  # noqa: SLF001
    of_socket = isinstance(below, selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]  # noqa: SLF001
    if not of_socket or below._sock is None:  # noqa: SLF001
        return None
    encrypt, read = protocol._sslobj._sslobj.write, protocol._outgoing.read  # noqa: SLF001  the C object itself
    send, held, wrapped = below._sock.send, below._buffer, sslproto.SSLProtocolState.WRAPPED  # noqa: SLF001

    def send_encrypted(data: Bytes) -> int:
        if held or backlog or protocol._state is not wrapped:  # noqa: SLF001
            return 0
        try:
            taken: int = encrypt(data)
        except SSLError:  # the transport will see
            return 0
        encrypted = read()
        try:
            sent = send(encrypted)
        except OSError:  # full, or broken: what is encrypted must go first, and the transport below will see
            sent = 0
        if sent < len(encrypted):
            below.write(memoryview(encrypted)[sent:])
            protocol._control_app_writing()  # noqa: SLF001  which says when too much is held
        return taken

    return send_encrypted


def let_go(transport: Transport) -> None:
    """A connection is over: a transport of asyncio refers to itself, and would wait for the garbage collector."""
    if isinstance(transport, selector_events._SelectorSocketTransport):  # type: ignore[attr-defined]  # noqa: SLF001
        transport._read_ready_cb = _do_nothing  # noqa: SLF001


def _do_nothing() -> None:
    """When bytes come behind the end."""


def _through(transport: Transport) -> Write:
    def write_while_open(data: Bytes) -> None:
        if not transport.is_closing():
            transport.write(data)

    return write_while_open
