"""Which days of the embedded history go, and that they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from raven.store.blocks import TimeRange
from raven.store.sqlite import SqliteHistory, history
from raven.store.sqlite.retention import StoredFile, to_remove
from tests.store.memory_history import BTC, DAY_NS, trades

ALL = TimeRange(0, 2**62)
TODAY = 20_000
S = 10**9


def going(
    days: Sequence[int], keep_days: int | None = None, keep_bytes: int | None = None, written: int | None = TODAY
) -> list[int]:
    files = [StoredFile(Path(f"{day}-{index}"), day, 100) for index, day in enumerate(days)]
    return [file.day for file in to_remove(files, TODAY, written, keep_days, keep_bytes)]


@pytest.mark.parametrize(
    ("keep_days", "keep_bytes", "gone"),
    [
        (None, None, []),
        (4, None, []),
        (3, None, [TODAY - 3]),
        (1, None, [TODAY - 3, TODAY - 2, TODAY - 1]),
        (None, 400, []),
        (None, 399, [TODAY - 3]),
        (None, 1, [TODAY - 3, TODAY - 2, TODAY - 1]),
        (3, 299, [TODAY - 3, TODAY - 2]),
        (3, 300, [TODAY - 3]),
    ],
)
def test_the_oldest_go_first_and_today_never(keep_days: int | None, keep_bytes: int | None, gone: list[int]) -> None:
    assert going(range(TODAY - 3, TODAY + 1), keep_days, keep_bytes) == gone


def test_a_file_that_is_written_stays_and_so_does_what_a_fast_clock_has_made() -> None:
    assert going([TODAY - 9, TODAY + 1], 1, 1, TODAY - 9) == []
    assert going([TODAY - 9, TODAY - 9, TODAY + 1], 1, 1, None) == [TODAY - 9, TODAY - 9]


def fill(store: SqliteHistory, day: int, count: int = 3) -> None:
    at = day * DAY_NS
    store.write([trades(BTC, day, 1, [(at + n * S, None) for n in range(count)])], [])


def days_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(("-wal", "-shm")))


def test_days_go_when_a_new_one_begins_with_everything_beside_them(tmp_path: Path) -> None:
    now = [TODAY * DAY_NS]
    store = SqliteHistory(tmp_path, keep_days=2, now_ns=lambda: now[0])
    fill(store, TODAY)
    reading = store.blocks(BTC, ALL)
    for path in (tmp_path / "2024-10-03.sqlite.damaged-5", tmp_path / "2024-10-03.sqlite.damaged-5-wal"):
        path.write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("not ours")
    for day in (TODAY + 1, TODAY + 2):
        now[0] = day * DAY_NS
        fill(store, day)
    assert days_in(tmp_path) == ["2024-10-05.sqlite", "2024-10-06.sqlite", "notes.txt"]
    assert not (tmp_path / "2024-10-03.sqlite.damaged-5-wal").exists()
    assert [block.epoch for block in store.blocks(BTC, ALL)] == [TODAY + 1, TODAY + 2]
    assert [block.epoch for block in reading] == [TODAY + 1, TODAY + 2]  # it had not begun to read what is gone
    assert (store.statistics().removed, store.statistics().files) == (2, 2)
    store.close()


def test_too_many_bytes_go_at_the_start_and_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [TODAY * DAY_NS]
    store = SqliteHistory(tmp_path, now_ns=lambda: now[0])
    for day in range(TODAY, TODAY + 4):
        now[0] = day * DAY_NS
        fill(store, day, 2000)
    store.close()
    size = (tmp_path / "2024-10-04.sqlite").stat().st_size
    store = SqliteHistory(tmp_path, keep_bytes=3 * size + size // 2, now_ns=lambda: now[0])
    assert days_in(tmp_path) == ["2024-10-05.sqlite", "2024-10-06.sqlite", "2024-10-07.sqlite"]
    monkeypatch.setattr(history, "RETENTION_S", 0.0)
    for part in range(1, 20):
        store.write([trades(BTC, TODAY + 3, part * 2000 + 1, [(now[0] + part * 2000 + n, None) for n in range(2000)])], [])
    assert days_in(tmp_path) == ["2024-10-07.sqlite"]
    assert store.statistics().removed == 3
    assert store.statistics().bytes > 4 * size  # today's is more than all that may be, and stays
    store.close()


def test_a_file_that_cannot_be_removed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [TODAY * DAY_NS]
    store = SqliteHistory(tmp_path, keep_days=1, now_ns=lambda: now[0])
    fill(store, TODAY)
    with monkeypatch.context() as patch:

        def refuse(path: Path) -> None:
            raise PermissionError("not yours")

        patch.setattr(history.retention, "remove", refuse)
        now[0] += DAY_NS
        fill(store, TODAY + 1)
    assert len(days_in(tmp_path)) == 2
    assert [block.epoch for block in store.blocks(BTC, ALL)] == [TODAY, TODAY + 1]
    monkeypatch.setattr(history, "RETENTION_S", 0.0)
    fill(store, TODAY + 1, 5)
    assert days_in(tmp_path) == ["2024-10-05.sqlite"]
    store.close()
