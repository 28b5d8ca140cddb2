"""What a connection counts, and the frozen views that others read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import IntEnum

import attrs

from raven.model.topic import Topic

__all__ = ["ConnectionCounters", "ConnectionStatistics", "FeedState", "FeedStatistics"]


class FeedState(IntEnum):
    """How a feed or one of its connections stands. The numbers are those of raven.v1.Feed.State."""

    CONNECTING = 1
    LIVE = 2
    BACKING_OFF = 3
    FAILED = 4
    STOPPED = 5


@attrs.frozen
class ConnectionStatistics:
    """One connection of a feed, over all the times that it was made anew.

    Args:
        name: unique within the feed.
        state, reason: how it stands, and why, for people.
        frames, bytes: whole messages from the venue, and their payload.
        events: market events that the session made of them.
        bad_frames: frames that the session could not understand.
        faults: how often the adapter broke its contract.
        reconnects: connections after the first.
        counts: what the session counted by name, and what the runner did ("fetches", "fetches_failed").
        connected_since_ts_ns: wall clock; 0 while it does not stand.
        last_frame_ts_ns: wall clock; 0 before the first.
    """

    name: str
    state: FeedState
    reason: str
    frames: int
    bytes: int
    events: int
    bad_frames: int
    faults: int
    reconnects: int
    counts: Mapping[str, int]
    connected_since_ts_ns: int
    last_frame_ts_ns: int


@attrs.define
class ConnectionCounters:
    """The counters behind `ConnectionStatistics`, written by the runner and the supervisor.

    Args:
        first_data_at, last_data_at: the first and the last read or wakeup of the present connection that brought anything, on
            Trio's clock; None before. What "stable" is measured by: the wall clock may jump.
    """

    frames: int = 0
    bytes: int = 0
    events: int = 0
    bad_frames: int = 0
    faults: int = 0
    reconnects: int = 0
    counts: Counter[str] = attrs.field(factory=Counter)
    connected_since_ts_ns: int = 0
    last_frame_ts_ns: int = 0
    first_data_at: float | None = None
    last_data_at: float | None = None

    def begin(self, now_ns: int) -> None:
        """A connection stands."""
        self.connected_since_ts_ns = now_ns

    def end(self) -> None:
        """It stands no longer."""
        self.connected_since_ts_ns = 0

    def forget_data(self) -> None:
        """A new attempt to connect begins."""
        self.first_data_at = self.last_data_at = None

    def mark_data(self, now_s: float) -> None:
        """The connection brought something. `now_s` is on Trio's clock."""
        if self.first_data_at is None:
            self.first_data_at = now_s
        self.last_data_at = now_s

    @property
    def data_s(self) -> float:
        """For how long the present connection, or the last one, has brought data: from its first to its last, in seconds."""
        if self.first_data_at is None or self.last_data_at is None:
            return 0.0
        return self.last_data_at - self.first_data_at

    def view(self, name: str, state: FeedState, reason: str) -> ConnectionStatistics:
        """The numbers as they are now."""
        return ConnectionStatistics(
            name=name,
            state=state,
            reason=reason,
            frames=self.frames,
            bytes=self.bytes,
            events=self.events,
            bad_frames=self.bad_frames,
            faults=self.faults,
            reconnects=self.reconnects,
            counts=dict(self.counts),
            connected_since_ts_ns=self.connected_since_ts_ns,
            last_frame_ts_ns=self.last_frame_ts_ns,
        )


@attrs.frozen
class FeedStatistics:
    """One feed, as raven.v1.Feed has it.

    Args:
        name: the venue in its topics.
        adapter, adapter_version: entry point, and version of the package that offers it.
        state: the worst of its connections'; `reason` says why.
        topics: what it carries.
        connections: the parts; the numbers before are their sums.
        connected_since_ts_ns: since when all its connections stand, wall clock; 0 while one does not.
        last_frame_ts_ns: wall clock; 0 before the first.
    """

    name: str
    adapter: str
    adapter_version: str
    state: FeedState
    reason: str
    topics: tuple[Topic, ...]
    connections: tuple[ConnectionStatistics, ...]
    frames: int
    events: int
    decode_errors: int
    reconnects: int
    faults: int
    connected_since_ts_ns: int
    last_frame_ts_ns: int
