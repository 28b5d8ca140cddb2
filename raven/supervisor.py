"""Feed lifecycle and restart policy: the only place that waits and connects again.

Each feed is a task with a task per connection inside. A venue's fault costs that connection a pause; an adapter's fault costs
it the same and is counted against the feed, which is parked after too many; neither is felt by another feed. A fault of Raven
itself leaves `Supervisor.run` as it came.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import attrs
import structlog
import trio
from attrs.validators import ge, gt

from raven.adapter.batch import Batch, BatchItem, Carry, Down
from raven.adapter.contract import Adapter, Connection, FeedSpec
from raven.errors import AdapterFault, ConnectFailed, FeedError, InvalidValue
from raven.feed.backoff import backoff
from raven.feed.limits import FeedLimits
from raven.feed.plan import make_session, plan_connections
from raven.feed.rest import RestClient, open_rest_client
from raven.feed.runner import VenueSilent, run_connection
from raven.feed.statistics import ConnectionCounters, ConnectionStatistics, FeedState, FeedStatistics
from raven.feed.transport import FeedSocket, OpenSocket, open_websocket
from raven.model.events import StatusCause

__all__ = ["ConfiguredFeed", "Feed", "Supervisor", "SupervisorConfig"]

log = structlog.get_logger("raven.supervisor")

# The worst state of a feed's connections is the feed's.
_WORST_FIRST = (FeedState.FAILED, FeedState.BACKING_OFF, FeedState.CONNECTING, FeedState.STOPPED, FeedState.LIVE)


@attrs.frozen
class SupervisorConfig:
    """The restart policy.

    Args:
        backoff_base_s, backoff_cap_s: the ceiling of the first and of every late pause before a new connection; the pause is
            drawn from between 0 and the ceiling.
        stable_s: a connection that brought data for so long starts over with the first pause.
        faults_max: so many adapter faults within `fault_window_s` park the feed.
    """

    backoff_base_s: float = attrs.field(default=0.25, validator=gt(0))
    backoff_cap_s: float = attrs.field(default=30.0, validator=gt(0))
    stable_s: float = attrs.field(default=10.0, validator=ge(0))
    faults_max: int = attrs.field(default=5, validator=ge(1))
    fault_window_s: float = attrs.field(default=60.0, validator=gt(0))


@attrs.frozen
class ConfiguredFeed:
    """One feed as the configuration asks for it.

    Args:
        adapter_name: its entry point; `adapter_version`: of the package that offers it.
    """

    spec: FeedSpec
    adapter: Adapter
    adapter_name: str
    adapter_version: str


class Supervisor:
    """Runs all feeds until it is cancelled.

    Args:
        feeds: in the order of the configuration.
        batches: the broker's channel.
        random: the source of jitter.
        open_socket: how a connection is opened.

    Raises:
        InvalidValue: an adapter refuses an option or a topic; the field begins with `feeds[i]`.
    """

    def __init__(
        self,
        feeds: Sequence[ConfiguredFeed],
        batches: trio.MemorySendChannel[Batch],
        *,
        random: Random,
        config: SupervisorConfig,
        limits: FeedLimits,
        open_socket: OpenSocket = open_websocket,
    ) -> None:
        self._feeds: list[Feed] = []
        for index, feed in enumerate(feeds):
            try:
                self._feeds.append(Feed(feed, batches, random, config, limits, open_socket))
            except InvalidValue as error:
                raise error.within(f"feeds[{index}]") from error

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the feeds. Reports started when their tasks exist; a feed that is parked does not end it."""
        async with trio.open_nursery() as nursery:
            for feed in self._feeds:
                nursery.start_soon(feed.run, name=f"feed {feed.name}")
            task_status.started()
            await trio.sleep_forever()

    def statistics(self) -> tuple[FeedStatistics, ...]:
        """Every feed as it stands now, in the order of the configuration."""
        return tuple(feed.statistics() for feed in self._feeds)


