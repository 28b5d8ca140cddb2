"""More than one callback of asyncio in a turn of Trio.

trio-asyncio waits for each callback by itself: a cancel scope, a memory channel and a turn of Trio's loop with its poll of the
system, 50 us beside a callback that takes ten. A client that connects and subscribes takes some twenty callbacks. So what waits
already is run at once, for as long as others can be expected to wait for it.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Any

import sniffio
import trio

__all__ = ["hasten"]

CALLBACKS_MAX = 64
TURN_S = 0.001
"""So many callbacks, or so long, before Trio's own tasks have their turn."""


def hasten(loop: Any) -> None:
    """Have an open trio-asyncio loop run what waits in one go. To be called within it."""
    one = loop._main_loop_one  # noqa: SLF001  there is no public name for it

    async def several(no_wait: bool = False) -> None:
        await one(no_wait)
        _run_waiting(loop, time.monotonic() + TURN_S)

    loop._main_loop_one = several  # noqa: SLF001


def _run_waiting(loop: Any, until: float) -> None:
    """Plain callbacks, in their order, up to the first timer that is due or whatever needs a task."""
    library, waiting, timers = sniffio.thread_local, loop._q_recv, loop._timers  # noqa: SLF001
    previous, library.name = library.name, "asyncio"
    try:
        for _ in range(CALLBACKS_MAX):
            # ours runs in between them, so that none is taken out that could not be run here
            if not _is_plain(waiting) or (timers and timers[0].when() <= loop.time()):
                return
            handle = waiting.receive_nowait()
            if isinstance(handle, asyncio.TimerHandle):
                heapq.heappush(timers, handle)
            elif not handle.cancelled():
                handle._run()  # noqa: SLF001
                if time.monotonic() > until:
                    return
    finally:
        library.name = previous


def _is_plain(waiting: trio.MemoryReceiveChannel[asyncio.Handle]) -> bool:
    """Whether what waits first is a handle of asyncio itself, and not one of trio-asyncio's that starts a task."""
    data = waiting._state.data  # noqa: SLF001
    return bool(data) and type(data[0]) in (asyncio.Handle, asyncio.TimerHandle)
