"""What a session returns: market events, and requests to whoever drives it.

`Event` (raven.model.events) is the usual one. The rest are below. A session returns them in the order in which they are to
happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from raven.model.events import Event, StatusCause
from raven.model.instrument import Instrument
from raven.model.topic import Topic

__all__ = [
    "Catalogue",
    "Count",
    "Established",
    "Fetch",
    "Output",
    "Reconnect",
    "Refused",
    "Reply",
    "Resync",
    "Send",
    "Wakeup",
]


@attrs.frozen
class Send:
    """Write one WebSocket message. The runner keeps to the plan's `sends_per_s_max`."""

    data: str | bytes


@attrs.frozen
class Fetch:
    """Make one REST request; its answer comes to `on_reply` with this same object.

    Args:
        url: the whole address, with its query.
        purpose: the session's own mark, to know the answer by ("depth:BTCUSDT").
        topic: the topic that waits for it, for the log; None when none does.
        method, headers, body: as HTTP has them.
    """

    url: str
    purpose: str
    topic: Topic | None = None
    method: str = "GET"
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


@attrs.frozen
class Reply:
    """The answer to a Fetch.

    Args:
        status: the HTTP status; 0 when there was none (`error` says why).
        body: the whole body, at most the runner's limit.
        received_ts_ns: when it had arrived, wall clock.
        headers: names in lower case.
        error: why there is no answer ("timed out after 10 s"); empty when there is one.
        retry_after_s: how long the venue asks to wait (429, 418, 503); None when it does not. The runner itself holds back
            further requests to that host for so long.
    """

    status: int
    body: bytes
    received_ts_ns: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    error: str = ""
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the venue answered with 2xx."""
        return 200 <= self.status < 300


@attrs.frozen
class Wakeup:
    """Call `on_wakeup` once, `after_ns` nanoseconds from now. A later Wakeup takes the place of one that has not come yet.

    It is relative, so that no session depends on the wall clock going evenly.
    """

    after_ns: int


@attrs.frozen
class Established:
    """The venue confirmed these topics: from now on their events come.

    A topic of events goes LIVE with it; a book goes LIVE with its snapshot. An event of a topic that is not LIVE has the same
    effect, for venues that do not confirm.
    """

    topics: Sequence[Topic]


@attrs.frozen
class Refused:
    """The venue will not give this topic; it goes CLOSED, and the rest of the feed goes on.

    Args:
        cause: VENUE_REFUSED, DELISTED or NOT_ENTITLED.
        text: what the venue said.
    """

    topic: Topic
    text: str
    cause: StatusCause = StatusCause.VENUE_REFUSED


@attrs.frozen
class Resync:
    """Something of this topic was missed or is in doubt. The core publishes a Gap and RESYNCING.

    The session withholds the topic's deltas from here until it can send a BookSnapshot, which makes the topic LIVE again.

    Args:
        cause: SEQUENCE_GAP, CHECKSUM, CROSSED or CLOCK.
        text: what was seen, for people ("U 105 after u 100").
    """

    topic: Topic
    cause: StatusCause
    text: str = ""


@attrs.frozen
class Reconnect:
    """This connection is of no more use; make a new one. `planned` is for a venue's notice that it will close.

    A planned one is made at once; repeated within seconds it pauses like any other.
    """

    reason: str
    planned: bool = False


@attrs.frozen
class Catalogue:
    """Definitions of the venue's instruments: all that it has, or those that changed.

    The core keeps them for ListInstruments and publishes the INSTRUMENT topics that the feed carries. Two different venue
    symbols under one symbol are a fault of the adapter.
    """

    instruments: Sequence[Instrument]
    received_ts_ns: int


@attrs.frozen
class Count:
    """Add `amount` to this feed's counter `what` ("unknown_message", "skipped_intervals"); a few fixed names, never data."""

    what: str
    amount: int = 1


Output = Event | Send | Fetch | Wakeup | Established | Refused | Resync | Reconnect | Catalogue | Count
