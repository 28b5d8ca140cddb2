"""How fast new streams are let in: a crowd that comes back at once waits in line instead of holding up those who are served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raven.errors import RequestError

__all__ = ["Admission"]

BURST = 100
"""So many streams may begin at once after a quiet time."""


class Admission:
    """Spaces the beginnings of streams evenly (the generic cell rate algorithm, ITU-T I.371).

    Args:
        per_s: streams a second, in the long run.
        wait_max_s: who would wait longer is refused and may try again.
        clock_s: a clock that never jumps, in seconds.
    """

    def __init__(self, per_s: float, wait_max_s: float, clock_s: Callable[[], float]) -> None:
        self._step_s = 1.0 / per_s
        self._wait_max_s = wait_max_s
        self._clock_s = clock_s
        self._due_s = clock_s()

    def delay_s(self) -> float:
        """Take a place in the line; how long until it is one's turn.

        Raises:
            RequestError: UNAVAILABLE, the line is too long.
        """
        now_s = self._clock_s()
        due_s = max(self._due_s, now_s - BURST * self._step_s)
        wait_s = max(0.0, due_s - now_s)
        if wait_s > self._wait_max_s:
            raise RequestError("UNAVAILABLE", f"more new streams than are let in: the line is {wait_s:.0f} s long; try again")
        self._due_s = due_s + self._step_s
        return wait_s

    async def admit(self) -> None:
        """Wait for one's turn.

        Raises:
            RequestError: UNAVAILABLE, the line is too long.
        """
        if delay_s := self.delay_s():
            await asyncio.sleep(delay_s)
