"""The watchdog sees what holds the loop, and says so from outside of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog.testing
import trio

from raven.ops.watchdog import Watchdog


def hold_the_loop_until(told: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not told() and time.monotonic() < deadline:
        time.sleep(0.01)  # what a blocking library would do


async def test_a_blocked_loop_is_logged_with_its_stack_while_it_is_blocked_and_measured_after() -> None:
    watchdog = Watchdog(stall_s=0.15)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            await nursery.start(watchdog.run)
            assert watchdog.statistics().well
            hold_the_loop_until(lambda: bool(lines))
            with trio.fail_after(5):
                while not watchdog.statistics().stalls:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    held, was_held = lines  # the first was said while it was held: nothing else ended it
    assert held["event"] == "the event loop is held"
    assert "hold_the_loop_until" in held["stack"]
    assert held["held_s"] > 0.15
    assert was_held["event"] == "the event loop was held"
    statistics = watchdog.statistics()
    assert statistics.stalls == 1
    assert 0.15 < statistics.stalled_s == statistics.lag_max_s
    assert not statistics.well


async def test_a_loop_that_turns_is_left_alone() -> None:
    watchdog = Watchdog(stall_s=5.0)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            await nursery.start(watchdog.run)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
    assert lines == []
    assert watchdog.statistics().stalls == 0
