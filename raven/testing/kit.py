"""What an adapter's package offers for its own check: recorded frames, and the events that must come of them.

A package offers its kit by an entry point of the group `raven.conformance`, under the adapter's name:

    [project.entry-points."raven.conformance"]
    example = "raven_example.conformance:KIT"

It stands beside the adapter and not in it, so that a server that runs the adapter never imports test data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs

from raven.adapter import Adapter, Established, Event, FeedSpec, Kind, Refused, Resync, Topic
from raven.errors import AdapterRefused
from raven.structure import structure
from raven.testing.recording import Frame

__all__ = ["KIT_GROUP", "Answer", "ConformanceKit", "LateSubscription", "Scenario", "StatusOutput", "find_kit"]

KIT_GROUP = "raven.conformance"

START_NS = 1_700_000_000_000_000_000  # the clock of a scenario that has no frames
CONNECT_AHEAD_NS = 1_000_000_000  # of the first frame

StatusOutput = Established | Refused | Resync
"""What a session says of its topics beside events."""


@attrs.frozen
class Answer:
    """What the venue answers to a Fetch. Of several that fit they are given in turn, the last one again and again.

    Args:
        match: the whole `purpose` of the Fetch, or a part of its URL.
        after_ns: how long after the Fetch the answer arrives; 0 = before anything else.
        body, status, headers, error, retry_after_s: as `raven.adapter.Reply` has them.
    """

    match: str
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    error: str = ""
    retry_after_s: float | None = None
    after_ns: int = 0


@attrs.frozen
class LateSubscription:
    """Topics that are asked for while the connection stands, by `on_subscribe`, as soon as the clock shows `at_ns`."""

    at_ns: int
    topics: tuple[Topic, ...]


def _tuple(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(values)


@attrs.frozen
class Scenario:
    """One connection from its beginning on: what arrives, and the events that come of it.

    Args:
        topics: what the feed carries; their venue is the feed's name.
        frames: as they arrived, receipt times and all.
        events: every event of the session, in order, to the last digit.
        statuses: every Established, Refused and Resync, in order, if given; where between the events is not compared. Topics of
            one Established may as well stand in one each.
        unconfirmed: kinds whose topics the venue never confirms, because they are polled; all of them (`tuple(Kind)`) for a
            venue that confirms nothing.
        options: the table `[feeds.options]`.
        answers: to the session's Fetches; one that has none stays unanswered.
        late: topics that are added while it runs.
        name: as findings show it.
        connection: the connection of the feed whose frames these are; may be empty where the feed has one.
        start_ns: when the connection stands; else a second before the first frame.
        run_s: how long the clock goes on after the last frame, for a session that wakes up.
    """

    topics: tuple[Topic, ...] = attrs.field(converter=_tuple)
    frames: tuple[Frame, ...] = attrs.field(default=(), converter=_tuple)
    events: tuple[Event, ...] = attrs.field(default=(), converter=_tuple)
    statuses: tuple[StatusOutput, ...] = attrs.field(default=(), converter=_tuple, kw_only=True)
    unconfirmed: tuple[Kind, ...] = attrs.field(default=(), converter=_tuple, kw_only=True)
    options: Mapping[str, Any] = attrs.field(factory=dict)
    answers: tuple[Answer, ...] = attrs.field(default=(), converter=_tuple)
    late: tuple[LateSubscription, ...] = attrs.field(default=(), converter=_tuple)
    name: str = "main"
    connection: str = ""
    start_ns: int | None = None
    run_s: float = 0.0

    @property
    def begins_ns(self) -> int:
        """When the connection stands."""
        if self.start_ns is not None:
            return self.start_ns
        return self.frames[0].received_ts_ns - CONNECT_AHEAD_NS if self.frames else START_NS

    @property
    def all_topics(self) -> tuple[Topic, ...]:
        """Those from the beginning, and those that are added."""
        return (*self.topics, *(topic for late in self.late for topic in late.topics))

    def feed(self, adapter: Adapter) -> FeedSpec:
        """The feed that it runs on.

        Raises:
            ConfigError: an option that the adapter does not have, or a value that it refuses.
        """
        options: Any = structure(adapter.options_type, self.options, f"scenario {self.name!r}: options")
        return FeedSpec(self.topics[0].venue if self.topics else "feed", self.topics, options)


@attrs.frozen
class ConformanceKit:
    """All scenarios of one adapter. Together they should show every kind that it declares."""

    scenarios: tuple[Scenario, ...] = attrs.field(converter=_tuple)


def find_kit(name: str, points: Iterable[EntryPoint] | None = None) -> ConformanceKit | None:
    """The kit that is offered for the adapter `name`; None where none is. `points` stands in for what is installed.

    Raises:
        AdapterRefused: it is offered and cannot be used; says why.
    """
    offered = entry_points(group=KIT_GROUP) if points is None else points
    targets = list(dict.fromkeys(point for point in offered if (point.group, point.name) == (KIT_GROUP, name)))
    if not targets:
        return None
    if len({point.value for point in targets}) > 1:
        raise _refused(name, f"more than one is offered ({', '.join(point.value for point in targets)})")
    return _load(name, targets[0])


def _load(name: str, point: EntryPoint) -> ConformanceKit:
    try:
        loaded = point.load()
        kit = loaded() if callable(loaded) else loaded
    except Exception as error:
        raise _refused(name, f"{point.value} fails: {type(error).__name__}: {error}") from error
    if not isinstance(kit, ConformanceKit):
        raise _refused(name, f"{point.value} is no raven.testing.ConformanceKit, and no function that returns one")
    return kit


def _refused(name: str, why: str) -> AdapterRefused:
    return AdapterRefused(f"the conformance kit of adapter {name!r} cannot be used: {why}")
