"""One client's stream: StreamMarketData and WatchMarketData.

A call's task reads what its client asks for; everything that goes out passes the client's outbox, in order, and is written by a
StreamWriter. The server ends a stream by `Client.end`: Goodbye behind what waits, or instead of it, and then the status.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from raven.broker import Broker, Client, Ended, Outbox, Subscription
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue, RequestError
from raven.grpc.requests import check_client_id, subscription_message
from raven.grpc.subscribing import Outcome, encode_control, parse_unsubscribe, result_messages, subscribe_all
from raven.grpc.writer import StreamWriter

__all__ = ["ClientStreams", "StreamSettings"]

HELLO_WAIT_S = 1.0
"""A client that says nothing for so long gets its Welcome with a client_id that the server made."""

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
        now_ns: wall clock.
    """

    instance_id: str
    version: str
    heartbeat_s: float
    now_ns: Callable[[], int]


class ClientStreams:
    """Serves the streaming calls of all clients."""

    def __init__(self, broker: Broker, settings: StreamSettings) -> None:
        self._broker = broker
        self._settings = settings

    async def stream_market_data(self, stream: RequestStream) -> None:
        """One StreamMarketData call, from Hello to Goodbye."""
        await stream.send_initial_metadata()
        reading = asyncio.ensure_future(stream.recv_message())
        try:
            done, _ = await asyncio.wait({reading}, timeout=HELLO_WAIT_S)
            hello = _hello(reading.result()) if done else None
            call = self._open(stream, hello.client_id if hello else "")
            try:
                self._welcome(call, restore=hello is not None and hello.restore)
                await call.run(reading if hello is None else asyncio.ensure_future(stream.recv_message()))
            finally:
                call.close()
        finally:
            reading.cancel()

    async def watch_market_data(self, stream: RequestStream) -> None:
        """One WatchMarketData call: subscribes once, then streams until it is cancelled."""
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "the request is missing")
        if not request.subscriptions:
            raise InvalidValue("subscriptions", [], "at least one subscription")
        await stream.send_initial_metadata()
        call = self._open(stream, "", controls=False)
        try:
            call.watch(request.subscriptions)
            await call.run(None)
        finally:
            call.close()

    def _open(self, stream: RequestStream, client_id: str, *, controls: bool = True) -> Call:
        named = bool(check_client_id(client_id))
        client_id = client_id or f"client-{secrets.token_hex(6)}"
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        peer = stream.peer.addr()
        address = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        client = self._broker.clients.attach(client_id, address, _once(ended), controls=controls, named=named)
        try:
            writer = StreamWriter(stream._stream, client.outbox, self._settings.now_ns)  # noqa: SLF001
        except StreamTerminatedError:
            self._broker.clients.detach(client)
            raise
        if controls:
            client.outbox.on_pressure = partial(_warn, client.outbox)
        return Call(stream, client, writer, self._broker, ended, self._settings.now_ns)

    def _welcome(self, call: Call, *, restore: bool) -> None:
        restored = self._broker.clients.restore(call.client, restore)
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

    async def run(self, reading: asyncio.Future[v1.StreamMarketDataRequest | None] | None) -> None:
        """Do what the client asks for until it has gone or the server ends it.

        Args:
            reading: the next request, being read; None for a call that has no requests.
        """
        try:
            while not self._ended.done():
                waiting: set[asyncio.Future[Any]] = {self._ended} if reading is None else {self._ended, reading}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if reading is not None and reading.done():
                    request = reading.result()
                    if request is None:  # half closed: the subscriptions go on
                        reading = None
                    else:
                        self._answer(request)
                        reading = asyncio.ensure_future(self._stream.recv_message())
        finally:
            if reading is not None:
                reading.cancel()
        await self._say_goodbye(self._ended.result())

    def close(self) -> None:
        """The call is over."""
        self._broker.clients.detach(self.client)
        self._writer.close()

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
            self.send_control(heartbeat=v1.Heartbeat(server_ts_ns=self._now_ns(), ping_id=request.ping.id))
        elif request.hello is not None:
            self._end_for("hello: it is valid only as the first request of a stream")
        elif request.authenticate is None:  # no authentication is configured, so any token will do
            self._end_for("request: empty; valid: hello, subscribe, unsubscribe, ping, authenticate")

    def _end_for(self, text: str) -> None:
        self.client.end(Ended("PROTOCOL", text, "INVALID_ARGUMENT", reconnect=False))

    def _answer_subscribe(self, request: v1.SubscribeRequest) -> None:
        outcomes = self._subscribe(request.subscriptions)
        answer = v1.SubscribeResponse(result_messages(outcomes), request.request_id)
        self.client.outbox.put_control(encode_control(subscribed=answer))
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
            outbox.clear()
        if self.client.controls:
            reason = v1.GoodbyeReason.from_string(ended.reason)
            goodbye = v1.Goodbye(reason=reason, text=ended.text, reconnect=ended.reconnect)
            outbox.put_control(encode_control(goodbye=goodbye))
        if not await self._writer.wait_idle(GOODBYE_WAIT_S):
            self._writer.give_up()
        log.info("client ended", client_id=self.client.client_id, peer=self.client.peer, reason=ended.reason, text=ended.text)
        if ended.status != "OK":
            raise GRPCError(Status[ended.status], ended.text)


def _warn(outbox: Outbox, queued_bytes: int, limit_bytes: int, cleared: bool) -> None:
    """Tell a client that its events are piling up, in front of them, or that this is over."""
    outbox.put_in_front(encode_control(slow_warning=v1.SlowWarning(queued_bytes, limit_bytes, cleared)))


def _once(ended: asyncio.Future[Ended]) -> Callable[[Ended], None]:
    def end(reason: Ended) -> None:
        if not ended.done():
            ended.set_result(reason)

    return end


def _hello(first: v1.StreamMarketDataRequest | None) -> v1.Hello | None:
    return first.hello if first is not None else None


def _accepted(outcomes: Sequence[Outcome]) -> list[Subscription]:
    return [subscription for result, subscription in outcomes if result.accepted and subscription is not None]
