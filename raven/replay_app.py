"""The composition root of `raven replay`: a server whose only feed is the history.

It has a broker and gRPC as every server, and a health endpoint where that is asked for. It reads the history of a data
directory beside the server that writes it, without its lock, and writes nothing.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager

import attrs
import structlog
import trio
from prometheus_client import CollectorRegistry

from raven import __version__
from raven.adapter.batch import Batch
from raven.broker import Broker
from raven.config import Config
from raven.config.serving import broker_limits, grpc_config
from raven.errors import RequestError, StoreError
from raven.feed.statistics import FeedState, FeedStatistics
from raven.grpc import GrpcServer
from raven.instruments import Instruments
from raven.model.topic import Selector, Topic
from raven.ops.health import Component, Condition, FeedHealth, Phase, ServerHealth
from raven.ops.sockets import bind_socket, bound_address
from raven.ops.web import health_app, serve_http
from raven.store.blocks import HistoryStore, TimeRange
from raven.store.query import Chunk, HistoryQuery, Reading, open_reading
from raven.store.replaying import Relay, replayed
from raven.store.states import STATE_AGE_NS

__all__ = ["Progress", "ReplayApp", "ReplayOptions"]

SLICE_S = 0.001
"""How much earlier than its time an event may be told, with one that is due."""

FLAT_OUT_NS = 2**62
"""The slice of a replay that waits for no time: runs of RUN_BYTES_MAX."""

CHUNKS_AHEAD_MAX = 128
"""Chunks that are read and not told yet: they bridge the time that a step of the reader takes."""

ROOM_S = 0.0005
"""How often clients are asked whether they have taken what there was; nothing rings a bell when a socket has room."""

SUBSCRIBED_S = 0.02
"""How often it is looked whether those that are waited for have subscribed."""

END_S = 10.0
"""How long clients may take for the last of it, when the replay is to end by itself."""

CLOSE_S = 5.0
"""How long clients may take to read the last of it and to close their connections."""

log = structlog.stdlib.get_logger("raven.replay")


@attrs.frozen
class ReplayOptions:
    """What is played, and how.

    Args:
        start_ns, end_ns: the range, by the time of receipt; the end is exclusive.
        speed: 1 = as it was, 10 = ten times that, 0 = as fast as the slowest client takes it.
        suffix: of the venues.
        clients: begin when so many clients have subscribed to something.
        loop: begin again at the end.
        leave: end when everything was told; else when the last client has left.
        health_port: of the health endpoint; None = there is none.
    """

    selectors: tuple[Selector, ...]
    start_ns: int
    end_ns: int
    speed: float = 1.0
    suffix: str = "-replay"
    clients: int = 1
    loop: bool = False
    leave: bool = False
    health_port: int | None = None


@attrs.frozen
class Progress:
    """How far a replay is.

    Args:
        phase: "waiting for clients", "playing", "over".
        at_ns: the time of receipt of what was told last; 0 before the first.
        events: that were told.
        clients: that are connected.
        skipped: events that could not be told, by why.
        complete: whether nothing was missing in the history.
    """

    phase: str
    at_ns: int
    events: int
    clients: int
    skipped: dict[str, int]
    complete: bool


class ReplayApp:
    """One replay.

    Args:
        config: limits, host, port and TLS, as of a server.
        history: read by this alone; it stays open.

    Attributes:
        topics: that are played, under their new names.

    Raises:
        StoreError: nothing is kept of what is asked for, or it cannot be read.
        InvalidName: the suffix makes no venue.
    """

    def __init__(self, config: Config, history: HistoryStore, options: ReplayOptions) -> None:
        self._config = config
        self._options = options
        self._history = history
        self._past = _topics(history, options)
        self.topics = tuple(replayed(topic, options.suffix) for topic in self._past)
        self.broker = Broker(broker_limits(config))
        self._relay = Relay(self.broker, options.suffix)
        self._relay.carry(self._past)
        self._feeds = _Feeds(self._statistics)
        self.grpc = GrpcServer(self.broker, self._feeds, grpc_config(config), Instruments(CollectorRegistry()))
        self._reading = self._open()
        self._told_ns = 0
        self._phase, self._text = Phase.STARTING, "waiting for clients"
        self._started = time.monotonic()

    def _open(self) -> Reading:
        options = self._options
        slice_ns = max(1, round(SLICE_S * options.speed * 1e9)) if options.speed else FLAT_OUT_NS
        query = HistoryQuery(options.selectors, options.start_ns, options.end_ns, include_image=True, slice_ns=slice_ns)
        return open_reading(self._history, query)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Play until it is over and the last client has left, or until a signal. Reports started with its address.

        Raises:
            StartupError: a port is taken.
            StoreError: the history cannot be read.
        """
        with self._bound() as (sock, health), trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as serving:
                if health is not None:
                    await serving.start(serve_http, health_app(self.health), health)
                send, receive = trio.open_memory_channel[Batch](0)
                await serving.start(self.broker.run, receive)  # ages rings, and paces those who asked for it
                async with _read_ahead(self._reading) as chunks:
                    await self._begin(chunks)
                    await serving.start(self.grpc.run, sock)
                    self._phase = Phase.SERVING
                    task_status.started(bound_address(sock))
                    await self._until_signal(signals, chunks)
                send.close()
                serving.cancel_scope.cancel()

    @contextmanager
    def _bound(self) -> Iterator[tuple[socket.socket, socket.socket | None]]:
        config, port = self._config, self._options.health_port
        with ExitStack() as stack:
            sock = stack.enter_context(bind_socket(config.server.host, config.server.port, "gRPC", "--port"))
            health = None
            if port is not None:
                health = stack.enter_context(bind_socket(config.health_host, port, "health", "--health-port"))
            yield sock, health

    async def _until_signal(self, signals: AsyncIterator[int], chunks: _Chunks) -> None:
        async with trio.open_nursery() as playing:

            async def leave_at_signal() -> None:
                await anext(signals)
                playing.cancel_scope.cancel()

            playing.start_soon(leave_at_signal)
            await self._play(chunks)
            playing.cancel_scope.cancel()
        await self._leave(signals)

    async def _leave(self, signals: AsyncIterator[int]) -> None:
        """Let clients go: those that are there still when it is over have been told all, and are told to go."""
        self._phase = Phase.DRAINING
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                await self.grpc.drain(0.0 if self._text == "over" else self._config.server.drain_s)
                with trio.move_on_after(CLOSE_S):
                    while self.grpc.connections:  # noqa: ASYNC110  one that is closed before loses what is not read yet
                        await trio.sleep(SUBSCRIBED_S)
                nursery.cancel_scope.cancel()

            nursery.start_soon(drain)
            await anext(signals)
            nursery.cancel_scope.cancel()

    # ---- playing

    async def _begin(self, chunks: _Chunks) -> None:
        """The state of every topic at the start, which clients find when they come."""
        self._relay.begin()
        while (chunk := await chunks.peek()) is not None and chunk.first_ts_ns is None:
            self._relay.publish((await chunks.next()).elements)

    async def _play(self, chunks: _Chunks) -> None:
        await self._wait_clients()
        await self._play_once(chunks)
        while self._options.loop:
            self._reading = self._open()
            async with _read_ahead(self._reading) as again:
                await self._begin(again)
                await self._play_once(again)
        self._relay.end(self._options.end_ns)
        self.broker.flush()
        self._text = "over"
        log.info("the replay is over", events=self._relay.events, complete=self._reading.complete)
        if self._options.leave:
            with trio.move_on_after(END_S):
                await self._wait_taken()
        else:
            await self.broker.clients.wait_no_clients()

    async def _play_once(self, chunks: _Chunks) -> None:
        pace = _Pace(self._options.speed)
        self._text = "playing"
        while await chunks.peek() is not None:
            chunk = await chunks.next()
            if self._options.speed:
                await pace.wait(chunk.first_ts_ns)
            else:
                await self._wait_room()
            self._relay.publish(chunk.elements)
            self._told_ns = chunk.first_ts_ns or self._told_ns
            self.broker.flush()

    async def _wait_clients(self) -> None:
        while sum(bool(client.topics) for client in self.broker.clients) < self._options.clients:  # noqa: ASYNC110
            await trio.sleep(SUBSCRIBED_S)

    async def _wait_room(self) -> None:
        """Until every client has taken what was told, so that nothing is conflated or dropped for anyone."""
        await trio.lowlevel.checkpoint()
        while any(client.outbox.behind for client in self.broker.clients):  # noqa: ASYNC110
            await trio.sleep(ROOM_S)

    async def _wait_taken(self) -> None:
        """Until all of it has gone to the network."""
        while any(client.outbox.waits for client in self.broker.clients):  # noqa: ASYNC110
            await trio.sleep(ROOM_S)

    # ---- what others see

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            self._text,
            self._told_ns,
            self._relay.events,
            len(self.broker.clients),
            dict(self._relay.skipped),
            self._reading.complete,
        )

    def health(self) -> ServerHealth:
        """How the server is at this moment."""
        feeds = (FeedHealth(feed.name, feed.state.name.lower(), feed.reason, Condition.OK) for feed in self._statistics())
        running_s = time.monotonic() - self._started
        grpc = Component("grpc", Condition.OK, f"{self.grpc.connections} connections")
        return ServerHealth(__version__, running_s, self._phase, len(self.broker.clients), (grpc,), tuple(feeds))

    def _statistics(self) -> tuple[FeedStatistics, ...]:
        """A feed for each venue that is played."""
        return tuple(self._feed(venue) for venue in sorted({topic.venue for topic in self.topics}))

    def _feed(self, venue: str) -> FeedStatistics:
        topics = tuple(topic for topic in self.topics if topic.venue == venue)
        events = sum(state.sequence for state in self.broker.directory.of_feed(venue))
        state = FeedState.STOPPED if self._text == "over" else FeedState.LIVE
        return FeedStatistics(
            venue, "replay", __version__, state, self._text, topics, (), 0, events, 0, 0, 0, 0, 0
        )  # fmt: skip


