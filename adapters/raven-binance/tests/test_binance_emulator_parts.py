"""The emulator's pure parts: files, books, answers, frames, the generator."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from raven.adapter import EmulatorOptions
from raven.errors import StartupError
from raven_binance.emulator.books import EmulatedBook, Stage
from raven_binance.emulator.control import open_subscriptions
from raven_binance.emulator.frames import Record, combined, format_line, load_frames, parse_line, write_frames
from raven_binance.emulator.framing import text_frame
from raven_binance.emulator.generator import SYNTHETIC_START_NS, generate, synthetic_records
from raven_binance.emulator.rules import exchange_info, rules_of
from raven_binance.emulator.timeline import Timeline, open_source

TRADE_LINE = '1723161254087896568 {"stream":"btcusdt@trade","data":{"e":"trade","t":1}}'
SNAPSHOT_LINE = '1723161254206652067 {"lastUpdateId":5,"bids":[],"asks":[]}'
WRAPPED_LINE = '1723161254206652067 {"stream":"ethusdt@snapshot","data":{"lastUpdateId":5,"bids":[],"asks":[]}}'


# Files.


def test_a_line_is_read_and_written_again() -> None:
    record = parse_line(TRADE_LINE + "\n")
    assert record == Record(1723161254087896568, "btcusdt@trade", '{"e":"trade","t":1}')
    assert (record.symbol, record.topic, record.is_snapshot) == ("BTCUSDT", "trade", False)
    assert format_line(record) == TRADE_LINE
    assert combined(record) == TRADE_LINE.partition(" ")[2]


@pytest.mark.parametrize("line", ["", "x {}", "1", "1 {}", '1 {"stream":"btcusdt@trade"}', '1 {"stream":"x","data":{}}'])
def test_a_line_that_is_none(line: str) -> None:
    with pytest.raises(ValueError, match=r"int\(\)|neither"):
        parse_line(line)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_bare_snapshot_belongs_to_the_only_symbol(tmp_path: Path) -> None:
    _, snapshot = load_frames(write(tmp_path / "one.frames", TRADE_LINE, SNAPSHOT_LINE))
    assert (snapshot.symbol, snapshot.is_snapshot) == ("BTCUSDT", True)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((TRADE_LINE, WRAPPED_LINE, SNAPSHOT_LINE), "does not say whose it is, and the symbols are BTCUSDT, ETHUSDT"),
        ((SNAPSHOT_LINE,), "does not say whose it is, and the symbols are none"),
        ((TRADE_LINE, "nonsense"), "line 2"),
        ((), "there are none in it"),
    ],
)
def test_a_file_that_cannot_be_played(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=message):
        load_frames(write(tmp_path / "bad.frames", *lines))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        load_frames(tmp_path / "absent.frames.gz")
    with pytest.raises(StartupError, match="Not a gzipped file"):
        load_frames(write(tmp_path / "plain.frames.gz", TRADE_LINE))
    whole = gzip.compress(f"{TRADE_LINE}\n".encode() * 1000)
    (tmp_path / "cut.frames.gz").write_bytes(whole[:-20])
    with pytest.raises(StartupError, match="line"):
        load_frames(tmp_path / "cut.frames.gz")


def test_the_committed_recording_is_what_the_generator_makes(synthetic: Path, tmp_path: Path) -> None:
    """Byte by byte what was packed; the packing itself differs between zlib versions."""
    again = tmp_path / "again.frames.gz"
    write_frames(again, synthetic_records())
    assert gzip.decompress(synthetic.read_bytes()) == gzip.decompress(again.read_bytes())
    assert synthetic.stat().st_size < 200_000


# Books.


def body(book: EmulatedBook, limit: int = 5000) -> Any:
    return json.loads(book.reply(limit))


def test_a_book_answers_with_the_recorded_snapshot_and_then_with_what_it_became() -> None:
    book = EmulatedBook()
    book.on_delta('{"U":1,"u":5,"b":[["9.0","1"]],"a":[]}')  # in the snapshot already
    book.on_delta('{"U":6,"u":9,"b":[["10.0","0.0"],["9.5","2"]],"a":[]}')  # reaches beyond it
    assert book.stage is Stage.AHEAD
    recorded = {"lastUpdateId": 7, "bids": [["10.0", "1"], ["9.5", "1"]], "asks": [["11.0", "3"]]}
    book.on_snapshot(json.dumps(recorded))
    assert book.stage is Stage.REACHED
    assert body(book) == recorded
    assert body(book, 1)["bids"] == [["10.0", "1"]]
    book.pass_barrier()
    assert body(book) == {"lastUpdateId": 9, "bids": [["9.5", "2"]], "asks": [["11.0", "3"]]}
    book.on_delta('{"U":10,"u":10,"b":[["10.2","1"]],"a":[["11.0","0.000"]]}')
    assert body(book) == {"lastUpdateId": 10, "bids": [["10.2", "1"], ["9.5", "2"]], "asks": []}


def test_only_the_first_snapshot_of_a_symbol_is_a_barrier(tmp_path: Path) -> None:
    source = open_source(EmulatorOptions(frames=write(tmp_path / "two.frames", TRADE_LINE, SNAPSHOT_LINE, SNAPSHOT_LINE)))
    timeline = Timeline(source)
    assert [timeline.advance(record) for record in source.records] == [False, True, False]


# Answers on the socket.


def ask(message: str, path: str = "/stream?streams=a@trade/b@trade") -> Any:
    subscriptions = open_subscriptions(path)
    assert subscriptions is not None
    return json.loads(subscriptions.answer(message))


@pytest.mark.parametrize(
    ("path", "streams", "wrapped"),
    [
        ("/ws", [], False),
        ("/ws/btcusdt@trade", ["btcusdt@trade"], False),
        ("/ws/btcusdt@trade/ethusdt@trade", ["btcusdt@trade", "ethusdt@trade"], False),
        ("/stream", [], True),
        ("/stream?streams=btcusdt@trade/ethusdt@depth@100ms", ["btcusdt@trade", "ethusdt@depth@100ms"], True),
        ("/stream?streams=btcusdt@trade&timeUnit=MICROSECOND", ["btcusdt@trade"], True),
    ],
)
def test_addresses(path: str, streams: list[str], wrapped: bool) -> None:
    subscriptions = open_subscriptions(path)
    assert subscriptions is not None
    assert (list(subscriptions.streams), subscriptions.combined) == (streams, wrapped)


@pytest.mark.parametrize("path", ["/", "/wss", "/stream/btcusdt@trade", "/public/ws/x"])
def test_an_address_that_leads_nowhere(path: str) -> None:
    assert open_subscriptions(path) is None


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ('{"method":"SUBSCRIBE","params":["c@trade"],"id":1}', {"result": None, "id": 1}),
        ('{"method":"UNSUBSCRIBE","params":["nothing@trade"],"id":"x"}', {"result": None, "id": "x"}),
        ('{"method":"LIST_SUBSCRIPTIONS","id":3}', {"result": ["a@trade", "b@trade"], "id": 3}),
        ('{"method":"GET_PROPERTY","params":["combined"],"id":2}', {"result": True, "id": 2}),
        ('{"method":"SET_PROPERTY","params":["combined",false],"id":5}', {"result": None, "id": 5}),
        ('{"method":"LIST_SUBSCRIPTIONS"}', {"result": ["a@trade", "b@trade"], "id": None}),
    ],
)
def test_answers(message: str, answer: dict[str, Any]) -> None:
    assert ask(message) == answer


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ("{", 3, "Invalid JSON"),
        ("[]", 2, "missing field `method`"),
        ('{"id":1}', 2, "missing field `method`"),
        ('{"method":"SUBSCRIB","params":[],"id":1}', 2, "unknown variant `SUBSCRIB`, expected one of `SUBSCRIBE`"),
        ('{"method":"SUBSCRIBE","params":"a","id":1}', 2, "a sequence of strings"),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "a sequence of strings"),
        ('{"method":"SUBSCRIBE","params":["a"],"id":1.5}', 2, "request ID"),
        ('{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "expected Boolean"),
    ],
)
def test_errors(message: str, code: int, text: str) -> None:
    answer = ask(message)
    assert answer["code"] == code
    assert text in answer["msg"]


def test_subscribing_and_unsubscribing_are_idempotent() -> None:
    subscriptions = open_subscriptions("/ws")
    assert subscriptions is not None
    for _ in range(2):
        subscriptions.answer('{"method":"SUBSCRIBE","params":["a@trade","b@trade"],"id":1}')
    assert list(subscriptions.streams) == ["a@trade", "b@trade"]
    for _ in range(2):
        subscriptions.answer('{"method":"UNSUBSCRIBE","params":["a@trade"],"id":1}')
    assert list(subscriptions.streams) == ["b@trade"]


# Frames on the wire.


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 200_000]), st.binary(min_size=1, max_size=3))
def test_a_frame_is_what_another_implementation_reads(size: int, tail: bytes) -> None:
    text = "a" * size + tail.hex()
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(text_frame(text.encode()))
    events = list(client.events())
    assert all(isinstance(event, TextMessage) for event in events)
    assert "".join(event.data for event in events if isinstance(event, TextMessage)) == text


# The generator.


def test_the_same_seed_gives_the_same_frames_and_another_seed_others() -> None:
    first, again, other = (list(islice(generate(seed, SYNTHETIC_START_NS), 500)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_frames_agree_with_each_other(seed: int) -> None:
    """Ids without holes, quotes that are the book's best, books that never cross, and a snapshot that joins them."""
    books: dict[str, EmulatedBook] = {}
    last: dict[tuple[str, str], int] = {}
    for record in islice(generate(seed, SYNTHETIC_START_NS), 6_000):
        data, key = json.loads(record.payload), (record.symbol, record.topic)
        book = books.setdefault(record.symbol, EmulatedBook())
        if record.is_snapshot:
            book.on_snapshot(record.payload)
        elif record.topic == "trade":
            assert data["t"] == last.get(key, data["t"] - 1) + 1
            last[key] = data["t"]
        elif record.topic == "bookTicker":
            assert data["u"] > last.get(key, 0)
            assert float(data["b"]) < float(data["a"])
            last[key] = data["u"]
        elif record.topic == "depth@100ms":
            assert data["U"] == last.get(key, data["U"] - 1) + 1 <= data["u"]
            last[key] = data["u"]
            book.on_delta(record.payload)
            if book.stage is not Stage.AHEAD:
                assert float(book.bids()[0][0]) < float(book.asks()[0][0])
                assert all(float(size) > 0 for _, size in book.bids() + book.asks())
    assert len(books) == 3
    assert all(book.stage is Stage.REACHED for book in books.values())


def test_a_later_start_has_higher_ids() -> None:
    def ids(start_ns: int) -> list[int]:
        records = islice(generate(1, start_ns), 2_000)
        return [json.loads(record.payload)["t"] for record in records if record.stream == "btcusdt@trade"]

    ten_seconds_of_trades = ids(SYNTHETIC_START_NS)
    assert min(ids(SYNTHETIC_START_NS + 10_000_000_000)) > max(ten_seconds_of_trades)


# What it lists.


def test_an_unknown_recorded_symbol_is_listed_by_its_quote() -> None:
    assert (rules_of("NKNUSDT").base, rules_of("NKNUSDT").quote) == ("NKN", "USDT")
    assert (rules_of("XYZ").base, rules_of("XYZ").quote) == ("XYZ", "UNKNOWN")
    entry = json.loads(exchange_info([rules_of("NKNUSDT")], 1))["symbols"][0]
    assert entry["filters"][0]["tickSize"] == "0.01000000"


def test_recorded_frames_are_not_played_in_a_loop(synthetic: Path) -> None:
    with pytest.raises(StartupError, match=r"loop.*ids would begin again"):
        open_source(EmulatorOptions(frames=synthetic, loop=True))
