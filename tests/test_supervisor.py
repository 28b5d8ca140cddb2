"""The restart policy over sockets in memory, on a clock that jumps; and one real socket at the end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any, ClassVar

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock
from websockets.http11 import Request
from websockets.server import ServerProtocol

from raven.adapter.batch import Batch, BatchItem, Carry, Down, Drop
from raven.adapter.contract import Adapter, Capabilities, Connection, FeedSpec, Session
from raven.adapter.outputs import Output, Reconnect, Wakeup
from raven.errors import ConnectFailed, ConnectionLost, InvalidValue, RequestError
from raven.feed.limits import FeedLimits
from raven.feed.statistics import FeedState
from raven.feed.transport import open_websocket
from raven.model.events import Event, StatusCause, Trade
from raven.model.topic import Kind, Selector, Topic
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


# ---------------------------------------------------------------------------------------------------------------- a good day


async def test_topics_are_announced_then_events_come(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(1)
        h.venues.sockets["ws://a/BTC-USDT"].arrive(b"x")
        await trio.sleep(1)
        assert h.items() == [Carry((topic("a"),)), Event(topic("a"), Trade(price=1.0), 7)]
        (statistics,) = h.supervisor.statistics()
    assert (statistics.name, statistics.adapter, statistics.adapter_version) == ("a", "plain", "1.2")
    assert (statistics.state, statistics.reason, statistics.topics) == (FeedState.LIVE, "", (topic("a"),))
    assert (statistics.frames, statistics.events, statistics.decode_errors, statistics.reconnects) == (1, 1, 0, 0)
    assert statistics.connected_since_ts_ns > 0
    assert statistics.last_frame_ts_ns == 7
    assert [part.name for part in statistics.connections] == ["BTC-USDT"]


async def test_started_is_reported_before_any_venue_answers(autojump_clock: MockClock) -> None:
    async with house(configured("a"), configured("b")) as h:
        assert h.venues.attempts == []
        await trio.sleep(0.001)
        assert h.states() == [FeedState.LIVE, FeedState.LIVE]
    assert h.states() == [FeedState.STOPPED, FeedState.STOPPED]


async def test_a_connection_without_url_needs_no_socket(autojump_clock: MockClock) -> None:
    class Sim(Session):
        def on_connect(self, now_ns: int) -> Sequence[Output]:
            return [Wakeup(10**9)]

        def on_wakeup(self, now_ns: int) -> Sequence[Output]:
            return [Event(topic("a"), Trade(price=1.0), 7), Wakeup(10**9)]

    adapter = PlainAdapter(lambda spec: [Connection("sim", None, spec.topics)], lambda spec, memory: Sim())
    async with house(configured("a", adapter)) as h:
        await trio.sleep(100.5)
        assert len(h.items()) == 101
        assert h.venues.attempts == []


# ------------------------------------------------------------------------------------------------------------ venue's faults


async def test_a_lost_connection_goes_down_at_once_and_comes_back_after_a_pause(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        h.venues.close_s = 0.5  # a venue that does not answer the closing handshake delays nothing
        await trio.sleep(5)
        h.items()
        h.venues.sockets["ws://a/BTC-USDT"].close()
        await trio.sleep(0.001)
        assert h.items() == [down(StatusCause.FEED_DOWN, "closed by the venue")]
        await trio.sleep(1)
        assert h.states() == [FeedState.BACKING_OFF]
        assert h.supervisor.statistics()[0].reason == "closed by the venue"
        await trio.sleep(1)
        assert h.states() == [FeedState.LIVE]
        assert h.supervisor.statistics()[0].reconnects == 1
        assert h.venues.at() == [0, 6.5]
        assert h.items() == []


async def test_pauses_grow_to_the_cap_while_a_venue_refuses_and_it_is_told_once(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        h.venues.refusing.add("ws://a/BTC-USDT")
        await trio.sleep(40)
        assert h.venues.at() == [0, 1, 3, 7, 15, 23, 31, 39]
        assert h.items() == [Carry((topic("a"),)), down(StatusCause.FEED_DOWN, "venue:443: Connection refused")]
        (statistics,) = h.supervisor.statistics()
        assert (statistics.state, statistics.reconnects) == (FeedState.BACKING_OFF, 0)
        assert statistics.connections[0].counts == {"connects_failed": 8}
        assert statistics.connected_since_ts_ns == 0


async def test_data_for_long_enough_starts_the_pauses_over(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        h.venues.refusing.add("ws://a/BTC-USDT")
        await trio.sleep(6)  # the pauses are at 4 s
        h.venues.refusing.clear()
        await trio.sleep(1.5)
        socket = h.venues.sockets["ws://a/BTC-USDT"]
        for _ in range(11):
            socket.arrive(b"x")
            await trio.sleep(1)
        socket.close()
        await trio.sleep(20)
        assert h.venues.at() == [0, 1, 3, 7, 19.5]


async def test_a_connection_that_soon_breaks_again_does_not(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        h.venues.first_frames = [b"x", b"leave"]
        await trio.sleep(20)
        assert h.venues.at() == [0, 1, 3, 7, 15]


async def test_long_data_of_an_earlier_life_does_not_count(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(0.5)
        socket = h.venues.sockets["ws://a/BTC-USDT"]
        for _ in range(12):
            socket.arrive(b"x")
            await trio.sleep(1)
        h.venues.refusing.add("ws://a/BTC-USDT")
        socket.close()
        await trio.sleep(8)
        assert h.venues.at() == [0, 13.5, 15.5, 19.5]


async def test_a_silent_venue_is_told_as_one(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(60.5)
        assert h.items()[-1] == down(StatusCause.VENUE_SILENT, "nothing received for 60 s")


async def test_each_outage_is_told(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        for _ in range(3):
            await trio.sleep(10)
            h.venues.sockets["ws://a/BTC-USDT"].close()
        await trio.sleep(10)
        assert h.items()[1:] == [down(StatusCause.FEED_DOWN, "closed by the venue")] * 3


async def test_only_the_topics_of_the_connection_go_down(autojump_clock: MockClock) -> None:
    async with house(configured("a", symbols=["BTC-USDT", "ETH-USDT"])) as h:
        await trio.sleep(1)
        h.venues.sockets["ws://a/ETH-USDT"].close()
        await trio.sleep(0.5)
        assert h.items()[1:] == [Down((topic("a", "ETH-USDT"),), StatusCause.FEED_DOWN, "closed by the venue")]
        (statistics,) = h.supervisor.statistics()
        assert (statistics.state, statistics.reason) == (FeedState.BACKING_OFF, "ETH-USDT: closed by the venue")
        assert [part.state for part in statistics.connections] == [FeedState.LIVE, FeedState.BACKING_OFF]
        assert statistics.connected_since_ts_ns == 0


async def test_a_planned_reconnect_opens_without_a_pause(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(5)
        h.venues.sockets["ws://a/BTC-USDT"].arrive(b"plan")
        await trio.sleep(1)
        assert h.venues.at() == [0, 5]
        assert h.items()[1:] == [down(StatusCause.FEED_DOWN, "planned reconnect: the venue said so")]
        assert h.states() == [FeedState.LIVE]


async def test_a_session_that_always_plans_to_reconnect_has_to_pause(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        h.venues.first_frames = [b"plan"]
        await trio.sleep(8)
        assert h.venues.at() == [0, 0, 1, 3, 7]


async def test_memory_is_kept_from_one_life_of_a_connection_to_the_next(autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    def begin(spec: FeedSpec, memory: Any) -> Session:
        seen.append(dict(memory))
        memory["lives"] = memory.get("lives", 0) + 1
        return PlainSession(spec.name)

    async with house(configured("a", PlainAdapter(begin=begin), ["BTC-USDT", "ETH-USDT"])) as h:
        await trio.sleep(1)
        h.venues.sockets["ws://a/BTC-USDT"].close()
        await trio.sleep(5)
        assert seen == [{}, {}, {"lives": 1}]


# ---------------------------------------------------------------------------------------------------------- adapter's faults


async def test_a_fault_is_told_counted_logged_and_restarted(autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with house(configured("a")) as h:
            await trio.sleep(1)
            h.venues.sockets["ws://a/BTC-USDT"].arrive(b"boom")
            await trio.sleep(0.5)
            assert h.items()[1:] == [down(StatusCause.ADAPTER_FAILED, "PlainSession raised ZeroDivisionError: boom")]
            await trio.sleep(1)
            (statistics,) = h.supervisor.statistics()
            assert (statistics.state, statistics.faults) == (FeedState.LIVE, 1)
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert isinstance(line["exc_info"].__cause__, ZeroDivisionError)


async def test_five_faults_in_a_minute_park_the_feed_and_no_other(autojump_clock: MockClock) -> None:
    async with house(configured("a", symbols=["BTC-USDT", "ETH-USDT"]), configured("b")) as h:
        h.venues.first_frames = [b"boom"]
        await trio.sleep(0.001)  # both connections of a, and b
        h.venues.first_frames = []
        assert [feed.faults for feed in h.supervisor.statistics()] == [2, 1]
        for _ in range(3):
            await trio.sleep(10)
            h.items()
            h.venues.sockets["ws://a/ETH-USDT"].arrive(b"boom")
        await trio.sleep(0.001)
        text = "PlainSession raised ZeroDivisionError: boom"
        every = (topic("a"), topic("a", "ETH-USDT"))
        assert h.items() == [
            Down(every[1:], StatusCause.ADAPTER_FAILED, text),
            Down(every, StatusCause.ADAPTER_FAILED, text, final=True),
        ]
        attempts = len(h.venues.attempts)
        h.venues.sockets["ws://b/BTC-USDT"].arrive(b"x")
        await trio.sleep(1000)
        assert h.items("b")[0] == Event(topic("b"), Trade(price=1.0), 7)
        parked, other = h.supervisor.statistics()
        assert (parked.state, parked.reason, parked.faults) == (FeedState.FAILED, text, 5)
        assert other.faults == 1
        assert other.state != FeedState.FAILED
        assert [url for _, url in h.venues.attempts[attempts:] if url.startswith("ws://a/")] == []


async def test_five_faults_in_more_than_a_minute_do_not(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        for _ in range(12):
            await trio.sleep(15.5)
            h.venues.sockets["ws://a/BTC-USDT"].arrive(b"boom")
        await trio.sleep(10)
        assert h.states() == [FeedState.LIVE]
        assert h.supervisor.statistics()[0].faults == 12


def raising(error: Exception) -> Callable[..., Any]:
    def method(*_: object) -> Any:
        raise error

    return method


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        (raising(KeyError("x")), "session() raised KeyError: 'x'"),
        (raising(InvalidValue("depth", 7, "5 or 10")), "session() raised InvalidValue: depth: 7 is not valid: 5 or 10"),
        (lambda *_: None, "session() returned None, which is no raven.adapter.Session"),
    ],
)
async def test_an_adapter_that_makes_no_session(begin: Any, text: str, autojump_clock: MockClock) -> None:
    async with house(configured("a", PlainAdapter(begin=begin))) as h:
        await trio.sleep(20)
        assert h.venues.at() == [0, 1, 3, 7, 15]
        assert h.items()[1:] == [down(StatusCause.ADAPTER_FAILED, text), down(StatusCause.ADAPTER_FAILED, text, final=True)]


@pytest.mark.parametrize(
    ("connect", "text"),
    [
        (raising(KeyError("x")), "connections() raised KeyError: 'x'"),
        (lambda _: None, "connections() raised TypeError: 'NoneType' object is not iterable"),
        (lambda _: [], "connections() returned none"),
        (lambda _: ["main"], "connections() returned 'main', which is no raven.adapter.Connection"),
        (lambda spec: [*one_each(spec), Connection("BTC-USDT", None, ())], "connections() returned one name twice"),
        (
            lambda _: [Connection("main", None, ())],
            "connections() must carry each topic once: a/BTC-USDT/trade and 1 in all are not",
        ),
        (
            lambda spec: [*one_each(spec), Connection("more", None, spec.topics)],
            "connections() must carry each topic once: a/BTC-USDT/trade and 1 in all are not",
        ),
        (partial(one_each, sends_per_s_max=0), "connection 'BTC-USDT', sends_per_s_max: 0 is not valid: a number over 0"),
        (
            partial(one_each, idle_timeout_s=math.nan),
            "connection 'BTC-USDT', idle_timeout_s: nan is not valid: a number over 0",
        ),
        (
            partial(one_each, headers={"X-Key": "a\r\nb: c"}),
            "connection 'BTC-USDT', headers['X-Key']: not valid: a name, and text in one line",
        ),
    ],
)
async def test_a_plan_that_does_not_hold_parks_the_feed(connect: Any, text: str, autojump_clock: MockClock) -> None:
    async with house(configured("a", PlainAdapter(connect)), configured("b")) as h:
        await trio.sleep(1)
        assert h.items() == [Carry((topic("a"),)), down(StatusCause.ADAPTER_FAILED, text, final=True)]
        assert h.states() == [FeedState.FAILED, FeedState.LIVE]
        assert h.supervisor.statistics()[0].reason == text
        assert h.venues.at() == []


async def test_an_option_that_the_adapter_refuses_ends_the_start() -> None:
    send, _ = trio.open_memory_channel[Batch](0)
    feeds = [configured("a"), configured("b", PlainAdapter(raising(InvalidValue("options.depth", 7, "5 or 10"))))]
    with pytest.raises(InvalidValue, match=r"^feeds\[1\]\.options\.depth: 7 is not valid: 5 or 10$"):
        Supervisor(feeds, send, random=Highest(), config=CONFIG, limits=FeedLimits())


async def test_a_fault_of_raven_itself_goes_up(autojump_clock: MockClock) -> None:
    send, receive = trio.open_memory_channel[Batch](0)
    receive.close()  # the broker is gone
    supervisor = Supervisor([configured("a")], send, random=Highest(), config=CONFIG, limits=FeedLimits())
    with pytest.RaisesGroup(trio.BrokenResourceError):
        await supervisor.run()


# ---------------------------------------------------------------------------------------------------------------- for real


async def accept_and_hang_up(stream: trio.SocketStream, hang_up: trio.Event) -> None:
    """A venue that shakes hands, and then ends the TCP connection without a word."""
    protocol = ServerProtocol()
    async with stream:
        while not (requests := protocol.events_received()):
            protocol.receive_data(await stream.receive_some())
        assert isinstance(requests[0], Request)
        protocol.send_response(protocol.accept(requests[0]))
        await stream.send_all(b"".join(protocol.data_to_send()))
        await hang_up.wait()


async def test_topics_are_down_within_half_a_second_of_a_fin() -> None:
    hang_up = trio.Event()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, partial(accept_and_hang_up, hang_up=hang_up), listeners)
        adapter = PlainAdapter(lambda spec: [Connection("main", f"ws://127.0.0.1:{port}/", spec.topics)])
        async with house(configured("a", adapter), open_socket=open_websocket) as h:
            with trio.fail_after(5):
                assert (await h._batches.receive()).items == [Carry((topic("a"),))]
                while h.states() != [FeedState.LIVE]:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                started = trio.current_time()
                hang_up.set()
                items = (await h._batches.receive()).items
                assert trio.current_time() - started < 0.5
        nursery.cancel_scope.cancel()
    assert items == [down(StatusCause.FEED_DOWN, f"127.0.0.1:{port} ended the connection without closing it")]


# ------------------------------------------------------------------------------------------------------------- at run time


ETH = Selector("*", "ETH-USDT", frozenset({Kind.TRADE}))


async def test_a_topic_is_added_without_touching_the_rest(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(1)
        h.items()
        statistics = await h.supervisor.start_feed("a", [ETH])
        assert statistics.topics == (topic("a"), topic("a", "ETH-USDT"))
        await h.supervisor.start_feed("a", [ETH])
        await trio.sleep(1)
        assert [url for _, url in h.venues.attempts] == ["ws://a/BTC-USDT", "ws://a/ETH-USDT"]
        assert h.items() == [Carry([topic("a", "ETH-USDT")]), Carry([])]


async def test_a_topic_is_taken_away_and_its_connection_with_it(autojump_clock: MockClock) -> None:
    async with house(configured("a", symbols=("BTC-USDT", "ETH-USDT"))) as h:
        await trio.sleep(1)
        h.items()
        await h.supervisor.stop_feed("a", [Selector("a", "ETH-*")])
        await h.supervisor.stop_feed("a", [Selector("a", "ETH-*")])
        await trio.sleep(30)
        assert len(h.venues.attempts) == 2
        assert h.items() == [Carry([]), Drop([topic("a", "ETH-USDT")], StatusCause.OPERATOR, "stopped by an operator")]
        assert h.states() == [FeedState.LIVE]


async def test_one_connection_is_told_of_changes_while_it_stands(autojump_clock: MockClock) -> None:
    told: list[tuple[str, tuple[Topic, ...]]] = []

    class Told(PlainSession):
        def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
            told.append(("+", tuple(topics)))
            return ()

        def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
            told.append(("-", tuple(topics)))
            return ()

    adapter = PlainAdapter(
        connect=lambda spec: [Connection("main", f"ws://{spec.name}/all", spec.topics)],
        begin=lambda spec, memory: Told(spec.name),
    )
    async with house(configured("a", adapter)) as h:
        await trio.sleep(1)
        await h.supervisor.start_feed("a", [ETH])
        await trio.sleep(1)
        await h.supervisor.stop_feed("a", [Selector("*", "BTC-USDT")])
        await trio.sleep(1)
        assert told == [("+", (topic("a", "ETH-USDT"),)), ("-", (topic("a"),))]
        assert len(h.venues.attempts) == 1
        assert h.states() == [FeedState.LIVE]


async def test_a_feed_is_stopped_and_started_again_at_once(autojump_clock: MockClock) -> None:
    async with house(configured("a"), configured("b")) as h:
        await trio.sleep(1)
        h.items()
        assert (await h.supervisor.stop_feed("a")).state is FeedState.STOPPED
        assert (await h.supervisor.stop_feed("a")).state is FeedState.STOPPED
        await h.supervisor.start_feed("a")
        await trio.sleep(1)
        assert h.states() == [FeedState.LIVE, FeedState.LIVE]
        dropped = Drop((topic("a"),), StatusCause.OPERATOR, "the feed was stopped")
        assert [item for item in h.items() if isinstance(item, Drop)] == [dropped]
        assert sorted(url for _, url in h.venues.attempts) == ["ws://a/BTC-USDT", "ws://a/BTC-USDT", "ws://b/BTC-USDT"]


async def test_a_parked_feed_can_be_started_again(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        with trio.fail_after(60):
            while h.states() != [FeedState.FAILED]:
                await trio.sleep(0.5)
                if h.states() == [FeedState.LIVE]:
                    h.venues.sockets["ws://a/BTC-USDT"].arrive(b"boom")
        await h.supervisor.start_feed("a")
        await trio.sleep(1)
        assert h.states() == [FeedState.LIVE]


async def test_a_fault_that_others_saw_restarts_the_connection_and_is_counted(autojump_clock: MockClock) -> None:
    async with house(configured("a", symbols=("BTC-USDT", "ETH-USDT"))) as h:
        await trio.sleep(1)
        h.items()
        h.supervisor.report_fault("a", topic("a"), "a price that is no number")
        h.supervisor.report_fault("a", topic("a"), "and one more in the same batch")
        await trio.sleep(30)
        (statistics,) = h.supervisor.statistics()
        assert statistics.faults == 1
        assert [url for _, url in h.venues.attempts].count("ws://a/BTC-USDT") == 2
        assert [url for _, url in h.venues.attempts].count("ws://a/ETH-USDT") == 1
        assert h.items() == [Down((topic("a"),), StatusCause.ADAPTER_FAILED, "a price that is no number")]


@pytest.mark.parametrize(
    ("name", "selector", "error"),
    [
        ("x", ETH, "name: there is no feed 'x': valid are a"),
        ("a", Selector("b", "ETH-USDT", frozenset({Kind.TRADE})), "venue: 'b' is not this feed's: it is 'a'"),
        ("a", Selector("a", "ETH-*", frozenset({Kind.TRADE})), "symbol: 'ETH-*' is a pattern: a feed is started by names"),
        ("a", Selector("a", "ETH-USDT", frozenset({Kind.BOOK})), "kinds: 'book' is not valid: this feed can carry trade"),
        ("a", Selector("a", "ETH-USDT"), "kinds: '' is not valid: this feed can carry trade"),
    ],
)
async def test_what_cannot_be_started_is_refused_by_field(
    name: str, selector: Selector, error: str, autojump_clock: MockClock
) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(1)
        with pytest.raises(RequestError) as caught:
            await h.supervisor.start_feed(name, [selector])
        assert str(caught.value) == error
        assert h.states() == [FeedState.LIVE]


async def test_the_reader_is_the_one_that_is_configured(autojump_clock: MockClock) -> None:
    async with house(attrs.evolve(configured("a"), reader="trio-websocket")) as h:
        await trio.sleep(1)
        assert h.venues.readers == {"trio-websocket"}
