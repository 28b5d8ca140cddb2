"""What the garbage collector need not look at.

A full pass over everything takes a tenth of a second with ten thousand topics, and holds every client up. What stays for the
life of the server (modules, topics, feeds) is put where the collector does not look.
"""

from __future__ import annotations

import gc

import trio

__all__ = ["SETTLE_S", "spare_what_stays"]

SETTLE_S = (0.0, 10.0)
"""When that is done, in seconds after the server began to serve: feeds bring their topics in the first moments."""


async def spare_what_stays() -> None:
    """Spare what is there, once at the start and once when topics have come. What comes later is collected as ever."""
    began = trio.current_time()
    for after_s in SETTLE_S:
        await trio.sleep_until(began + after_s)
        gc.freeze()
