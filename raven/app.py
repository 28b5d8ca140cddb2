"""The composition root: makes every part, hands each what it needs, and owns the nursery tree.

ops > stores > serving > feeds, each inside the one before, so that shutdown is written in the structure: readiness goes false
and health says NOT_SERVING, clients get Draining while feeds run on, until the last client has left or the deadline has passed;
then feeds end and the broker with them, then gRPC, then the stores, which write what is still missing, and ops last.
"""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import structlog
import trio
from prometheus_client import CollectorRegistry

from raven import __version__
from raven.adapter.batch import Batch
from raven.broker import Broker
from raven.broker.carryover import FeedCarryover, adopt, hand_over
from raven.broker.topics import BOOK_TOP_DEPTHS
from raven.config import Config, ResolvedFeed
from raven.config.serving import broker_limits, grpc_config
from raven.feed.limits import FeedLimits
from raven.feed.statistics import FeedState, FeedStatistics
from raven.grpc import GrpcServer
from raven.instruments import Instruments
from raven.model.events import StatusCause
from raven.model.topic import Kind, Topic
from raven.ops.endpoints import EndpointCollector, endpoint_health
from raven.ops.health import Component, Condition, FeedHealth, Phase, ServerHealth
from raven.ops.metrics import StatisticsCollector
from raven.ops.sockets import bind_socket, bound_address
from raven.ops.watchdog import LoopStatistics, Watchdog
from raven.ops.web import health_app, metrics_app, serve_http
from raven.speedups import missing
from raven.store import has_room, open_data_dir, save_recent, take_recent
from raven.store.blocks import HistoryStore
from raven.store.latest import LatestStatistics, LatestWriter, open_latest
from raven.store.opening import endpoint_statistics, open_history
from raven.store.query import StoredHistory
from raven.store.recorder import Recorder, RecorderStatistics
from raven.store.sqlite import SqliteHistory, SqliteStatistics
from raven.supervisor import ConfiguredFeed, Supervisor, SupervisorConfig

__all__ = ["Addresses", "App"]

BATCHES_WAITING_MAX = 64
"""Batches between the feeds and the broker; a feed that is ahead of the broker waits, and with it the venue's socket."""

log = structlog.stdlib.get_logger("raven.app")


@attrs.frozen
class Addresses:
    """Where a running server is, each as host:port."""

    grpc: str
    health: str
    metrics: str


@attrs.frozen
class Sockets:
    """The bound sockets of a server."""

    grpc: socket.socket
    health: socket.socket
    metrics: socket.socket

    @property
    def addresses(self) -> Addresses:
        """Where they listen."""
        return Addresses(bound_address(self.grpc), bound_address(self.health), bound_address(self.metrics))


