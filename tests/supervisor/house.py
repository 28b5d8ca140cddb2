"""A supervisor with venues in memory: what its tests share."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, ClassVar

import trio

from raven.adapter.batch import Batch, BatchItem, Down
from raven.adapter.contract import Adapter, Capabilities, Connection, FeedSpec, Session
from raven.adapter.outputs import Output, Reconnect
from raven.errors import ConnectFailed, ConnectionLost
from raven.feed.limits import FeedLimits
from raven.feed.statistics import FeedState
from raven.model.events import Event, StatusCause, Trade
from raven.model.topic import Kind, Topic
from raven.supervisor import ConfiguredFeed, Supervisor, SupervisorConfig

CONFIG = SupervisorConfig(backoff_base_s=1, backoff_cap_s=8, stable_s=10, faults_max=5, fault_window_s=60)


class Highest(Random):
    """No jitter: every pause is its ceiling."""

    def uniform(self, a: float, b: float) -> float:
        return b


def topic(venue: str, symbol: str = "BTC-USDT") -> Topic:
    return Topic(venue, symbol, Kind.TRADE)


class PlainSession(Session):
    """An event per frame; `boom` raises, `plan` and `leave` reconnect."""

    def __init__(self, venue: str) -> None:
        self.venue = venue

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        if frame == b"boom":
            raise ZeroDivisionError("boom")
        if frame in (b"plan", b"leave"):
            return [Reconnect("the venue said so", planned=frame == b"plan")]
        return [Event(topic(self.venue), Trade(price=1.0), received_ts_ns)]


class PlainAdapter(Adapter):
    """One connection for each symbol. `connect` and `begin` stand in for the two methods."""

    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({Kind.TRADE}))

    def __init__(
        self,
        connect: Callable[[FeedSpec], Sequence[Connection]] | None = None,
        begin: Callable[[FeedSpec, Mapping[str, Any]], Session] | None = None,
    ) -> None:
        self.connect = connect or one_each
        self.begin = begin or (lambda spec, memory: PlainSession(spec.name))

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return self.connect(feed)

    def session(self, feed: FeedSpec, connection: Connection, memory: Any) -> Session:
        return self.begin(feed, memory)


def one_each(spec: FeedSpec, **options: Any) -> Sequence[Connection]:
    return [Connection(t.symbol, f"ws://{spec.name}/{t.symbol}", (t,), **options) for t in spec.topics]


def configured(name: str, adapter: Adapter | None = None, symbols: Sequence[str] = ("BTC-USDT",)) -> ConfiguredFeed:
    spec = FeedSpec(name, tuple(topic(name, symbol) for symbol in symbols), None)
    return ConfiguredFeed(spec, adapter or PlainAdapter(), "plain", "1.2")


class MemorySocket:
    """What one connection to the venues below looks like."""

    def __init__(self) -> None:
        self._arrive, self._arrived = trio.open_memory_channel[bytes](math.inf)
        self.heard_at = trio.current_time()

    def arrive(self, frame: bytes) -> None:
        self._arrive.send_nowait(frame)

    def close(self) -> None:
        self._arrive.close()

    async def receive_bulk(self) -> tuple[list[bytes], int]:
        try:
            frame = await self._arrived.receive()
        except trio.EndOfChannel:
            raise ConnectionLost("closed by the venue") from None
        self.heard_at = trio.current_time()
        return [frame], 7

    async def send(self, data: str | bytes) -> None:
        pass


class Venues:
    """Every venue there is: connections as they are made, by URL, and whether they are made."""

    def __init__(self) -> None:
        self.started = trio.current_time()
        self.attempts: list[tuple[float, str]] = []
        self.readers: set[str] = set()
        self.sockets: dict[str, MemorySocket] = {}
        self.refusing: set[str] = set()
        self.first_frames: list[bytes] = []
        self.close_s = 0.0

    @asynccontextmanager
    async def open(
        self, url: str, *, headers: Mapping[str, str], frame_bytes_max: int, reader: str = "websockets"
    ) -> AsyncIterator[MemorySocket]:
        await trio.lowlevel.checkpoint()
        self.attempts.append((round(trio.current_time() - self.started, 6), url))
        self.readers.add(reader)
        if url in self.refusing:
            raise ConnectFailed("venue:443: Connection refused")
        socket = self.sockets[url] = MemorySocket()
        for frame in self.first_frames:
            socket.arrive(frame)
        try:
            yield socket
        finally:
            with trio.move_on_after(self.close_s, shield=True):
                await trio.sleep_forever()

    def at(self, url: str = "ws://a/BTC-USDT") -> list[float]:
        return [at for at, attempted in self.attempts if attempted == url]


class House:
    """A running supervisor, its venues, and the batches that reach the broker."""

    def __init__(self, supervisor: Supervisor, venues: Venues, batches: trio.MemoryReceiveChannel[Batch]) -> None:
        self.supervisor = supervisor
        self.venues = venues
        self._batches = batches

    def items(self, feed: str = "a") -> list[BatchItem]:
        """What reached the broker since the last call, of one feed; the rest is dropped."""
        items: list[BatchItem] = []
        while True:
            try:
                batch = self._batches.receive_nowait()
            except trio.WouldBlock:
                return items
            items += batch.items if batch.feed == feed else []

    def states(self) -> list[FeedState]:
        return [feed.state for feed in self.supervisor.statistics()]


@asynccontextmanager
async def house(*feeds: ConfiguredFeed, **options: Any) -> AsyncIterator[House]:
    venues = Venues()
    send, receive = trio.open_memory_channel[Batch](math.inf)
    options = {"config": CONFIG, "random": Highest(), "limits": FeedLimits(), "open_socket": venues.open, **options}
    supervisor = Supervisor(feeds, send, **options)
    async with trio.open_nursery() as nursery:
        yield_to = House(supervisor, venues, receive)
        await nursery.start(supervisor.run)
        yield yield_to
        nursery.cancel_scope.cancel()


def down(cause: StatusCause, text: str, *, final: bool = False) -> Down:
    return Down((topic("a"),), cause, text, final)
