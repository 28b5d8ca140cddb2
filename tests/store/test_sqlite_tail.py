"""The tail of the embedded history: what is in no row yet is found by readers, outlives a killed server, and stays small."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from raven.store.blocks import Block
from raven.store.sqlite import SqliteHistory, tail
from raven.store.sqlite.reader import DayReader
from tests.store.memory_history import BTC, DAY_NS, ETH
from tests.store.test_sqlite import ALL, T0, S, events_of, read, run


def count(path: Path, table: str) -> int:
    raw = sqlite3.connect(path)
    [[rows]] = raw.execute(f"SELECT count(*) FROM {table}")
    raw.close()
    return int(rows)


def fill(store: SqliteHistory, commits: int) -> list[tuple[int, int]]:
    for number in range(1, commits + 1):
        store.write([run(number, 1, T0 + number * S, topic) for topic in (BTC, ETH)], [])
    return [(7, number) for number in range(1, commits + 1)]


def abandon(store: SqliteHistory) -> None:
    """As a killed server leaves it: the files are closed, and nothing else is done."""
    assert store._writer is not None
    store._writer._connection.close()
    while store._readers:
        store._readers.popitem()[1].close()


def test_what_a_killed_server_had_no_row_for_becomes_rows(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path)
    expected = fill(store, 300)
    store.write([run(1, 3, T0 + 400 * S, epoch=8)], [])  # what grew ends, and another epoch begins to
    abandon(store)
    file = tmp_path / "2024-10-04.sqlite"
    assert count(file, "tail") > 100
    again = SqliteHistory(tmp_path)
    assert count(file, "tail") == 0
    assert read(again) == [*expected, (8, 1), (8, 2), (8, 3)]
    assert read(again, ETH) == expected
    again.write([run(299, 5, T0 + 299 * S, ETH)], [])
    assert read(again, ETH) == [*expected, (7, 301), (7, 302), (7, 303)]
    again.close()


def test_the_tail_is_written_anew_when_little_of_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_BYTES_MIN", 1000)
    store = SqliteHistory(tmp_path)
    expected = fill(store, 1000)
    assert read(store) == expected
    file = tmp_path / "2024-10-04.sqlite"
    assert count(file, "tail") < 500
    abandon(store)
    again = SqliteHistory(tmp_path)
    assert read(again) == expected
    assert read(again, ETH) == expected
    again.close()


def test_too_much_that_grows_becomes_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "GROWING_BYTES_MAX", 2000)
    store = SqliteHistory(tmp_path)
    expected = fill(store, 100)
    assert store._writer is not None
    assert store._writer._growing_bytes <= 2000
    assert read(store) == expected
    abandon(store)
    again = SqliteHistory(tmp_path)
    assert read(again) == expected
    again.close()


def test_a_closed_day_has_no_tail(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path)
    expected = fill(store, 20)
    store.write([run(21, 1, T0 + DAY_NS)], [])
    assert count(tmp_path / "2024-10-04.sqlite", "tail") == 0
    assert read(store) == [*expected, (7, 21)]
    store.close()
    assert count(tmp_path / "2024-10-05.sqlite", "tail") == 0


def test_a_damaged_entry_costs_no_more_than_itself(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path)
    fill(store, 20)
    abandon(store)
    raw = sqlite3.connect(tmp_path / "2024-10-04.sqlite")
    raw.execute("UPDATE tail SET blocks = x'0102' WHERE id = 10")
    raw.commit()
    raw.close()
    again = SqliteHistory(tmp_path)
    assert read(again) == [(7, number) for number in range(1, 21) if number != 10]
    again.close()


def test_a_row_that_ends_with_a_hole_and_what_comes_behind_it(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path)
    blocks: list[Block] = [run(1, 3), run(10, 3, T0 + 20 * S), run(20, 3, T0 + 5000 * S), run(30, 500, T0 + 9000 * S)]
    for block in blocks:
        store.write([block], [])
        store.write([block], [])
    expected = [(7, number) for number in (1, 2, 3, 10, 11, 12, 20, 21, 22, *range(30, 530))]
    assert read(store) == expected
    abandon(store)
    again = SqliteHistory(tmp_path)
    assert read(again) == expected
    assert not again.holes(ALL)
    again.close()


def test_another_process_reads_the_tail_from_the_file(tmp_path: Path) -> None:
    store = SqliteHistory(tmp_path)
    expected = fill(store, 250)
    store.write([run(260, 3, T0 + 300 * S)], [])
    beside = DayReader(tmp_path / "2024-10-04.sqlite")
    expected += [(7, 260), (7, 261), (7, 262)]
    assert [event for block in beside.blocks(BTC, ALL) for event in events_of(block)] == expected
    store.write([run(263, 200, T0 + 303 * S)], [])  # what it found in the tail is a row by now
    assert [event for block in beside.blocks(BTC, ALL) for event in events_of(block)] == [
        *expected,
        *((7, n) for n in range(263, 463)),
    ]
    beside.close()
    store.close()
