"""A venue's WebSocket, read in bulk: one interface, two implementations behind it.

`websockets` runs the sans-IO core of that library over a Trio stream; `trio-websocket` is that library as it comes. The first
is the default by the figures of `bench/ws_receive.py`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Literal, Protocol

from raven.feed.address import parse_address
from raven.feed.websocket_sansio import open_sansio
from raven.feed.websocket_trio import open_trio_websocket

__all__ = ["DEFAULT_READER", "FeedSocket", "OpenSocket", "Reader", "open_websocket"]

Reader = Literal["websockets", "trio-websocket"]
DEFAULT_READER: Reader = "websockets"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class FeedSocket(Protocol):
    """One open WebSocket. Pings are answered by it; `receive_bulk` has one caller at a time, `send` may have several."""

    @property
    def heard_at(self) -> float:
        """When the venue last gave a sign of life, on Trio's clock.

        With the reader "websockets" anything that was read is one, pings included; "trio-websocket" sees messages only.
        """

    async def receive_bulk(self) -> tuple[list[bytes], int]:
        """Every whole message that one read brought, at least one, and when the read returned (wall clock, ns).

        Text comes as its UTF-8 bytes, fragments joined. It may be cancelled and called again; nothing is lost by that.

        Raises:
            ConnectionLost: the connection is over. Messages that came before its end were returned first.
        """

    async def send(self, data: str | bytes) -> None:
        """Write one message: text for str, binary for bytes. A call that is cancelled half-way ends the connection.

        Raises:
            ConnectionLost: the connection is over.
        """


class OpenSocket(Protocol):
    """How a supervisor opens a connection: `open_websocket`, or a fake of it."""

    def __call__(
        self, url: str, *, headers: Mapping[str, str], frame_bytes_max: int, reader: Reader
    ) -> AbstractAsyncContextManager[FeedSocket]:
        """As `open_websocket`."""


def open_websocket(
    url: str,
    *,
    headers: Mapping[str, str] = _NO_HEADERS,
    frame_bytes_max: int = 16 * 1024 * 1024,
    reader: Reader = DEFAULT_READER,
    tls: ssl.SSLContext | None = None,
) -> AbstractAsyncContextManager[FeedSocket]:
    """Connect on entering, close on leaving (close code 1000, at most `CLOSE_TIMEOUT_S`).

    Args:
        url: ws:// or wss://.
        headers: sent with the handshake.
        frame_bytes_max: a message longer than this, inflated, ends the connection.
        reader: which implementation.
        tls: for wss://; None = the system's certificates.

    Raises:
        ConnectFailed: no connection within `HANDSHAKE_TIMEOUT_S`; says host, port and why.
        ConnectionLost: from inside, see `FeedSocket`.
    """
    address = parse_address(url)
    if reader == "websockets":
        return open_sansio(address, headers=headers, frame_bytes_max=frame_bytes_max, tls=tls)
    return open_trio_websocket(address, headers=headers, frame_bytes_max=frame_bytes_max, tls=tls)