class _Chunks:
    """What a reading gives, in order, with a look at what comes next."""

    def __init__(self, receive: trio.MemoryReceiveChannel[Chunk]) -> None:
        self._receive = receive
        self._next: Chunk | None = None

    async def peek(self) -> Chunk | None:
        """The next one; None behind the last."""
        if self._next is None:
            try:
                self._next = await self._receive.receive()
            except trio.EndOfChannel:
                return None
        return self._next

    async def next(self) -> Chunk:
        """The same, taken."""
        chunk, self._next = await self.peek(), None
        assert chunk is not None
        return chunk


@asynccontextmanager
async def _read_ahead(reading: Reading) -> AsyncIterator[_Chunks]:
    """Its chunks, read in a worker thread while the context lasts."""
    send, receive = trio.open_memory_channel[Chunk](CHUNKS_AHEAD_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read, reading, send)
        yield _Chunks(receive)
        nursery.cancel_scope.cancel()


async def _read(reading: Reading, send: trio.MemorySendChannel[Chunk]) -> None:
    async with send:
        while not reading.done:
            for chunk in await trio.to_thread.run_sync(reading.step):
                await send.send(chunk)


class _Pace:
    """Waits until an event is due: each against the first, so that no delay adds up."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first: tuple[int, float] | None = None

    async def wait(self, ts_ns: int | None) -> None:
        """Until the event of this time may be told."""
        if ts_ns is None:
            return
        if self._first is None:
            self._first = ts_ns, trio.current_time()
        first_ns, began_s = self._first
        await trio.sleep_until(began_s + (ts_ns - first_ns) / 1e9 / self._speed)


class _Feeds:
    """What operators see of a replay: its feeds are there, and nobody starts or stops them."""

    def __init__(self, statistics: Callable[[], tuple[FeedStatistics, ...]]) -> None:
        self.statistics = statistics

    async def start_feed(self, name: str, selectors: Sequence[Selector] = ()) -> FeedStatistics:  # noqa: ARG002
        """Raises RequestError."""
        raise RequestError("FAILED_PRECONDITION", f"{name} is replayed from history: it cannot be started or stopped")

    async def stop_feed(self, name: str, selectors: Sequence[Selector] = ()) -> FeedStatistics:
        """Raises RequestError."""
        return await self.start_feed(name, selectors)


def _topics(history: HistoryStore, options: ReplayOptions) -> list[Topic]:
    """The topics of the past that are played: those that may have an event in the range, or a state at its beginning."""
    within = TimeRange(max(options.start_ns - STATE_AGE_NS, 0), options.end_ns)
    found = [topic for topic in history.topics(within) if any(selector.matches(topic) for selector in options.selectors)]
    if not found:
        wanted = ", ".join(map(str, options.selectors))
        raise StoreError(f"nothing is kept of {wanted} in that time")
    return found
