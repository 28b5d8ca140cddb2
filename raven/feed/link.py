"""One connection of a feed over all its lives: what it carries, how it stands, how its present life is changed or ended."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import trio

from raven.adapter.batch import Down
from raven.adapter.contract import Connection
from raven.adapter.outputs import Resync
from raven.errors import AdapterFault, ConnectionLost
from raven.feed.commands import TopicChange
from raven.feed.statistics import ConnectionCounters, ConnectionStatistics, FeedState

__all__ = ["CHANGES_WAITING_MAX", "Link"]

CHANGES_WAITING_MAX = 64
"""Changes of topics that wait for a session; one more and the connection is made anew, with all of them."""


class Link:
    """A connection as its feed keeps it.

    Args:
        connection: what the adapter planned.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.counters = ConnectionCounters()
        self.memory: dict[str, Any] = {}
        self.state = FeedState.STOPPED
        self.reason = ""
        self.kept_up = trio.CancelScope()  # around all lives; the feed cancels it when it needs the connection no longer
        self._life: trio.CancelScope | None = None
        self._ended_by: AdapterFault | ConnectionLost | None = None
        self._changes: trio.MemorySendChannel[TopicChange] | None = None
        self._down: Down | None = None  # what was said last, while it is still true
        self._lives = 0
        self._planned_at = -math.inf
        self._out_s = 0.0  # without a life since there was a stable one, up to the present outage
        self._out_since: float | None = None

    def enter(self, state: FeedState, reason: str = "") -> None:
        """How it stands now, and why."""
        self.state = state
        self.reason = reason

    @contextmanager
    def life(self) -> Iterator[trio.MemoryReceiveChannel[TopicChange]]:
        """One life, from connected to the end, which may come from outside (`end`).

        Raises:
            AdapterFault, ConnectionLost: what `end` was told.
        """
        self.enter(FeedState.LIVE)
        self._down = None
        self.counters.reconnects += self._lives > 0
        self._lives += 1
        if self._out_since is not None:
            self._out_s += trio.current_time() - self._out_since
            self._out_since = None
        self._ended_by = None
        self._changes, changes = trio.open_memory_channel[TopicChange](CHANGES_WAITING_MAX)
        try:
            with trio.CancelScope() as self._life:
                yield changes
        finally:
            self._life, self._changes = None, None
        if self._ended_by is not None:
            raise self._ended_by from None

    def end(self, reason: AdapterFault | ConnectionLost) -> None:
        """End the present life, if there is one, for a reason that its session does not know of."""
        if self._life is not None and self._ended_by is None:
            self._ended_by = reason
            self._life.cancel()

    def change(self, connection: Connection) -> None:
        """Carry what `connection` says from now on. A life that is there is told, or ended where telling is not enough."""
        before, self.connection = self.connection, connection
        if self._changes is None or before == connection:
            return
        if attrs.evolve(before, topics=()) != attrs.evolve(connection, topics=()):
            self.end(ConnectionLost("the adapter plans this connection differently now"))
            return
        added = tuple(topic for topic in connection.topics if topic not in before.topics)
        removed = tuple(topic for topic in before.topics if topic not in connection.topics)
        try:
            self._changes.send_nowait(TopicChange(added, removed))
        except trio.WouldBlock:
            self.end(ConnectionLost("more changes of topics than its session takes up"))

    def doubt(self, resync: Resync) -> None:
        """A topic was found to be in doubt downstream. A life that is there is told; one that is too busy hears of the next."""
        if self._changes is not None:
            with suppress(trio.WouldBlock):
                self._changes.send_nowait(TopicChange(doubted=resync))

    def outage_s(self, now: float, stable_s: float) -> float:
        """For how long there has been no life, when one has just ended or could not begin; since a life that brought data for
        `stable_s`. Lives that were shorter do not count, neither as outage nor as its end."""
        if self.counters.data_s >= stable_s:
            self._out_s = 0.0
        if self._out_since is None:
            self._out_since = now
        return self._out_s + now - self._out_since

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
        """The connection as it stands now."""
        return self.counters.view(self.connection.name, self.state, self.reason)
