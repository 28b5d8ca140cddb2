"""The task behind a stream: it does what the core asks for, and puts what comes where its reader takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raven.client.changes import Change, Subscribed
from raven.client.core import Deliver, Notice, Output, Phase, Send, StreamCore
from raven.client.errors import BufferOverflow, ClientError, SubscriptionRefused
from raven.client.moving import STREAM_PATH, Move
from raven.client.runtime import CallOver, Dial, Link, Runtime, Wakeup, reason_of
from raven.client.wishes import subscribe_request
from raven.codec.generated.raven import v1

__all__ = ["STREAM_PATH", "Feed", "Sink"]


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
        self._link: Link | None = None  # where requests go
        self._move: Move | None = None
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
        if self._link is not None and (self.core.streaming or self._moved):
            try:
                await self._link.send(data)
            except OSError:
                return  # the task that reads sees it too

    # ---- the task

    async def _run(self) -> None:
        try:
            while self.core.phase is not Phase.ENDED:
                if self.core.phase is Phase.BACKING_OFF and not self._moved:
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
            await self._end_move()

    async def _pause(self) -> None:
        if self._move is not None:
            await self._move.settled()
            if self._moved:
                return
            self._move = None
        wake_at = self.core.wake_at or 0.0
        await self._runtime.sleep(max(wake_at - self._runtime.now(), 0.0))
        self._perform(self.core.tick(self._runtime.now()))

    async def _stream(self) -> None:
        """One connection, from dialling, or from the end of the one that it was made beside, to its end."""
        link: Link | None = None
        try:
            if self._move is not None and self._move.stands is not None:
                (link, overlap), self._move = self._move.stands, None
                self._perform(self.core.moved(overlap, self._runtime.now()))
            else:
                link = await self._dial()
                await self._ask(link)
            while self.core.streaming and not self._moved:
                self._begin_move(link)
                await self._step(link)
        except CallOver as over:
            self._lost(over.message or over.status, over.status)
        except OSError as error:  # TimeoutError is one
            what = f"no server at {self.core.target}" if link is None else f"the connection to {self.core.target} was lost"
            self._lost(f"{what}: {reason_of(error)}")
        finally:
            if self._link is link:
                self._link = None
            if link is not None:
                await link.aclose()

    async def _ask(self, link: Link) -> None:
        await link.start(STREAM_PATH)
        # from here on others may send, behind the first requests
        for request in self._perform(self.core.opened(self._runtime.now())):
            await link.send(request)
        self._link = link

    def _lost(self, reason: str, status: str = "UNAVAILABLE") -> None:
        if not self._moved:  # else it was closed because another stands
            self._perform(self.core.lost(reason, self._runtime.now(), status))

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
        if self._moved:  # what this brought comes on the new one too
            return
        now = self._runtime.now()
        for message in messages:
            for request in self._perform(self.core.received(message, now)):
                await link.send(request)
            if not self.core.streaming:
                return
        if self.core.wake_at is not None and now >= self.core.wake_at:
            self._perform(self.core.tick(now))

    # ---- the stream that is made beside it

    @property
    def _moved(self) -> bool:
        return self._move is not None and self._move.stands is not None

    def _begin_move(self, link: Link) -> None:
        if self.core.phase is Phase.MOVING and (self._move is None or self._move.over):
            self._move = Move(self.core, self._runtime, self._dial)
            self._move.start(link, self._take_over)

    def _take_over(self, link: Link) -> None:
        """From now on requests go there."""
        self._link = link

    async def _end_move(self) -> None:
        if self._move is not None:
            self._move.stop()
            if self._move.stands is not None:
                await self._move.stands[0].aclose()

    async def _wait_room(self) -> None:
        waited = False
        while self._sink.full:
            waited = True
            await self._room.wait()
        if waited:
            self.core.resumed(self._runtime.now())

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
