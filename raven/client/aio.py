"""The asyncio shell of the client library, on grpclib.

It subscribes, hands out events one by one, and says clearly why a stream has ended. It does not reconnect: when the server goes
away, `stream` raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from raven.client.selectors import parse_target, selector
from raven.codec.generated.raven import v1
from raven.errors import ClientError, ServerUnavailable, StreamEnded, SubscriptionRefused

__all__ = ["Client", "connect", "run"]

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
PAGE_SIZE = 1_000

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
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await channel.__connect__()
        yield Client(channel, f"{host}:{port}")
    except TimeoutError:
        raise ServerUnavailable(f"no answer from {host}:{port} within {CONNECT_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise ServerUnavailable(f"no server at {host}:{port}: {error.strerror or error}") from error
    finally:
        channel.close()


class Client:
    """Calls to one server. `connect` makes it."""

    def __init__(self, channel: Channel, target: str) -> None:
        self._stub = v1.MarketDataServiceStub(channel, timeout=REQUEST_TIMEOUT_S)
        self._streaming = v1.MarketDataServiceStub(channel)
        self.target = target

    async def stream(
        self, *topics: str, kinds: str | Iterable[str] = "trade", variant: str = "", images: bool = True
    ) -> AsyncIterator[v1.MarketEvent]:
        """Events of all matching topics, in the order in which the server sent them.

        Args:
            topics: "venue/symbol", see `selector`; none = everything ("*/*").
            kinds: of what; labels, or one text with commas.
            variant: see `selector`.
            images: whether the latest state of each topic comes first.

        Raises:
            SubscriptionRefused: the server will not give it.
            StreamEnded: the server ended the stream.
            ServerUnavailable: the connection was lost.
        """
        skip = not images
        wanted = [
            v1.Subscription(selector=selector(topic, kinds, variant), skip_image=skip, id=str(number))
            for number, topic in enumerate(topics or ("*/*",), 1)
        ]
        stop = asyncio.Event()
        responses = self._streaming.stream_market_data(_requests(wanted, stop))
        try:
            async for response in _translated(responses, self.target):
                if response.subscribed is not None:
                    _check(response.subscribed.results)
                elif response.goodbye is not None:
                    raise StreamEnded(response.goodbye.reason.name or "UNKNOWN", response.goodbye.text)
                for event in response.events:
                    yield event
        finally:
            stop.set()
        raise StreamEnded("ENDED", f"{self.target} ended the stream")

    async def latest(self, *topics: str, kinds: str | Iterable[str] = (), variant: str = "*") -> list[v1.MarketEvent]:
        """Per matching topic its status, then its latest state. Arguments and errors as of `stream`; no kinds = all."""
        selectors = [selector(topic, kinds, variant) for topic in topics or ("*/*",)]
        responses = self._stub.get_latest(v1.GetLatestRequest(selectors))
        return [event async for response in _translated(responses, self.target) for event in response.events]

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

    async def _unary(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await call
        except (GRPCError, StreamTerminatedError, TimeoutError, OSError) as error:
            raise _translate(error, self.target) from error


async def _requests(wanted: Sequence[v1.Subscription], stop: asyncio.Event) -> AsyncIterator[v1.StreamMarketDataRequest]:
    """Subscribe, then keep the upstream half open until the stream is left."""
    yield v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest(subscriptions=list(wanted)))
    await stop.wait()


async def _translated(responses: AsyncIterator[T], target: str) -> AsyncIterator[T]:
    try:
        async for response in responses:
            yield response
    except (GRPCError, StreamTerminatedError, TimeoutError, OSError) as error:
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
