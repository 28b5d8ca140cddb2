"""The venue misbehaves in every way that it can be made to, and no client is told anything wrong.

After each fault: the clients' books are the venue's own, every hole was told, nothing came twice, no other symbol felt it.
Numbers of faults and bad input are those of the project's list of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from structlog.testing import capture_logs

from raven.adapter import Adapter, Capabilities, Connection, FeedSpec, Output, Session
from raven.feed.statistics import FeedState
from raven.feed.websocket_sansio import FRAGMENTS_MAX
from raven.model.events import Flag
from raven.model.topic import Kind, Topic
from raven.supervisor import ConfiguredFeed
from raven_binance import BinanceSpotAdapter, schedule, session
from raven_binance.emulator.faults import (
    Act,
    Answer,
    Close,
    Delay,
    Drop,
    Duplicate,
    Edit,
    Fault,
    Fin,
    Fragment,
    Insert,
    OldAnswer,
    Refuse,
    Replay,
    Reset,
    Slice,
    Stall,
)
from raven_binance.emulator.frames import write_frames
from raven_binance.emulator.framing import server_frame
from raven_binance.emulator.generator import RECORDED_TOPICS, SYNTHETIC_START_NS, generate
from raven_binance.emulator.rules import SYMBOLS
from tests.integration.feeding import (
    BESIDE,
    KINDS,
    LIMITS,
    RESTARTS,
    STRUCK,
    Wrapped,
    feeding,
    impatient,
)

FRAMES = 440
TRADES, QUOTES, DEPTHS, ALL = "btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms", "btcusdt@*"
DEPTH_REQUESTS = "/api/v3/depth*BTCUSDT*"
RESYNC = ("gap", "RESYNCING SEQUENCE_GAP", "LIVE")
DOWN_AND_UP = ("DOWN FEED_DOWN", "gap", "LIVE")
TOLD_S = 0.5  # fault 1
SNAPSHOT_PAUSE_S = 0.03
GAVE_UP_PAUSE_S = 0.3


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three symbols, over two seconds."""
    file = tmp_path_factory.mktemp("frames") / "three-symbols.frames.gz"
    records = (record for record in generate(7, SYNTHETIC_START_NS, SYMBOLS) if record.topic in RECORDED_TOPICS)
    write_frames(file, islice(records, FRAMES))
    return file


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SNAPSHOT_PAUSE_S", SNAPSHOT_PAUSE_S)
    monkeypatch.setattr(session, "GAVE_UP_PAUSE_S", GAVE_UP_PAUSE_S)
    monkeypatch.setattr(schedule, "PAUSE_MIN_S", SNAPSHOT_PAUSE_S)


async def test_a_venue_that_behaves_leaves_nothing_to_tell(frames: Path) -> None:
    async with feeding(frames) as running:
        await running.until_played()
        await running.check()
        running.check_untouched(STRUCK)
        assert running.injector.strikes == []


# ------------------------------------------------------------------------------------------- single frames of one symbol


@attrs.frozen
class Case:
    """Faults of one symbol's frames, and all that its clients are told of them.

    Args:
        trade, book: what is told behind the first LIVE.
        bad_frames: how many are skipped as not understood.
        counts: of the session.
        flagged: kinds and flags of the events that carry a flag.
    """

    faults: tuple[Fault, ...]
    trade: tuple[str, ...] = ()
    book: tuple[str, ...] = ()
    bad_frames: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    flagged: tuple[tuple[Kind, Flag], ...] = ()


def case(*faults: Fault, **expected: Any) -> Case:
    return Case(faults, **expected)


def edit(key: str, value: str) -> Edit:
    """Another text in the place of a key's value, which is a plain one."""
    return Edit(lambda payload: re.sub(rf'"{key}":("[^"]*"|[\w.]+)', rf'"{key}":{value}', payload, count=1))


def level(text: str) -> Edit:
    """A first bid of that text."""
    return Edit(lambda payload: payload.replace('"b":[', f'"b":[{text},', 1).replace(",]", "]"))


def one_sided(payload: str) -> str:
    """No bids, as the venue writes it."""
    return re.sub(r'"b":"[^"]*","B":"[^"]*"', '"b":"0.00","B":"0.00"', payload)