class App:
    """One server.

    Args:
        config: what it is to be.
        feeds: what it carries, resolved.
        data_dir: where it keeps what outlives it; None = nothing does.
    """

    def __init__(self, config: Config, feeds: tuple[ResolvedFeed, ...], data_dir: Path | None = None) -> None:
        self._config = config
        self._feeds = feeds
        self._data_dir = data_dir
        self._phase = Phase.STARTING
        self._started = time.monotonic()
        self._registry = CollectorRegistry()
        self.instruments = Instruments(self._registry)
        self._send, self._receive = trio.open_memory_channel[Batch](BATCHES_WAITING_MAX)
        self.broker = Broker(
            broker_limits(config),
            book_top_feeds=[feed.spec.name for feed in feeds if feed.book_top],
            on_fault=self._on_adapter_fault,
            on_doubt=self._on_doubt,
        )
        self.supervisor = Supervisor(
            [_configured(feed) for feed in feeds],
            self._send,
            random=random.Random(),
            config=SupervisorConfig(),
            limits=FeedLimits(),
        )
        self.grpc = GrpcServer(
            self.broker,
            self.supervisor,
            grpc_config(config),
            self.instruments,
            on_connections=self.instruments.active_connections.set,
        )
        self.latest = _latest(config, self.broker, data_dir)
        self.history: HistoryStore | None = None  # from before the first client to behind the last
        self.recorder: Recorder | None = None
        self.watchdog = Watchdog()
        self._registry.register(
            StatisticsCollector(
                __version__,
                self.broker.statistics,
                self.supervisor.statistics,
                self.watchdog.statistics,
                self.latest.statistics if self.latest else None,
                self._history_statistics,
                self._history_files,
            )
        )
        self._registry.register(EndpointCollector(lambda: endpoint_statistics(self.history)))

    async def run(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until a signal or cancellation. Reports started, with its addresses, when clients can connect.

        The first SIGTERM or SIGINT drains; a second one ends at once.

        Raises:
            StartupError: a port is taken, an address is not of this machine, or another server has the data directory, or it
                cannot be written.
        """
        with (
            self._recent_events(),
            _bound(self._config) as sockets,
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        ):
            addresses = sockets.addresses
            async with trio.open_nursery() as ops:
                await ops.start(self.watchdog.run)
                await ops.start(serve_http, health_app(self.health), sockets.health)
                await ops.start(serve_http, metrics_app(self._registry), sockets.metrics)
                async with open_history(self._config.history, self._data_dir) as history, trio.open_nursery() as stores:
                    await self._start_recorder(history, stores)
                    if self.latest is not None:
                        await self.latest.restore({feed.spec.name: _topics(feed) for feed in self._feeds})
                        await stores.start(self.latest.run)
                    async with trio.open_nursery() as serving:
                        await serving.start(self.grpc.run, sockets.grpc)
                        async with trio.open_nursery() as feeds:
                            await feeds.start(self.broker.run, self._receive)
                            await feeds.start(self.supervisor.run)
                            self._phase = Phase.SERVING
                            log.info("serving", **attrs.asdict(addresses), version=__version__, speedups=missing or "compiled")
                            task_status.started(addresses)
                            await self._drain_at(signals)
                            feeds.cancel_scope.cancel()
                        serving.cancel_scope.cancel()
                    stores.cancel_scope.cancel()
                self.history = None
                ops.cancel_scope.cancel()
        log.info("stopped")

    async def _start_recorder(self, history: HistoryStore | None, stores: trio.Nursery) -> None:
        """From here on everything that is published is kept."""
        self.history = history
        if history is not None:
            times = self._config.history
            self.recorder = Recorder(history, self.broker.directory, commit_s=times.commit_s, image_s=times.image_s)
            await stores.start(self.recorder.run)
            self.grpc.historical.history = StoredHistory(history, self.recorder.flush)

    def _history_files(self) -> SqliteStatistics | None:
        return self.history.statistics() if isinstance(self.history, SqliteHistory) else None

    def _history_statistics(self) -> RecorderStatistics | None:
        return self.recorder.statistics() if self.recorder is not None else None

    @contextmanager
    def _recent_events(self) -> Iterator[None]:
        """Go on where an earlier server stopped, and leave what the next one needs for that."""
        if self._data_dir is None:
            yield
            return
        with open_data_dir(self._data_dir) as directory:
            if not has_room(directory):
                log.error("the disk of the data directory is full: what is to be kept waits for room", dir=str(directory))
            for carried in take_recent(directory):
                self._adopt(carried)
            yield
            try:
                size = save_recent(directory, hand_over(self.broker.directory))
            except OSError as error:
                log.warning("recent events could not be kept: clients that come back begin anew", error=str(error))
            else:
                log.debug("recent events kept", bytes=size)

    def _adopt(self, carried: FeedCarryover) -> None:
        """What is still configured goes on; what is not is forgotten."""
        feed = next((feed for feed in self._feeds if feed.spec.name == carried.feed), None)
        if feed is not None:
            kinds = frozenset(topic.kind for topic in feed.spec.topics) | ({Kind.BOOK_TOP} if feed.book_top else set())
            adopt(self.broker.directory, carried, frozenset(topic.symbol for topic in feed.spec.topics), kinds)

    def health(self) -> ServerHealth:
        """How the server is at this moment."""
        return ServerHealth(
            __version__,
            time.monotonic() - self._started,
            self._phase,
            len(self.broker.clients),
            (
                Component("grpc", Condition.OK, f"{self.grpc.connections} connections"),
                _loop_health(self.watchdog.statistics()),
                *([_history_health(self.recorder.statistics())] if self.recorder else ()),
                *(endpoint_health(endpoint) for endpoint in endpoint_statistics(self.history)),
                *([_cache_health(self.latest.statistics())] if self.latest else ()),
            ),
            tuple(_feed_health(feed) for feed in self.supervisor.statistics()),
        )

    async def _drain_at(self, signals: AsyncIterator[int]) -> None:
        """Wait for a signal or for an operator's word, then let clients leave; a signal from then on ends the waiting."""
        cause, drain_s = await self._wait_drain(signals)
        self._phase = Phase.DRAINING
        log.info("draining", cause=cause, clients=len(self.broker.clients), drain_s=drain_s)
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                await self.grpc.drain(drain_s)
                nursery.cancel_scope.cancel()

            nursery.start_soon(drain)
            await anext(signals)
            log.warning("a second signal: not waiting for clients")
            nursery.cancel_scope.cancel()

    async def _wait_drain(self, signals: AsyncIterator[int]) -> tuple[str, float]:
        """What asks the server to leave, and how many seconds clients get for it."""
        cause, drain_s = "", self._config.server.drain_s
        async with trio.open_nursery() as nursery:

            async def wait_operator() -> None:
                nonlocal cause, drain_s
                drain_s = await self.grpc.wait_drain_requested() or drain_s
                cause = "operator"
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_operator)
            cause = signal.Signals(await anext(signals)).name
            nursery.cancel_scope.cancel()
        return cause, drain_s

    def _on_doubt(self, feed: str, topic: Topic, cause: StatusCause, text: str) -> None:
        self.supervisor.doubt(feed, topic, cause, text)

    def _on_adapter_fault(self, feed: str, topic: Topic | None, reason: str) -> None:
        self.instruments.error("adapter", "contract")
        self.supervisor.report_fault(feed, topic, reason)


