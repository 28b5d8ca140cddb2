"""What measured programs share: one core, a clock from one count to another, and how they tell. Only the standard library."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time

__all__ = ["Meter", "pin", "tell"]


def pin(core: int) -> None:
    """Stay on one core, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {core})


def tell(word: str, **facts: object) -> None:
    """One line to whoever started this program."""
    sys.stdout.write(json.dumps({"word": word, **facts}) + "\n")
    sys.stdout.flush()


class Meter:
    """Wall and CPU time (user and system, all threads) between two counts of events.

    Args:
        first: what comes before is warming up.
        last: the count at which it is over.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.mark = first  # the next count that says something
        self._begun = (0, 0.0, 0.0)

    def reach(self, count: int) -> bool:
        """The count is at `mark` or beyond; whether it is over."""
        now = (count, time.perf_counter(), time.process_time())
        if self.mark == self.first:
            self._begun, self.mark = now, self.last
            return False
        events, wall_s, cpu_s = (after - before for after, before in zip(now, self._begun, strict=True))
        self.facts = {"events": events, "wall_s": wall_s, "cpu_s": cpu_s, "python": platform.python_version()}
        return True
