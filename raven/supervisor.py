"""Feed lifecycle and restart policy: the only place that waits and connects again.

Each feed is a task with a task per connection inside. A venue's fault costs that connection a pause; an adapter's fault costs
it the same and is counted against the feed, which is parked after too many; neither is felt by another feed. A fault of Raven
itself leaves `Supervisor.run` as it came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from random import Random

import attrs
import structlog
import trio
from attrs.validators import ge, gt

from raven.adapter.batch import Batch, BatchItem, Carry, Down, Drop
from raven.adapter.contract import Adapter, Connection, FeedSpec
from raven.errors import AdapterFault, ConnectFailed, FeedError, InvalidValue, RequestError, VenueSilent, nearest
from raven.feed.backoff import backoff
from raven.feed.limits import FeedLimits
from raven.feed.link import Link
from raven.feed.plan import make_session, plan_connections
from raven.feed.rest import RestClient, open_rest_client
from raven.feed.runner import run_connection
from raven.feed.statistics import ConnectionStatistics, FeedState, FeedStatistics
from raven.feed.transport import DEFAULT_READER, FeedSocket, OpenSocket, Reader, open_websocket
from raven.model.events import StatusCause
from raven.model.topic import DEFAULT_VARIANTS, Kind, Selector, Topic

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
        book_top: whether the broker derives BOOK_TOP from its books.
        reader: which implementation reads its WebSockets.
    """

    spec: FeedSpec
    adapter: Adapter
    adapter_name: str
    adapter_version: str
    book_top: bool = False
    reader: Reader = DEFAULT_READER


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
        """Run the feeds. Reports started when their tasks exist; a feed that is parked or stopped does not end it."""
        async with trio.open_nursery() as self._nursery:
            for feed in self._feeds:
                self._start(feed)
            task_status.started()
            await trio.sleep_forever()

    def _start(self, feed: Feed) -> None:
        self._nursery.start_soon(feed.run, name=f"feed {feed.name}")

    def statistics(self) -> tuple[FeedStatistics, ...]:
        """Every feed as it stands now, in the order of the configuration."""
        return tuple(feed.statistics() for feed in self._feeds)

    def report_fault(self, name: str, topic: Topic | None, reason: str) -> None:
        """Someone downstream saw the adapter of a feed break its contract; see `Feed.report_fault`."""
        for feed in self._feeds:
            if feed.name == name:
                feed.report_fault(topic, reason)

    async def start_feed(self, name: str, selectors: Sequence[Selector] = ()) -> FeedStatistics:
        """Add topics to a feed, or, without any, have it carry what is configured. Starts it if it does not run. Idempotent.

        Args:
            selectors: exact ones; the venue may be "*".

        Raises:
            RequestError: NOT_FOUND, there is no such feed; INVALID_ARGUMENT, it cannot carry that.
        """
        feed = self._find(name)
        log.info("feed start asked for", feed=name, topics=[str(selector) for selector in selectors])
        wanted = [topic for selector in selectors for topic in feed.topics_of(selector)] or list(feed.configured)
        carried = feed.statistics().topics if feed.running else ()
        await self._carry(feed, [*carried, *(topic for topic in dict.fromkeys(wanted) if topic not in carried)])
        if not feed.running:
            self._start(feed)
        return feed.statistics()

    async def stop_feed(self, name: str, selectors: Sequence[Selector] = ()) -> FeedStatistics:
        """Take topics from a feed, or, without any, end it. The topics are CLOSED. Idempotent.

        Args:
            selectors: may be patterns; what matches nothing is nothing.

        Raises:
            RequestError: NOT_FOUND, there is no such feed.
        """
        feed = self._find(name)
        log.info("feed stop asked for", feed=name, topics=[str(selector) for selector in selectors])
        carried = feed.statistics().topics
        rest = [topic for topic in carried if selectors and not any(selector.matches(topic) for selector in selectors)]
        if not rest:
            await feed.stop()
        elif len(rest) < len(carried):
            await self._carry(feed, rest)
        return feed.statistics()

    async def _carry(self, feed: Feed, topics: Sequence[Topic]) -> None:
        try:
            await feed.carry(topics)
        except InvalidValue as error:
            raise RequestError("INVALID_ARGUMENT", str(error)) from error
        except AdapterFault as fault:
            raise RequestError("FAILED_PRECONDITION", f"the adapter cannot carry that: {fault}") from fault

    def _find(self, name: str) -> Feed:
        for feed in self._feeds:
            if feed.name == name:
                return feed
        raise RequestError(
            "NOT_FOUND", f"name: there is no feed {name!r}: {nearest(name, [feed.name for feed in self._feeds])}"
        )


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
        self._spec = feed.spec
        self._running: _Running | None = None
        self._faults_at: deque[float] = deque(maxlen=config.faults_max)
        self._parked = ""  # why
        self._links: list[Link] = []
        try:
            self._links = [Link(connection) for connection in plan_connections(feed.adapter, feed.spec)]
        except AdapterFault as fault:  # it would be the same each time: no use to try again
            self._park(fault)

    @property
    def name(self) -> str:
        """The venue in its topics."""
        return self._feed.spec.name

    @property
    def configured(self) -> tuple[Topic, ...]:
        """The topics that the configuration asks for."""
        return self._feed.spec.topics

    def topics_of(self, selector: Selector) -> list[Topic]:
        """The topics that an exact selector means, as the adapter carries them: a book for book tops.

        Raises:
            RequestError: INVALID_ARGUMENT, it is not exact, of another venue, or of kinds that the adapter does not have.
        """
        able = self._feed.adapter.capabilities.kinds | ({Kind.BOOK_TOP} if self._feed.book_top else frozenset())
        wrong = sorted(selector.kinds - able)
        if selector.venue not in ("*", self.name):
            raise RequestError("INVALID_ARGUMENT", f"venue: {selector.venue!r} is not this feed's: it is {self.name!r}")
        if selector.symbol.endswith("*"):
            raise RequestError("INVALID_ARGUMENT", f"symbol: {selector.symbol!r} is a pattern: a feed is started by names")
        if wrong or not selector.kinds:
            labels = ", ".join(kind.label for kind in sorted(able))
            asked = wrong[0].label if wrong else ""
            raise RequestError("INVALID_ARGUMENT", f"kinds: {asked!r} is not valid: this feed can carry {labels}")
        kinds = {Kind.BOOK if kind is Kind.BOOK_TOP else kind for kind in selector.kinds}
        variants = {kind: selector.variant or DEFAULT_VARIANTS.get(kind, "") for kind in kinds}
        return [
            Topic(self.name, selector.symbol, kind, variants[kind] if kind is Kind.CANDLE else "") for kind in sorted(kinds)
        ]

    @property
    def running(self) -> bool:
        """Whether its task runs; a feed that was stopped or parked does not."""
        return self._running is not None

    async def run(self) -> None:
        """Announce the topics, then keep every connection up: until cancelled or stopped, or until the feed is parked."""
        await self._publish(Carry(self._spec.topics))
        if not self._parked:
            await self._run_links()
        if self._parked:
            await self._publish(Down(self._spec.topics, StatusCause.ADAPTER_FAILED, self._parked, final=True))

    async def stop(self) -> None:
        """End all connections; the topics are CLOSED. A feed that does not run stays as it is."""
        if self._running is not None:
            self._running.nursery.cancel_scope.cancel()
            self._running = None
        topics = self._spec.topics
        self._spec = attrs.evolve(self._spec, topics=())
        self._parked = ""
        self._links = []
        if topics:
            await self._publish(Drop(topics, StatusCause.OPERATOR, "the feed was stopped"))

    async def carry(self, topics: Sequence[Topic]) -> None:
        """Carry exactly these topics from now on, without touching those that it carried before.

        Raises:
            InvalidValue: the adapter refuses one of them.
            AdapterFault: its plan does not hold.
        """
        spec = attrs.evolve(self._spec, topics=tuple(topics))
        plan = plan_connections(self._feed.adapter, spec)
        before = {topic: link.connection.name for link in self._links for topic in link.connection.topics}
        after = {topic: connection.name for connection in plan for topic in connection.topics}
        self._spec = spec
        if self._parked:
            self._parked = ""
            self._faults_at.clear()
        await self._publish(Carry([topic for topic in spec.topics if topic not in before]))
        self._follow(plan)
        moved = [topic for topic, name in before.items() if after.get(topic, name) != name]
        if moved:
            await self._publish(Down(moved, StatusCause.FEED_DOWN, "moved to another connection"))
        gone = [topic for topic in before if topic not in after]
        if gone:
            await self._publish(Drop(gone, StatusCause.OPERATOR, "stopped by an operator"))

    def _follow(self, plan: Sequence[Connection]) -> None:
        """Make the links those of `plan`; what stands under the same name goes on standing."""
        links = {link.connection.name: link for link in self._links}
        names = {connection.name for connection in plan}
        for name, link in links.items():
            if name not in names:
                link.kept_up.cancel()
        self._links = []
        for connection in plan:
            link = links.get(connection.name) or Link(connection)
            self._links.append(link)
            if connection.name in links:
                link.change(connection)
            elif self._running is not None:
                self._running.nursery.start_soon(self._keep_up, link, self._running.rest)

    def report_fault(self, topic: Topic | None, reason: str) -> None:
        """Someone downstream saw the adapter break its contract: the connection is made anew and the fault is counted."""
        for link in self._links:
            if topic is None or topic in link.connection.topics:
                link.end(AdapterFault(reason))

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
            topics=self._spec.topics,
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
            running = self._running = _Running(nursery, rest)
            try:
                for link in self._links:
                    nursery.start_soon(self._keep_up, link, rest, name=f"feed {self.name}, connection {link.connection.name}")
                await trio.sleep_forever()  # a feed whose last connection went goes on until it is stopped
            finally:
                if self._running is running:  # it was stopped, and may run again by now
                    self._running = None
                for link in self._links if self._running is None else ():
                    link.enter(FeedState.STOPPED)

    async def _keep_up(self, link: Link, rest: RestClient) -> None:
        """Connect again and again, with a pause before each time but after a planned end."""
        link.kept_up = trio.CancelScope()
        with link.kept_up:
            await self._connect_again_and_again(link, rest)

    async def _connect_again_and_again(self, link: Link, rest: RestClient) -> None:
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

    async def _connect(self, link: Link, rest: RestClient) -> bool:
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

    async def _live(self, link: Link, rest: RestClient) -> None:
        connection = link.connection
        if connection.url is None:
            await self._drive(link, rest, None)
            return
        opening = self._open_socket(
            connection.url,
            headers=connection.headers,
            frame_bytes_max=connection.frame_bytes_max,
            reader=self._feed.reader,
        )
        async with opening as socket:
            await self._drive(link, rest, socket)

    async def _drive(self, link: Link, rest: RestClient, socket: FeedSocket | None) -> None:
        """Run one session until its end. The topics go down before the socket is closed, because closing may take a while."""
        connection = link.connection
        session = make_session(self._feed.adapter, self._spec, connection, link.memory)
        try:
            with link.life() as changes:
                self._log.info("connected", connection=connection.name, topics=len(connection.topics))
                ending = await run_connection(
                    session,
                    socket,
                    feed=self.name,
                    connection=connection,
                    batches=self._batches,
                    fetch=rest.fetch,
                    counters=link.counters,
                    limits=self._limits,
                    changes=changes,
                )
        except AdapterFault as fault:
            await self._go_down(link, StatusCause.ADAPTER_FAILED, str(fault))
            raise
        except FeedError as error:
            await self._go_down(link, _cause_of(error), str(error))
            raise
        await self._go_down(link, StatusCause.FEED_DOWN, f"planned reconnect: {ending.reason}")

    # ------------------------------------------------------------------------------------------------------ what is said

    async def _go_down(self, link: Link, cause: StatusCause, text: str) -> None:
        down = Down(link.connection.topics, cause, text)
        if link.go_down(down):
            await self._publish(down)

    def _count_fault(self, link: Link, fault: AdapterFault) -> None:
        link.counters.faults += 1
        now = trio.current_time()
        self._faults_at.append(now)
        config = self._config
        if len(self._faults_at) == config.faults_max and self._faults_at[0] > now - config.fault_window_s:
            self._park(fault)
            assert self._running is not None
            self._running.nursery.cancel_scope.cancel()
        else:
            self._log.error("adapter failed", connection=link.connection.name, reason=str(fault), exc_info=fault)

    def _park(self, fault: AdapterFault) -> None:
        self._parked = str(fault)
        self._log.error("adapter failed, the feed is parked", reason=str(fault), exc_info=fault)

    async def _publish(self, item: BatchItem) -> None:
        await self._batches.send(Batch(self.name, [item]))


@attrs.frozen
class _Running:
    """What a running feed's connections share."""

    nursery: trio.Nursery
    rest: RestClient


def _worst(parts: Sequence[ConnectionStatistics]) -> tuple[FeedState, str]:
    """State and reason of the connection that stands worst."""
    if not parts:
        return FeedState.STOPPED, "stopped by an operator"
    worst = min(parts, key=lambda part: _WORST_FIRST.index(part.state))
    reason = f"{worst.name}: {worst.reason}" if worst.reason and len(parts) > 1 else worst.reason
    return worst.state, reason


def _cause_of(error: FeedError) -> StatusCause:
    return StatusCause.VENUE_SILENT if isinstance(error, VenueSilent) else StatusCause.FEED_DOWN
