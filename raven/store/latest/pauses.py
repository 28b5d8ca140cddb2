"""When a store that is away is asked again. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

__all__ = ["PAUSE_FIRST_S", "PAUSE_MAX_S", "pauses_s"]

PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 5.0
"""A failover takes one to four seconds; nothing is lost by asking, and much by coming late."""

JITTER = 0.2


def pauses_s(random: Random) -> Iterator[float]:
    """Seconds before each further attempt: doubling up to `PAUSE_MAX_S`, each up to a fifth longer or shorter, so that servers
    that lost one store do not come back in step."""
    pause = PAUSE_FIRST_S
    while True:
        yield pause * random.uniform(1 - JITTER, 1 + JITTER)
        pause = min(2 * pause, PAUSE_MAX_S)
