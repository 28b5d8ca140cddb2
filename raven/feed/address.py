"""Where a WebSocket is, and what both ways to open one need: the address, TLS, and why it did not work."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from raven.errors import ConnectFailed, shown

__all__ = [
    "HANDSHAKE_TIMEOUT_S",
    "USER_AGENT",
    "ByteStream",
    "WebSocketAddress",
    "connecting",
    "default_tls",
    "open_stream",
    "parse_address",
    "root_cause",
]

HANDSHAKE_TIMEOUT_S = 10.0  # name, TCP, TLS and upgrade together
USER_AGENT = "raven-marketdata"  # some venues' front ends turn away clients that give no name

ByteStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@attrs.frozen
class WebSocketAddress:
    """A parsed URL, and `where` as messages name it ("stream.example.com:9443")."""

    url: str
    uri: WebSocketURI

    @property
    def where(self) -> str:
        """Host and port, without what a query or user info may hold."""
        return f"{self.uri.host}:{self.uri.port}"


def parse_address(url: str) -> WebSocketAddress:
    """The address in `url`.

    Raises:
        ConnectFailed: it is not a ws:// or wss:// URL.
    """
    try:
        return WebSocketAddress(url, parse_uri(url))
    except (InvalidURI, ValueError) as error:
        raise ConnectFailed(f"{shown(url)} is no WebSocket address: ws://host:port/path or wss://host:port/path") from error


@functools.cache
def default_tls() -> ssl.SSLContext:
    """The system's trusted certificates. Made once: reading them takes tens of milliseconds."""
    return ssl.create_default_context()


@contextmanager
def connecting(address: WebSocketAddress) -> Iterator[None]:
    """Around all that opens a connection: it has `HANDSHAKE_TIMEOUT_S`, and every way to fail becomes ConnectFailed."""
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT_S):
            yield
    except trio.TooSlowError:
        raise ConnectFailed(f"{address.where}: no connection within {HANDSHAKE_TIMEOUT_S:g} s") from None
    except (OSError, UnicodeError, trio.BrokenResourceError, InvalidHandshake) as error:  # UnicodeError: of a host name
        raise ConnectFailed(f"{address.where}: {root_cause(error)}") from error


async def open_stream(address: WebSocketAddress, tls: ssl.SSLContext | None) -> ByteStream:
    """TCP, and TLS where the address asks for it. Call it inside `connecting`."""
    stream = await trio.open_tcp_stream(address.uri.host, address.uri.port)
    if not address.uri.secure:
        return stream
    secure = trio.SSLStream(stream, tls or default_tls(), server_hostname=address.uri.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(secure)
        raise
    return secure


def root_cause(error: BaseException) -> str:
    """The innermost reason that `error` carries, in one line: Trio and httpx wrap what the system said."""
    while True:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        if inner is None and not str(error):
            inner = error.__context__  # httpcore takes the cause away
        if inner is None:
            return str(error) or type(error).__name__
        error = inner
