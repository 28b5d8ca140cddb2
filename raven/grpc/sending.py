"""The shortest way of bytes into a connection: past what asyncio's transports check again at each write.

A transport's `write` costs as much as the rest of a message's way to one client. So bytes go straight into the socket, or into
the TLS object, while the transport holds nothing back; whatever is left over, and everything out of the ordinary, the transport
gets, which knows what to do. Where a loop has other transports than asyncio's own, all goes through them.
"""

from __future__ import annotations

from asyncio import Transport, selector_events, sslproto
from collections.abc import Callable, Sized
from functools import partial
from ssl import SSLError
from typing import Any

__all__ = ["let_go", "open_way"]

NOTHING: tuple[()] = ()
Bytes = bytes | memoryview
Send = Callable[[Bytes], int]
Write = Callable[[Bytes], None]


def open_way(transport: Transport) -> tuple[Send | None, Write, Sized]:
    """How to write to a connection.

    Returns:
        The socket's own `send`, which may take less than all, and raises OSError where it takes nothing: what is left goes to
        the second. None where there is no such way.
        What takes everything, and raises nothing for the peer's sake: the transport finds out what is wrong, and ends the
        connection.
        What is held back by the transport, which is to be empty when either is used.
    """
    of_socket = isinstance(transport, selector_events._SelectorSocketTransport)  # type: ignore[attr-defined]  # noqa: SLF001
    if of_socket and transport._sock is not None:  # type: ignore[attr-defined]  # noqa: SLF001  else it is over already
        return transport._sock.send, transport.write, transport._buffer  # type: ignore[attr-defined]  # noqa: SLF001
    if isinstance(transport, sslproto._SSLProtocolTransport):  # noqa: SLF001
        return None, _into_tls(transport), NOTHING
    return None, _through(transport), NOTHING


def _send_encrypted(protocol: Any, read: Callable[[], bytes], send: Send, held: Sized) -> None:
    """What was encrypted goes into the socket, if nothing is held back in front of it; else the protocol's own way."""
    if not held and not protocol._ssl_writing_paused:  # noqa: SLF001
        data = read()
        try:
            sent = send(data)
        except OSError:  # full, or broken: the transport will see
            sent = 0
        if sent == len(data):
            return
        protocol._transport.write(memoryview(data)[sent:])  # noqa: SLF001
    protocol._process_outgoing()  # noqa: SLF001  which also says when it holds too much


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


def _into_tls(transport: Transport) -> Write:
    protocol, write = transport._ssl_protocol, transport.write  # type: ignore[attr-defined]  # noqa: SLF001
    wrapped = sslproto.SSLProtocolState.WRAPPED
    encrypt, send_encrypted = protocol._sslobj.write, protocol._process_outgoing  # noqa: SLF001
    below = protocol._transport  # noqa: SLF001
    if isinstance(below, selector_events._SelectorSocketTransport):  # type: ignore[attr-defined]  # noqa: SLF001
        send_encrypted = partial(_send_encrypted, protocol, protocol._outgoing.read, below._sock.send, below._buffer)  # noqa: SLF001

    def write_directly(data: Bytes) -> None:
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
