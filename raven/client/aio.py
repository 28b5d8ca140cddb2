"""The asyncio shell of the client library, on grpclib.

It subscribes, hands out events one by one, and says clearly why a stream has ended. It does not reconnect: when the server goes
away, `stream` raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from raven.client.selectors import parse_target, selector
from raven.codec.generated.raven import v1
from raven.errors import ClientError, ServerUnavailable, StreamEnded, SubscriptionRefused

__all__ = ["Client", "connect", "run"]

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
PAGE_SIZE = 1_000
STREAM_METHOD = "/raven.v1.MarketDataService/StreamMarketData"

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in a new asyncio loop."""
    return asyncio.run(main())


@asynccontextmanager
async def connect(target: str = "localhost:50051") -> AsyncIterator[Client]:
    """A client of the server at `target` ("host:port").

    Raises:
        ServerUnavailable: nothing answers there.
        InvalidValue: `target` is no address.
    """
    host, port = parse_target(target)
    channel = Channel(host, port)
    try:
        await _open(channel, f"{host}:{port}")
        yield Client(channel, f"{host}:{port}")
    finally:
        channel.close()


async def _open(channel: Channel, target: str) -> None:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await channel.__connect__()
    except TimeoutError:
        raise ServerUnavailable(f"no answer from {target} within {CONNECT_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise ServerUnavailable(f"no server at {target}: {error.strerror or error}") from error


class Client:
    """Calls to one server. `connect` makes it."""

    def __init__(self, channel: Channel, target: str) -> None:
        self._stub = v1.MarketDataServiceStub(channel, timeout=REQUEST_TIMEOUT_S)
        self._control = v1.ControlServiceStub(channel, timeout=REQUEST_TIMEOUT_S)
        self._channel = channel
        self.target = target

    async def stream(
        self,
        *topics: str,
        kinds: str | Iterable[str] = "trade",
        variant: str = "",
        images: bool = True,
        on_subscribed: Callable[[Sequence[v1.SubscribeResponseResult]], None] | None = None,
    ) -> AsyncGenerator[v1.MarketEvent]:
        """Events of all matching topics, in the order in which the server sent them.

        Args:
            topics: "venue/symbol", see `selector`; none = everything ("*/*").
            kinds: of what; labels, or one text with commas.
            variant: see `selector`.
            images: whether the latest state of each topic comes first.
            on_subscribed: called with the server's answer, a result for each of `topics`: how many match now, what is in force.

        Raises:
            SubscriptionRefused: the server will not give it.
            StreamEnded: the server ended the stream.
            ServerUnavailable: the connection was lost.
        """
        wanted = [
            v1.Subscription(selector=selector(topic, kinds, variant), skip_image=not images, id=str(number))
            for number, topic in enumerate(topics or ("*/*",), 1)
        ]
        subscribe = v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest(subscriptions=wanted))
        call = self._channel.request(
            STREAM_METHOD, Cardinality.STREAM_STREAM, v1.StreamMarketDataRequest, v1.StreamMarketDataResponse
        )
        with _translating(self.target):
            async with call as stream:
                await stream.send_message(subscribe)
                async for response in stream:
                    if response.subscribed is not None:
                        _check(response.subscribed.results)
                        if on_subscribed is not None:
                            on_subscribed(response.subscribed.results)
                    elif response.goodbye is not None:
                        raise StreamEnded(response.goodbye.reason.name or "UNKNOWN", response.goodbye.text)
                    for event in response.events:
                        yield event
        raise StreamEnded("ENDED", f"{self.target} ended the stream")

    async def latest(self, *topics: str, kinds: str | Iterable[str] = (), variant: str = "*") -> list[v1.MarketEvent]:
        """Per matching topic its status, then its latest state. Arguments and errors as of `stream`; no kinds = all."""
        selectors = [selector(topic, kinds, variant) for topic in topics or ("*/*",)]
        responses = self._stub.get_latest(v1.GetLatestRequest(selectors))
        with _translating(self.target):
            return [event async for response in responses for event in response.events]

    async def topics(
        self, *topics: str, kinds: str | Iterable[str] = (), variant: str = "*"
    ) -> list[v1.ListTopicsResponseEntry]:
        """What can be subscribed to, with its status."""
        selectors = [selector(topic, kinds, variant) for topic in topics]
        entries: list[v1.ListTopicsResponseEntry] = []
        token = ""
        while True:
            request = v1.ListTopicsRequest(selectors, PAGE_SIZE, token)
            response = await self._unary(self._stub.list_topics(request))
            entries.extend(response.topics)
            token = response.next_page_token
            if not token:
                return entries

    async def instruments(self, venue: str = "", symbol: str = "") -> list[v1.Instrument]:
        """Definitions of instruments; empty = any, `symbol` may be a prefix that ends in "*"."""
        found: list[v1.Instrument] = []
        token = ""
        while True:
            request = v1.ListInstrumentsRequest(venue, symbol, PAGE_SIZE, token)
            response = await self._unary(self._stub.list_instruments(request))
            found.extend(response.instruments)
            token = response.next_page_token
            if not token:
                return found

    async def feeds(self) -> list[v1.Feed]:
        """The server's feeds, for operators."""
        return (await self._unary(self._control.list_feeds(v1.ListFeedsRequest()))).feeds

    async def start_feed(self, name: str, topics: Sequence[v1.TopicSelector] = ()) -> v1.Feed:
        """Start a feed as configured, or add topics to it. For operators.

        Raises:
            SubscriptionRefused: it cannot carry that.
            StreamEnded: there is no such feed.
        """
        response = await self._unary(self._control.start_feed(v1.StartFeedRequest(name, list(topics))))
        return response.feed or v1.Feed()

    async def stop_feed(self, name: str, topics: Sequence[v1.TopicSelector] = ()) -> v1.Feed:
        """Stop a feed, or take topics from it. For operators. Raises as `start_feed`."""
        response = await self._unary(self._control.stop_feed(v1.StopFeedRequest(name, list(topics))))
        return response.feed or v1.Feed()

    async def _unary(self, call: Coroutine[Any, Any, T]) -> T:
        with _translating(self.target):
            return await call


@contextmanager
def _translating(target: str) -> Iterator[None]:
    """grpclib's errors as the client library's."""
    try:
        yield
    except (GRPCError, StreamTerminatedError, TimeoutError, ConnectionError) as error:
        if isinstance(error, BrokenPipeError):  # the caller's own output, not ours: grpclib never raises it
            raise
        raise _translate(error, target) from error


def _check(results: Iterable[v1.SubscribeResponseResult]) -> None:
    for result in results:
        if not result.accepted:
            raise SubscriptionRefused(result.field, result.error)


def _translate(error: Exception, target: str) -> ClientError:
    if isinstance(error, GRPCError):
        message = error.message or error.status.name
        if error.status is Status.INVALID_ARGUMENT:
            return SubscriptionRefused("", message)
        if error.status is Status.UNAVAILABLE:
            return ServerUnavailable(f"{target}: {message}")
        return StreamEnded(error.status.name, message)
    if isinstance(error, TimeoutError):
        return ServerUnavailable(f"{target} did not answer within {REQUEST_TIMEOUT_S:g} s")
    return ServerUnavailable(f"the connection to {target} was lost")
