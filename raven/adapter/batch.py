"""What a feed hands to the broker: the outcome of one read, in order.

A batch is what crosses the memory channel between a feed's task and the broker's. Commands of the session (Send, Fetch, Wakeup,
Reconnect, Count) never get here: the runner has carried them out.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from raven.adapter.outputs import Catalogue, Established, Refused, Resync
from raven.model.events import Event, StatusCause
from raven.model.topic import Topic

__all__ = ["Batch", "BatchItem", "Carry", "Down", "Drop"]


@attrs.frozen
class Carry:
    """A feed carries these topics from now on; until their events come they are DOWN with STARTING."""

    topics: Sequence[Topic]


@attrs.frozen
class Drop:
    """A feed carries these topics no longer; they go CLOSED with `cause`."""

    topics: Sequence[Topic]
    cause: StatusCause
    text: str = ""


@attrs.frozen
class Down:
    """The connection that fed these topics is gone; it will be made again, or `final` says that it will not.

    Args:
        cause: FEED_DOWN, VENUE_SILENT, or ADAPTER_FAILED.
        text: what happened, for people.
    """

    topics: Sequence[Topic]
    cause: StatusCause
    text: str = ""
    final: bool = False


BatchItem = Event | Established | Refused | Resync | Catalogue | Carry | Drop | Down


@attrs.define
class Batch:
    """The outcome of one read of one connection.

    Args:
        feed: the feed's name, which is the venue of its topics.
        items: in order.
    """

    feed: str
    items: list[BatchItem]
