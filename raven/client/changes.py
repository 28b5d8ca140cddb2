"""What becomes of a client's connection, told beside the events: to `on_change` of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from raven.codec.generated.raven import v1

__all__ = ["Change", "Connected", "Lost", "Moving", "Refused", "SlowWarned", "Subscribed"]


@attrs.frozen
class Connected:
    """The server has welcomed the stream, for the `streams`th time."""

    client_id: str
    instance_id: str
    server_version: str
    streams: int


@attrs.frozen
class Subscribed:
    """The server's answer to a subscription: `topics` that match now, what is in force, whether it continues without a gap."""

    results: Sequence[v1.SubscribeResponseResult]


@attrs.frozen
class Lost:
    """There is no stream; the next attempt comes in `retry_s` seconds."""

    reason: str
    retry_s: float
    attempts: int


@attrs.frozen
class Refused:
    """What was in force before is refused now; it is tried again."""

    text: str


@attrs.frozen
class Moving:
    """The server is going away; the next stream is opened in `in_s` seconds, and this one goes on until that stands."""

    reason: str
    in_s: float


@attrs.frozen
class SlowWarned:
    """This client's queue on the server fills (or, `cleared`, has emptied)."""

    queued_bytes: int
    limit_bytes: int
    cleared: bool


Change = Connected | Subscribed | Lost | Refused | Moving | SlowWarned
