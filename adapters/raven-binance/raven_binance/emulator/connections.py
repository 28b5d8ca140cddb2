"""The emulator's WebSocket side: one object per connected client."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_server_stream

from raven_binance.emulator.control import SPOT_ROUTES, Serves, Subscriptions, open_subscriptions
from raven_binance.emulator.frames import Record, bare, combined
from raven_binance.emulator.framing import WholeWrites, text_frame

__all__ = ["Client", "serve_client"]

HANDSHAKE_S = 10.0
PING_EVERY_S = 20.0
PONG_DEADLINE_S = 60.0
SEND_DEADLINE_S = 30.0  # a client that takes nothing for so long is cut
CLOSE_DEADLINE_S = 5.0  # for the client's part of a closing handshake
INCOMING_PER_S_MAX = 6  # the venue allows 5; one more, because the network moves messages closer together
TOO_MANY_REQUESTS = 1008

Refusal = Callable[[str | bytes], str | None]


class Client:
    """One connected client.

    trio-websocket does the handshake, the answers, pings and the close. Market frames are made here and written many at a time:
    one write for each would make the emulator slower than what it is to test.

    Args:
        stream: below `connection`; it keeps writes whole.
        subscriptions: what the client's address began with.
        scope: cancelled to cut it.
    """

    def __init__(
        self,
        connection: WebSocketConnection,
        stream: WholeWrites,
        subscriptions: Subscriptions,
        scope: trio.CancelScope,
    ) -> None:
        self.subscriptions = subscriptions
        self._connection = connection
        self._stream = stream
        self._scope = scope
        self._stalled = False
        self._turn = trio.Lock()  # an answer goes out before the first frame of what it confirms

    async def deliver(self, records: Sequence[Record]) -> bool:
        """Send the frames of the streams that the client has; whether there were any. Waits while the client does not read."""
        async with self._turn:
            data = b"".join(self._frames(records))
            if not data or self._connection.closed or self._stalled:
                return False
            await self._write(self._stream.send_all(data))
        return True

    async def write(self, pieces: Iterable[bytes], pause_s: float = 0.0) -> None:
        """Send these bytes as they are, in parts; nothing to a client that is stalled."""
        async with self._turn:
            if not self._connection.closed and not self._stalled:
                await self._write(self._stream.send_pieces(pieces, pause_s))

    async def _write(self, writing: Awaitable[None]) -> None:
        try:
            with trio.fail_after(SEND_DEADLINE_S):
                await writing
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self._scope.cancel()

    def payload_of(self, record: Record) -> bytes | None:
        """The record as this client gets it; None if it does not have the stream."""
        if record.stream not in self.subscriptions.streams:
            return None
        return (combined if self.subscriptions.combined else bare)(record).encode()

    def stall(self) -> None:
        """Send it no more frames; the connection stays."""
        self._stalled = True

    def cut(self, *, reset: bool = False) -> None:
        """End the connection without a close frame: with a FIN, or with a reset."""
        if reset:
            self._stream.reset_on_close()
        self._stalled = True
        self._scope.cancel()

    def _frames(self, records: Iterable[Record]) -> Iterator[bytes]:
        wanted, text = self.subscriptions.streams, combined if self.subscriptions.combined else bare
        return (text_frame(text(record).encode()) for record in records if record.stream in wanted)

    async def converse(self, on_change: Callable[[], None], refusal: Refusal) -> None:
        """Answer the client's messages until it goes. `on_change` is told of subscriptions that were answered.

        Args:
            refusal: the error that answers a message, where there is to be one.

        Raises:
            ConnectionClosed: the client went.
        """
        recent: deque[float] = deque(maxlen=INCOMING_PER_S_MAX)
        while True:
            message = await self._connection.get_message()
            now = trio.current_time()
            if len(recent) == INCOMING_PER_S_MAX and now - recent[0] < 1.0:
                with trio.move_on_after(CLOSE_DEADLINE_S):
                    await self._connection.aclose(TOO_MANY_REQUESTS, "Too many requests")
                return
            recent.append(now)
            async with self._turn:
                await self._connection.send_message(refusal(message) or self.subscriptions.answer(message))
            on_change()

    async def ping(self) -> None:
        """Ping for ever. Raises TooSlowError when no pong came in time, ConnectionClosed when the client went."""
        while True:
            await trio.sleep(PING_EVERY_S)
            with trio.fail_after(PONG_DEADLINE_S):
                await self._connection.ping()


async def serve_client(
    stream: trio.abc.Stream,
    clients: set[Client],
    on_change: Callable[[], None],
    refusal: Refusal,
    routes: Mapping[str, Serves] = SPOT_ROUTES,
) -> None:
    """Serve one connection from handshake to end; whatever a client does stays in here.

    Args:
        clients: it is among them while it is connected.
        on_change: called when a client's subscriptions changed or it went.
        refusal: the error that answers a client's message, where there is to be one.
        routes: the paths that there are, and what comes over each.
    """
    try:
        async with trio.open_nursery() as nursery:
            client = await _accept(nursery, stream, routes)
            if client is not None:
                clients.add(client)
                on_change()
                nursery.start_soon(client.ping)
                try:
                    await client.converse(on_change, refusal)
                finally:
                    clients.discard(client)
                    on_change()
            nursery.cancel_scope.cancel()
    except* (ConnectionClosed, HandshakeError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def _accept(nursery: trio.Nursery, stream: trio.abc.Stream, routes: Mapping[str, Serves]) -> Client | None:
    with trio.fail_after(HANDSHAKE_S):
        whole = WholeWrites(stream)
        request = await wrap_server_stream(nursery, whole)
        subscriptions = open_subscriptions(request.path, routes)
        if subscriptions is None:
            await request.reject(404)
            return None
        return Client(await request.accept(), whole, subscriptions, nursery.cancel_scope)
