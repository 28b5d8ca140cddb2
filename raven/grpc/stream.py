"""One client's stream: StreamMarketData and WatchMarketData.

A call's task reads what its client asks for; everything that goes out passes the client's outbox, in order, and is written by a
StreamWriter. The server ends a stream by `Client.end`: Goodbye behind what waits, or instead of it, and then the status.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import structlog
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from raven.broker import Broker, Client, Result, Subscription
from raven.broker.client import Ended
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue, RequestError
from raven.grpc.requests import (
    SELECTORS_MAX,
    check_client_id,
    parse_selector,
    parse_subscription,
    subscription_message,
)
from raven.grpc.writer import StreamWriter

__all__ = ["ClientStreams", "StreamSettings", "encode_control"]

HELLO_WAIT_S = 1.0
"""A client that says nothing for so long gets its Welcome with a client_id that the server made."""

GOODBYE_WAIT_S = 2.0
"""The last message may take so long to be written; then the stream ends without it."""

SUBSCRIPTIONS_PER_REQUEST_MAX = 1_000

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


def encode_control(**control: Any) -> bytes:
    """A StreamMarketDataResponse with one control ("heartbeat=..."), without sent_ts_ns, which the writer adds."""
    return bytes(v1.StreamMarketDataResponse(**control))


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
                self._welcome(call)
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
        client_id = check_client_id(client_id) or f"client-{secrets.token_hex(6)}"
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        peer = stream.peer.addr()
        address = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        client = self._broker.attach(client_id, address, _once(ended), controls=controls)
        writer = StreamWriter(stream._stream, client.outbox, self._settings.now_ns)  # noqa: SLF001
        return Call(stream, client, writer, self._broker, ended, self._settings.now_ns)

    def _welcome(self, call: Call) -> None:
        welcome = v1.Welcome(
            client_id=call.client.client_id,
            server_version=self._settings.version,
            instance_id=self._settings.instance_id,
            heartbeat_interval_ms=round(self._settings.heartbeat_s * 1000),
        )
        call.send_control(welcome=welcome)


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
        self._broker.detach(self.client)
        self._writer.close()

    def watch(self, messages: Sequence[v1.Subscription]) -> None:
        """Take all subscriptions, or none.

        Raises:
            RequestError: naming the first that cannot be.
        """
        results = self._subscribe(messages)
        for index, (result, _) in enumerate(results):
            if not result.accepted:
                raise RequestError("INVALID_ARGUMENT", f"subscriptions[{index}].{result.field}: {result.error}")
        self._put_images(results)
        self._flush()

    def send_control(self, **control: Any) -> None:
        """Append one control message and write what can be written."""
        self.client.outbox.put_control(encode_control(**control))
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
        if not request.subscriptions:
            refused = v1.SubscribeResponseResult(field="subscriptions", error="empty: at least one subscription is needed")
            self.send_control(subscribed=v1.SubscribeResponse([refused], request.request_id))
            return
        results = self._subscribe(request.subscriptions)
        messages = [_result_message(result, subscription) for result, subscription in results]
        self.client.outbox.put_control(encode_control(subscribed=v1.SubscribeResponse(messages, request.request_id)))
        self._put_images(results)
        self._flush()

    def _subscribe(self, messages: Sequence[v1.Subscription]) -> list[tuple[Result, Subscription | None]]:
        results: list[tuple[Result, Subscription | None]] = []
        for index, message in enumerate(messages):
            if index >= SUBSCRIPTIONS_PER_REQUEST_MAX:
                error = f"at most {SUBSCRIPTIONS_PER_REQUEST_MAX} subscriptions in one request"
                results.append((Result(message.id, accepted=False, field="subscriptions", error=error), None))
                continue
            try:
                subscription = parse_subscription(message, self.client)
            except InvalidValue as error:
                results.append((Result(message.id, accepted=False, field=error.field, error=str(error)), None))
            else:
                results.append((self._broker.subscribe(self.client, subscription), subscription))
        return results

    def _put_images(self, results: Sequence[tuple[Result, Subscription | None]]) -> None:
        for result, subscription in results:
            if result.accepted and subscription is not None:
                self._broker.put_images(self.client, subscription)

    def _answer_unsubscribe(self, request: v1.UnsubscribeRequest) -> None:
        selectors, bad = [], []
        for index, message in enumerate(request.selectors[:SELECTORS_MAX]):
            try:
                selectors.append(parse_selector(message, f"selectors[{index}]", kinds_needed=True))
            except InvalidValue as error:
                bad.append(str(error))
        bad.extend(
            f"selectors[{i}]: at most {SELECTORS_MAX} in one request" for i in range(SELECTORS_MAX, len(request.selectors))
        )
        removed, unknown = self._broker.unsubscribe(self.client, request.ids, selectors)
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
        await self._writer.wait_idle(GOODBYE_WAIT_S)
        log.info("client ended", client_id=self.client.client_id, peer=self.client.peer, reason=ended.reason, text=ended.text)
        if ended.status != "OK":
            raise GRPCError(Status[ended.status], ended.text)


def _once(ended: asyncio.Future[Ended]) -> Callable[[Ended], None]:
    def end(reason: Ended) -> None:
        if not ended.done():
            ended.set_result(reason)

    return end


def _hello(first: v1.StreamMarketDataRequest | None) -> v1.Hello | None:
    return first.hello if first is not None else None


def _result_message(result: Result, subscription: Subscription | None) -> v1.SubscribeResponseResult:
    return v1.SubscribeResponseResult(
        id=result.id,
        accepted=result.accepted,
        field=result.field,
        error=result.error,
        effective=subscription_message(subscription) if subscription is not None and result.accepted else None,
        topics=result.topics,
    )
