"""The keys of `[feeds.options]` of a simulated feed."""

from __future__ import annotations

from typing import Any

import attrs

from raven.errors import InvalidValue

__all__ = ["BURST_MAX", "INTERVAL_NS_MAX", "RATE_MAX", "SimOptions"]

RATE_MAX = 100_000  # events/s of one topic
BURST_MAX = 10_000  # events of one wake-up
INTERVAL_NS_MAX = 10**18  # 32 years: what a rate next to 0 comes to


def _check_rate(_: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 < value <= RATE_MAX:  # NaN is refused too
        raise InvalidValue(field.name, value, f"events/s per topic: above 0, at most {RATE_MAX}")


def _check_burst(_: object, field: attrs.Attribute[Any], value: int) -> None:
    if not 1 <= value <= BURST_MAX:
        raise InvalidValue(field.name, value, f"events per wake-up: a whole number from 1 to {BURST_MAX}")


@attrs.frozen
class SimOptions:
    """How much the simulated venue sends, and what.

    The whole feed makes `rate` x topics events a second (topics of instruments do not count, they send nothing by
    themselves), in wake-ups `burst` / (`rate` x topics) seconds apart. A timer is good for about a thousand wake-ups a second:
    above that many events a second choose a burst that is as many times larger.

    Args:
        seed: the same seed gives the same payloads in the same order.
        rate: events/s per topic.
        burst: exactly so many events per wake-up, over all topics.
    """

    seed: int = 1
    rate: int | float = attrs.field(default=5, validator=_check_rate)
    burst: int = attrs.field(default=1, validator=_check_burst)

    def interval_ns(self, topics: int) -> int:
        """Nanoseconds from one wake-up to the next with so many topics, at least 1."""
        return max(1, round(min(INTERVAL_NS_MAX, self.burst * 1e9 / self.rate / topics)))
