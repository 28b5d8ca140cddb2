"""All feeds of a server, each a task of its own, and what operators may do to them while they run."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import structlog
import trio

from raven.adapter.batch import Batch
from raven.errors import AdapterFault, InvalidValue, RequestError, nearest
from raven.feed.limits import FeedLimits
from raven.feed.rest import HeldHosts
from raven.feed.statistics import FeedStatistics
from raven.feed.transport import OpenSocket, open_websocket
from raven.model.events import StatusCause
from raven.model.topic import Selector, Topic
from raven.supervisor.config import ConfiguredFeed, SupervisorConfig
from raven.supervisor.feed import Feed

__all__ = ["Supervisor"]

log = structlog.get_logger("raven.supervisor")


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
        held = HeldHosts()
        for index, feed in enumerate(feeds):
            try:
                self._feeds.append(Feed(feed, batches, random, config, limits, open_socket, held))
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

    def doubt(self, name: str, topic: Topic, cause: StatusCause, text: str) -> None:
        """Someone downstream saw that a topic of a feed cannot be right; see `Feed.doubt`."""
        for feed in self._feeds:
            if feed.name == name:
                feed.doubt(topic, cause, text)

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
