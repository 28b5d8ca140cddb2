"""The embedded history: what is written is what is read, whatever is done to the files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.errors import StartupError, StoreError
from raven.model.events import BookSnapshot
from raven.model.topic import Topic
from raven.store.blocks import Block, HistoryStore, TimeRange
from raven.store.elements import split, stamps
from raven.store.sqlite import SqliteHistory, rows
from raven.store.sqlite.rows import ROW_BYTES_FULL
from tests.store.memory_history import BOOK, BTC, DAY_NS, ETH, MemoryHistory, image, trades

T0 = 20_000 * DAY_NS  # 2024-10-04
S = 10**9
ALL = TimeRange(0, 2**62)

Event = tuple[int, int]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteHistory]:
    made = SqliteHistory(tmp_path)
    yield made
    made.close()


def read(store: HistoryStore, topic: Topic = BTC, within: TimeRange = ALL) -> list[Event]:
    """(epoch, sequence) of all events of a topic in a range, in the order in which they come."""
    return [event for block in store.blocks(topic, within) for event in events_of(block, within)]


def events_of(block: Block, within: TimeRange = ALL) -> list[Event]:
    found = []
    for element in split(block.elements):
        sequence, received, venue = stamps(element)
        if within.start_ns <= (venue if within.venue_clock else received) < within.end_ns:
            found.append((block.epoch, sequence))
    return found


def run(first: int, count: int, at_ns: int = T0, topic: Topic = BTC, epoch: int = 7, step_ns: int = S) -> Block:
    return trades(topic, epoch, first, [(at_ns + n * step_ns, at_ns + n * step_ns - 5) for n in range(count)])


def test_blocks_come_back_as_they_were(store: SqliteHistory) -> None:
    blocks = [run(1, 100), run(101, 100, T0 + 100 * S), run(1, 3, T0, ETH)]
    store.write(blocks, [])
    assert store.topics(ALL) == [BTC, ETH]
    assert list(store.blocks(BTC, ALL)) == blocks[:2]
    assert list(store.blocks(ETH, ALL)) == blocks[2:]
    assert list(store.blocks(BOOK, ALL)) == []


def test_small_blocks_become_one_row_and_the_file_stays_small(store: SqliteHistory, tmp_path: Path) -> None:
    for number in range(1, 6001, 4):
        store.write([run(number, 4, T0 + number * S)], [])
    blocks = list(store.blocks(BTC, ALL))
    assert read(store) == [(7, number) for number in range(1, 6001)]
    assert all(ROW_BYTES_FULL <= len(block.elements) < ROW_BYTES_FULL + 400 for block in blocks[:-1])
    store.close()
    [file] = tmp_path.iterdir()
    assert file.stat().st_size / 6000 < 60


def test_a_file_a_day_and_ranges_over_it(store: SqliteHistory, tmp_path: Path) -> None:
    middle = T0 + DAY_NS - 2 * S
    store.write([run(1, 2, middle), run(3, 3, middle + 2 * S)], [])
    store.write([run(6, 1, T0 + 3 * DAY_NS)], [])
    assert sorted(path.name for path in tmp_path.glob("*.sqlite")) == [
        "2024-10-04.sqlite",
        "2024-10-05.sqlite",
        "2024-10-07.sqlite",
    ]
    assert read(store) == [(7, number) for number in range(1, 7)]
    assert read(store, within=TimeRange(middle + S, middle + 3 * S)) == [(7, 2), (7, 3)]
    assert read(store, within=TimeRange(T0 + 2 * DAY_NS, ALL.end_ns)) == [(7, 6)]
    assert read(store, within=TimeRange(0, T0)) == []
    assert store.topics(TimeRange(0, T0)) == []


def test_what_is_written_again_is_there_once(store: SqliteHistory, tmp_path: Path) -> None:
    store.write([run(1, 300)], [])
    store.write([run(1, 300)], [])
    store.write([run(250, 100, T0 + 249 * S)], [])
    assert read(store) == [(7, number) for number in range(1, 350)]
    store.close()
    again = SqliteHistory(tmp_path)
    again.write([run(200, 200, T0 + 199 * S)], [])
    again.write([run(390, 20, T0 + DAY_NS)], [])  # on the next day, and half of it is there
    assert read(again) == [(7, number) for number in range(1, 410)]
    again.close()
    last = SqliteHistory(tmp_path)
    last.write([run(1, 3, T0 + DAY_NS, epoch=8), run(390, 20, T0 + DAY_NS)], [])
    assert read(last) == [*((7, number) for number in range(1, 410)), (8, 1), (8, 2), (8, 3)]
    last.close()


def test_a_hole_stays_a_hole(store: SqliteHistory) -> None:
    store.write([run(1, 3), run(10, 3, T0 + 20 * S)], [])
    assert [(block.first_sequence, block.last_sequence) for block in store.blocks(BTC, ALL)] == [(1, 3), (10, 12)]


def test_a_clock_that_is_set_back_changes_no_order(store: SqliteHistory) -> None:
    store.write([run(1, 3, T0 + DAY_NS), run(4, 3, T0), run(7, 3, T0 + DAY_NS + 9 * S)], [])
    assert read(store) == [(7, number) for number in range(1, 10)]
    assert read(store, within=TimeRange(T0, T0 + 10 * S)) == [(7, 4), (7, 5), (7, 6)]


def test_a_reader_sees_what_is_written_meanwhile(store: SqliteHistory) -> None:
    store.write([run(1, 100), run(101, 5, T0 + 100 * S)], [])
    reading = store.blocks(BTC, ALL)
    got = events_of(next(reading))
    store.write([run(106, 200, T0 + 105 * S)], [])  # the second row has grown, and one came behind it
    got += events_of(next(reading))
    store.write([run(306, 1, T0 + 305 * S), run(307, 5, T0 + DAY_NS)], [])  # and a day began
    got += [event for block in reading for event in events_of(block)]
    assert got == [(7, number) for number in range(1, 312)]


def test_a_row_that_grew_behind_a_reader_gives_only_what_is_new(store: SqliteHistory) -> None:
    store.write([run(1, 3)], [])
    reading = store.blocks(BTC, ALL)
    assert events_of(next(reading)) == [(7, 1), (7, 2), (7, 3)]
    store.write([run(4, 2, T0 + 3 * S)], [])
    assert [event for block in reading for event in events_of(block)] == [(7, 4), (7, 5)]


def test_images_are_found_by_time_over_days(store: SqliteHistory) -> None:
    states = [image(BOOK, 7, n, T0 + n * DAY_NS // 2, BookSnapshot([float(n)], [1.0], [n + 1.0], [1.0])) for n in range(1, 6)]
    for state in states:
        store.write([], [state])
        store.write([], [state])
    assert store.image(BOOK, states[0].ts_ns) is None
    for before, after in zip(states, [*states[1:], None], strict=True):
        assert store.image(BOOK, (after.ts_ns if after else ALL.end_ns)) == before
    assert store.image(BTC, ALL.end_ns) is None


STEP = st.tuples(
    st.sampled_from([BTC, ETH]),
    st.integers(0, 3),  # sequences that are left out
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1, max_size=12),  # seconds on, lag
    st.sampled_from([0, 0, 0, 600, 40_000, -50_000]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(STEP, max_size=25),
    st.integers(55_000, 61_000) | st.integers(-50, 200_000),
    st.integers(1, 600) | st.integers(1, 100_000),
    st.booleans(),
    st.integers(1, 8),
    st.sampled_from([1, 300, ROW_BYTES_FULL]),
)
def test_any_range_is_read_as_from_memory(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[Topic, int, list[tuple[int, int]], int, bool]],
    start: int,
    length: int,
    venue: bool,
    commit: int,
    full: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "ROW_BYTES_FULL", full)
        check_range(
            tmp_path_factory.mktemp("history"), steps, TimeRange(T0 + start * S, T0 + (start + length) * S, venue), commit
        )


def check_range(
    directory: Path, steps: list[tuple[Topic, int, list[tuple[int, int]], int, bool]], within: TimeRange, commit: int
) -> None:
    model = MemoryHistory()
    store = SqliteHistory(directory)
    next_sequence, now, waiting = {BTC: 1, ETH: 1}, T0 + 60_000 * S, list[Block]()
    for topic, skip, times, jump, reopen in steps:
        now += jump * S
        at = []
        for on, lag in times:
            now += on * S
            at.append((now, now - lag * 100 * S))
        block = trades(topic, 7, next_sequence[topic] + skip, at)
        next_sequence[topic] = block.last_sequence + 1
        waiting.append(block)
        if len(waiting) >= commit:
            model.write(waiting)
            store.write(waiting, [])
            waiting = []
            if reopen:
                store.close()
                store = SqliteHistory(directory)
    for topic in (BTC, ETH):
        assert read(store, topic, within) == read(model, topic, within)
        assert read(store, topic) == read(model, topic)
    assert set(model.topics(within)) <= set(store.topics(within))
    store.close()


def file_of(directory: Path) -> Path:
    [path] = directory.glob("*.sqlite")
    return path


@pytest.mark.parametrize("damage", [b"", b"x" * 100, b"SQLite format 3\x00" + bytes(range(256)) * 60])
def test_a_damaged_file_is_set_aside_and_is_a_hole(tmp_path: Path, damage: bytes) -> None:
    store = SqliteHistory(tmp_path)
    store.write([run(1, 3)], [])
    store.close()
    file = file_of(tmp_path)
    file.write_bytes(damage + file.read_bytes()[len(damage) : 4096] if damage else b"")
    now = T0 + DAY_NS // 2
    again = SqliteHistory(tmp_path, now_ns=lambda: now)
    assert read(again) == []
    if damage:  # an empty file is one that a server was killed over before it wrote
        assert again.holes(ALL) == [(T0, now)]
        assert again.holes(TimeRange(T0 + S, T0 + 2 * S)) == [(T0 + S, T0 + 2 * S)]
        assert again.holes(TimeRange(now, ALL.end_ns)) == []
        assert again.statistics().damaged == 1
    again.write([run(4, 3, now)], [])
    assert read(again) == [(7, 4), (7, 5), (7, 6)]
    again.close()
    last = SqliteHistory(tmp_path)
    assert last.holes(ALL) == ([(T0, now)] if damage else [])
    last.close()


def damage_table(file: Path, table: str) -> None:
    """Write nonsense over the page in which a table begins; the file still opens."""
    raw = sqlite3.connect(file)
    [[page]] = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    [[size]] = raw.execute("PRAGMA page_size")
    raw.close()
    data = bytearray(file.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    file.write_bytes(data)


def test_a_file_that_is_damaged_while_it_is_read_is_set_aside_before_the_next_write(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path)
    store.write([run(1, 3000, T0 + S)], [])
    store.close()
    damage_table(file_of(tmp_path), "blocks")
    store = SqliteHistory(tmp_path, now_ns=lambda: T0 + DAY_NS // 2)
    assert store.holes(ALL) == []
    with pytest.raises(StoreError, match="malformed"):
        read(store)
    assert store.holes(ALL) == [(T0, T0 + DAY_NS)]
    assert read(store) == []
    store.write([run(5000, 2, T0 + DAY_NS - 9 * S)], [])
    assert store.holes(ALL) == [(T0, T0 + DAY_NS // 2)]
    assert read(store) == [(7, 5000), (7, 5001)]
    store.close()


def test_a_file_that_is_damaged_while_it_is_written_is_set_aside_and_what_was_given_is_kept_by_the_next_try(
    tmp_path: Path,
) -> None:
    store = SqliteHistory(tmp_path)
    store.write([run(1, 300, T0 + S)], [])
    store.close()
    damage_table(file_of(tmp_path), "blocks_by_sequence")
    store = SqliteHistory(tmp_path, now_ns=lambda: T0 + DAY_NS // 2)
    with pytest.raises(StoreError, match="malformed"):
        store.write([run(301, 2, T0 + 400 * S)], [])
    store.write([run(301, 2, T0 + 400 * S)], [])
    assert read(store) == [(7, 301), (7, 302)]
    assert store.holes(ALL) == [(T0, T0 + DAY_NS // 2)]
    store.close()


def test_a_damaged_row_is_a_hole_of_its_sequences(store: SqliteHistory, tmp_path: Path) -> None:
    store.write([run(1, 200), run(201, 200, T0 + 200 * S), run(401, 200, T0 + 400 * S)], [])
    with sqlite3.connect(file_of(tmp_path)) as raw:
        raw.execute("UPDATE blocks SET elements = x'0102' WHERE first_sequence = 201")
    raw.close()
    assert read(store) == [(7, number) for number in (*range(1, 201), *range(401, 601))]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("PRAGMA user_version = 2", "newer Raven: its version is 2"),
        ("PRAGMA application_id = 77", "not of Raven"),
    ],
)
def test_a_file_of_another_program_ends_the_start(tmp_path: Path, statement: str, said: str) -> None:
    store = SqliteHistory(tmp_path)
    store.write([run(1, 3)], [])
    store.close()
    raw = sqlite3.connect(file_of(tmp_path))
    raw.execute(statement)
    raw.commit()
    raw.close()
    with pytest.raises(StartupError, match=said):
        SqliteHistory(tmp_path)


def test_a_file_that_cannot_be_made_is_an_error_of_the_store_and_is_made_later(store: SqliteHistory, tmp_path: Path) -> None:
    in_the_way = tmp_path / "2024-10-04.sqlite"
    in_the_way.mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"2024-10-04\.sqlite"):
            store.write([run(1, 3)], [])
    in_the_way.rmdir()
    store.write([run(1, 3)], [])
    assert read(store) == [(7, 1), (7, 2), (7, 3)]


def test_a_closed_history_says_so(store: SqliteHistory) -> None:
    store.write([run(1, 3), run(5, 3)], [])
    reading = store.blocks(BTC, ALL)
    next(reading)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        list(reading)
    with pytest.raises(StoreError, match="closed"):
        store.write([run(9, 1)], [])


def test_readers_and_a_writer_in_threads(store: SqliteHistory) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def check(topic: Topic) -> int:
        got = read(store, topic)
        assert got == [(7, number) for number in range(1, len(got) + 1)]
        return len(got)

    with ThreadPoolExecutor(4) as pool:
        for number in range(60):
            at = T0 + number * DAY_NS // 20
            store.write([run(number * 40 + 1, 40, at, topic) for topic in (BTC, ETH)], [])
            seen = list(pool.map(check, (BTC, ETH, BTC, ETH)))
    assert seen == [2400] * 4


def test_an_event_that_no_clock_gave_is_kept_too(store: SqliteHistory) -> None:
    store.write([trades(BTC, 7, 1, [(2**62, -(2**62)), (-(2**62), 2**62)])], [])
    assert read(store, within=TimeRange(-(2**63), 2**63 - 1)) == [(7, 1), (7, 2)]