@contextmanager
def _bound(config: Config) -> Iterator[Sockets]:
    """Bind all sockets before anything else starts, so that a taken port is known at once."""
    with ExitStack() as stack:

        def bind(host: str, port: int, what: str, key: str) -> socket.socket:
            return stack.enter_context(bind_socket(host, port, what, key))

        yield Sockets(
            bind(config.server.host, config.server.port, "gRPC", "server.port"),
            bind(config.health_host, config.health.port, "health", "health.port"),
            bind(config.metrics_host, config.metrics.port, "metrics", "metrics.port"),
        )


def _configured(feed: ResolvedFeed) -> ConfiguredFeed:
    return ConfiguredFeed(feed.spec, feed.adapter, feed.entry.name, feed.entry.version, feed.book_top, feed.reader)


def _topics(feed: ResolvedFeed) -> frozenset[Topic]:
    """What a feed carries, with what is derived from it."""
    books = [topic for topic in feed.spec.topics if topic.kind is Kind.BOOK and feed.book_top]
    tops = (book._replace(kind=Kind.BOOK_TOP, variant=str(depth)) for book in books for depth in BOOK_TOP_DEPTHS)
    return frozenset((*feed.spec.topics, *tops))


def _latest(config: Config, broker: Broker, data_dir: Path | None) -> LatestWriter | None:
    store = open_latest(config.cache, data_dir)
    return LatestWriter(store, broker, config.cache.write_s, random=random.Random()) if store is not None else None


def _loop_health(loop: LoopStatistics) -> Component:
    if loop.well:
        return Component("loop", Condition.OK)
    return Component("loop", Condition.FAILED, f"it was held {loop.stalls} times, the last {loop.since_stall_s:.0f} s ago")


def _history_health(history: RecorderStatistics) -> Component:
    if history.failing_s is not None:
        text = f"nothing can be written for {history.failing_s:.0f} s, {history.behind} events wait: {history.error}"
        return Component("history", Condition.DEGRADED, text)
    if history.losing:
        return Component("history", Condition.DEGRADED, "it is behind, and events are lost")
    return Component("history", Condition.OK)


def _cache_health(cache: LatestStatistics) -> Component:
    if cache.away_s is None:
        return Component("cache", Condition.OK, cache.backend)
    text = f"{cache.backend} is away for {cache.away_s:.0f} s, latest values are served from memory: {cache.error}"
    return Component("cache", Condition.DEGRADED, text)


def _feed_health(feed: FeedStatistics) -> FeedHealth:
    condition = {FeedState.LIVE: Condition.OK, FeedState.STOPPED: Condition.OK, FeedState.FAILED: Condition.FAILED}.get(
        feed.state, Condition.DEGRADED
    )
    return FeedHealth(feed.name, feed.state.name.lower(), feed.reason, condition)
