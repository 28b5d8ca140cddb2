"""The restart policy over sockets in memory, on a clock that jumps; and one real socket at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock
from websockets.http11 import Request
from websockets.server import ServerProtocol

from raven.adapter.batch import Batch, Carry, Down
from raven.adapter.contract import Connection, FeedSpec, Session
from raven.adapter.outputs import Output, Wakeup
from raven.errors import InvalidValue
from raven.feed.limits import FeedLimits
from raven.feed.statistics import FeedState
from raven.feed.transport import open_websocket
from raven.model.events import Event, StatusCause, Trade
from raven.supervisor import Supervisor
from tests.supervisor.house import (
    CONFIG,
    Highest,
    PlainAdapter,
    PlainSession,
    configured,
    down,
    house,
    one_each,
    topic,
)

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


async def test_short_draws_do_not_make_a_long_pause(autojump_clock: MockClock) -> None:
    """Ten attempts within a second are not ten reasons to wait for half a minute."""

    class Short(Random):
        draws = 0

        def uniform(self, a: float, b: float) -> float:
            self.draws += 1
            return b / 100 if self.draws < 90 else b

    async with house(configured("a"), random=Short()) as h:
        h.venues.refusing.add("ws://a/BTC-USDT")
        await trio.sleep(10)
        at = h.venues.at()
    assert at[89] < 1.5
    assert at[90] - at[89] <= CONFIG.backoff_base_s + at[89] + 0.001


async def test_the_log_says_when_the_next_try_comes(autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with house(configured("a")) as h:
            h.venues.refusing.add("ws://a/BTC-USDT")
            await trio.sleep(2)
    lines = [line for line in logs if line["event"] == "backing off"]
    assert [(line["next_try_in_s"], line["outage_s"]) for line in lines] == [(1, 0), (2, 1)]
    assert {(line["feed"], line["connection"], line["reason"]) for line in lines} == {
        ("a", "BTC-USDT", "venue:443: Connection refused")
    }


async def test_time_in_lives_that_soon_broke_is_no_outage(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        for _ in range(3):
            await trio.sleep(50)
            h.venues.sockets["ws://a/BTC-USDT"].arrive(b"leave")  # all that ever comes
        await trio.sleep(10)
        assert h.venues.at() == [0, 51, 102, 154]  # 1, 2 and 4 s: by 3 s without a life, not by 150 s since the beginning


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


async def test_the_reader_is_the_one_that_is_configured(autojump_clock: MockClock) -> None:
    async with house(attrs.evolve(configured("a"), reader="trio-websocket")) as h:
        await trio.sleep(1)
        assert h.venues.readers == {"trio-websocket"}


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
