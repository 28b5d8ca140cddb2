"""All connections of a server: which are open, how they ended, and whether their clients are still there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog
import trio

from raven.grpc.budgets import least
from raven.grpc.limits import ConnectionLimits
from raven.grpc.protocol import RavenProtocol
from raven.grpc.sparing import Sparing

__all__ = ["Connections", "EndObserver"]

PARTS = 8
"""Looks within the shortest of the times that are watched, so that none is overrun by more than an eighth of it."""

CHUNK = 500
"""Connections that are looked at before others have their turn."""

ORDINARY = frozenset({"client", "lost", "server"})
"""Ends that say nothing about a client."""

log = structlog.stdlib.get_logger("raven.grpc")


class EndObserver(Protocol):
    """Who counts (raven.instruments.Instruments)."""

    def error(self, component: str, kind: str, amount: int = 1) -> None:
        """One error of a kind."""

    def connection_ended(self, reason: str) -> None:
        """A connection has ended, or was refused, for one of a few fixed reasons."""


class Connections:
    """Keeps account of connections, and looks after the silent ones.

    Args:
        on_count: called with the number of open ones when it changes.
    """

    def __init__(self, observer: EndObserver, on_count: Callable[[int], object]) -> None:
        self._observer = observer
        self._on_count = on_count
        self._open: set[RavenProtocol] = set()
        self._empty = trio.Event()
        self._lowest: dict[str, float] = {}
        self._sparing = Sparing()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[RavenProtocol]:
        return iter(list(self._open))

    def budgets_lowest(self) -> dict[str, float]:
        """The smallest share of each budget that any connection has ever had left."""
        lowest = self._lowest
        for protocol in self._open:
            lowest = least(lowest, protocol.budgets.lowest())
        return lowest

    async def wait_empty(self) -> None:
        """Wait until there is no connection."""
        while self._open:
            self._empty = trio.Event()
            await self._empty.wait()

    # ---- what connections tell

    def connection_opened(self, protocol: RavenProtocol) -> None:
        """A client has connected."""
        self._open.add(protocol)
        self._on_count(len(self._open))

    def connection_closed(self, protocol: RavenProtocol, reason: str, text: str) -> None:
        """A connection is over."""
        self._open.discard(protocol)
        self._lowest = least(self._lowest, protocol.budgets.lowest())
        self._on_count(len(self._open))
        if not self._open:
            self._empty.set()
        self.ended(protocol.peer, reason, text)

    def connection_broke(self, error: Exception) -> None:
        """A fault of ours ended a connection."""
        kind = type(error).__name__
        self._observer.error("connection", kind)
        passed = self._sparing.due("fault")
        if passed is not None:
            log.error("a connection broke", error=f"{kind}: {error}", more=passed, exc_info=error)

    def ended(self, peer: str, reason: str, text: str) -> None:
        """Count an end, or that a client was not even let in; say it, if clients do not come and go just so."""
        self._observer.connection_ended(reason)
        log.debug("a connection ended", peer=peer, reason=reason, text=text)
        if reason not in ORDINARY and reason != "not_http2":
            passed = self._sparing.due(reason)
            if passed is not None:
                log.warning("a client was sent away", peer=peer, reason=reason, text=text, more=passed)

    # ---- whether clients are there

    async def watch(self, limits: ConnectionLimits, stall_s: float) -> None:
        """Look at all connections again and again: the silent ones are asked, those that stay silent are closed.

        One task for all, that sets no timers: ten thousand connections cost it a few milliseconds a round, in small pieces.
        """
        pause_s = min(limits.keepalive_s, limits.keepalive_timeout_s, stall_s) / PARTS
        while True:
            await trio.sleep(pause_s)
            now = time.monotonic()
            for index, protocol in enumerate(self, 1):
                protocol.check(now, stall_s)
                if index % CHUNK == 0:
                    await trio.lowlevel.checkpoint()
