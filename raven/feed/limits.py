"""The limits of a feed's connections, by name. What a venue may make Raven hold, and for how long."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt

__all__ = ["FeedLimits"]


@attrs.frozen
class FeedLimits:
    """What every feed keeps to.

    Args:
        sends_queued_max: messages to the venue that wait for their turn; one more is a fault of the adapter.
        send_timeout_s: the venue has to take one message within this.
        fetches_at_once_max: REST requests of one feed under way at a time; the others wait.
        fetches_pending_max: REST requests of one connection, waiting ones included; one more is a fault of the adapter.
        fetch_timeout_s: one REST request, from connecting to the last byte of its body. Waiting is not part of it.
        body_bytes_max: the body of a REST answer, inflated.
        retry_pause_s: a host that failed to answer, or said that it is overloaded, is not asked again before.
        retry_after_s_max: no host is held back for longer than this, whatever it asks for.
        log_samples_max: lines about bad frames, and about failed requests, that one connection logs a minute.
        suspects_max: events of one topic in a row whose time or values cannot be, before it is told to be in doubt.
        doubt_pause_s: a topic is not told so again, and its book not begun anew for it, before.
        sample_chars_max: characters of a bad frame in its line.
    """

    sends_queued_max: int = attrs.field(default=1024, validator=ge(1))
    send_timeout_s: float = attrs.field(default=10.0, validator=gt(0))
    fetches_at_once_max: int = attrs.field(default=4, validator=ge(1))
    fetches_pending_max: int = attrs.field(default=4096, validator=ge(1))
    fetch_timeout_s: float = attrs.field(default=10.0, validator=gt(0))
    body_bytes_max: int = attrs.field(default=64 * 1024 * 1024, validator=ge(1))
    retry_pause_s: float = attrs.field(default=1.0, validator=ge(0))
    retry_after_s_max: float = attrs.field(default=3600.0, validator=ge(0))
    suspects_max: int = attrs.field(default=10, validator=ge(1))
    doubt_pause_s: float = attrs.field(default=60.0, validator=gt(0))
    log_samples_max: int = attrs.field(default=5, validator=ge(0))
    sample_chars_max: int = attrs.field(default=500, validator=ge(0))
