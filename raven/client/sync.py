"""The client library without async, for scripts and notebooks.

from raven.client.sync import connect

with connect("localhost:50051") as client:
    for event in client.stream("sim/BTC-USDT", kinds="trade"):
        print(event)

The Trio client runs in a thread that the `with` block owns. Names, arguments and errors are those of `raven.client.Client`.
"""

from __future__ import annotations

import ssl
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

import trio

from raven.client.backoff import Reconnect
from raven.client.books import BookStream, LiveBook
from raven.client.client import Client as AsyncClient
from raven.client.events import Batch, StreamEvent
from raven.client.quiet import quiet_interrupt
from raven.client.runtime import Dialler
from raven.client.trio import connect as connect_on_trio
from raven.codec.generated.raven import v1

__all__ = ["Book", "Client", "HistoryStream", "Stream", "connect"]

T = TypeVar("T")
Q = TypeVar("Q")
T_co = TypeVar("T_co", covariant=True)


class _Source(Protocol[T_co]):
    async def __anext__(self) -> T_co: ...
    async def aclose(self) -> None: ...


@contextmanager
def connect(
    target: str = "localhost:50051",
    *,
    tls: bool | ssl.SSLContext = False,
    metadata: Mapping[str, str] | None = None,
    reconnect: Reconnect | None = None,
    dial: Dialler | None = None,
) -> Iterator[Client]:
    """A client of the server at `target`, until the block ends. Arguments and errors as of `raven.client.connect`.

    A KeyboardInterrupt that nobody catches ends the program without a traceback.
    """
    thread = _Thread()
    with quiet_interrupt():
        try:
            client = thread.start(lambda: connect_on_trio(target, tls=tls, metadata=metadata, reconnect=reconnect, dial=dial))
            yield Client(client, thread)
        finally:
            thread.stop()


class _Thread:
    """A thread that runs Trio, and one client in it."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.CancelScope | None = None
        self._client: AsyncClient | None = None
        self._failure: BaseException | None = None
        self._sources: set[Any] = set()  # what is read here; it must not die in another thread

    def start(self, connecting: Callable[[], Any]) -> AsyncClient:
        self._thread = threading.Thread(target=self._run, args=(connecting,), name="raven.client", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        assert self._client is not None
        return self._client

    def _run(self, connecting: Callable[[], Any]) -> None:
        try:
            trio.run(self._main, connecting)
        except Exception as error:  # raised where `start` waits, or lost with the block that it ended
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self, connecting: Callable[[], Any]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._stop:
            async with connecting() as self._client:
                self._ready.set()
                await trio.sleep_forever()
        self._sources.clear()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run `function` in the thread and wait for it."""
        assert self._token is not None
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def open(self, make: Callable[[], Any]) -> Stream[Any]:
        """What `make` makes in the thread, until nobody reads it any more."""

        async def opened() -> Any:
            source = make()
            self._sources.add(source)
            return source

        stream: Stream[Any] = Stream(self.call(opened), self.call)
        weakref.finalize(stream, self._release, stream.source).atexit = False
        return stream

    def _release(self, source: Any) -> None:
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._sources.discard, source)

    def stop(self) -> None:
        """End everything, and wait for it."""
        if self._token is not None and self._stop is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop.cancel)
        if self._thread is not None:
            self._thread.join()


Call = Callable[..., Any]


