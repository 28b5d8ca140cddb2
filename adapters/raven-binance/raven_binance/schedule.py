"""What a session wants to do later, on the one Wakeup that it may have pending; and the pace of its requests. Pure.

Times are wall clock, which may jump: ahead, and something comes early; back, and nothing waits longer than it was put off for.
"""

from __future__ import annotations

from collections.abc import Callable

from raven.adapter import Output, Wakeup

__all__ = ["Action", "Pace", "Schedule", "growing_pause_s"]

SECOND_NS = 1_000_000_000
PAUSE_MIN_S = 1.0
PAUSE_MAX_S = 60.0

Action = Callable[[int], list[Output]]
"""Gets the time, returns what is to happen."""


def growing_pause_s(tries: int) -> float:
    """How long to wait after so many failures in a row: 1, 2, 4 ... seconds, at most a minute.

    >>> [growing_pause_s(tries) for tries in (1, 2, 3, 7, 1000)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """
    return min(PAUSE_MAX_S, PAUSE_MIN_S * float(2 ** min(tries - 1, 16)))


class Schedule:
    """Actions by key, each with the time when it is due. Putting a key in again replaces what was there."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, int, Action]] = {}  # due, put off for, what
        self._armed: int | None = None

    def put(self, key: str, now_ns: int, after_ns: int, action: Action) -> None:
        """Do `action` in `after_ns` nanoseconds."""
        self._entries[key] = (now_ns + after_ns, after_ns, action)

    def drop(self, key: str) -> None:
        """Do not do it; nothing where it is not there."""
        self._entries.pop(key, None)

    def due(self, now_ns: int) -> list[Action]:
        """What has come due, earliest first, taken out. Called upon a wakeup, so nothing is armed after."""
        self._armed = None
        ready = sorted((due, key) for key, (due, _, _) in self._entries.items() if due <= now_ns)
        return [self._entries.pop(key)[2] for _, key in ready]

    def wakeup(self, now_ns: int) -> list[Output]:
        """The Wakeup for the earliest entry, if it is not the one that is pending already."""
        if not self._entries:
            return []
        for key, (due, after, action) in self._entries.items():
            if due - now_ns > after:  # the clock went back
                self._entries[key] = (now_ns + after, after, action)
        earliest = min(due for due, _, _ in self._entries.values())
        if earliest == self._armed:
            return []
        self._armed = earliest
        return [Wakeup(max(0, earliest - now_ns))]


class Pace:
    """A budget that refills evenly: so much weight at once, then so much a second.

    Args:
        burst: weight that may go at once.
        per_s: weight a second.
    """

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst_ns = round(burst / per_s * SECOND_NS)
        self._ns_per_weight = SECOND_NS / per_s
        self._spent_until = self._last_ns = 0

    def wait_ns(self, weight: float, now_ns: int) -> int:
        """Take `weight` out of the budget; how long to wait before it may be spent."""
        if now_ns < self._last_ns:  # the clock went back
            self._spent_until -= self._last_ns - now_ns
        self._last_ns = now_ns
        self._spent_until = max(self._spent_until, now_ns) + round(weight * self._ns_per_weight)
        return max(0, self._spent_until - self._burst_ns - now_ns)
