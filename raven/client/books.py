"""Order books, kept up to date beside the stream and marked while they are in doubt."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from raven.client.changes import Change, Lost
from raven.client.core import StreamCore
from raven.client.events import GapEvent, StatusEvent, StreamEvent
from raven.client.feed import Feed
from raven.client.runtime import Dial, Runtime
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, State
from raven.model.topic import Topic

__all__ = ["BookKeeper", "BookStream", "Books", "LiveBook"]


class LiveBook:
    """One order book as of `sequence`. While `in_doubt` it is the last known one, and `doubt` says why.

    Attributes:
        topic: whose.
        epoch, sequence: of the event that it stands behind.
        received_ts_ns: when Raven read what changed it last.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.epoch = 0
        self.sequence = 0
        self.received_ts_ns = 0
        self._book = OrderBook()
        self._doubts: dict[str, str] = {"image": "no image has come yet"}

    @property
    def in_doubt(self) -> bool:
        """Whether it may differ from the venue's."""
        return bool(self._doubts)

    @property
    def doubt(self) -> str:
        """Why it is in doubt; empty when it is not."""
        return "; ".join(self._doubts.values())

    @property
    def best_bid(self) -> float | None:
        """The highest bid price; None when there is none."""
        return self._book.best_bid

    @property
    def best_ask(self) -> float | None:
        """The lowest ask price; None when there is none."""
        return self._book.best_ask

    def bids(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the highest bid down; the first `depth`, or all with 0."""
        return self._book.bids(depth)

    def asks(self, depth: int = 0) -> list[tuple[float, float]]:
        """(price, size) from the lowest ask up; the first `depth`, or all with 0."""
        return self._book.asks(depth)

    def top(self, depth: int = 0) -> BookSnapshot:
        """A copy: the first `depth` levels a side, or all with 0."""
        return self._book.snapshot(depth)

    def copy(self, depth: int = 0) -> LiveBook:
        """As it is now, the first `depth` levels a side, or all with 0. Nothing changes the copy."""
        copied = LiveBook(self.topic)
        copied._book = OrderBook(self._book.snapshot(depth))
        copied._doubts = dict(self._doubts)
        copied.epoch, copied.sequence, copied.received_ts_ns = self.epoch, self.sequence, self.received_ts_ns
        return copied

    def __len__(self) -> int:
        """Levels on both sides."""
        return len(self._book)

    def __repr__(self) -> str:
        doubt = f", in doubt: {self.doubt}" if self.in_doubt else ""
        return f"<LiveBook {self.topic} {self.best_bid} | {self.best_ask}, {len(self)} levels{doubt}>"

    def apply(self, event: StreamEvent) -> None:
        """Take the next event of the topic."""
        payload = event.payload
        if isinstance(event, GapEvent):
            self._doubts["image"] = "events are missing, and no image has come since"
        elif isinstance(event, StatusEvent):
            self._status(event)
        elif isinstance(payload, BookSnapshot):
            self._book.reset(payload)
            self._doubts.pop("image", None)
        elif isinstance(payload, BookDelta) and "image" not in self._doubts:
            self._book.apply(payload)
        self.epoch, self.sequence, self.received_ts_ns = event.epoch, event.sequence, event.received_ts_ns

    def _status(self, event: StatusEvent) -> None:
        self._doubts.pop("connection", None)  # whoever says how the topic is, has it
        status = event.payload
        if status.state == State.LIVE:
            self._doubts.pop("status", None)
        else:
            name = status.state.name if isinstance(status.state, State) else str(status.state)
            self._doubts["status"] = name + (f": {status.text}" if status.text else "")

    def cut_off(self, reason: str) -> None:
        """There is no connection; what follows is not known."""
        self._doubts["connection"] = reason


class BookKeeper:
    """The books of a stream. Pure: events in, the books that have changed out."""

    def __init__(self) -> None:
        self.books: dict[Topic, LiveBook] = {}
        self._changed: dict[Topic, None] = {}

    @property
    def full(self) -> bool:
        """Never: what waits for the reader is at most each book once."""
        return False

    def put(self, events: Sequence[StreamEvent], bookmark: bytes | None = None) -> None:  # noqa: ARG002  # of the protocol
        """Apply what has come."""
        for event in events:
            book = self.books.get(event.topic)
            if book is None:
                book = self.books[event.topic] = LiveBook(event.topic)
            book.apply(event)
            self._changed[event.topic] = None

    def cut_off(self, reason: str) -> None:
        """There is no connection: all books are in doubt."""
        for topic, book in self.books.items():
            book.cut_off(reason)
            self._changed[topic] = None

    def take(self) -> LiveBook | None:
        """The book that has waited longest since it changed; None if none has."""
        for topic in self._changed:
            del self._changed[topic]
            return self.books[topic]
        return None


class Books:
    """The books of all topics that match, by "venue/SYMBOL"; `async for book in books` gives each one that has changed."""

    def __init__(self, core: StreamCore, runtime: Runtime, dial: Dial, on_change: Callable[[Change], None] | None) -> None:
        keeper = BookKeeper()

        feed: Feed

        def changed(change: Change) -> None:
            if isinstance(change, Lost):
                keeper.cut_off(change.reason)
                feed.wake()
            if on_change is not None:
                on_change(change)

        feed = Feed(core, keeper, runtime, dial, changed)
        self._keeper = keeper
        self._feed = feed
        self._runtime = runtime
        weakref.finalize(self, feed.stop).atexit = False

    def __getitem__(self, name: str) -> LiveBook:
        """The book of "venue/SYMBOL".

        Raises:
            KeyError: nothing has come of it.
        """
        for topic, book in self._keeper.books.items():
            if name in (f"{topic.venue}/{topic.symbol}", str(topic)):
                return book
        raise KeyError(name)

    def adopt(self, book: LiveBook) -> None:
        """Keep this one up to date, in place of one made here."""
        self._keeper.books[book.topic] = book

    def __iter__(self) -> Iterator[LiveBook]:
        return iter(list(self._keeper.books.values()))

    def __len__(self) -> int:
        return len(self._keeper.books)

    def __aiter__(self) -> Books:
        return self

    async def __anext__(self) -> LiveBook:
        await self._runtime.sleep(0)
        while (book := self._keeper.take()) is None:
            if self._feed.ended:
                raise self._feed.error or StopAsyncIteration
            await self._feed.wait_news()
        return book

    async def aclose(self) -> None:
        """End the stream."""
        self._feed.stop()
        await self._runtime.sleep(0)

    async def __aenter__(self) -> Books:
        self._feed.start()
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class BookStream(LiveBook):
    """One book that keeps itself up to date.

    `async with client.book(...) as book` waits for its first image; `async for _ in book` waits for the next change, and
    without `async with` begins by itself.
    """

    def __init__(self, books: Books, topic: Topic) -> None:
        super().__init__(topic)
        books.adopt(self)
        self._books = books

    def __aiter__(self) -> BookStream:
        return self

    async def __anext__(self) -> BookStream:
        await self._books.__anext__()
        return self

    async def aclose(self) -> None:
        """End the stream; the book stays as it is."""
        await self._books.aclose()

    async def __aenter__(self) -> BookStream:
        await self._books.__aenter__()
        while not self.sequence:
            await self._books.__anext__()
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
