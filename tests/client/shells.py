"""Both shells of the client library in one test: the asyncio ones run in a loop of their own in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest
import trio

import raven.client.aio
import raven.client.trio

T = TypeVar("T")

PATIENCE_S = 20.0

Program = Callable[[Callable[..., AbstractAsyncContextManager[raven.client.Client]]], Awaitable[T]]


async def on_trio(program: Program[T]) -> T:
    with trio.fail_after(PATIENCE_S):
        return await program(raven.client.trio.connect)


async def on_asyncio(program: Program[T]) -> T:
    return await trio.to_thread.run_sync(lambda: _run_in(asyncio.SelectorEventLoop, program))


async def on_uvloop(program: Program[T]) -> T:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: pip install uvloop")
    return await trio.to_thread.run_sync(lambda: _run_in(uvloop.new_event_loop, program))


def _run_in(new_loop: Callable[[], asyncio.AbstractEventLoop], program: Program[T]) -> T:
    """In a plain loop: asyncio.run would take the one of trio-asyncio, where that has been imported."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_limited(program))


async def _limited(program: Program[T]) -> T:
    async with asyncio.timeout(PATIENCE_S):
        return await program(raven.client.aio.connect)


SHELLS = {"trio": on_trio, "asyncio": on_asyncio, "uvloop": on_uvloop}


def in_server(token: trio.lowlevel.TrioToken, function: Callable[..., object], *arguments: object) -> None:
    """Do something to the server, from a program in its loop or in another."""
    if trio.lowlevel.in_trio_run():
        function(*arguments)
    else:
        trio.from_thread.run_sync(function, *arguments, trio_token=token)
