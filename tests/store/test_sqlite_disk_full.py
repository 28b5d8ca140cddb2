"""The embedded history on a disk that is full: what is refused is written later, nothing is lost, nothing breaks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from raven.errors import StoreError
from raven.store.blocks import TimeRange
from raven.store.elements import split, stamps
from raven.store.recorder import Recorder
from raven.store.sqlite import SqliteHistory
from tests.broker.bench import TRADE
from tests.disks import fill, remount, small_tmpfs
from tests.store.memory_history import BTC, trades
from tests.store.test_recorder import bench, trade

ALL = TimeRange(-(2**62), 2**62)
T0 = 20_000 * 86_400 * 10**9
ROOM_KIB = 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "disk", ROOM_KIB) as disk:
        yield disk


def write_on(store: SqliteHistory, written: int) -> int:
    """Write until the store refuses; the last sequence that it took."""
    while written < 200_000:
        try:
            store.write([trades(BTC, 7, written + 1, noise(written, 500), os.urandom(30).hex())], [])
        except StoreError as error:
            if "full" not in str(error) and "I/O" not in str(error):
                raise
            return written
        written += 500
    raise AssertionError("it took everything")


def sequences(store: SqliteHistory, topic: object = BTC) -> list[int]:
    blocks = store.blocks(topic, ALL)  # type: ignore[arg-type]
    return [stamps(element)[0] for block in blocks for element in split(block.elements)]


def noise(first: int, count: int) -> list[tuple[int, int | None]]:
    return [(T0 + n * 10**9, T0 + n * 7_777_777_777 % 10**14) for n in range(first, first + count)]


def test_a_full_disk_refuses_and_takes_again(small_disk: Path) -> None:
    store = SqliteHistory(small_disk / "history")
    written = write_on(store, 0)
    fill(small_disk)
    for _ in range(3):
        with pytest.raises(StoreError):
            store.write([trades(BTC, 7, written + 1, noise(written, 500), os.urandom(30).hex())], [])
    assert sequences(store) == list(range(1, written + 1))
    remount(small_disk, "size=16m")
    store.write([trades(BTC, 7, written + 1, noise(written, 500))], [])
    assert sequences(store) == list(range(1, written + 501))
    store.close()


def test_a_history_that_begins_on_a_full_disk_begins_when_there_is_room(small_disk: Path) -> None:
    store = SqliteHistory(small_disk / "history")
    ballast = fill(small_disk)
    with pytest.raises(StoreError):
        store.write([trades(BTC, 7, 1, noise(0, 100))], [])
    ballast.unlink()
    store.write([trades(BTC, 7, 1, noise(0, 100))], [])
    assert sequences(store) == list(range(1, 101))
    store.close()


async def test_a_recorder_goes_on_when_there_is_room_again(small_disk: Path, autojump_clock: MockClock) -> None:
    made, store = bench(), SqliteHistory(small_disk / "history")
    tap = Recorder(store, made.broker.directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(tap.run)
        made.publish(trade(1))
        await tap.flush()
        ballast = fill(small_disk)
        for start in range(2, 2002, 200):
            made.publish(*(trade(number) for number in range(start, start + 200)))
            await tap.flush()
        statistics = tap.statistics()
        assert statistics.failing_s is not None
        assert statistics.behind > 0
        ballast.unlink()
        await tap.flush()
        await tap.flush()
        assert tap.statistics().failing_s is None
        assert tap.statistics().lost == {}
        assert sequences(store, TRADE) == list(range(1, 2003))
        nursery.cancel_scope.cancel()
    store.close()


def test_a_file_that_may_not_grow_refuses_and_takes_again(tmp_path: Path) -> None:
    """The same for whoever cannot mount: SQLite itself says that there is no room."""
    store = SqliteHistory(tmp_path)
    store.write([trades(BTC, 7, 1, noise(0, 100))], [])
    assert store._writer is not None
    store._writer._connection.execute("PRAGMA max_page_count = 16")
    written = write_on(store, 100)
    assert written > 100
    assert sequences(store) == list(range(1, written + 1))
    store.write([trades(BTC, 7, written + 1, noise(written, 500))], [])  # by a new connection, which has no such limit
    assert sequences(store) == list(range(1, written + 501))
    store.close()
