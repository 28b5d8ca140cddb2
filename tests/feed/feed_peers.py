"""Venues for the tests of this folder: raw TCP peers that say exactly what a test tells them to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import trio

TLS = Path(__file__).parent / "tls"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

Peer = Callable[[trio.abc.Stream], Awaitable[None]]


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


def client_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "cert.pem"))


@contextlib.asynccontextmanager
async def tcp_peer(peer: Peer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection with `peer` on 127.0.0.1; yields the port.

    A failure of `peer` fails the test, but for a client that went away in the middle.
    """

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await serve_whole(stream)

    async def serve_whole(stream: trio.SocketStream) -> None:
        async with stream if tls is None else trio.SSLStream(stream, tls, server_side=True, https_compatible=True) as whole:
            await peer(whole)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def read_head(stream: trio.abc.Stream) -> bytes:
    """An HTTP request, at least up to its empty line."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await stream.receive_some(4096)
        assert piece, f"the client went away after {head!r}"
        head += piece
    return head


async def accept_websocket(stream: trio.abc.Stream, *, extension: bytes = b"", then: bytes = b"") -> bytes:
    """The server's half of the opening handshake; `then` goes out in the same write. Returns the request."""
    head = await read_head(stream)
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    answer = base64.b64encode(hashlib.sha1(key + GUID).digest())
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines.append(b"Sec-WebSocket-Accept: " + answer)
    if extension:
        lines.append(b"Sec-WebSocket-Extensions: " + extension)
    await stream.send_all(b"\r\n".join(lines) + b"\r\n\r\n" + then)
    return head


def ws_frame(payload: bytes, opcode: int = 1, *, fin: bool = True, rsv1: bool = False, mask: bytes = b"") -> bytes:
    """One WebSocket frame as a server writes it; with `mask`, as it must not."""
    head = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
    bit = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        start = struct.pack("!BB", head, bit | size)
    elif size < 65536:
        start = struct.pack("!BBH", head, bit | 126, size)
    else:
        start = struct.pack("!BBQ", head, bit | 127, size)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload
    return start + mask + masked


def close_frame(code: int | None, reason: str = "") -> bytes:
    return ws_frame(b"" if code is None else struct.pack("!H", code) + reason.encode(), 8)


def reset(stream: trio.abc.Stream) -> None:
    """Make the close of this socket a TCP reset."""
    assert isinstance(stream, trio.SocketStream)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def until_closed(stream: trio.abc.Stream) -> None:
    """Take what the client still sends, up to its close frame or its end."""
    received = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while piece := await stream.receive_some(65536):
            received += piece
            if b"\x88" in received[-8:-6]:  # a masked close frame with its code and no reason is eight bytes long
                return