def text(message: str) -> Insert:
    return Insert(server_frame(message.encode()))


FRAME_CASES = {
    # fault 4
    "a hole in the book": case(Fault(Drop(), DEPTHS, after=8), book=RESYNC),
    "a hole in the trades": case(Fault(Drop(), TRADES, after=20, times=3), trade=("gap 3",)),
    "quotes lost": case(Fault(Drop(), QUOTES, after=20, times=3)),
    # fault 5
    "everything twice": case(Fault(Duplicate(), ALL, times=0)),
    "a frame many times": case(Fault(Duplicate(50), TRADES, after=20), counts=(("repeated_event", 50),)),
    "deltas swapped": case(Fault(Delay(), DEPTHS, after=8), book=RESYNC),
    "trades swapped": case(Fault(Delay(), TRADES, after=20), trade=("gap 1",), counts=(("repeated_event", 1),)),
    "quotes late": case(Fault(Delay(4), QUOTES, after=20), counts=(("repeated_event", 1),)),
    # the same bytes in other pieces
    "fragments": case(Fault(Fragment(5), ALL, every=3, times=0)),
    "a byte a fragment": case(Fault(Fragment(10_000), ALL, after=20, times=3)),
    "slices": case(Fault(Slice(3), ALL, after=20, every=9, times=8)),
    # bad input 30
    "not JSON": case(Fault(text("hello"), TRADES, after=20), bad_frames=1),
    "empty": case(Fault(text(""), TRADES, after=20), bad_frames=1),
    "binary": case(Fault(Insert(server_frame(b"\0\xff\xfe", 2)), TRADES, after=20), bad_frames=1),
    "binary, not UTF-8": case(
        Fault(Insert(server_frame(b'{"stream":"\xff@trade","data":{}}', 2)), TRADES, after=20), bad_frames=1
    ),
    "an array": case(Fault(text("[1, 2]"), TRADES, after=20), bad_frames=1),
    "deep arrays": case(Fault(text("[" * 100_000), TRADES, after=20), bad_frames=1),
    "deep in a trade": case(
        Fault(Edit(lambda p: p[:-1] + ',"x":' + "[" * 100_000), TRADES, after=20), trade=("gap 1",), bad_frames=1
    ),
    "NaN": case(Fault(edit("p", '"NaN"'), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "bare NaN": case(Fault(edit("p", "NaN"), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "infinite": case(Fault(edit("q", '"Infinity"'), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "1e400": case(Fault(edit("q", "1e400"), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "1e400 in a book": case(Fault(level('["1e400","1"]'), DEPTHS, after=8), book=RESYNC, bad_frames=1),
    "a NaN in a book": case(Fault(level('["NaN","1"]'), DEPTHS, after=8), book=RESYNC, bad_frames=1),
    "a NaN in a quote": case(Fault(edit("B", '"nan"'), QUOTES, after=20), bad_frames=1),
    "truncated": case(Fault(Edit(lambda p: p[: len(p) // 2]), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "truncated book": case(Fault(Edit(lambda p: p[: len(p) // 2]), DEPTHS, after=8), book=RESYNC, bad_frames=1),
    "forty digits": case(Fault(Edit(lambda p: p.replace('","q"', "0" * 32 + '","q"')), TRADES, times=0)),
    "scientific": case(Fault(Edit(lambda p: re.sub(r'"p":"(\d+)\.(\d\d)0*"', r'"p":"\1\2e-2"', p)), TRADES, after=20, times=9)),
    "numbers as numbers": case(Fault(Edit(lambda p: re.sub(r'"([pq])":"([\d.]+)"', r'"\1":\2', p)), TRADES, times=0)),
    "a key twice": case(Fault(Edit(lambda p: '{"t":1,' + p[1:]), TRADES, times=0)),
    # bad input 31
    "zero price": case(Fault(edit("p", '"0.00"'), TRADES, after=20), flagged=((Kind.TRADE, Flag.SUSPECT_VALUE),)),
    "negative price": case(Fault(edit("p", '"-1"'), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "negative size": case(Fault(edit("A", '"-1"'), QUOTES, after=20), bad_frames=1),
    "negative level": case(Fault(level('["61000","-1"]'), DEPTHS, after=8), book=RESYNC, bad_frames=1),
    "crossed quote": case(Fault(edit("b", '"99999999"'), QUOTES, after=20), flagged=((Kind.QUOTE, Flag.SUSPECT_VALUE),)),
    "quotes with an empty side": case(Fault(Edit(one_sided), QUOTES, after=20)),
    "the year 1970": case(Fault(edit("T", "86400000"), TRADES, after=20), flagged=((Kind.TRADE, Flag.SUSPECT_TIME),)),
    "a day ahead": case(Fault(edit("T", "99999999999999"), TRADES, after=20), flagged=((Kind.TRADE, Flag.SUSPECT_TIME),)),
    "an old id": case(Fault(edit("t", "5"), TRADES, after=20), trade=("gap 1",), counts=(("repeated_event", 1),)),
    "deltas from nowhere": case(Fault(edit("U", "5"), DEPTHS, after=8), book=RESYNC),
    # bad input 32
    "an unknown symbol": case(
        Fault(text('{"stream":"dogeusdt@trade","data":{"e":"trade","t":1}}'), TRADES, times=7), counts=(("unknown_message", 7),)
    ),
    "an unknown stream": case(
        Fault(text('{"stream":"btcusdt@whisper","data":{}}'), TRADES, times=7), counts=(("unknown_message", 7),)
    ),
    "an unknown message": case(Fault(text('{"e":"news","E":1}'), TRADES, times=7), counts=(("unknown_message", 7),)),
    "an answer to nobody": case(Fault(text('{"result":null,"id":99}'), TRADES, times=7), counts=(("unmatched_answer", 7),)),
    "an error to nobody": case(
        Fault(text('{"code":1,"msg":"x"}'), TRADES, after=9, times=7), counts=(("unmatched_answer", 7),)
    ),
    "new fields": case(Fault(Edit(lambda p: f'{p[:-1]},"new":{{"a":[1,null]}},"Z":"x"}}'), ALL, times=0)),
    "a text is an object": case(Fault(edit("p", '{"v":1}'), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "an id is a text": case(Fault(edit("t", '"x"'), TRADES, after=20), trade=("gap 1",), bad_frames=1),
    "a list is null": case(
        Fault(Edit(lambda p: re.sub(r'"a":.*', '"a":null}', p)), DEPTHS, after=8), book=RESYNC, bad_frames=1
    ),
    "a field is gone": case(
        Fault(Edit(lambda p: p.replace('"q":', '"quantity":')), TRADES, after=20), trade=("gap 1",), bad_frames=1
    ),
}


@pytest.mark.parametrize("name", FRAME_CASES)
async def test_frames_of_one_symbol(name: str, frames: Path) -> None:
    wanted = FRAME_CASES[name]
    async with feeding(frames, *wanted.faults) as running:
        await running.until_played()
        await running.check()
        assert running.injector.strikes
        record, feed = running.record, running.feed
    told = {Kind.TRADE: wanted.trade, Kind.QUOTE: (), Kind.BOOK: wanted.book}
    assert {kind: tuple(record.tale(STRUCK, kind)) for kind in KINDS} == {kind: ("LIVE", *told[kind]) for kind in KINDS}
    assert feed.decode_errors == wanted.bad_frames
    assert feed.reconnects == 0
    assert dict(wanted.counts).items() <= feed.connections[0].counts.items()
    flagged = [(kind, event.flags) for kind in KINDS for event in record.of(STRUCK, kind) if event.flags]
    assert flagged == list(wanted.flagged)
    if not (wanted.trade or wanted.book or wanted.bad_frames or wanted.flagged or "quotes" in name):
        running.check_untouched(STRUCK)


async def test_a_book_that_is_torn_again_and_again(frames: Path) -> None:
    """Fault 4: each hole has its own Gap and its own snapshot."""
    async with feeding(frames, Fault(Drop(), DEPTHS, after=6, every=6, times=3), speed=2) as running:
        await running.until_played()
        await running.check()
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", *(RESYNC * 3)]
        assert len(running.asked("depth?symbol=BTCUSDT&limit=1000")) == 4


async def test_bad_frames_are_counted_one_by_one_and_a_few_are_logged(frames: Path) -> None:
    """Bad input 30: the log has samples with their text, and says how many it left out."""
    with capture_logs() as logs:
        async with feeding(frames, Fault(text("hello"), TRADES, times=40)) as running:
            await running.until_played()
            await running.check()
            assert running.feed.decode_errors == 40
    samples = [entry for entry in logs if entry["event"] == "bad frame skipped"]
    assert len(samples) == LIMITS.log_samples_max
    assert all("hello" in entry["frame"] for entry in samples)


# -------------------------------------------------------------------------------------------------------- the connection

BOMB_BYTES = 5 * 1024 * 1024  # the adapter's limit on messages is 4 MiB

CONNECTION_CASES: dict[str, tuple[Act, str]] = {
    "FIN": (Fin(), "ended the connection without closing it"),  # fault 1
    "RST before a frame": (Reset(0), "broke the connection"),
    "RST in a frame": (Reset(0.5), "broke the connection"),  # fault 3
    "RST behind all but a byte": (Reset(0.995), "broke the connection"),
    "close 1000": (Close(1000), "closed the connection: code 1000"),
    "close 1001": (Close(1001, "going away"), "closed the connection: code 1001, 'going away'"),
    "close without a code": (Close(None), "closed the connection: no code"),  # bad input 33
    "close 4321": (Close(4321, "bye"), "closed the connection: code 4321, 'bye'"),
    "masked": (Insert(server_frame(b'{"x":1}', mask=b"abcd")), "broke the WebSocket protocol: incorrect masking"),
    "not UTF-8": (Insert(server_frame(b'{"x":"\xff\xfe"}')), "sent a text message that is not UTF-8"),
    "compressed unasked": (Insert(server_frame(b"\xaa\0", rsv1=True)), "broke the WebSocket protocol: reserved bits"),
    "unknown opcode": (Insert(server_frame(b"x", 3)), "broke the WebSocket protocol: invalid opcode"),
    "continuation of nothing": (Insert(server_frame(b"x", 0)), "broke the WebSocket protocol: unexpected continuation"),
    "too long": (Insert(server_frame(b" " * BOMB_BYTES)), "sent a message over the limit of 4194304 bytes"),
    "announced too long": (Insert(server_frame(b" " * BOMB_BYTES)[:10]), "sent a message over the limit of 4194304 bytes"),
    "too many fragments": (
        Insert(server_frame(b"", fin=False) + server_frame(b"", 0, fin=False) * FRAGMENTS_MAX),
        f"sent a message in more than {FRAGMENTS_MAX} fragments",
    ),
}


@pytest.mark.parametrize("name", CONNECTION_CASES)
async def test_the_connection_ends(name: str, frames: Path) -> None:
    act, why = CONNECTION_CASES[name]
    async with feeding(frames, Fault(act, DEPTHS, after=10)) as running:
        await running.until_played()
        await running.check(alone=False)
        record, feed, (strike,) = running.record, running.feed, running.injector.strikes
    for symbol in (STRUCK, BESIDE):
        for kind in KINDS:
            assert tuple(record.tale(symbol, kind)[:4]) == ("LIVE", *DOWN_AND_UP)
            assert record.at(symbol, kind, "DOWN FEED_DOWN") - strike.at_s < TOLD_S
            assert why in record.text(symbol, kind, "DOWN FEED_DOWN")
        assert tuple(record.tale(symbol, Kind.BOOK)) == ("LIVE", *DOWN_AND_UP)
    assert (feed.reconnects, feed.decode_errors, feed.faults) == (1, 0, 0)


async def test_a_connection_that_ends_again_and_again(frames: Path) -> None:
    async with feeding(frames, Fault(Fin(), TRADES, after=15, every=10, times=3), speed=3) as running:
        await running.until_played()
        await running.check(alone=False)
        assert len(running.injector.strikes) == 3
        assert running.feed.reconnects >= 2
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", *(DOWN_AND_UP * running.feed.reconnects)]


async def test_a_silent_venue_is_left(frames: Path) -> None:
    """Fault 2: TCP is alive, the feed is dead."""
    idle_s = 0.4
    async with feeding(frames, Fault(Stall(), DEPTHS, after=10), adapter=impatient(idle_s), speed=5) as running:
        await running.until_played()
        await running.check(alone=False)
        record, (strike,) = running.record, running.injector.strikes
    for symbol in (STRUCK, BESIDE):
        assert record.tale(symbol, Kind.BOOK)[:4] == ["LIVE", "DOWN VENUE_SILENT", "gap", "LIVE"]
        waited_s = record.at(symbol, Kind.BOOK, "DOWN VENUE_SILENT") - strike.at_s
        assert idle_s - 0.1 < waited_s < idle_s + TOLD_S


async def test_a_replay_after_the_connection_came_back(frames: Path) -> None:
    """Fault 5: what was seen before does not come again, and moves no sequence."""
    faults = Fault(Fin(), DEPTHS, after=20), Fault(Replay(40), "*")
    async with feeding(frames, *faults, speed=5) as running:
        await running.until_played()
        await running.check(alone=False)
        assert running.feed.reconnects == 1
        assert running.count("repeated_event") > 40


# ------------------------------------------------------------------------------------------------------------------ REST


async def test_old_snapshots_are_asked_for_again(frames: Path) -> None:
    """Fault 6: the first answers after the hole are from before it."""
    faults = Fault(Drop(), DEPTHS, after=10), Fault(OldAnswer(), DEPTH_REQUESTS, after=1, times=3)
    async with feeding(frames, *faults) as running:
        await running.until_played()
        await running.check()
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", *RESYNC]
        assert running.count("old_snapshot") == 3
        asked = running.asked("depth?symbol=BTCUSDT&limit=1000")
    assert all(later - at >= SNAPSHOT_PAUSE_S for at, later in pairwise(asked[1:]))


async def test_nothing_but_old_snapshots_is_no_loop(frames: Path) -> None:
    """Fault 6: after so many tries the book stays in doubt, and the venue is left alone for a while."""
    tries = 5
    faults = Fault(Drop(), DEPTHS, after=10), Fault(OldAnswer(), DEPTH_REQUESTS, after=1, times=tries)
    async with feeding(frames, *faults) as running:
        await running.until_played()
        await running.check()
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", *RESYNC]
        asked = running.asked("depth?symbol=BTCUSDT&limit=1000")
    assert len(asked) == 1 + tries + 1
    assert asked[-1] - asked[-2] >= GAVE_UP_PAUSE_S


@pytest.mark.parametrize("status", [429, 418])
async def test_a_venue_that_asks_to_wait_is_left_alone(status: int, frames: Path) -> None:
    """Fault 7, of one process: nothing is asked for before the time is over, also not for another symbol."""
    wait_s = 0.6
    refusal = Answer(status, b'{"code":-1003,"msg":"Too many requests."}', {"Retry-After": str(wait_s)})
    holes = Fault(Drop(), DEPTHS, after=8), Fault(Drop(), "ethusdt@depth@100ms", after=12)
    async with feeding(frames, *holes, Fault(refusal, DEPTH_REQUESTS, after=1), speed=4) as running:
        await running.until_played()
        await running.check_all()
        requests = running.injector.requests
        assert [running.record.tale(symbol, Kind.BOOK) for symbol in (STRUCK, BESIDE)] == [["LIVE", *RESYNC]] * 2
    refused = next(request for request in requests if request.status == status)
    later = [request.at_s for request in requests if request.at_s > refused.at_s and "limit=1000" in request.target]
    assert len(later) == 2
    assert min(later) - refused.at_s >= wait_s


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, b"<html>"),
        Answer(503, b"{}"),
        Answer(200, b"<html>"),
        Answer(200, b""),
        Answer(200, b"null"),
        Answer(200, b'{"lastUpdateId":"x","bids":[],"asks":[]}'),
        Answer(200, b'{"lastUpdateId":99999999999999,"bids":[["NaN","1"]],"asks":[]}'),
        Answer(200, b'{"lastUpdateId":99999999999999,"bids":[["-1","1"]],"asks":[]}'),
        Answer(200, b"[" * 100_000),
        Answer(200, b"{}", {"Content-Encoding": "gzip"}),
        Answer(302, b"", {"Location": "/elsewhere"}),
    ],
    ids=["500", "503", "html", "empty", "null", "id", "nan", "negative", "deep", "no-gzip", "302"],
)
async def test_bad_answers_are_asked_for_again(answer: Answer, frames: Path) -> None:
    faults = Fault(Drop(), DEPTHS, after=10), Fault(answer, DEPTH_REQUESTS, after=1, times=2)
    async with feeding(frames, *faults) as running:
        await running.until_played()
        await running.check()
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", *RESYNC]
        assert len(running.asked("depth?symbol=BTCUSDT&limit=1000")) == 4


async def test_a_refused_subscription_closes_its_topic_alone(frames: Path) -> None:
    async with feeding(frames, Fault(Refuse(2, "not to be had"), QUOTES, times=0), speed=1.2) as running:
        await running.record.until(lambda: running.record.tale(STRUCK, Kind.QUOTE), "a word about the quotes")
        await running.until_played()
        await running.check(alone=False)
        record = running.record
    assert record.tale(STRUCK, Kind.QUOTE) == ["CLOSED VENUE_REFUSED"]
    assert "not to be had" in record.text(STRUCK, Kind.QUOTE, "CLOSED VENUE_REFUSED")
    assert record.tale(STRUCK, Kind.TRADE) == record.tale(STRUCK, Kind.BOOK) == ["LIVE"]
    assert [record.tale(BESIDE, kind) for kind in KINDS] == [["LIVE"]] * 3
    assert running.feed.reconnects == 0


# --------------------------------------------------------------------------------------------------- fault 9: the adapter


class Raising(Adapter):
    """An adapter whose sessions fail at once."""

    api: ClassVar[int] = 1
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({Kind.TRADE}))

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return [Connection("main", None, feed.topics)]

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        return RaisingSession()


class RaisingSession(Session):
    def on_connect(self, now_ns: int) -> Sequence[Output]:
        raise ZeroDivisionError("boom")


async def test_an_adapter_that_raises_is_parked_and_nobody_else_feels_it(frames: Path) -> None:
    topic = Topic("broken", "BTC-USDT", Kind.TRADE)
    broken = ConfiguredFeed(FeedSpec("broken", (topic,), None), Raising(), "raising", "0")
    async with feeding(frames, more=[broken]) as running:
        await running.record.until(lambda: running.record.last_status(topic) == "CLOSED ADAPTER_FAILED", "the end of it")
        await running.until_played()
        await running.check()
        running.check_untouched(STRUCK)
        ours, _, theirs = running.supervisor.statistics()
    assert (theirs.state, theirs.faults) == (FeedState.FAILED, RESTARTS.faults_max)
    assert "ZeroDivisionError: boom" in theirs.reason
    assert (ours.state, ours.faults, ours.reconnects) == (FeedState.LIVE, 0, 0)


class Tripping(Session):
    """The Binance session, but for one frame of which it makes a bug."""

    def __init__(self, inner: Session, trips: Callable[[bytes], bool]) -> None:
        self._inner = inner
        self._trips = trips
        self.on_connect = inner.on_connect  # type: ignore[method-assign]
        self.on_reply = inner.on_reply  # type: ignore[method-assign]
        self.on_wakeup = inner.on_wakeup  # type: ignore[method-assign]

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        if self._trips(frame):
            raise KeyError("a bug")
        return self._inner.on_frame(frame, received_ts_ns)


async def test_an_adapter_that_trips_over_a_frame_begins_again(frames: Path) -> None:
    marked = Fault(Edit(lambda payload: payload[:-1] + ',"trip":1}'), TRADES, after=20)
    adapter = Wrapped(BinanceSpotAdapter(), session=lambda inner: Tripping(inner, lambda frame: b'"trip"' in frame))
    async with feeding(frames, marked, adapter=adapter) as running:
        await running.until_played()
        await running.check(alone=False)
        feed, record = running.feed, running.record
    assert (feed.faults, feed.reconnects, feed.state) == (1, 1, FeedState.LIVE)
    for symbol in (STRUCK, BESIDE):
        assert record.tale(symbol, Kind.BOOK) == ["LIVE", "DOWN ADAPTER_FAILED", "gap", "LIVE"]
    assert "KeyError: 'a bug'" in record.text(STRUCK, Kind.BOOK, "DOWN ADAPTER_FAILED")