class Feed:
    """One configured feed: its connections, their restarts, and its adapter's faults."""

    def __init__(
        self,
        feed: ConfiguredFeed,
        batches: trio.MemorySendChannel[Batch],
        random: Random,
        config: SupervisorConfig,
        limits: FeedLimits,
        open_socket: OpenSocket,
    ) -> None:
        self._feed = feed
        self._batches = batches
        self._random = random
        self._config = config
        self._limits = limits
        self._open_socket = open_socket
        self._log = log.bind(feed=feed.spec.name, adapter=feed.adapter_name)
        self._nursery: trio.Nursery
        self._faults_at: deque[float] = deque(maxlen=config.faults_max)
        self._parked = ""  # why
        self._links: list[_Link] = []
        try:
            self._links = [_Link(connection) for connection in plan_connections(feed.adapter, feed.spec)]
        except AdapterFault as fault:  # it would be the same each time: no use to try again
            self._park(fault)

    @property
    def name(self) -> str:
        """The venue in its topics."""
        return self._feed.spec.name

    async def run(self) -> None:
        """Announce the topics, then keep every connection up: until cancelled, or until the feed is parked."""
        await self._publish(Carry(self._feed.spec.topics))
        try:
            if not self._parked:
                await self._run_links()
        finally:
            for link in self._links:
                link.enter(FeedState.STOPPED)
        await self._publish(Down(self._feed.spec.topics, StatusCause.ADAPTER_FAILED, self._parked, final=True))

    def statistics(self) -> FeedStatistics:
        """The feed as it stands now."""
        parts = tuple(link.statistics() for link in self._links)
        state, reason = (FeedState.FAILED, self._parked) if self._parked else _worst(parts)
        since = [part.connected_since_ts_ns for part in parts]
        return FeedStatistics(
            name=self.name,
            adapter=self._feed.adapter_name,
            adapter_version=self._feed.adapter_version,
            state=state,
            reason=reason,
            topics=self._feed.spec.topics,
            connections=parts,
            frames=sum(part.frames for part in parts),
            events=sum(part.events for part in parts),
            decode_errors=sum(part.bad_frames for part in parts),
            reconnects=sum(part.reconnects for part in parts),
            faults=sum(part.faults for part in parts),
            connected_since_ts_ns=max(since) if since and all(since) else 0,
            last_frame_ts_ns=max((part.last_frame_ts_ns for part in parts), default=0),
        )

    # -------------------------------------------------------------------------------------------------- the restart loop

    async def _run_links(self) -> None:
        async with open_rest_client(self._limits) as rest, trio.open_nursery() as nursery:
            self._nursery = nursery
            for link in self._links:
                nursery.start_soon(self._keep_up, link, rest, name=f"feed {self.name}, connection {link.connection.name}")

    async def _keep_up(self, link: _Link, rest: RestClient) -> None:
        """Connect again and again, with a pause before each time but after a planned end."""
        pauses = self._pauses()
        while True:
            planned = await self._connect(link, rest)
            if self._parked:
                return
            if link.counters.data_s >= self._config.stable_s:
                pauses = self._pauses()
            if planned and link.may_skip_pause(trio.current_time(), self._config.stable_s):
                continue
            pause_s = next(pauses)
            link.enter(FeedState.BACKING_OFF, link.reason)
            self._log.warning("backing off", connection=link.connection.name, reason=link.reason, pause_s=round(pause_s, 3))
            await trio.sleep(pause_s)

    def _pauses(self) -> Iterator[float]:
        return backoff(self._config.backoff_base_s, self._config.backoff_cap_s, self._random)

    async def _connect(self, link: _Link, rest: RestClient) -> bool:
        """One life of one connection. Returns whether its end was planned."""
        link.enter(FeedState.CONNECTING, link.reason)
        link.counters.forget_data()
        try:
            await self._live(link, rest)
        except AdapterFault as fault:
            await self._go_down(link, StatusCause.ADAPTER_FAILED, str(fault))
            self._count_fault(link, fault)
            return False
        except FeedError as error:
            await self._go_down(link, _cause_of(error), str(error))
            link.counters.counts["connects_failed"] += isinstance(error, ConnectFailed)
            return False
        return True

    async def _live(self, link: _Link, rest: RestClient) -> None:
        connection = link.connection
        if connection.url is None:
            await self._drive(link, rest, None)
            return
        opening = self._open_socket(connection.url, headers=connection.headers, frame_bytes_max=connection.frame_bytes_max)
        async with opening as socket:
            await self._drive(link, rest, socket)

    async def _drive(self, link: _Link, rest: RestClient, socket: FeedSocket | None) -> None:
        """Run one session until its end. The topics go down before the socket is closed, because closing may take a while."""
        session = make_session(self._feed.adapter, self._feed.spec, link.connection, link.memory)
        link.stand()
        try:
            ending = await run_connection(
                session,
                socket,
                feed=self.name,
                connection=link.connection,
                batches=self._batches,
                fetch=rest.fetch,
                counters=link.counters,
                limits=self._limits,
            )
        except AdapterFault as fault:
            await self._go_down(link, StatusCause.ADAPTER_FAILED, str(fault))
            raise
        except FeedError as error:
            await self._go_down(link, _cause_of(error), str(error))
            raise
        await self._go_down(link, StatusCause.FEED_DOWN, f"planned reconnect: {ending.reason}")

    # ------------------------------------------------------------------------------------------------------ what is said

    async def _go_down(self, link: _Link, cause: StatusCause, text: str) -> None:
        down = Down(link.connection.topics, cause, text)
        if link.go_down(down):
            await self._publish(down)

    def _count_fault(self, link: _Link, fault: AdapterFault) -> None:
        link.counters.faults += 1
        now = trio.current_time()
        self._faults_at.append(now)
        config = self._config
        if len(self._faults_at) == config.faults_max and self._faults_at[0] > now - config.fault_window_s:
            self._park(fault)
            self._nursery.cancel_scope.cancel()
        else:
            self._log.error("adapter failed", connection=link.connection.name, reason=str(fault), exc_info=fault)

    def _park(self, fault: AdapterFault) -> None:
        self._parked = str(fault)
        self._log.error("adapter failed, the feed is parked", reason=str(fault), exc_info=fault)

    async def _publish(self, item: BatchItem) -> None:
        await self._batches.send(Batch(self.name, [item]))


