"""raven.v1.ControlService, for operators: feeds, clients and drain at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Protocol

import trio_asyncio

from raven.broker import Client, Clients, Ended
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue, RequestError
from raven.grpc.requests import SELECTORS_MAX, check_client_id, page, parse_selector
from raven.model.topic import Kind, Selector, Topic, check_venue

__all__ = ["ControlService", "FeedView", "Feeds"]


class FeedView(Protocol):
    """What is known of one feed (raven.feed.statistics.FeedStatistics)."""

    @property
    def name(self) -> str:
        """The venue."""

    @property
    def adapter(self) -> str:
        """Entry point."""

    @property
    def adapter_version(self) -> str:
        """Of its package."""

    @property
    def state(self) -> IntEnum:
        """With the numbers of raven.v1.Feed.State."""

    @property
    def reason(self) -> str:
        """Why it is in that state."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What it carries."""

    @property
    def frames(self) -> int:
        """That arrived."""

    @property
    def events(self) -> int:
        """That came of them."""

    @property
    def decode_errors(self) -> int:
        """Frames that made no sense."""

    @property
    def reconnects(self) -> int:
        """Connections made again."""

    @property
    def connected_since_ts_ns(self) -> int:
        """0 while it does not stand."""

    @property
    def last_frame_ts_ns(self) -> int:
        """0 before the first."""


class Feeds(Protocol):
    """Who runs the feeds (raven.supervisor.Supervisor)."""

    def statistics(self) -> Sequence[FeedView]:
        """Every feed as it stands."""

    async def start_feed(self, name: str, selectors: Sequence[Selector] = ()) -> FeedView:
        """Add topics, or start it as configured."""

    async def stop_feed(self, name: str, selectors: Sequence[Selector] = ()) -> FeedView:
        """Take topics away, or stop it."""


class ControlService(v1.ControlServiceBase):
    """For operators.

    Args:
        clients: who is served.
        request_drain: called with the seconds that clients may take to leave, 0 = as configured.
        instance_id: of this process; a request that names another one is not for us.
    """

    def __init__(self, feeds: Feeds, clients: Clients, request_drain: Callable[[float], None], instance_id: str) -> None:
        self._feeds = feeds
        self._clients = clients
        self._request_drain = request_drain
        self._instance_id = instance_id

    async def list_feeds(self, message: v1.ListFeedsRequest) -> v1.ListFeedsResponse:
        """Every feed, in the order of the configuration."""
        self._check_instance(message.instance_id)
        return v1.ListFeedsResponse([self._message(feed) for feed in self._feeds.statistics()])

    async def start_feed(self, message: v1.StartFeedRequest) -> v1.StartFeedResponse:
        """Start a feed, or add topics to it."""
        selectors = self._check(message)
        feed = await trio_asyncio.trio_as_aio(self._feeds.start_feed)(message.name, selectors)
        return v1.StartFeedResponse(self._message(feed))

    async def stop_feed(self, message: v1.StopFeedRequest) -> v1.StopFeedResponse:
        """Stop a feed, or take topics from it."""
        selectors = self._check(message)
        feed = await trio_asyncio.trio_as_aio(self._feeds.stop_feed)(message.name, selectors)
        return v1.StopFeedResponse(self._message(feed))

    async def list_clients(self, message: v1.ListClientsRequest) -> v1.ListClientsResponse:
        """Those that have a stream, in the order of their client_ids."""
        self._check_instance(message.instance_id)
        shown, token = page(list(self._clients), _client_id, message.page_size, message.page_token)
        return v1.ListClientsResponse([self._client_message(client) for client in shown], token)

    async def disconnect_client(self, message: v1.DisconnectClientRequest) -> v1.DisconnectClientResponse:
        """End a client's stream with Goodbye. It may come back: this keeps nobody out."""
        self._check_instance(message.instance_id)
        if not message.client_id:
            raise InvalidValue("client_id", "", "the client_id of a client that is connected")
        client = self._clients.get(check_client_id(message.client_id))
        if client is None:
            raise RequestError("NOT_FOUND", f"client_id: {message.client_id!r} is not connected to this instance")
        client.end(Ended("OPERATOR", message.reason or "disconnected by an operator", "UNAVAILABLE"))
        return v1.DisconnectClientResponse()

    async def drain(self, message: v1.DrainRequest) -> v1.DrainResponse:
        """Begin to drain, as SIGTERM does; answers with how many clients are asked to go."""
        self._check_instance(message.instance_id)
        self._request_drain(message.deadline_ms / 1000)
        return v1.DrainResponse(len(self._clients))

    def _client_message(self, client: Client) -> v1.ListClientsResponseClient:
        outbox = client.outbox.statistics()
        return v1.ListClientsResponseClient(
            client_id=client.client_id,
            peer=client.peer,
            instance_id=self._instance_id,
            connected_since_ts_ns=client.connected_since_ts_ns,
            topics=len(client.topics),
            events_sent=outbox.events_sent,
            bytes_sent=outbox.bytes_sent,
            events_missed=outbox.events_missed,
            bytes_queued=outbox.bytes_queued,
        )

    def _check(self, message: v1.StartFeedRequest | v1.StopFeedRequest) -> list[Selector]:
        self._check_instance(message.instance_id)
        check_venue(message.name, "name")
        if len(message.topics) > SELECTORS_MAX:
            raise RequestError("INVALID_ARGUMENT", f"topics: at most {SELECTORS_MAX} selectors in one request")
        return [parse_selector(topic, f"topics[{i}]", kinds_needed=False) for i, topic in enumerate(message.topics)]

    def _check_instance(self, instance_id: str) -> None:
        if instance_id not in ("", self._instance_id):
            raise RequestError("NOT_FOUND", f"instance_id: {instance_id!r} is not this instance: it is {self._instance_id!r}")

    def _message(self, feed: FeedView) -> v1.Feed:
        return v1.Feed(
            name=feed.name,
            adapter=feed.adapter,
            adapter_version=feed.adapter_version,
            state=v1.FeedState(int(feed.state)),
            reason=feed.reason,
            topics=_selectors(feed.name, feed.topics),
            frames=feed.frames,
            events=feed.events,
            decode_errors=feed.decode_errors,
            reconnects=feed.reconnects,
            connected_since_ts_ns=feed.connected_since_ts_ns,
            last_frame_ts_ns=feed.last_frame_ts_ns,
            instance_id=self._instance_id,
        )


def _client_id(client: Client) -> str:
    return client.client_id


def _selectors(venue: str, topics: Iterable[Topic]) -> list[v1.TopicSelector]:
    """Topics as selectors: one for each symbol and variant, with all kinds of it."""
    kinds: dict[tuple[str, str], list[Kind]] = {}
    for topic in topics:
        kinds.setdefault((topic.symbol, topic.variant), []).append(topic.kind)
    return [
        v1.TopicSelector(venue, symbol, [v1.Kind(int(kind)) for kind in of_symbol], variant)
        for (symbol, variant), of_symbol in kinds.items()
    ]
