"""Waiting for what a server does on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from tests.grpc.serving import Serving
from tests.grpc.strangers.stranger import PATIENCE_S


async def gone(raven: Serving, connections: int = 0) -> None:
    """Until so many connections are left."""
    await until(lambda: raven.server.connections == connections)


async def counted(raven: Serving, reason: str, count: int) -> None:
    """Until so many connections have ended for this reason."""
    await until(lambda: raven.metric("raven_connections_ended_total", reason=reason) == count)


async def until(condition: Callable[[], object]) -> None:
    """Until it holds; nobody tells."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