class _Link:
    """One connection of a feed over all its lives."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.counters = ConnectionCounters()
        self.memory: dict[str, Any] = {}
        self.state = FeedState.STOPPED
        self.reason = ""
        self._down: Down | None = None  # what was said last, while it is still true
        self._lives = 0
        self._planned_at = -math.inf

    def enter(self, state: FeedState, reason: str = "") -> None:
        self.state = state
        self.reason = reason

    def stand(self) -> None:
        """It is connected."""
        self.enter(FeedState.LIVE)
        self._down = None
        self.counters.reconnects += self._lives > 0
        self._lives += 1

    def go_down(self, down: Down) -> bool:
        """Whether this is news: a venue that stays away is not told of at each attempt."""
        self.reason = down.text
        if down == self._down:
            return False
        self._down = down
        return True

    def may_skip_pause(self, now: float, stable_s: float) -> bool:
        """Whether a planned end needs no pause: only one in `stable_s`, or a session that always plans would never pause."""
        skip = self._planned_at <= now - stable_s
        self._planned_at = now
        return skip

    def statistics(self) -> ConnectionStatistics:
        return self.counters.view(self.connection.name, self.state, self.reason)


def _worst(parts: Sequence[ConnectionStatistics]) -> tuple[FeedState, str]:
    """State and reason of the connection that stands worst."""
    worst = min(parts, key=lambda part: _WORST_FIRST.index(part.state))
    reason = f"{worst.name}: {worst.reason}" if worst.reason and len(parts) > 1 else worst.reason
    return worst.state, reason


def _cause_of(error: FeedError) -> StatusCause:
    return StatusCause.VENUE_SILENT if isinstance(error, VenueSilent) else StatusCause.FEED_DOWN
