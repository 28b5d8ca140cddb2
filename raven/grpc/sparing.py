"""Log lines that strangers can provoke, said sparingly."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Sparing"]

PERIOD_S = 60.0
KEYS_MAX = 100


class Sparing:
    """Says when something is due to be said: the first time, and then once in a period, with how often it was not.

    Args:
        period_s: for each key.
        clock: monotonic seconds.
    """

    def __init__(self, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._clock = clock
        self._last: dict[str, tuple[float, int]] = {}

    def due(self, key: str) -> int | None:
        """How often `key` was passed over since it was last due; None while it is not due. Keys are of a few fixed words."""
        now = self._clock()
        at, passed = self._last.get(key, (-self._period_s, 0))
        if now - at < self._period_s:
            self._last[key] = (at, passed + 1)
            return None
        assert len(self._last) < KEYS_MAX
        self._last[key] = (now, 0)
        return passed
