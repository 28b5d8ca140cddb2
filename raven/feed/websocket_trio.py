"""A WebSocket client: trio-websocket as it comes, drained as far as it lets itself be.

It has a task of its own that reads, and a queue of messages between that task and the caller. What waits in the queue when the
caller wakes up is taken at once. It offers no compression, and does not say when a ping came.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError, WebSocketConnection, wrap_client_stream
from websockets.headers import build_host
from wsproto.utilities import ProtocolError

from raven.errors import ConnectFailed, ConnectionLost, shown
from raven.feed.address import (
    HANDSHAKE_TIMEOUT_S,
    USER_AGENT,
    ByteStream,
    WebSocketAddress,
    connecting,
    open_stream,
    root_cause,
)
from raven.feed.websocket_sansio import CLOSE_TIMEOUT_S, READ_BYTES_MAX

__all__ = ["MESSAGES_QUEUED_MAX", "open_trio_websocket"]

MESSAGES_QUEUED_MAX = 4096  # between the library's reading task and the caller


@asynccontextmanager
async def open_trio_websocket(
    address: WebSocketAddress, *, headers: Mapping[str, str], frame_bytes_max: int, tls: ssl.SSLContext | None
) -> AsyncGenerator[TrioWebSocket]:
    """As `raven.feed.transport.open_websocket`.

    The stream and the nursery of the library's task are ours: its own way to open a connection leaves the socket open when the
    venue rejects or closes it, and waits for ever when the handshake takes too long (0.12.2).
    """
    with connecting(address):
        stream = await open_stream(address, tls)
    opened = False
    inner: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                connection = await _shake_hands(nursery, stream, address, headers, frame_bytes_max)
            opened = True
            try:
                yield TrioWebSocket(connection, address.where)
            except BaseException as error:
                inner = error  # raised again outside of the nursery, which would wrap it
            await _say_goodbye(connection, nursery.cancel_scope.cancel_called)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if not isinstance(inner, Exception):  # else what ended the connection is what counts
            _raise_translated(group, address, opened)
    finally:
        await trio.aclose_forcefully(stream)
    if inner is not None:
        raise inner


async def _shake_hands(
    nursery: trio.Nursery, stream: ByteStream, address: WebSocketAddress, headers: Mapping[str, str], frame_bytes_max: int
) -> WebSocketConnection:
    return await wrap_client_stream(
        nursery,
        stream,
        build_host(address.uri.host, address.uri.port, address.uri.secure),
        address.uri.resource_name,
        extra_headers=[(name.encode(), value.encode()) for name, value in {"User-Agent": USER_AGENT, **headers}.items()],
        message_queue_size=MESSAGES_QUEUED_MAX,
        max_message_size=frame_bytes_max,
        receive_buffer_size=READ_BYTES_MAX,
    )


async def _say_goodbye(connection: WebSocketConnection, reader_failed: bool) -> None:
    if not reader_failed and connection.closed is None:
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await connection.aclose()


def _raise_translated(group: BaseExceptionGroup[BaseException], address: WebSocketAddress, opened: bool) -> None:
    """The venue's faults as FeedError; whatever else there is, as it came."""
    venue, others = group.split((HandshakeError, ProtocolError, trio.TooSlowError, trio.BrokenResourceError))
    if others is not None and others.subgroup(lambda error: not isinstance(error, trio.Cancelled)) is not None:
        raise others
    if venue is None:
        raise group
    if not opened:
        raise ConnectFailed(f"{address.where}: {_why_not(_first_of(venue))}") from venue
    raise ConnectionLost(f"{address.where} broke the WebSocket protocol: {_first_of(venue)}") from venue


class TrioWebSocket:
    """A `FeedSocket`."""

    def __init__(self, connection: WebSocketConnection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._heard_at = trio.current_time()

    @property
    def heard_at(self) -> float:
        """When the last message came, on Trio's clock."""
        return self._heard_at

    async def receive_bulk(self) -> tuple[list[bytes], int]:
        """As `FeedSocket` has it, with the queue in the place of the read."""
        try:
            messages = [await self._connection.get_message()]
        except ConnectionClosed as error:
            raise ConnectionLost(self._why(error)) from None
        received_ts_ns = time.time_ns()
        self._heard_at = trio.current_time()
        self._drain(messages)
        return [message.encode() if isinstance(message, str) else message for message in messages], received_ts_ns

    async def send(self, data: str | bytes) -> None:
        """As `FeedSocket` has it."""
        try:
            await self._connection.send_message(data)
        except ConnectionClosed as error:
            raise ConnectionLost(self._why(error)) from None

    def _drain(self, messages: list[str | bytes]) -> None:
        # The library has no public way to ask whether more is there; a checkpoint per message is what is saved here.
        waiting = self._connection._recv_channel  # noqa: SLF001
        try:
            while True:
                messages.append(waiting.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            return

    def _why(self, error: ConnectionClosed) -> str:
        close = error.reason
        if close is None or close.code == 1006:
            return f"{self._where} broke the connection, or broke the WebSocket protocol"
        code = "no code" if close.code == 1005 else f"code {close.code}"
        return f"{self._where} closed the connection: {code}" + (f", {shown(close.reason)}" if close.reason else "")


def _why_not(error: BaseException) -> str:
    if isinstance(error, ConnectionRejected):
        return f"server rejected WebSocket connection: HTTP {error.status_code}"
    if isinstance(error, trio.TooSlowError):
        return f"no connection within {HANDSHAKE_TIMEOUT_S:g} s"
    return root_cause(error)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception that is no group."""
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
