"""The task behind a stream: it does what the core asks for, and puts what comes where its reader takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raven.client.changes import Change, Subscribed
from raven.client.core import Deliver, Notice, Output, Phase, Send, StreamCore
from raven.client.errors import BufferOverflow, ClientError, SubscriptionRefused
from raven.client.runtime import CallOver, Dial, Link, Runtime, Wakeup, reason_of
from raven.client.wishes import subscribe_request
from raven.codec.generated.raven import v1

__all__ = ["STREAM_PATH", "Feed", "Sink"]

STREAM_PATH = "/raven.v1.MarketDataService/StreamMarketData"


class Sink(Protocol):
    """Where events go."""

    @property
    def full(self) -> bool:
        """Whether nothing more should be read for now."""

    def put(self, events: Sequence[Any], bookmark: bytes | None = None) -> None:
        """Take what has come. BufferOverflow ends the stream."""


class _CallbackFailed(Exception):
    """`on_change` has raised `error`. It is the program's own, and may look like one of the connection."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Feed:
    """One stream, for as long as someone reads it."""

    def __init__(
        self,
        core: StreamCore,
        sink: Sink,
        runtime: Runtime,
        dial: Dial,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self.core = core
        self.error: Exception | None = None
        self.ended = False
        self._sink = sink
        self._runtime = runtime
        self._dial = dial
        self._on_change = on_change
        self._link: Link | None = None
        self._cancel: Callable[[], None] | None = None
        self._news = runtime.wakeup()
        self._room = runtime.wakeup()
        self._answers: dict[str, tuple[Wakeup, list[v1.SubscribeResponseResult]]] = {}

    # ---- for the reader

    def start(self) -> None:
        """Begin, if it has not begun."""
        if self._cancel is None and not self.ended:
            self._cancel = self._runtime.spawn(self._run)

    def stop(self) -> None:
        """End. What waits may still be taken."""
        self.ended = True
        if self._cancel is not None:
            self._cancel()
        self._news.set()

    def wake(self) -> None:
        """Something has changed beside what was put."""
        self._news.set()

    async def wait_news(self) -> None:
        """Wait until something has been put, or the stream has ended."""
        self.start()
        await self._news.wait()

    def taken(self) -> None:
        """There may be room again."""
        if not self._sink.full:
            self._room.set()

    async def subscribe(self, message: v1.Subscription) -> v1.SubscribeResponseResult:
        """Add a subscription while the stream runs, or replace the one of the same id.

        Raises:
            SubscriptionRefused: the server will not give it; the stream goes on.
        """
        self.start()
        name = self.core.wishes.add(message, late=True)
        wakeup, results = self._answers[name] = self._runtime.wakeup(), []
        try:
            await self._request(subscribe_request([message]))
            await wakeup.wait()
        finally:
            self._answers.pop(name, None)
        if not results:
            raise self.error or ClientError("the stream has ended")
        if not results[0].accepted:
            raise SubscriptionRefused(results[0].field, results[0].error)
        return results[0]

    async def unsubscribe(self, name: str) -> None:
        """Remove a subscription; what is under way of it still comes."""
        if self.core.wishes.remove(name) is not None:
            await self._request(bytes(v1.StreamMarketDataRequest(unsubscribe=v1.UnsubscribeRequest(ids=[name]))))

    async def _request(self, data: bytes) -> None:
        """Send it on the stream that stands. Without one the next stream asks for what is wanted then."""
        if self._link is not None and self.core.phase is Phase.STREAMING:
            try:
                await self._link.send(data)
            except OSError:
                return  # the task that reads sees it too

    # ---- the task

    async def _run(self) -> None:
        try:
            while self.core.phase is not Phase.ENDED:
                if self.core.phase is Phase.BACKING_OFF:
                    await self._pause()
                else:
                    await self._stream()
        except BufferOverflow as error:
            self.error = error
        except _CallbackFailed as error:
            self.error = error.error
        finally:
            self.error = self.error or self.core.error
            self.ended = True
            self._news.set()
            for wakeup, _ in self._answers.values():
                wakeup.set()

    async def _pause(self) -> None:
        wake_at = self.core.wake_at or 0.0
        await self._runtime.sleep(max(wake_at - self._runtime.now(), 0.0))
        self._perform(self.core.tick(self._runtime.now()))

    async def _stream(self) -> None:
        """One connection, from dialling to its end."""
        link: Link | None = None
        try:
            link = await self._dial()
            await link.start(STREAM_PATH)
            # from here on others may send, behind the first requests
            requests = self._perform(self.core.opened(self._runtime.now()))
            for request in requests:
                await link.send(request)
            self._link = link
            while self._streaming():
                await self._step(link)
        except CallOver as over:
            self._perform(self.core.lost(over.message or over.status, self._runtime.now(), over.status))
        except OSError as error:  # TimeoutError is one
            what = f"no server at {self.core.target}" if link is None else f"the connection to {self.core.target} was lost"
            self._perform(self.core.lost(f"{what}: {reason_of(error)}", self._runtime.now()))
        finally:
            self._link = None
            if link is not None:
                await link.aclose()

    async def _step(self, link: Link) -> None:
        """Read once."""
        await self._wait_room()
        wake_at = self.core.wake_at
        timeout_s = None if wake_at is None else max(wake_at - self._runtime.now(), 0.0)
        try:
            messages = await link.receive(timeout_s)
        except TimeoutError:
            self._perform(self.core.tick(self._runtime.now()))
            return
        now = self._runtime.now()
        for message in messages:
            for request in self._perform(self.core.received(message, now)):
                await link.send(request)
            if not self._streaming():
                return
        if self.core.wake_at is not None and now >= self.core.wake_at:
            self._perform(self.core.tick(now))

    async def _wait_room(self) -> None:
        waited = False
        while self._sink.full:
            waited = True
            await self._room.wait()
        if waited:
            self.core.resumed(self._runtime.now())

    def _streaming(self) -> bool:
        return self.core.phase is Phase.STREAMING

    def _perform(self, outputs: Sequence[Output]) -> list[bytes]:
        """Deliver and tell; what is to be sent."""
        requests = []
        for output in outputs:
            if isinstance(output, Deliver):
                self._sink.put(output.events, output.bookmark)
                self._news.set()
            elif isinstance(output, Send):
                requests.append(output.data)
            elif isinstance(output, Notice):
                self._tell(output.change)
        return requests

    def _tell(self, change: Change) -> None:
        if isinstance(change, Subscribed):
            for result in change.results:
                waiting = self._answers.get(result.id)
                if waiting is not None:
                    waiting[1].append(result)
                    waiting[0].set()
        if self._on_change is not None:
            try:
                self._on_change(change)
            except Exception as error:
                raise _CallbackFailed(error) from error
