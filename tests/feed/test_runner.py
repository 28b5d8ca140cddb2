"""The runner over a socket in memory, on a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raven.adapter.contract import Session
from raven.adapter.outputs import Count, Established, Fetch, Output, Reconnect, Refused, Reply, Resync, Send, Wakeup
from raven.errors import AdapterFault, ConnectionLost, FrameError, VenueSilent
from raven.feed.commands import TopicChange
from raven.feed.limits import FeedLimits
from raven.model.events import Event, StatusCause
from raven.model.topic import Kind, Topic
from tests.feed.running import TOPIC, MemorySocket, Run, ScriptedSession, ran, trade


class PunctualSocket(MemorySocket):
    """Brings one frame after exactly a second."""

    async def receive_bulk(self) -> tuple[list[bytes], int]:
        if self.heard_at > self.started:
            await trio.sleep_forever()
        await trio.sleep(1)
        self.heard_at = trio.current_time()
        return [b"x"], 0


# ---------------------------------------------------------------------------------------------------- the way of a frame


async def test_one_read_is_one_batch_in_order(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"1", b"2", b"nothing", b"3")
    socket.arrive(b"4")
    socket.close()
    refused, resync, established = Refused(TOPIC, "no"), Resync(TOPIC, StatusCause.CHECKSUM), Established([TOPIC])
    outputs: dict[bytes, Sequence[Output]] = {
        b"1": [trade(1), established],
        b"2": [Count("seen"), trade(2), resync],
        b"nothing": [],
        b"3": (refused, trade(3)),
        b"4": [trade(4)],
    }
    run = await ran(ScriptedSession(frame=outputs.__getitem__), socket)
    assert run.batches() == [[trade(1), established, trade(2), resync, refused, trade(3)], [trade(4)]]
    assert isinstance(run.ending, ConnectionLost)
    assert str(run.ending) == "closed by the venue"
    counters = run.counters
    assert (counters.frames, counters.bytes, counters.events) == (5, 11, 4)
    assert counters.counts == {"seen": 1}
    assert counters.connected_since_ts_ns == 0


async def test_all_frames_of_a_read_have_its_timestamp(autojump_clock: MockClock) -> None:
    class Stamps(Session):
        def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
            return [trade(0, received_ts_ns)]

    socket = MemorySocket()
    socket.arrive(b"", b"")
    socket.close()
    run = await ran(Stamps(), socket)
    first, second = run.batches()[0]
    assert isinstance(first, Event)
    assert first == second
    assert first.received_ts_ns == run.counters.last_frame_ts_ns


async def test_what_on_connect_returns_comes_before_every_frame(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"")
    socket.close()
    session = ScriptedSession(connect=lambda _: [trade(1)], frame=lambda _: [trade(2)])
    assert (await ran(session, socket)).batches() == [[trade(1)], [trade(2)]]


async def test_while_the_broker_is_behind_nothing_is_read_and_the_order_holds(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    for n in range(1, 6):
        socket.arrive(b"%d" % n)
    session = ScriptedSession(
        connect=lambda _: [Wakeup(10**9)],
        frame=lambda frame: [trade(int(frame))],
        wakeup=lambda _: [trade(100)],
    )
    run = Run(session, socket, batches_max=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(2)
        assert len(session.calls) == 3  # on_connect, the first frame, and the wakeup
        received = [(await run._receive.receive()).items for _ in range(6)]
        nursery.cancel_scope.cancel()
    assert received == [[trade(1)], [trade(100)], [trade(2)], [trade(3)], [trade(4)], [trade(5)]]


# ------------------------------------------------------------------------------------------------------------ bad frames


def refuse(frame: bytes) -> Sequence[Output]:
    if frame.startswith(b"bad"):
        raise FrameError("no such type")
    return [trade(1)]


async def test_a_bad_frame_is_counted_logged_and_skipped(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"good", b"bad\n\x1b[2J", b"good")
    socket.close()
    run = await ran(ScriptedSession(frame=refuse), socket)
    assert run.batches() == [[trade(1), trade(1)]]
    assert run.counters.bad_frames == 1
    (line,) = run.logs
    assert line["log_level"] == "warning"
    assert (line["feed"], line["connection"], line["reason"]) == ("venue", "main", "no such type")
    assert (line["frame"], line["suppressed"]) == ("bad\\n\\x1b[2J", 0)


async def test_a_flood_of_bad_frames_logs_some_a_minute_and_tells_of_the_rest(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    run = Run(ScriptedSession(frame=refuse), socket, limits=FeedLimits(log_samples_max=3, sample_chars_max=10))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        socket.arrive(*[b"bad" + b"x" * 1000] * 500)
        await trio.sleep(59)
        socket.arrive(b"bad")
        await trio.sleep(2)
        socket.arrive(b"bad again")
        socket.close()
    assert [(line["frame"], line["suppressed"]) for line in run.logs] == [
        *[("badxxxxxxx... (1003 bytes)", 0)] * 3,
        ("bad again", 498),
    ]
    assert run.counters.bad_frames == 502


async def test_a_reply_may_be_a_bad_frame_too(autojump_clock: MockClock) -> None:
    def refuse_reply(_: object) -> Sequence[Output]:
        raise FrameError("no JSON")

    async def answer(request: Fetch) -> Reply:
        return Reply(200, b"<html>", 0)

    session = ScriptedSession(connect=lambda _: [Fetch("http://a", "x")], reply=refuse_reply)
    run = await ran(session, MemorySocket(), fetch=answer)
    assert run.counters.bad_frames == 1
    assert run.logs[0]["frame"] == "<html>"


# ---------------------------------------------------------------------------------------------------------- faulty adapters


def explode(_: object) -> Sequence[Output]:
    raise ZeroDivisionError("tick size 0")


@pytest.mark.parametrize("method", ["connect", "frame", "reply", "wakeup", "subscribe", "unsubscribe"])
async def test_whatever_a_session_raises_is_contained(method: str, autojump_clock: MockClock) -> None:
    script: dict[str, Callable[..., Sequence[Output]]] = {"connect": lambda _: [Fetch("http://a", "x"), Wakeup(1)]}
    script[method] = explode
    socket = MemorySocket()
    socket.arrive(b"x")
    send, changes = trio.open_memory_channel[TopicChange](1)
    send.send_nowait(TopicChange(added=[TOPIC], removed=[TOPIC]))
    run = await ran(ScriptedSession(**script), socket, changes=changes)
    assert isinstance(run.ending, AdapterFault)
    assert str(run.ending) == "ScriptedSession raised ZeroDivisionError: tick size 0"
    assert isinstance(run.ending.__cause__, ZeroDivisionError)


async def test_what_came_before_a_fault_is_handed_on(autojump_clock: MockClock) -> None:
    def third(frame: bytes) -> Sequence[Output]:
        return explode(frame) if frame == b"3" else [trade(int(frame))]

    socket = MemorySocket()
    socket.arrive(b"1", b"2", b"3", b"4")
    run = await ran(ScriptedSession(frame=third), socket)
    assert run.batches() == [[trade(1), trade(2)]]
    assert isinstance(run.ending, AdapterFault)


@pytest.mark.parametrize("returned", [None, 5, [None], ["text"], [Send(5)], [object()]])  # type: ignore[arg-type]
async def test_what_is_no_output_is_a_fault(returned: Any, autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"x")
    assert isinstance((await ran(ScriptedSession(frame=lambda _: returned), socket)).ending, AdapterFault)


async def test_a_fault_of_raven_itself_is_not_contained(autojump_clock: MockClock) -> None:
    async def broken(request: Fetch) -> Reply:
        raise KeyError("a bug of ours")

    with pytest.RaisesGroup(KeyError):
        await ran(ScriptedSession(connect=lambda _: [Fetch("http://a", "x")]), MemorySocket(), fetch=broken)


# ------------------------------------------------------------------------------------------------------------------- idle


async def test_a_silent_venue_is_given_up(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    run = Run(ScriptedSession(), socket)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(50)
        socket.arrive(b"x")
    assert trio.current_time() - socket.started == pytest.approx(110)
    assert isinstance(run.ending, VenueSilent)
    assert str(run.ending) == "nothing received for 60 s"


async def test_a_ping_keeps_it_alive(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    run = Run(ScriptedSession(), socket)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for _ in range(10):
            await trio.sleep(50)
            assert run.ending is None
            socket.ping()
    assert trio.current_time() - socket.started == pytest.approx(560)


async def test_a_slow_broker_is_not_a_silent_venue(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"x")
    run = Run(ScriptedSession(frame=lambda _: [trade(1)]), socket, batches_max=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(500)
        assert run.ending is None
        nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------------------------------------------- commands


async def test_sends_are_paced_and_in_order(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    session = ScriptedSession(connect=lambda _: [Send(f"{n}") for n in range(6)], frame=lambda _: [Send(b"6")])
    socket.arrive(b"x")
    await ran(session, socket)
    assert [data for _, data in socket.sent] == ["0", "1", "2", "3", "4", "5", b"6"]
    assert [at for at, _ in socket.sent] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])


async def test_too_many_sends_are_a_fault(autojump_clock: MockClock) -> None:
    session = ScriptedSession(connect=lambda _: [Send("x")] * 12)
    run = await ran(session, MemorySocket(), limits=FeedLimits(sends_queued_max=10))
    assert str(run.ending) == "over 10 messages wait to be sent"


async def test_a_venue_that_takes_no_messages_is_lost(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.stuck = True
    run = await ran(ScriptedSession(connect=lambda _: [Send("x")]), socket)
    assert isinstance(run.ending, ConnectionLost)
    assert str(run.ending) == "the venue took no message for 10 s"


async def test_a_later_wakeup_takes_the_place_of_the_pending_one(autojump_clock: MockClock) -> None:
    started = trio.current_time()
    woken: list[float] = []

    def wake(_: object) -> Sequence[Output]:
        woken.append(round(trio.current_time() - started, 6))
        return [Wakeup(2 * 10**9)] if len(woken) < 3 else []

    socket = MemorySocket()
    socket.arrive(b"x")
    session = ScriptedSession(
        connect=lambda _: [Wakeup(10**9), Wakeup(30 * 10**9)], frame=lambda _: [Wakeup(5 * 10**9)], wakeup=wake
    )
    await ran(session, socket)
    assert woken == [5, 7, 9]


async def test_a_wakeup_that_is_moved_in_the_very_moment_it_comes_is_not_lost(autojump_clock: MockClock) -> None:
    """Which of the two tasks runs first in that moment is chance; both orders have to come out right."""
    for _ in range(20):
        started = trio.current_time()
        calls: list[tuple[str, float]] = []

        def note(name: str, *outputs: Output, calls: Any = calls, started: float = started) -> Sequence[Output]:
            calls.append((name, round(trio.current_time() - started, 6)))
            return outputs

        script = {
            "connect": lambda _: [Wakeup(10**9)],
            "frame": lambda _: note("frame", Wakeup(2 * 10**9)),
            "wakeup": lambda _: note("wakeup"),
        }
        await ran(ScriptedSession(**script), PunctualSocket())
        assert calls in ([("frame", 1), ("wakeup", 3)], [("wakeup", 1), ("frame", 1), ("wakeup", 3)])


async def test_a_session_without_a_socket_lives_from_wakeups(autojump_clock: MockClock) -> None:
    def wake(now_ns: int) -> Sequence[Output]:
        return [trade(1), Wakeup(-5 if now_ns < 20 * 10**9 else 10**12)]

    run = await ran(ScriptedSession(connect=lambda _: [Wakeup(20 * 10**9)], wakeup=wake), None)
    assert run.ending is None  # an hour, and no idle timeout
    assert run.counters.events == 4


async def test_a_send_without_a_socket_is_a_fault(autojump_clock: MockClock) -> None:
    run = await ran(ScriptedSession(connect=lambda _: [Send("x")]), None)
    assert str(run.ending) == "Send on connection 'main', which has no url"


async def test_replies_come_back_with_their_request_in_the_order_of_their_arrival(autojump_clock: MockClock) -> None:
    waits = {"slow": 3, "quick": 1, "middle": 2}

    async def answer(request: Fetch) -> Reply:
        await trio.sleep(waits[request.purpose])
        return Reply(200, b"", 0)

    session = ScriptedSession(
        connect=lambda _: [Fetch("http://a", purpose) for purpose in waits],
        reply=lambda argument: [trade(waits[argument[0]])],
    )
    run = await ran(session, MemorySocket(), fetch=answer)
    assert [argument for name, argument in session.calls if name == "reply"] == [("quick", 200), ("middle", 200), ("slow", 200)]
    assert run.batches() == [[trade(1)], [trade(2)], [trade(3)]]
    assert run.counters.counts == {"fetches": 3}


async def test_a_failed_request_is_counted_logged_and_told(autojump_clock: MockClock) -> None:
    session = ScriptedSession(connect=lambda _: [Fetch("http://a", "depth:BTCUSDT")])
    run = await ran(session, MemorySocket())
    assert ("reply", ("depth:BTCUSDT", 0)) in session.calls
    assert run.counters.counts == {"fetches": 1, "fetches_failed": 1}
    assert (run.logs[0]["purpose"], run.logs[0]["reason"]) == ("depth:BTCUSDT", "there is no venue")


async def test_requests_are_given_up_with_their_connection(autojump_clock: MockClock) -> None:
    ended = False

    async def answer(request: Fetch) -> Reply:
        nonlocal ended
        try:
            await trio.sleep_forever()
        finally:
            ended = True
        raise AssertionError

    socket = MemorySocket()
    socket.close()
    session = ScriptedSession(connect=lambda _: [Fetch("http://a", "x")])
    await ran(session, socket, fetch=answer)
    assert ended
    assert all(name != "reply" for name, _ in session.calls)


async def test_too_many_requests_are_a_fault(autojump_clock: MockClock) -> None:
    session = ScriptedSession(connect=lambda _: [Fetch("http://a", "x")] * 6)
    run = await ran(session, MemorySocket(), limits=FeedLimits(fetches_pending_max=5))
    assert str(run.ending) == "over 5 requests wait for their answer"


@pytest.mark.parametrize("planned", [True, False])
async def test_reconnect_ends_it_after_what_came_before(planned: bool, autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"x")
    wish = Reconnect("the venue will close in 10 s", planned)
    session = ScriptedSession(frame=lambda _: [trade(1), wish, trade(2), Send("never")])
    run = await ran(session, socket)
    assert run.batches() == [[trade(1)]]
    assert socket.sent == []
    if planned:
        assert run.ending is wish
    else:
        assert isinstance(run.ending, ConnectionLost)
        assert str(run.ending) == "given up by the session: the venue will close in 10 s"


async def test_reconnect_from_on_connect(autojump_clock: MockClock) -> None:
    wish = Reconnect("wrong shard", planned=True)
    assert (await ran(ScriptedSession(connect=lambda _: [wish]), MemorySocket())).ending is wish


async def test_topics_come_and_go_while_it_runs(autojump_clock: MockClock) -> None:
    other = Topic("venue", "ETH-USDT", Kind.TRADE)
    send, changes = trio.open_memory_channel[TopicChange](2)
    send.send_nowait(TopicChange(added=[other]))
    send.send_nowait(TopicChange(removed=[TOPIC]))
    session = ScriptedSession(subscribe=lambda topics: [Established(topics)], unsubscribe=lambda _: [Send("bye")])
    socket = MemorySocket()
    run = await ran(session, socket, changes=changes)
    assert [call for call in session.calls if call[0] != "connect"] == [("subscribe", [other]), ("unsubscribe", [TOPIC])]
    assert run.batches() == [[Established([other])]]
    assert socket.sent == [(0, "bye")]


async def test_calls_of_the_session_never_overlap(autojump_clock: MockClock) -> None:
    class Strict(Session):
        inside = False

        def _enter(self) -> Sequence[Output]:
            assert not self.inside
            self.inside = True
            outputs = [trade(1), Wakeup(10**6), Fetch("http://a", "x")]
            self.inside = False
            return outputs

        def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
            return self._enter()

        def on_wakeup(self, now_ns: int) -> Sequence[Output]:
            return self._enter()

        def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
            return [trade(2)]

    socket = MemorySocket()
    for _ in range(50):
        socket.arrive(b"x")
    run = Run(Strict(), socket, batches_max=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for _ in range(300):
            await run._receive.receive()
        assert run.ending is None
        nursery.cancel_scope.cancel()
