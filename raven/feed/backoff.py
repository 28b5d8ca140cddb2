"""How long to wait before the next attempt: capped exponential backoff with full jitter."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

__all__ = ["backoff"]


def backoff(base_s: float, cap_s: float, random: Random) -> Iterator[float]:
    """Pauses in seconds, without end: each anywhere between 0 and a ceiling that doubles from `base_s` to `cap_s`.

    The whole range is drawn from, so that many feeds that lost one venue do not come back in step.
    """
    ceiling = min(base_s, cap_s)
    while True:
        yield random.uniform(0.0, ceiling)
        ceiling = min(2 * ceiling, cap_s)
