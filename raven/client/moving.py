"""Make before break: the task that opens the next stream while the one of a server that goes away is still read."""

from __future__ import annotations

from collections.abc import Callable

from raven.client.core import StreamCore
from raven.client.overlap import Overlap
from raven.client.runtime import CallOver, Dial, Link, Runtime
from raven.client.wire import DecodeError

__all__ = ["STREAM_PATH", "Move"]

STREAM_PATH = "/raven.v1.MarketDataService/StreamMarketData"

FAILED = (CallOver, OSError, DecodeError, ValueError, EOFError)
"""What leaves a client where it is: no connection, a refusal (UNAVAILABLE of a server that drains too), nonsense."""


class Move:
    """Attempts at another stream, until one stands or the core says that there is no more time for it.

    Attributes:
        stands: the connection that takes over, and what has come on it.
        over: no attempt follows.
    """

    def __init__(self, core: StreamCore, runtime: Runtime, dial: Dial) -> None:
        self.stands: tuple[Link, Overlap] | None = None
        self.over = False
        self._core = core
        self._runtime = runtime
        self._dial = dial
        self._trying = False
        self._tried = runtime.wakeup()
        self._cancel: Callable[[], None] | None = None

    def start(self, old: Link, take_over: Callable[[Link], None]) -> None:
        """Begin. When a stream stands, `take_over` is told its link, and then `old` is closed, which wakes who reads it."""

        async def run() -> None:
            await self._run(old, take_over)

        self._cancel = self._runtime.spawn(run)

    async def settled(self) -> None:
        """The old stream has ended: wait for the attempt that is under way, if one is, and make no more."""
        if self._trying:
            await self._tried.wait()
        if self.stands is None:
            self.stop()

    def stop(self) -> None:
        """End the attempts."""
        self.over = True
        if self._cancel is not None:
            self._cancel()

    async def _run(self, old: Link, take_over: Callable[[Link], None]) -> None:
        pause_s: float | None = 0.0
        while pause_s is not None:
            await self._runtime.sleep(pause_s)
            await self._attempt(take_over)
            pause_s = None if self.stands is not None else self._core.stayed(self._runtime.now())
        self.over = True
        if self.stands is not None:
            await old.aclose()

    async def _attempt(self, take_over: Callable[[Link], None]) -> None:
        link: Link | None = None
        self._trying, self._tried = True, self._runtime.wakeup()
        try:
            link = await self._dial()
            overlap = await self._asked(link)
            if overlap.ready and not self.over:
                self.stands = link, overlap
                take_over(link)
        except FAILED:
            pass  # the old stream goes on
        finally:
            self._trying = False
            self._tried.set()
            if link is not None and self.stands is None:
                await link.aclose()

    async def _asked(self, link: Link) -> Overlap:
        """Subscribe, and read up to the answer."""
        await link.start(STREAM_PATH)
        requests, overlap = self._core.overlap()
        for request in requests:
            await link.send(request)
        until = self._runtime.now() + self._core.connect_s
        while not overlap.settled:
            for message in await link.receive(max(until - self._runtime.now(), 0.0)):
                overlap.take(message)
        return overlap
