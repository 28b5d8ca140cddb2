"""One configured feed: what it carries, over which connections, and what is told of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

import attrs
import structlog
import trio

from raven.adapter.batch import Batch, BatchItem, Carry, Down, Drop
from raven.adapter.contract import Connection
from raven.adapter.outputs import Resync
from raven.errors import AdapterFault, AdapterRefused, RequestError
from raven.feed.limits import FeedLimits
from raven.feed.link import Link
from raven.feed.plan import plan_connections
from raven.feed.rest import HeldHosts, RestClient, open_rest_client
from raven.feed.statistics import ConnectionStatistics, FeedState, FeedStatistics
from raven.feed.transport import OpenSocket
from raven.model.events import StatusCause
from raven.model.topic import DEFAULT_VARIANTS, Kind, Selector, Topic
from raven.supervisor.config import ConfiguredFeed, SupervisorConfig
from raven.supervisor.restarts import Restarts

__all__ = ["Feed"]

log = structlog.get_logger("raven.supervisor")

# The worst state of a feed's connections is the feed's.
_WORST_FIRST = (FeedState.FAILED, FeedState.BACKING_OFF, FeedState.CONNECTING, FeedState.STOPPED, FeedState.LIVE)


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
        held: HeldHosts,
    ) -> None:
        self._feed = feed
        self._batches = batches
        self._config = config
        self._limits = limits
        self._held = held
        self._log = log.bind(feed=feed.spec.name, adapter=feed.adapter_name)
        self._restarts = Restarts(
            feed,
            batches,
            random,
            config,
            limits,
            open_socket,
            spec=lambda: self._spec,
            on_fault=self._on_fault,
        )
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
                self._keep_up(link, self._running)

    def report_fault(self, topic: Topic | None, reason: str) -> None:
        """Someone downstream saw the adapter break its contract: the connection is made anew and the fault is counted."""
        for link in self._links:
            if topic is None or topic in link.connection.topics:
                link.end(AdapterFault(reason))

    def doubt(self, topic: Topic, cause: StatusCause, text: str) -> None:
        """Someone downstream saw that a topic cannot be right: it is told to be in doubt, and a book begins anew.

        It reaches the broker as a Resync behind what is on its way; not more often than `FeedLimits.doubt_pause_s` allows.
        """
        for link in self._links:
            if topic in link.connection.topics:
                link.doubt(Resync(topic, cause, text))

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

    # ------------------------------------------------------------------------------------------------------- connections

    async def _run_links(self) -> None:
        async with open_rest_client(self._limits, self._held) as rest, trio.open_nursery() as nursery:
            running = self._running = _Running(nursery, rest)
            try:
                for link in self._links:
                    self._keep_up(link, running)
                await trio.sleep_forever()  # a feed whose last connection went goes on until it is stopped
            finally:
                if self._running is running:  # it was stopped, and may run again by now
                    self._running = None
                for link in self._links if self._running is None else ():
                    link.enter(FeedState.STOPPED)

    def _keep_up(self, link: Link, running: _Running) -> None:
        name = f"feed {self.name}, connection {link.connection.name}"
        running.nursery.start_soon(self._restarts.keep_up, link, running.rest, name=name)

    def _on_fault(self, link: Link, fault: AdapterFault) -> None:
        """Count it against the adapter; one too many parks the feed."""
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
        refused = isinstance(fault.__cause__, AdapterRefused)  # its text is all that there is to say, in one line
        what = "adapter cannot be used" if refused else "adapter failed"
        self._log.error(f"{what}, the feed is parked", reason=str(fault), exc_info=None if refused else fault)

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
