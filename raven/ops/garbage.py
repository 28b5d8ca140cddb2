"""What the garbage collector need not look at, and how often it looks at the rest.

A full pass over everything takes a tenth of a second with ten thousand topics, and holds every client up. What stays for the
life of the server (modules, topics, feeds) is put where the collector does not look.

What an event leaves behind is freed by its reference count. What connections make stays as long as they do, and CPython's own
thresholds have the collector go through the young ones every 700 objects: of a thousand clients that come back within two
seconds that was a third of the server's time (bench/resume.py).
"""

from __future__ import annotations

import gc

import trio

__all__ = ["SETTLE_S", "THRESHOLDS", "spare_what_stays"]

SETTLE_S = (0.0, 10.0)
"""When that is done, in seconds after the server began to serve: feeds bring their topics in the first moments."""

THRESHOLDS = (5_000, 20, 20)
"""Objects that are new before the youngest are looked through (some 0.3 ms), and how many such looks before older ones are."""


async def spare_what_stays() -> None:
    """Spare what is there, once at the start and once when topics have come. What comes later is collected, but more rarely
    than CPython would. For a process that serves: it is the whole process's collector that is set.
    """
    began = trio.current_time()
    gc.set_threshold(*THRESHOLDS)
    for after_s in SETTLE_S:
        await trio.sleep_until(began + after_s)
        gc.freeze()
