"""The Python of docs/clients.md runs as it stands there: programs against a server on a socket, recipes against a fake one.

What a recipe leaves to its reader (load, save, handle, a database, print) is given here; a recipe that goes on for ever is
ended from there, when it has been called so often.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import raven.client
from raven.adapter import Established
from raven.client.testing import FakeServer
from raven.model.events import BookDelta, BookSnapshot, Gap, Quote, State, TopicStatus, Trade
from tests.grpc.serving import serving
from tests.grpc.test_stream import TOPICS, TRADE, trades

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"
TARGET = "localhost:50051"
ENOUGH = 3
"""Calls after which a recipe has shown that it works."""

PACE_S = 0.001
PATIENCE_S = 20.0
VENUE = "binance-spot"


def blocks() -> Iterator[Any]:
    """The Python blocks, by their heading and number."""
    heading, number = "", 0
    for part in re.split(r"^(#+ [^\n]*\n|```python\n.*?^```\n)", DOCUMENT.read_text(), flags=re.DOTALL | re.MULTILINE):
        if part.startswith("#"):
            heading = part.strip("# \n")
        elif part.startswith("```python"):
            number += 1
            yield pytest.param(part.removeprefix("```python\n").removesuffix("```\n"), id=f"{number} {heading}")


BLOCKS = list(blocks())
PROGRAMS = [block for block in BLOCKS if TARGET in block.values[0]]
RECIPES = [block for block in BLOCKS if TARGET not in block.values[0]]


class Enough(Exception):  # what ends a recipe
    """It has done what it is there for."""


class Reader:
    """What a recipe leaves to whoever reads it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def hook(self, *values: Any) -> None:
        self.calls.append(values)
        if len(self.calls) >= ENOUGH:
            raise Enough

    async def insert(self, *values: Any) -> None:
        self.hook(*values)

    def names(self) -> dict[str, Any]:
        """As recipes call them."""
        event = raven.client.StatusEvent(TRADE, 1, 1, TopicStatus(State.LIVE), 1, 1, 0)
        given = {"load": lambda: b"", "handle": lambda _: None, "database": self, "event": event}
        types_ = {"Event": raven.client.Event, "GapEvent": raven.client.GapEvent, "StatusEvent": raven.client.StatusEvent}
        return {**given, **types_, "Trade": Trade, "Gap": Gap, "print": self.hook, "save": self.hook}


def missing(source: str) -> Iterator[str]:
    """Modules that a block imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def compiled(source: str, path: str) -> Callable[..., Any]:
    """A block with `await` at its top, as a function."""
    code = compile(source, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return lambda names: types.FunctionType(code, names)()


def test_the_document_has_its_recipes() -> None:
    assert (len(PROGRAMS), len(RECIPES)) == (3, 7)


@pytest.mark.parametrize("source", PROGRAMS)
async def test_a_program_runs(source: str) -> None:
    for module in missing(source):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install {module}")
    reader = Reader()
    async with serving(TOPICS) as server, trio.open_nursery() as nursery:
        server.publish(Established([TRADE]))

        def run() -> None:
            names = {**reader.names(), "__name__": "__main__"}
            with suppress(Enough):
                exec(compile(source.replace(TARGET, f"127.0.0.1:{server.port}"), "docs/clients.md", "exec"), names)

        async def market() -> None:
            number = 1
            while True:
                server.publish(*trades(number, number + 9))
                number += 10
                await trio.sleep(PACE_S)

        nursery.start_soon(market)
        with trio.fail_after(PATIENCE_S):
            await trio.to_thread.run_sync(run)
        nursery.cancel_scope.cancel()
    assert reader.calls


async def play(server: FakeServer) -> None:
    """A market."""
    trade, quote = Trade(64000.0, 0.1), Quote(63999.0, 1.0, 64000.0, 1.0)
    book, delta = BookSnapshot([63999.0], [1.0], [64000.0], [1.0]), BookDelta([63998.0], [1.0])
    for symbol in ("BTC-USDT", "ETH-USDT"):
        server.publish(f"{VENUE}/{symbol}/book", book)
    while True:
        for symbol in ("BTC-USDT", "ETH-USDT"):
            for kind, payload in (("trade", trade), ("quote", quote), ("book", delta)):
                server.publish(f"{VENUE}/{symbol}/{kind}", payload)
        server.heartbeat()
        await trio.sleep(PACE_S)


@pytest.mark.parametrize("source", RECIPES)
async def test_a_recipe_runs(source: str) -> None:
    for module in missing(source):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install {module}")
    reader, server = Reader(), FakeServer()
    endless = "async for" in source
    with trio.fail_after(PATIENCE_S):
        async with server.connect() as client, trio.open_nursery() as nursery:
            await nursery.start(started, server)
            try:
                await maybe(compiled(source, "docs/clients.md")({**reader.names(), "client": client}))
            except Enough:
                assert endless
            nursery.cancel_scope.cancel()
    assert bool(reader.calls) == endless


async def started(server: FakeServer, *, task_status: trio.TaskStatus[None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, server)
        await trio.testing.wait_all_tasks_blocked()
        task_status.started()


async def maybe(result: Any) -> None:
    """Wait for a block that has something to wait for."""
    if isinstance(result, types.CoroutineType):
        await result
