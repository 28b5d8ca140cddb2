"""One client's stream: StreamMarketData and WatchMarketData.

A call's task reads what its client asks for; everything that goes out passes the client's outbox, in order, and is written by a
StreamWriter. The server ends a stream by `Client.end`: Goodbye behind what waits, or instead of it, and then the status.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from raven.broker import Broker, Client, Ended, Outbox, Subscription
from raven.broker.bookmark import Resume, parse_bookmark
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue, RequestError
from raven.grpc.admission import Admission
from raven.grpc.requests import check_client_id, subscription_message
from raven.grpc.subscribing import Outcome, encode_control, encode_subscribed, parse_unsubscribe, subscribe_all
from raven.grpc.writer import StreamWriter

__all__ = ["ClientStreams", "StreamSettings"]

HELLO_WAIT_S = 1.0
"""A client that says nothing for so long gets its Welcome with a client_id that the server made."""

ADMISSION_WAIT_MAX_S = 10.0
"""Who would wait longer to be let in is told to try again."""

GOODBYE_WAIT_S = 2.0
"""The last message may take so long to be written; then the stream ends without it."""

log = structlog.stdlib.get_logger("raven.grpc")

RequestStream = Any  # grpclib.server.Stream of the request and response types, which grpclib does not type for bytes


@attrs.frozen
class StreamSettings:
    """What every stream of a server shares.

    Args:
        instance_id: this process.
        version: of the server.
        heartbeat_s: between two heartbeats.
        streams_per_s: how fast new ones are let in.
        now_ns: wall clock.
    """

    instance_id: str
    version: str
    heartbeat_s: float
    streams_per_s: float
    now_ns: Callable[[], int]


class ClientStreams:
    """Serves the streaming calls of all clients."""

    def __init__(self, broker: Broker, settings: StreamSettings) -> None:
        self._broker = broker
        self._settings = settings
        self._admission = Admission(settings.streams_per_s, ADMISSION_WAIT_MAX_S, time.monotonic)
        self.draining = False

    async def stream_market_data(self, stream: RequestStream) -> None:
        """One StreamMarketData call, from Hello to Goodbye."""
        await self._admit()
        await stream.send_initial_metadata()
        call = await self._begin(stream)
        try:
            await call.run()
        finally:
            call.close()

    async def _begin(self, stream: RequestStream) -> Call:
        """Wait a moment for Hello, and open the call with what it says."""
        if stream._stream.buffer.has_message:  # noqa: SLF001  as with most clients: then no task is needed to wait for it
            return self._greet(stream, await stream.recv_message(), said=True)
        first = asyncio.ensure_future(stream.recv_message())
        try:
            done, _ = await asyncio.wait({first}, timeout=HELLO_WAIT_S)
            call = self._greet(stream, first.result() if done else None, said=bool(done))
        except BaseException:
            first.cancel()
            raise
        if not done:
            call.first = first
        return call

    def _greet(self, stream: RequestStream, request: v1.StreamMarketDataRequest | None, *, said: bool) -> Call:
        """Open a call, and say Welcome.

        Args:
            request: the first one, if it came in time; one that is no Hello is answered after that.
            said: whether there was one, or the client has closed its side.
        """
        hello = request.hello if request is not None else None
        call = self._open(stream, hello.client_id if hello else "")
        self._welcome(call, restore=hello is not None and hello.restore, bookmark=hello.bookmark if hello else b"")
        if said and hello is None:
            call.first = asyncio.get_running_loop().create_future()
            call.first.set_result(request)
        return call

    async def watch_market_data(self, stream: RequestStream) -> None:
        """One WatchMarketData call: subscribes once, then streams until it is cancelled."""
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the request is missing")
        if not request.subscriptions:
            raise InvalidValue("subscriptions", [], "at least one subscription")
        await self._admit()
        await stream.send_initial_metadata()
        call = self._open(stream, "", controls=False)
        try:
            call.watch(request.subscriptions)
            del request
            await call.stay()
        finally:
            call.close()

    async def _admit(self) -> None:
        """Let a new stream in when it is its turn."""
        if self.draining:
            raise RequestError("UNAVAILABLE", "the server is shutting down: connect again in a moment")
        await self._admission.admit()

    def _open(self, stream: RequestStream, client_id: str, *, controls: bool = True) -> Call:
        named = bool(check_client_id(client_id))
        client_id = client_id or f"client-{secrets.token_hex(6)}"
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        peer = stream.peer.addr()
        address = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        on_end = _once(ended, stream._stream.buffer.eof)  # noqa: SLF001  who waits for a request wakes up
        client = self._broker.clients.attach(client_id, address, on_end, controls=controls, named=named)
        try:
            writer = StreamWriter(stream._stream, client.outbox, self._settings.now_ns)  # noqa: SLF001
        except StreamTerminatedError:
            self._broker.clients.detach(client)
            raise
        if controls:
            client.outbox.on_pressure = partial(_warn, client.outbox)
        return Call(stream, client, writer, self._broker, ended, self._settings.now_ns)

    def _welcome(self, call: Call, *, restore: bool, bookmark: bytes) -> None:
        resume = Resume(parse_bookmark(bookmark)) if bookmark else None
        restored = self._broker.clients.restore(call.client, restore, resume)
        welcome = v1.Welcome(
            client_id=call.client.client_id,
            server_version=self._settings.version,
            instance_id=self._settings.instance_id,
            heartbeat_interval_ms=round(self._settings.heartbeat_s * 1000),
            restored=[subscription_message(subscription) for subscription in restored],
        )
        call.send_control(welcome=welcome)
        call.put_images(restored)


class Call:
    """One streaming call of one client."""

    def __init__(
        self,
        stream: RequestStream,
        client: Client,
        writer: StreamWriter,
        broker: Broker,
        ended: asyncio.Future[Ended],
        now_ns: Callable[[], int],
    ) -> None:
        self.client = client
        self._stream = stream
        self._writer = writer
        self._broker = broker
        self._ended = ended
        self._now_ns = now_ns
        self.first: asyncio.Future[v1.StreamMarketDataRequest | None] | None = None  # the request that is being read already

    async def run(self) -> None:
        """Do what the client asks for until it has gone or the server ends it."""
        request = await self._next()
        while request is not None:
            self._answer(request)
            request = None  # it may be large, and the stream goes on for days
            request = await self._next()
        await self._say_goodbye(await self._ended)  # half closed: the subscriptions go on

    async def _next(self) -> v1.StreamMarketDataRequest | None:
        """The next request; None when there is none any more, or the server has ended the client."""
        if self._ended.done():
            return None
        first, self.first = self.first, None
        try:
            request: v1.StreamMarketDataRequest | None = await (self._stream.recv_message() if first is None else first)
        except GRPCError:
            if not self._ended.done():  # else it was our own end that cut the request
                raise
            return None
        return None if self._ended.done() else request

    async def stay(self) -> None:
        """Stream until the client has gone or the server ends it."""
        await self._say_goodbye(await self._ended)

    def close(self) -> None:
        """The call is over."""
        self._broker.clients.detach(self.client)
        self._writer.close()
        self.client.outbox.let_go()

    def watch(self, messages: Sequence[v1.Subscription]) -> None:
        """Take all subscriptions, or none.

        Raises:
            RequestError: naming the first that cannot be.
        """
        outcomes = self._subscribe(messages)
        for index, (result, _) in enumerate(outcomes):
            if not result.accepted:
                raise RequestError("INVALID_ARGUMENT", f"subscriptions[{index}].{result.field}: {result.error}")
        self.put_images(_accepted(outcomes))

    def send_control(self, **control: Any) -> None:
        """Append one control message and write what can be written."""
        self.client.outbox.put_control(encode_control(**control))
        self._flush()

    def put_images(self, subscriptions: Sequence[Subscription]) -> None:
        """Append the images of subscriptions that are in force, and write what can be written."""
        for subscription in subscriptions:
            self._broker.clients.put_images(self.client, subscription)
        self._flush()

    # ---- requests

    def _answer(self, request: v1.StreamMarketDataRequest) -> None:
        if request.subscribe is not None:
            self._answer_subscribe(request.subscribe)
        elif request.unsubscribe is not None:
            self._answer_unsubscribe(request.unsubscribe)
        elif request.ping is not None:
            bookmark = self._broker.clients.bookmark()
            self.send_control(heartbeat=v1.Heartbeat(self._now_ns(), request.ping.id, bookmark))
        elif request.hello is not None:
            self._end_for("hello: it is valid only as the first request of a stream")
        elif request.authenticate is None:  # no authentication is configured, so any token will do
            self._end_for("request: empty; valid: hello, subscribe, unsubscribe, ping, authenticate")

    def _end_for(self, text: str) -> None:
        self.client.end(Ended("PROTOCOL", text, "INVALID_ARGUMENT", reconnect=False))

    def _answer_subscribe(self, request: v1.SubscribeRequest) -> None:
        outcomes = self._subscribe(request.subscriptions)
        self.client.outbox.put_control(encode_subscribed(outcomes, request.request_id))
        self.put_images(_accepted(outcomes))

    def _subscribe(self, messages: Sequence[v1.Subscription]) -> list[Outcome]:
        return subscribe_all(messages, self.client.name_subscription, partial(self._broker.clients.subscribe, self.client))

    def _answer_unsubscribe(self, request: v1.UnsubscribeRequest) -> None:
        selectors, bad = parse_unsubscribe(request)
        removed, unknown = self._broker.clients.unsubscribe(self.client, request.ids, selectors)
        answer = v1.UnsubscribeResponse(removed_ids=removed, unknown=unknown + bad, request_id=request.request_id)
        self.send_control(unsubscribed=answer)

    # ---- the way out

    def _flush(self) -> None:
        outbox = self.client.outbox
        outbox.flush()
        if full := outbox.overfull():
            self.client.end(Ended("SLOW_CONSUMER", full, "RESOURCE_EXHAUSTED"))

    async def _say_goodbye(self, ended: Ended) -> None:
        outbox = self.client.outbox
        if ended.status != "OK":
            bookmark = outbox.bookmark  # what waits is given up: the client continues in front of it
            outbox.clear()
        else:
            bookmark = self._broker.clients.bookmark()
        if self.client.controls:
            reason = v1.GoodbyeReason.from_string(ended.reason)
            goodbye = v1.Goodbye(
                reason=reason,
                text=ended.text,
                reconnect=ended.reconnect,
                retry_after_ms=ended.retry_after_ms,
                bookmark=bookmark,
            )
            outbox.put_control(encode_control(goodbye=goodbye))
        outbox.seal()
        if not await self._writer.wait_idle(GOODBYE_WAIT_S):
            self._writer.give_up()
        log.info("client ended", client_id=self.client.client_id, peer=self.client.peer, reason=ended.reason, text=ended.text)
        if ended.status != "OK":
            raise GRPCError(Status[ended.status], ended.text)


def _warn(outbox: Outbox, queued_bytes: int, limit_bytes: int, cleared: bool) -> None:
    """Tell a client that its events are piling up, in front of them, or that this is over."""
    outbox.put_in_front(encode_control(slow_warning=v1.SlowWarning(queued_bytes, limit_bytes, cleared)))


def _once(ended: asyncio.Future[Ended], wake: Callable[[], None]) -> Callable[[Ended], None]:
    def end(reason: Ended) -> None:
        if not ended.done():
            ended.set_result(reason)
            wake()

    return end


def _accepted(outcomes: Sequence[Outcome]) -> list[Subscription]:
    return [subscription for result, subscription in outcomes if result.accepted and subscription is not None]
