"""Sees when something holds the event loop, and says what.

A task notes when it last ran. A thread of its own, the only one that can run while the loop does not, looks at that note and,
when it is too old, logs the stack that the loop's thread stands in: the line that blocks. How long it was is measured by the
task when it runs again.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable

import attrs
import structlog
import trio

__all__ = ["WATCH_INTERVAL_S", "LoopStatistics", "Watchdog"]

WATCH_INTERVAL_S = 0.05
"""How often the task notes that it runs, and the thread looks."""

STACK_LINES_MAX = 40
RECENT_S = 5.0
"""For so long after a stall the server says that it is not ready: one stall is often followed by the next."""

log = structlog.stdlib.get_logger("raven.watchdog")


@attrs.frozen
class LoopStatistics:
    """How the event loop does.

    Args:
        stalls: times that it was held for longer than the limit.
        stalled_s: the sum of those times, in seconds.
        lag_s: how late the last note was, in seconds.
        lag_max_s: how late the latest one ever was.
        since_stall_s: seconds since the last stall ended; infinite before the first.
    """

    stalls: int
    stalled_s: float
    lag_s: float
    lag_max_s: float
    since_stall_s: float

    @property
    def well(self) -> bool:
        """Whether the last stall is some time ago."""
        return self.since_stall_s > RECENT_S


class Watchdog:
    """Watches the loop that runs it.

    Args:
        stall_s: a loop that does not turn for so long is stalled.
        clock_s: a clock that never jumps and never stops, in seconds.
    """

    def __init__(self, stall_s: float = 1.0, *, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._stall_s = stall_s
        self._clock_s = clock_s
        self._noted_at = clock_s()
        self._stop = threading.Event()
        self._loop_thread = threading.get_ident()
        self._stalls = 0
        self._stalled_s = 0.0
        self._lag_s = 0.0
        self._lag_max_s = 0.0
        self._stall_ended_at = -math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        self._loop_thread = threading.get_ident()
        self._noted_at = self._clock_s()
        looking = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note)
            nursery.start_soon(self._look_in_a_thread, looking)
            await looking.wait()
            task_status.started()

    async def _look_in_a_thread(self, looking: trio.Event) -> None:
        def look() -> None:
            trio.from_thread.run_sync(looking.set)
            self._look()

        try:
            await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        finally:
            self._stop.set()

    async def _note(self) -> None:
        while True:
            due = self._clock_s() + WATCH_INTERVAL_S
            await trio.sleep(WATCH_INTERVAL_S)
            self._noted_at = now = self._clock_s()
            self._lag_s = max(now - due, 0.0)
            self._lag_max_s = max(self._lag_max_s, self._lag_s)
            if self._lag_s >= self._stall_s:
                self._stalls += 1
                self._stalled_s += self._lag_s
                self._stall_ended_at = now
                log.warning("the event loop was held", held_s=round(self._lag_s, 3))

    def _look(self) -> None:
        """In a thread: log the loop's stack once for each time that it is held."""
        told_at = math.nan
        while not self._stop.wait(WATCH_INTERVAL_S):
            noted_at = self._noted_at
            if self._clock_s() - noted_at >= self._stall_s + WATCH_INTERVAL_S and noted_at != told_at:
                told_at = noted_at
                log.error("the event loop is held", held_s=round(self._clock_s() - noted_at, 3), stack=self._stack())

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  there is no other way to see it
        return "".join(traceback.format_stack(frame)[-STACK_LINES_MAX:]) if frame is not None else "gone"

    def statistics(self) -> LoopStatistics:
        """How the loop does, as of the last note."""
        since = self._clock_s() - self._stall_ended_at
        return LoopStatistics(self._stalls, self._stalled_s, self._lag_s, self._lag_max_s, since)
