"""One suite over every HistoryStore that needs no server: what is written is read back in order and whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import attrs
import pytest

from raven.client.decode import Decoder
from raven.client.events import GapEvent, StreamEvent
from raven.model.events import BookDelta, BookSnapshot, Flag
from raven.model.topic import Kind, Selector, Topic
from raven.store import query as query_module
from raven.store import windows as windows_module
from raven.store.blocks import Block, HistoryStore
from raven.store.elements import split, stamps
from raven.store.query import Chunk, HistoryQuery, open_reading
from raven.store.sqlite import SqliteHistory
from tests.store.memory_history import BOOK, BTC, DAY_NS, ETH, MemoryHistory, events, image, trades

SECOND = 10**9
MIDNIGHT = time.time_ns() // DAY_NS * DAY_NS
START, END = MIDNIGHT - 60 * SECOND, MIDNIGHT + 60 * SECOND
ALL = (Selector("*", "*", frozenset(Kind), "*"),)
TOPICS = (BTC, ETH, Topic("old", "BTC-USDT", Kind.TRADE))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryStore]:
    history: HistoryStore = MemoryHistory() if request.param == "memory" else SqliteHistory(tmp_path / "history")
    yield history
    history.close()


@pytest.fixture(params=[2_000, 10**7], ids=["narrow windows", "one window"])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", request.param)
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MIN", request.param)
    monkeypatch.setattr(query_module, "CHUNK_BYTES_MAX", 3_000)
    monkeypatch.setattr(windows_module, "TOPIC_BYTES", 0)


def made(seed: int) -> list[Block]:
    """Two minutes around midnight of three topics, the venue's clock not quite in step."""
    random = Random(seed)
    blocks = []
    for topic in TOPICS:
        clock, sequence = START, 1
        while clock < END:
            times: list[tuple[int, int | None]] = []
            for _ in range(random.randint(1, 60)):
                clock += random.choice([0, SECOND // 10, SECOND // 7])
                times.append((clock, random.choice([None, clock - random.randint(0, SECOND)])))
            blocks.append(trades(topic, 5, sequence, times, random.choice(["7", "1234"])))
            sequence += len(times)
    random.shuffle(blocks)
    return sorted(blocks, key=lambda block: block.first_ts_ns)


def whole(query: HistoryQuery, blocks: Sequence[Block]) -> list[bytes]:
    keyed = []
    for block in blocks:
        for element in split(block.elements):
            sequence, received, venue = stamps(element)
            ts = venue if query.venue_clock else received
            if query.start_ns <= ts < query.end_ns:
                keyed.append((ts, block.topic, block.epoch, sequence, element))
    return [entry[-1] for entry in sorted(keyed)]


def read(store: HistoryStore, query: HistoryQuery, token: str = "") -> tuple[list[Chunk], bool]:
    reading = open_reading(store, query, token)
    chunks = []
    while not reading.done:
        chunks += reading.step()
    return chunks, reading.complete


def elements(chunks: Sequence[Chunk]) -> list[bytes]:
    return [element for chunk in chunks for element in split(chunk.elements)]


def decoded(chunks: Sequence[Chunk]) -> list[StreamEvent]:
    return Decoder().decode(b"".join(chunk.elements for chunk in chunks)).events


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("venue_clock", [False, True])
def test_everything_comes_in_order_and_from_every_message_the_rest(store: HistoryStore, venue_clock: bool) -> None:
    blocks = made(1)
    for at in range(0, len(blocks), 7):
        store.write(blocks[at : at + 7], [])
    query = HistoryQuery(ALL, START, END + 3600 * SECOND, venue_clock=venue_clock)
    chunks, complete = read(store, query)
    assert elements(chunks) == whole(query, blocks)
    assert complete
    for index in range(0, len(chunks), max(1, len(chunks) // 9)):
        assert elements(read(store, query, chunks[index].page_token)[0]) == elements(chunks[index + 1 :])


@pytest.mark.usefixtures("windows")
def test_any_range(store: HistoryStore) -> None:
    blocks = made(2)
    store.write(blocks, [])
    random = Random(3)
    for _ in range(12):
        start, end = sorted((random.randint(START, END), random.randint(START, END)))
        query = HistoryQuery(ALL, start, end)
        chunks, complete = read(store, query)
        assert elements(chunks) == whole(query, blocks)
        assert complete
    query = HistoryQuery(ALL, START, END, limit=77)
    assert elements(read(store, query)[0]) == whole(query, blocks)[:77]
    assert read(store, HistoryQuery(ALL, 0, START))[0] == []


@pytest.mark.usefixtures("windows")
def test_what_was_not_written_is_a_gap(store: HistoryStore) -> None:
    blocks = [block for block in made(4) if block.topic == BTC]
    store.write(blocks[:2] + blocks[3:], [])
    chunks, complete = read(store, HistoryQuery(ALL, START, END))
    [gap] = [event for event in decoded(chunks) if isinstance(event, GapEvent)]
    assert (gap.payload.first_sequence, gap.payload.last_sequence) == (blocks[2].first_sequence, blocks[2].last_sequence)
    assert gap.flags == Flag.LOCAL
    assert not complete
    cut = HistoryQuery(ALL, blocks[2].first_ts_ns, blocks[2].last_ts_ns)
    assert not read(store, cut)[1]


def test_a_book_at_any_moment(store: HistoryStore) -> None:
    snapshot = BookSnapshot((10.0,), (1.0,), (11.0,), (1.0,))
    deltas = [BookDelta((10.0 - n / 10,), (float(n),), (), ()) for n in range(1, 40)]
    times = [START + n * SECOND for n in range(40)]
    store.write([events(BOOK, 5, 1, list(zip(times, [snapshot, *deltas], strict=True)))], [])
    store.write([], [image(BOOK, 5, 1, START, snapshot)])
    for moment in (1, 20, 39):
        query = HistoryQuery(ALL, times[moment], END, include_image=True)
        first, *rest = decoded(read(store, query)[0])
        assert (first.flags, first.sequence) == (Flag.IMAGE, moment)
        assert first.book_snapshot is not None
        assert sorted(first.book_snapshot.bid_price) == sorted(10.0 - n / 10 for n in range(moment))
        assert [event.sequence for event in rest] == list(range(moment + 1, 41))


def test_the_state_of_what_is_quiet(store: HistoryStore) -> None:
    store.write([trades(BTC, 5, 1, [(START, None), (START + 1, None)])], [])
    [event] = decoded(read(store, HistoryQuery(ALL, END, END + 1, include_image=True))[0])
    assert (event.flags, event.sequence, event.received_ts_ns) == (Flag.IMAGE, 2, START + 1)


def test_what_is_written_while_one_reads_comes_or_does_not(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", 2_000)
    monkeypatch.setattr(windows_module, "TOPIC_BYTES", 0)
    blocks = sorted((block for block in made(6) if block.topic == BTC), key=lambda block: block.first_sequence)
    store.write(blocks[:5], [])
    query = HistoryQuery(ALL, START, END * 2)
    reading = open_reading(store, query)
    chunks = list(reading.step())
    for block in blocks[5:]:
        store.write([block], [])
        chunks += reading.step() if not reading.done else []
    while not reading.done:
        chunks += reading.step()
    sequences = [event.sequence for event in decoded(chunks)]
    assert sequences == list(range(1, len(sequences) + 1))
    assert reading.complete


def test_a_store_is_read_by_its_selectors(store: HistoryStore) -> None:
    store.write(made(7), [])
    query = HistoryQuery((Selector("sim", "BTC-*", frozenset({Kind.TRADE})),), START, END)
    assert {event.topic for event in decoded(read(store, query)[0])} == {BTC}
    quote = attrs.evolve(query, selectors=(Selector("sim", "BTC-*", frozenset({Kind.QUOTE})),))
    assert read(store, quote) == ([], True)
