"""When the next wake-up is due: arithmetic on the wall clock that a session is given, which may be late and may jump."""

from __future__ import annotations

__all__ = ["next_due"]


def next_due(due_ns: int, interval_ns: int, now_ns: int) -> tuple[int, int]:
    """The time of the next wake-up, after now and at most two intervals away, and how many intervals were skipped.

    A wake-up that is late by less than an interval keeps to the grid, so that the mean rate is exact. One that is later (a
    busy machine, a clock set forward) skips whole intervals. A clock set back by more than an interval begins a new grid.

    >>> next_due(1000, 100, 1030)
    (1100, 0)
    >>> next_due(1000, 100, 1250)
    (1300, 2)
    >>> next_due(1000, 100, 400)
    (500, 0)
    """
    late_ns = now_ns - due_ns
    if late_ns < -interval_ns:
        return now_ns + interval_ns, 0
    skipped = max(0, late_ns // interval_ns)
    return due_ns + (skipped + 1) * interval_ns, skipped
