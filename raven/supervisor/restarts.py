"""The lives of connections, one after the other: the only place that waits and connects again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import structlog
import trio

from raven.adapter.batch import Batch, Down
from raven.adapter.contract import FeedSpec
from raven.errors import AdapterFault, ConnectFailed, FeedError, VenueSilent
from raven.feed.backoff import draw_pause_s
from raven.feed.limits import FeedLimits
from raven.feed.link import Link
from raven.feed.plan import make_session
from raven.feed.rest import RestClient
from raven.feed.runner import run_connection
from raven.feed.statistics import FeedState
from raven.feed.transport import FeedSocket, OpenSocket
from raven.model.events import StatusCause
from raven.supervisor.config import ConfiguredFeed, SupervisorConfig

__all__ = ["Restarts"]

log = structlog.get_logger("raven.supervisor")


class Restarts:
    """The restart loop of the connections of one feed.

    Args:
        spec: what the feed carries now.
        on_fault: called when the adapter was at fault; cancels the loop when it was so once too often.
    """

    def __init__(
        self,
        feed: ConfiguredFeed,
        batches: trio.MemorySendChannel[Batch],
        random: Random,
        config: SupervisorConfig,
        limits: FeedLimits,
        open_socket: OpenSocket,
        *,
        spec: Callable[[], FeedSpec],
        on_fault: Callable[[Link, AdapterFault], None],
    ) -> None:
        self._feed = feed
        self._batches = batches
        self._random = random
        self._config = config
        self._limits = limits
        self._open_socket = open_socket
        self._spec = spec
        self._on_fault = on_fault
        self._log = log.bind(feed=feed.spec.name, adapter=feed.adapter_name)

    async def keep_up(self, link: Link, rest: RestClient) -> None:
        """Connect again and again, with a pause before each time but after a planned end, until `link.kept_up` is cancelled."""
        link.kept_up = trio.CancelScope()
        with link.kept_up:
            while True:
                planned = await self._connect(link, rest)
                now = trio.current_time()
                outage_s = link.outage_s(now, self._config.stable_s)
                if not (planned and link.may_skip_pause(now, self._config.stable_s)):
                    await self._pause(link, outage_s)

    async def _pause(self, link: Link, outage_s: float) -> None:
        pause_s = draw_pause_s(outage_s, self._config.backoff_base_s, self._config.backoff_cap_s, self._random)
        link.enter(FeedState.BACKING_OFF, link.reason)
        self._log.warning(
            "backing off",
            connection=link.connection.name,
            reason=link.reason,
            next_try_in_s=round(pause_s, 3),
            outage_s=round(outage_s, 3),
        )
        await trio.sleep(pause_s)

    async def _connect(self, link: Link, rest: RestClient) -> bool:
        """One life of one connection. Returns whether its end was planned."""
        link.enter(FeedState.CONNECTING, link.reason)
        link.counters.forget_data()
        try:
            await self._live(link, rest)
        except AdapterFault as fault:
            await self._go_down(link, StatusCause.ADAPTER_FAILED, str(fault))
            self._on_fault(link, fault)
            await trio.lowlevel.checkpoint()  # one fault too many ends it here
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
        session = make_session(self._feed.adapter, self._spec(), connection, link.memory)
        try:
            with link.life() as changes:
                self._log.info("connected", connection=connection.name, topics=len(connection.topics))
                ending = await run_connection(
                    session,
                    socket,
                    feed=self._feed.spec.name,
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

    async def _go_down(self, link: Link, cause: StatusCause, text: str) -> None:
        down = Down(link.connection.topics, cause, text)
        if link.go_down(down):
            await self._batches.send(Batch(self._feed.spec.name, [down]))


def _cause_of(error: FeedError) -> StatusCause:
    return StatusCause.VENUE_SILENT if isinstance(error, VenueSilent) else StatusCause.FEED_DOWN
