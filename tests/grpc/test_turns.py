"""Callbacks of asyncio that wait are run together, in order, and nobody waits for ever for them."""

from __future__ import annotations

import asyncio

import sniffio
import trio
import trio_asyncio

from raven.grpc.turns import CALLBACKS_MAX, hasten


async def test_callbacks_run_in_their_order_with_few_turns_of_trio() -> None:
    seen: list[int] = []
    turns = 0
    done = trio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        hasten(loop)
        for number in range(CALLBACKS_MAX):
            loop.call_soon(seen.append, number)
        loop.call_soon(done.set)
        nursery.start_soon(count_turns)
        await done.wait()
        nursery.cancel_scope.cancel()
    assert seen == list(range(CALLBACKS_MAX))
    assert turns < CALLBACKS_MAX / 4


async def test_a_callback_that_makes_another_for_ever_holds_nobody_up() -> None:
    async with trio_asyncio.open_loop() as loop:
        hasten(loop)

        going_on = True

        def again() -> None:
            if going_on:
                loop.call_soon(again)

        again()
        with trio.fail_after(5):
            for _ in range(10):
                await trio.lowlevel.checkpoint()
        going_on = False


async def test_timers_tasks_and_calls_into_trio_keep_working() -> None:
    libraries: list[str] = []

    async def in_asyncio() -> None:
        libraries.append(sniffio.current_async_library())
        await asyncio.sleep(0.01)
        await trio_asyncio.trio_as_aio(in_trio)()
        libraries.append(sniffio.current_async_library())

    async def in_trio() -> None:
        libraries.append(sniffio.current_async_library())
        await trio.lowlevel.checkpoint()

    async with trio_asyncio.open_loop() as loop:
        hasten(loop)
        await trio_asyncio.aio_as_trio(in_asyncio)()
        libraries.append(sniffio.current_async_library())
    assert libraries == ["asyncio", "trio", "asyncio", "trio"]
