"""The venue misbehaves in every way that it can be made to, and no client is told anything wrong.

After each fault: the clients' books are the venue's own, every hole was told, nothing came twice, no other symbol felt it.
Numbers of faults and bad input are those of the project's list of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from structlog.testing import capture_logs

from raven.adapter import Adapter, Capabilities, Connection, FeedSpec, Output, Session
from raven.feed.statistics import FeedState
from raven.feed.transport import DEFAULT_READER, Reader
from raven.feed.websocket_sansio import FRAGMENTS_MAX
from raven.model.events import Flag, StatusCause
from raven.model.topic import Kind, Topic
from raven.supervisor import ConfiguredFeed
from raven_binance import schedule, session
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
from tests.integration.feeding import (
    APART,
    BESIDE,
    FEED,
    KINDS,
    LIMITS,
    RESTARTS,
    SPOT,
    STRUCK,
    USDM,
    Feeding,
    Played,
    Wrapped,
    feeding,
    impatient,
)

FRAMES = 440
TRADES, QUOTES, DEPTHS, ALL = "btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms", "btcusdt@*"
DEPTH_REQUESTS = "*/depth*BTCUSDT*"
RESYNC = ("gap", "RESYNCING SEQUENCE_GAP", "LIVE")
DOWN_AND_UP = ("DOWN FEED_DOWN", "gap", "LIVE")
TOLD_S = 0.5  # fault 1
SNAPSHOT_PAUSE_S = 0.03
GAVE_UP_PAUSE_S = 0.3


@attrs.frozen
class Way:
    """How the frames come: of which market, and read by what."""

    file: Path
    played: Played
    reader: Reader

    def feeding(self, *faults: Fault, **options: Any) -> AbstractAsyncContextManager[Feeding]:
        return feeding(self.file, *faults, played=self.played, reader=self.reader, **options)


def recording(file: Path, played: Played) -> Path:
    """Three symbols, over two seconds."""
    records = generate(7, SYNTHETIC_START_NS, played.rules, played.kind)
    write_frames(file, islice((record for record in records if record.topic in RECORDED_TOPICS), FRAMES))
    return file


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Way]:
    folder = tmp_path_factory.mktemp("frames")
    spot, usdm = recording(folder / "spot.frames.gz", SPOT), recording(folder / "usdm.frames.gz", USDM)
    return {
        "spot": Way(spot, SPOT, DEFAULT_READER),
        "usdm": Way(usdm, USDM, DEFAULT_READER),
        "trio-websocket": Way(spot, SPOT, "trio-websocket"),
    }


@pytest.fixture
def way(request: pytest.FixtureRequest, ways: dict[str, Way]) -> Way:
    return ways[request.param]


@pytest.fixture
def frames(ways: dict[str, Way]) -> Path:
    return ways["spot"].file


WAYS = ("spot", "usdm", "trio-websocket")
each_way = pytest.mark.parametrize("way", WAYS, indirect=True)
each_market = pytest.mark.parametrize("way", ["spot", "usdm"], indirect=True)


def some_also(names: Iterable[str], **also: Sequence[str]) -> pytest.MarkDecorator:
    """All of `names` on spot, and those that are named for another way on that one too."""
    pairs = [*((name, "spot") for name in names), *((name, way) for way in also for name in also[way])]
    return pytest.mark.parametrize(("name", "way"), [(name, way.replace("_", "-")) for name, way in pairs], indirect=["way"])


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SNAPSHOT_PAUSE_S", SNAPSHOT_PAUSE_S)
    monkeypatch.setattr(session, "GAVE_UP_PAUSE_S", GAVE_UP_PAUSE_S)
    monkeypatch.setattr(schedule, "PAUSE_MIN_S", SNAPSHOT_PAUSE_S)


@each_way
async def test_a_venue_that_behaves_leaves_nothing_to_tell(way: Way) -> None:
    async with way.feeding() as running:
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
    "nothing but zero prices": case(
        Fault(edit("p", '"0.00"'), TRADES, after=20, times=15),
        trade=("gap", "RESYNCING CROSSED", "LIVE"),
        flagged=((Kind.TRADE, Flag.SUSPECT_VALUE),) * 9,
        counts=(("quarantines", 1), ("quarantined_events", 6)),
    ),
    "nothing but the year 1970": case(
        Fault(edit("T", "86400000"), TRADES, after=20, times=15),
        trade=("gap", "RESYNCING CLOCK", "LIVE"),
        flagged=((Kind.TRADE, Flag.SUSPECT_TIME),) * 15,
        counts=(("quarantines", 1),),
    ),
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


# By another reader the bytes matter, of another market the rule of its books and what its messages are read by.
IN_OTHER_PIECES = ("fragments", "a byte a fragment", "slices", "not JSON", "empty", "binary, not UTF-8", "deep in a trade")
OF_ANOTHER_MARKET = (
    *("a hole in the book", "a hole in the trades", "everything twice", "deltas swapped", "trades swapped", "quotes late"),
    *("deep in a trade", "NaN", "1e400 in a book", "a NaN in a quote", "truncated book", "zero price", "new fields"),
    *("a list is null", "a field is gone"),
)


@some_also(FRAME_CASES, usdm=OF_ANOTHER_MARKET, trio_websocket=IN_OTHER_PIECES)
async def test_frames_of_one_symbol(name: str, way: Way) -> None:
    wanted = FRAME_CASES[name]
    async with way.feeding(*wanted.faults) as running:
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


# In that library's words; it does not limit fragments, and takes an announced length at its word.
BY_TRIO_WEBSOCKET = {
    "FIN": "broke the connection",
    "RST in a frame": "broke the connection",
    "close without a code": "closed the connection: no code",
    "close 4321": "closed the connection: code 4321, 'bye'",
    "masked": "closed the connection: code 1002",
    "not UTF-8": "closed the connection: code 1007",
    "compressed unasked": "closed the connection: code 1002",
    "unknown opcode": "closed the connection: code 1002",
    "continuation of nothing": "closed the connection: code 1002",
    "too long": "closed the connection: code 1009",
}


@some_also(CONNECTION_CASES, usdm=("FIN", "RST in a frame"), trio_websocket=tuple(BY_TRIO_WEBSOCKET))
async def test_the_connection_ends(name: str, way: Way) -> None:
    act, why = CONNECTION_CASES[name]
    if way.reader != DEFAULT_READER:
        why = BY_TRIO_WEBSOCKET[name]
    async with way.feeding(Fault(act, DEPTHS, after=10)) as running:
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
        assert running.feed.reconnects >= 1
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", *(DOWN_AND_UP * running.feed.reconnects)]


@each_way
async def test_a_silent_venue_is_left(way: Way) -> None:
    """Fault 2: TCP is alive, the feed is dead."""
    idle_s = 1.0  # of a busy machine too
    async with way.feeding(Fault(Stall(), DEPTHS, after=10), adapter=impatient(idle_s, way.played), speed=5) as running:
        await running.until_played()
        await running.check(alone=False)
        record, (strike,) = running.record, running.injector.strikes
    for symbol in (STRUCK, BESIDE):
        assert record.tale(symbol, Kind.BOOK)[:4] == ["LIVE", "DOWN VENUE_SILENT", "gap", "LIVE"]
        waited_s = record.at(symbol, Kind.BOOK, "DOWN VENUE_SILENT") - strike.at_s
        assert idle_s - 0.1 < waited_s < idle_s + TOLD_S


@each_way
async def test_a_replay_after_the_connection_came_back(way: Way) -> None:
    """Fault 5: what was seen before does not come again, and moves no sequence."""
    faults = Fault(Fin(), DEPTHS, after=8), Fault(Replay(40), "*")
    async with way.feeding(*faults, speed=2) as running:
        await running.record.until(lambda: running.count("repeated_event") > 40, "the replay")
        await running.until_played()
        await running.check(alone=False)
        assert running.feed.reconnects == 1


@each_market
async def test_a_book_that_is_doubted_downstream_begins_anew(way: Way) -> None:
    """Bad input 31: who keeps the book saw it crossed. The venue is asked once more, and nothing else of it is touched."""
    async with way.feeding(speed=3) as running:
        await running.record.until(lambda: len(running.record.of(STRUCK, Kind.BOOK)) > 8, "some deltas")
        book = Topic(FEED, STRUCK + way.played.suffix, Kind.BOOK)
        for _ in range(3):  # seen again before it is mended: once is enough
            running.supervisor.doubt(FEED, book, StatusCause.CROSSED, "20 deltas in a row left it crossed")
        await running.until_played()
        await running.check()
        assert running.record.tale(STRUCK, Kind.BOOK) == ["LIVE", "gap", "RESYNCING CROSSED", "LIVE"]
        assert [running.record.tale(STRUCK, kind) for kind in (Kind.TRADE, Kind.QUOTE)] == [["LIVE"]] * 2
        assert (running.count("quarantines"), running.feed.faults, running.feed.reconnects) == (1, 0, 0)


# ------------------------------------------------------------------------------------------------------------------ REST


@each_market
async def test_old_snapshots_are_asked_for_again(way: Way) -> None:
    """Fault 6: the first answers after the hole are from before it."""
    faults = Fault(Drop(), DEPTHS, after=10), Fault(OldAnswer(), DEPTH_REQUESTS, after=1, times=3)
    async with way.feeding(*faults) as running:
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
    """Fault 7, of one process: nothing is asked for before the time is over, also not for another symbol or by another feed."""
    wait_s = 0.6
    refusal = Answer(status, b'{"code":-1003,"msg":"Too many requests."}', {"Retry-After": str(wait_s)})
    others = (Fault(Drop(), f"{symbol}@depth@100ms", after=12) for symbol in ("ethusdt", "solusdt"))
    holes = Fault(Drop(), DEPTHS, after=8), *others
    async with feeding(frames, *holes, Fault(refusal, DEPTH_REQUESTS, after=1), speed=4) as running:
        await running.until_played()
        await running.check_all()
        requests = running.injector.requests
        assert [running.record.tale(symbol, Kind.BOOK) for symbol in (STRUCK, BESIDE, APART)] == [["LIVE", *RESYNC]] * 3
    refused = next(request for request in requests if request.status == status)
    later = [request.at_s for request in requests if request.at_s > refused.at_s and "limit=1000" in request.target]
    assert len(later) == 3
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


@each_market
async def test_an_adapter_that_trips_over_a_frame_begins_again(way: Way) -> None:
    marked = Fault(Edit(lambda payload: payload[:-1] + ',"trip":1}'), TRADES, after=20)
    adapter = Wrapped(way.played.adapter(), session=lambda inner: Tripping(inner, lambda frame: b'"trip"' in frame))
    async with way.feeding(marked, adapter=adapter) as running:
        await running.until_played()
        await running.check(alone=False)
        feed, record = running.feed, running.record
    assert (feed.faults, feed.reconnects, feed.state) == (1, 1, FeedState.LIVE)
    for symbol in (STRUCK, BESIDE):
        assert record.tale(symbol, Kind.BOOK) == ["LIVE", "DOWN ADAPTER_FAILED", "gap", "LIVE"]
    assert "KeyError: 'a bug'" in record.text(STRUCK, Kind.BOOK, "DOWN ADAPTER_FAILED")
