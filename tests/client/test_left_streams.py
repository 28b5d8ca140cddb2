"""A stream that its reader left is ended by the garbage collector, from whatever thread and whenever that comes by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import trio
import trio.testing

from raven.client.aio import AsyncioRuntime
from raven.client.trio import TrioRuntime


def elsewhere(function: Callable[[], None]) -> None:
    """Call it in another thread; what it raises is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def test_on_trio_a_task_is_cancelled_from_another_thread_and_after_the_run_nothing_happens() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("task")

    async def main() -> Callable[[], None]:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                cancel = TrioRuntime(nursery).spawn(wait)
                await trio.testing.wait_all_tasks_blocked()
                await trio.to_thread.run_sync(cancel)
        return cancel

    cancel = trio.run(main)
    assert ended == ["task"]
    cancel()
    elsewhere(cancel)


def test_on_asyncio_too() -> None:
    async def main() -> Callable[[], None]:
        ended = asyncio.Event()

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        runtime = AsyncioRuntime()
        cancel = runtime.spawn(wait)
        await asyncio.sleep(0)
        await asyncio.to_thread(cancel)
        async with asyncio.timeout(10):
            await ended.wait()
        await runtime.aclose()
        return cancel

    cancel = asyncio.run(main())
    cancel()
    elsewhere(cancel)
