"""Values that cannot be: flagged, and told of when a topic sends nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raven.adapter.batch import BatchItem
from raven.adapter.outputs import Established, Output, Reconnect, Resync, Send
from raven.errors import AdapterFault
from raven.feed.commands import TopicChange
from raven.feed.limits import FeedLimits
from raven.feed.quarantine import Quarantine, mark
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Payload, Quote, StatusCause, Trade
from raven.model.topic import Kind, Topic
from tests.feed.running import TOPIC, MemorySocket, Run, ScriptedSession, ran, trade

NOW_NS = 1_700_000_000_000_000_000
DAY_NS = 24 * 3600 * 10**9
BOOK = Topic("venue", "BTC-USDT", Kind.BOOK)
LIMITS = FeedLimits(suspects_max=3, doubt_pause_s=60)
WHOLE = Event(BOOK, BookSnapshot((1.0,), (1.0,), (2.0,), (1.0,)), 0)
N, T, V = Flag.NONE, Flag.SUSPECT_TIME, Flag.SUSPECT_VALUE


@pytest.mark.parametrize(
    ("payload", "flags"),
    [
        (Trade(1.0, 1.0), N),
        (Trade(), N),
        (Trade(1.0, 0.0), N),
        (Trade(0.0, 1.0), V),
        (Trade(-1.0, 1.0), V),
        (Trade(1.0, -1.0), V),
        (Trade(float("nan"), 1.0), V),
        (Quote(1.0, 1.0, 1.1, 1.0), N),
        (Quote(ask_price=1.1), N),
        (Quote(), N),
        (Quote(1.1, 1.0, 1.1, 1.0), V),
        (Quote(1.2, 1.0, 1.1, 1.0), V),
        (Quote(0.0, 1.0, 1.1, 1.0), V),
        (Quote(bid_price=-1.0), V),
        (Quote(ask_price=0.0), V),
        (BookSnapshot((2.0, 1.0), (1.0, 1.0), (3.0,), (1.0,)), N),
        (BookSnapshot(), N),
        (BookSnapshot((2.0, 0.0), (1.0, 1.0)), V),
        (BookSnapshot((), (), (0.0,), (1.0,)), V),
        (BookSnapshot((2.0,), (1.0,), (2.0,), (1.0,)), V),
        (BookDelta((9.0,), (1.0,), (1.0,), (1.0,)), N),  # what it leaves is known where the book is
        (Trade("1.0"), N),  # type: ignore[arg-type]  # whoever encodes it says which field it was
    ],
)
def test_values_that_cannot_be_are_flagged(payload: Payload, flags: Flag) -> None:
    event = Event(TOPIC, payload, NOW_NS)
    mark(event)
    assert event.flags == flags


@pytest.mark.parametrize(
    ("venue_ts_ns", "flags"),
    [
        (None, N),
        (NOW_NS, N),
        (NOW_NS + DAY_NS, N),
        (NOW_NS + DAY_NS + 1, T),
        (NOW_NS - 5_000 * DAY_NS, N),
        (0, T),
        (NOW_NS // 1000, T),
        (NOW_NS * 1000, T),
    ],
)
def test_times_that_cannot_be_are_flagged(venue_ts_ns: int | None, flags: Flag) -> None:
    event = Event(TOPIC, Trade(1.0), NOW_NS, venue_ts_ns, Flag.INFERRED)
    mark(event)
    assert event.flags == flags | Flag.INFERRED


def judged(quarantine: Quarantine, topic: Topic, *flags: int, now_s: float = 0.0) -> str:
    """A letter for each event: p(ass), w(ithhold), d(oubt)."""
    return "".join(quarantine.judge(Event(topic, Trade(), 0, None, flag), now_s).value[0] for flag in flags)


@pytest.mark.parametrize(
    ("topic", "flags", "verdicts"),
    [
        (TOPIC, (V, V, N, V, V, N), "pppppp"),
        (TOPIC, (V, V, V, V, V, N, V), "ppdwwpp"),
        (TOPIC, (V, T, V | T, T, V), "ppdpw"),
        (TOPIC, (T, T, T, T, T, N, T), "ppdpppp"),
        (BOOK, (V, V, V, V, N), "ppdww"),  # until the book has begun anew nothing of it goes on
    ],
)
def test_so_many_in_a_row_are_a_doubt(topic: Topic, flags: Sequence[int], verdicts: str) -> None:
    assert judged(Quarantine(3, 60.0), topic, *flags) == verdicts


def test_a_topic_is_not_told_so_twice_within_the_pause() -> None:
    quarantine = Quarantine(2, 60.0)
    assert judged(quarantine, TOPIC, V, V, N) == "pdp"
    assert judged(quarantine, TOPIC, V, V, V, N, now_s=59.9) == "pppp"
    assert judged(quarantine, TOPIC._replace(symbol="ETH-USDT"), V, V, now_s=59.9) == "pd"
    assert judged(quarantine, TOPIC, V, V, V, now_s=60.0) == "pdw"


def test_a_book_goes_on_when_it_has_begun_anew() -> None:
    quarantine = Quarantine(1, 60.0)
    assert judged(quarantine, BOOK, V, N) == "dw"
    quarantine.begun_anew()
    assert judged(quarantine, BOOK, V, N, V) == "ppp"


# ------------------------------------------------------------------------------------------------------------ in the runner


async def one_read(items: Sequence[Output], **script: Any) -> Run:
    """A frame for each of `items`, all in one read."""
    socket = MemorySocket()
    socket.arrive(*(b"%d" % place for place in range(len(items))))
    socket.close()
    session = ScriptedSession(frame=lambda frame: [items[int(frame)]], **script)
    return await ran(session, socket, limits=LIMITS)


def items_of(run: Run) -> list[BatchItem]:
    return [item for batch in run.batches() for item in batch]


async def test_nonsense_is_withheld_until_sense_comes(autojump_clock: MockClock) -> None:
    run = await one_read([trade(1), *(trade(0) for _ in range(5)), trade(2), trade(0)])
    told = Resync(TOPIC, StatusCause.CROSSED, "3 events in a row with values that cannot be")
    bad = Event(TOPIC, Trade(0), 0, None, V)
    assert items_of(run) == [trade(1), bad, bad, told, trade(2), bad]
    assert run.counters.counts == {"quarantines": 1, "quarantined_events": 3}
    assert run.counters.events == 8
    (line,) = run.logs
    assert (line["event"], line["topic"], line["cause"]) == ("topic in doubt", "venue/BTC-USDT/trade", "CROSSED")


async def test_times_that_cannot_be_go_on_after_the_word(autojump_clock: MockClock) -> None:
    bad = [Event(TOPIC, Trade(float(n)), 0, 1) for n in range(1, 6)]
    told = Resync(TOPIC, StatusCause.CLOCK, "3 events in a row with times that cannot be")
    run = await one_read(bad)
    assert items_of(run) == [*bad[:2], told, *bad[2:]]
    assert [event.flags for event in bad] == [T] * 5
    assert run.counters.counts == {"quarantines": 1}


def delta(flags: int = 0) -> Event:
    return Event(BOOK, BookDelta((1.0,), (2.0,)), 0, None, flags)


async def test_a_book_in_doubt_begins_anew(autojump_clock: MockClock) -> None:
    """What its session made before it knew is dropped, and another topic in the same read is not."""
    run = await one_read(
        [delta(V), delta(V), delta(V), delta(), trade(1), delta(V)],
        unsubscribe=lambda topics: [Send("bye")],
        subscribe=lambda topics: [Send("again"), Established(topics), WHOLE, delta()],
    )
    told = Resync(BOOK, StatusCause.CROSSED, "3 events in a row with values that cannot be")
    established = Established((BOOK,))
    assert items_of(run) == [delta(V), delta(V), told, trade(1), established, WHOLE, delta()]
    assert [call for call in run.session.calls if "subscribe" in call[0]] == [("unsubscribe", (BOOK,)), ("subscribe", (BOOK,))]
    assert run.socket is not None
    assert [data for _, data in run.socket.sent] == ["bye"]  # the venue hung up before the pace allowed the other
    assert run.counters.counts == {"quarantines": 1, "quarantined_events": 3}


async def test_a_session_that_fails_to_begin_anew_is_at_fault(autojump_clock: MockClock) -> None:
    def boom(topics: Sequence[Topic]) -> Sequence[Output]:
        raise ZeroDivisionError("boom")

    run = await one_read([delta(V)] * 3, subscribe=boom)
    assert [type(item) for item in items_of(run)] == [Event, Event, Resync]
    assert isinstance(run.ending, AdapterFault)
    assert "ZeroDivisionError: boom" in str(run.ending)


async def test_a_connection_that_ends_begins_nothing_anew(autojump_clock: MockClock) -> None:
    socket = MemorySocket()
    socket.arrive(b"x")
    session = ScriptedSession(frame=lambda _: [*(delta(V) for _ in range(3)), Reconnect("enough", planned=True)])
    run = await ran(session, socket, limits=LIMITS)
    assert [type(item) for item in items_of(run)] == [Event, Event, Resync]
    assert [name for name, _ in session.calls] == ["connect", "frame"]


@pytest.mark.parametrize("topic", [BOOK, TOPIC])
async def test_what_is_found_out_downstream_is_told_and_not_too_often(topic: Topic, autojump_clock: MockClock) -> None:
    send, changes = trio.open_memory_channel[TopicChange](8)
    session = ScriptedSession(subscribe=lambda topics: [WHOLE])
    run = Run(session, None, changes=changes, limits=LIMITS)
    doubt = Resync(topic, StatusCause.CROSSED, "20 deltas in a row left it crossed")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for pause_s in (1, 59, 2):
            send.send_nowait(TopicChange(doubted=doubt))
            await trio.sleep(pause_s)
        nursery.cancel_scope.cancel()
    once = [doubt, WHOLE] if topic is BOOK else [doubt]
    assert run.batches() == [once] * 2
    assert run.counters.counts["quarantines"] == 2
