"""The adapter object at the entry point `sim`."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar

from raven.adapter import Adapter, Capabilities, Connection, FeedSpec, Session
from raven_sim.options import SimOptions
from raven_sim.session import SimSession
from raven_sim.topics import CAPABILITIES, check_topic

__all__ = ["SimAdapter"]


class SimAdapter(Adapter):
    """The simulated venue: any BASE-QUOTE and BASE-QUOTE-PERP, no network, the same numbers for the same seed."""

    api: ClassVar[int] = 1
    title: ClassVar[str] = "Simulated venue"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    options_type: ClassVar[type] = SimOptions

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        """One connection without an address.

        Raises:
            InvalidValue: a symbol, kind or interval that is not simulated.
        """
        for topic in feed.topics:
            check_topic(topic)
        # a slow simulation is silent for as long as its rate says, and nothing can be dead
        return (Connection("main", None, feed.topics, idle_timeout_s=math.inf),)

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:  # noqa: ARG002
        """A session that begins the seed's numbers anew; it leaves nothing for the next one."""
        return SimSession(feed.name, feed.options, connection.topics)
