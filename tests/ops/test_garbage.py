"""What stays is not looked at by the garbage collector."""

from __future__ import annotations

import gc

import trio
from trio.testing import MockClock

from raven.ops.garbage import SETTLE_S, THRESHOLDS, spare_what_stays


async def test_what_is_there_is_spared_twice(autojump_clock: MockClock) -> None:
    del autojump_clock
    gc.unfreeze()
    before = gc.get_threshold()
    counts: list[int] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spare_what_stays)
            await trio.sleep(1)
            counts.append(gc.get_freeze_count())
            assert gc.get_threshold() == THRESHOLDS
            topics = [[number] for number in range(10_000)]
            counts.append(gc.get_freeze_count())
            await trio.sleep(SETTLE_S[-1])
            counts.append(gc.get_freeze_count())
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
    assert counts[0] > 10_000
    assert counts[1] <= counts[0]
    assert counts[2] > counts[0] + len(topics) // 2
