"""What a program reads: events one by one, or as they came together."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol

from raven.client.buffer import Buffer
from raven.client.events import Batch, StreamEvent
from raven.client.feed import Feed
from raven.client.runtime import Runtime
from raven.client.selectors import selector
from raven.client.wishes import subscription_message
from raven.codec.generated.raven import v1

__all__ = ["BatchStream", "EventStream", "RecordStream"]


class BatchStream:
    """Batches of events. Reading begins with the first `async for`, and ends with `aclose` or with the client's block."""

    def __init__(self, feed: Feed, buffer: Buffer, runtime: Runtime) -> None:
        self._feed = feed
        self._buffer = buffer
        self._runtime = runtime
        self.bookmark = feed.core.bookmark
        weakref.finalize(self, feed.stop).atexit = False  # a loop that was left by `break` is read no further

    def __aiter__(self) -> BatchStream:
        return self

    async def __anext__(self) -> Batch:
        while True:
            batch = self._buffer.take()
            if batch is not None:
                self._feed.taken()
                if batch.bookmark is not None:
                    self.bookmark = batch.bookmark
                if batch.events:
                    await self._runtime.sleep(0)
                    return batch
            elif self._feed.ended:
                raise self._feed.error or StopAsyncIteration
            else:
                await self._feed.wait_news()

    @property
    def dropped(self) -> int:
        """Events that were left out because this program did not take them."""
        return self._buffer.dropped

    @property
    def duplicates(self) -> int:
        """Events that came twice and were left out."""
        return self._feed.core.tracker.duplicates

    async def subscribe(
        self, topic: str, kinds: str = "trade", variant: str = "", *, images: bool = True, name: str = ""
    ) -> v1.SubscribeResponseResult:
        """Add topics while the stream runs; the result's `id` is for `unsubscribe`. Arguments as of `Client.stream`.

        Raises:
            SubscriptionRefused: the server will not give it; the stream goes on.
        """
        return await self._feed.subscribe(subscription_message(selector(topic, kinds, variant), images=images, name=name))

    async def unsubscribe(self, name: str) -> None:
        """Remove a subscription; what is under way of it still comes. Those of `Client.stream` are called "1", "2" ..."""
        await self._feed.unsubscribe(name)

    async def aclose(self) -> None:
        """End the stream."""
        self._feed.stop()
        await self._runtime.sleep(0)

    async def __aenter__(self) -> BatchStream:
        self._feed.start()
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class EventStream:
    """Events one by one. See `BatchStream`, which it reads."""

    def __init__(self, batches: BatchStream) -> None:
        self.batches = batches
        self._events: Iterator[StreamEvent] = iter(())
        self._behind = b""

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> StreamEvent:
        for event in self._events:
            return event
        self._behind = self.batches.bookmark
        self._events = iter((await self.batches.__anext__()).events)
        return next(self._events)

    @property
    def bookmark(self) -> bytes:
        """Where a later stream may go on without missing anything that was not read here; some of it may come again."""
        return self._behind

    @property
    def dropped(self) -> int:
        """Events that were left out because this program did not take them."""
        return self.batches.dropped

    @property
    def duplicates(self) -> int:
        """Events that came twice and were left out."""
        return self.batches.duplicates

    async def subscribe(
        self, topic: str, kinds: str = "trade", variant: str = "", *, images: bool = True, name: str = ""
    ) -> v1.SubscribeResponseResult:
        """See `BatchStream.subscribe`."""
        return await self.batches.subscribe(topic, kinds, variant, images=images, name=name)

    async def unsubscribe(self, name: str) -> None:
        """See `BatchStream.unsubscribe`."""
        await self.batches.unsubscribe(name)

    async def aclose(self) -> None:
        """End the stream."""
        await self.batches.aclose()

    async def __aenter__(self) -> EventStream:
        await self.batches.__aenter__()
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.batches.aclose()


class Records(Protocol):
    """Where a RecordStream takes from."""

    bookmark: bytes | None

    def take(self) -> Any:
        """The next record batch or event; None if nothing waits."""


class RecordStream:
    """Arrow record batches of trades and of quotes; between them, as events, what is neither: gaps, statuses, other kinds."""

    def __init__(self, feed: Feed, records: Records, runtime: Runtime) -> None:
        self._feed = feed
        self._records = records
        self._runtime = runtime
        weakref.finalize(self, feed.stop).atexit = False

    def __aiter__(self) -> RecordStream:
        return self

    async def __anext__(self) -> Any:
        """A pyarrow.RecordBatch, or a StreamEvent."""
        await self._runtime.sleep(0)
        while (item := self._records.take()) is None:
            self._feed.taken()
            if self._feed.ended:
                raise self._feed.error or StopAsyncIteration
            await self._feed.wait_news()
        self._feed.taken()
        return item

    @property
    def bookmark(self) -> bytes:
        """Where a later stream may go on, when what was taken so far is done with; empty before the first."""
        return self._records.bookmark or b""

    async def aclose(self) -> None:
        """End the stream."""
        self._feed.stop()
        await self._runtime.sleep(0)

    async def __aenter__(self) -> RecordStream:
        self._feed.start()
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