class Client:
    """See `raven.client.Client`."""

    def __init__(self, client: AsyncClient, thread: _Thread) -> None:
        self._client = client
        self._call: Call = thread.call
        self._open = thread.open
        self.target = client.target

    def stream(self, *topics: str, **options: Any) -> EventStream:
        """Events one by one. Arguments as of `raven.client.Client.stream`."""
        return EventStream(self._batches(*topics, **options))

    def batches(self, *topics: str, **options: Any) -> Stream[Batch]:
        """Events as they came together."""
        return self._batches(*topics, **options)

    def record_batches(self, *topics: str, **options: Any) -> Stream[Any]:
        """Arrow record batches, and between them what is none, as events."""
        return self._open(lambda: self._client.record_batches(*topics, **options))

    def history(self, *topics: str, **options: Any) -> HistoryStream:
        """Events that were kept. Arguments as of `raven.client.Client.history`."""
        return HistoryStream(self._open(lambda: self._client.history(*topics, **options).batches))

    def book(self, topic: str, depth: int = 0) -> Book:
        """One order book, the first `depth` levels a side, or all with 0."""
        return Book(self._open(lambda: self._client.book(topic)), depth)

    def _batches(self, *topics: str, **options: Any) -> Stream[Batch]:
        return self._open(lambda: self._client.batches(*topics, **options))

    def latest(self, *topics: str, **options: Any) -> list[StreamEvent]:
        """Per matching topic its status, then its latest state."""
        return self._ask(self._client.latest, topics, options)

    def topics(self, *topics: str, **options: Any) -> list[v1.ListTopicsResponseEntry]:
        """What can be subscribed to, with its status."""
        return self._ask(self._client.topics, topics, options)

    def instruments(self, venue: str = "", symbol: str = "") -> list[v1.Instrument]:
        """Definitions of instruments."""
        return self._ask(self._client.instruments, (venue, symbol), {})

    def feeds(self) -> list[v1.Feed]:
        """The server's feeds, for operators."""
        return self._ask(self._client.feeds, (), {})

    def _ask(self, question: Callable[..., Awaitable[T]], arguments: Any, options: Any) -> T:
        async def asked() -> T:
            return await question(*arguments, **options)

        answer: T = self._call(asked)
        return answer


class Stream(Generic[T]):
    """What an async stream gives, in a `for` loop."""

    def __init__(self, source: _Source[T], call: Call) -> None:
        self.source = source
        self._call = call

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        return self.ask(self.source.__anext__)

    def ask(self, question: Callable[[], Awaitable[Q]]) -> Q:
        """What `question` answers in the thread; the end of an async stream is that of the loop."""
        try:
            answer: Q = self._call(question)
        except StopAsyncIteration:
            raise StopIteration from None
        return answer

    @property
    def bookmark(self) -> bytes:
        """Where a later stream may go on; empty where there is none."""
        return getattr(self.source, "bookmark", b"")

    def close(self) -> None:
        """End the stream."""
        self._call(self.source.aclose)

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class EventStream:
    """Events one by one; the thread is asked for a batch at a time."""

    def __init__(self, batches: Stream[Batch]) -> None:
        self.batches = batches
        self._events: Iterator[StreamEvent] = iter(())
        self._behind = b""

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> StreamEvent:
        for event in self._events:
            return event
        self._behind = self.batches.bookmark
        self._events = iter(next(self.batches).events)
        return next(self._events)

    @property
    def bookmark(self) -> bytes:
        """Where a later stream may go on without missing anything that was not read here."""
        return self._behind

    def close(self) -> None:
        """End the stream."""
        self.batches.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class HistoryStream(EventStream):
    """Events that were kept, one by one."""

    @property
    def complete(self) -> bool | None:
        """None until the end; then whether nothing is missing."""
        complete: bool | None = self.batches.source.complete  # type: ignore[attr-defined]
        return complete

    @property
    def page_token(self) -> str:
        """Goes on without missing anything that was not taken here; some of it may come again."""
        return self.bookmark.decode()


class Book:
    """One order book: `for book in client.book("sim/BTC-USDT")` gives a copy of it as of each change that was waited for."""

    def __init__(self, stream: Stream[BookStream], depth: int) -> None:
        self._stream = stream
        self._depth = depth

    def __iter__(self) -> Book:
        return self

    def __next__(self) -> LiveBook:
        return self._stream.ask(self._next)

    async def _next(self) -> LiveBook:
        book = await self._stream.source.__anext__()
        return book.copy(self._depth)

    def close(self) -> None:
        """End the stream."""
        self._stream.close()

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
