"""A start on a disk that is full, which passes, and on one that may not be written, which ends it with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from raven.errors import StartupError, StoreError
from raven.model.topic import Kind, Topic
from raven.store import has_room, open_data_dir, save_recent, take_recent
from raven.store.blocks import TimeRange
from raven.store.config import CacheConfig, HistoryConfig, InfluxConfig
from raven.store.data_dir import LOCK_NAME, PROBE_NAME
from raven.store.elements import split, stamps
from raven.store.influx import InfluxHistory
from raven.store.latest import open_latest
from raven.store.latest.values import LatestValue
from raven.store.recent import FILE_NAME
from raven.store.sqlite import SqliteHistory
from raven.store.sqlite import history as sqlite_history
from tests.disks import fill, remount, small_tmpfs
from tests.store.memory_history import BTC, DAY_NS, trades

ALL = TimeRange(-(2**62), 2**62)
T0 = 20_000 * DAY_NS
READ_ONLY = r"data\.dir: {} cannot be used: Read-only file system; valid: a directory that can be written"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "disk", 1024) as mounted:
        yield mounted


def sequences(store: SqliteHistory) -> list[int]:
    return [stamps(element)[0] for block in store.blocks(BTC, ALL) for element in split(block.elements)]


def stamped(first: int, count: int, day: int = 0) -> list[tuple[int, int | None]]:
    return [(T0 + day * DAY_NS + n * 10**9, None) for n in range(first, first + count)]


# ---- the directory and its lock


def test_a_full_disk_is_no_reason_not_to_take_the_directory(disk: Path) -> None:
    ballast = fill(disk)
    with open_data_dir(disk / "data") as data:
        assert not has_room(data)
        ballast.unlink()
        assert has_room(data)
        assert not (data / PROBE_NAME).exists()


HOLD = """
import sys
from pathlib import Path
from raven.store import open_data_dir
with open_data_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_on_a_full_disk_holds_though_it_cannot_say_for_whom(disk: Path) -> None:
    fill(disk)
    command = [sys.executable, "-c", HOLD, str(disk / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StartupError, match=r"belongs to another running server \(process unknown\)"):
            open_data_dir(disk / "data").__enter__()
        holder.communicate()


def test_a_lock_of_before_is_given_the_name_of_this_process(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("1234567\n")
    with open_data_dir(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("made", [True, False])
def test_a_directory_that_may_not_be_written_is_refused_by_key(disk: Path, made: bool) -> None:
    data = disk / "data"
    if made:
        data.mkdir()
    remount(disk, "ro")
    with pytest.raises(StartupError, match=READ_ONLY.format(data)):
        open_data_dir(data).__enter__()


# ---- recent events


def test_recent_events_that_cannot_be_removed_end_the_start(disk: Path) -> None:
    """The next server would take them up behind what this one has given out."""
    save_recent(disk, [])
    remount(disk, "ro")
    with pytest.raises(StartupError, match=rf"data\.dir: .*{FILE_NAME} cannot be removed: Read-only file system"):
        take_recent(disk)


def test_recent_events_that_have_no_room_leave_no_half_file(disk: Path) -> None:
    fill(disk)
    with pytest.raises(OSError, match="No space left"):
        save_recent(disk, [])
    assert [file.name for file in disk.iterdir()] == ["ballast"]


# ---- history


KILLED = """
import os
import sys
from pathlib import Path
from raven.store.sqlite import SqliteHistory
from tests.store.test_disk_at_start import BTC, stamped, trades
store = SqliteHistory(Path(sys.argv[1]))
store.write([trades(BTC, 7, 1, stamped(0, 20))], [])
store.write([trades(BTC, 7, 21, stamped(20, 20, day=1))], [])
os._exit(9)
"""


def killed_server(directory: Path) -> None:
    """Leave what one leaves that was killed: a WAL, and events in no row."""
    subprocess.run([sys.executable, "-c", KILLED, str(directory)], check=False, cwd=Path(__file__).parents[2])
    assert list(directory.glob("*-wal"))
    for companion in directory.glob("*-shm"):
        companion.unlink()  # it may be gone, too, and then room is needed to read the file


def test_a_history_of_a_killed_server_is_taken_up_when_there_is_room(disk: Path) -> None:
    directory = disk / "history"
    killed_server(directory)
    ballast = fill(disk)
    store = SqliteHistory(directory)
    assert store.holes(ALL) == [(T0, T0 + DAY_NS), (T0 + DAY_NS, T0 + 2 * DAY_NS)]
    assert sequences(store) == []
    with pytest.raises(StoreError):
        store.write([trades(BTC, 7, 41, stamped(40, 20, day=1))], [])
    ballast.unlink()
    store.write([trades(BTC, 7, 41, stamped(40, 20, day=1))], [])
    assert store.holes(ALL) == []
    assert sequences(store) == list(range(1, 61))
    store.close()


def test_retention_makes_room_on_a_full_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_history, "RETENTION_S", 0.0)
    now_ns = T0 + 2 * DAY_NS
    store = SqliteHistory(disk / "history", keep_days=3, now_ns=lambda: now_ns)
    for day in range(3):
        store.write([trades(BTC, 7, 2_000 * day + 1, stamped(0, 2_000, day), os.urandom(30).hex())], [])
    store.close()
    fill(disk)
    store = SqliteHistory(disk / "history", keep_days=3, now_ns=lambda: now_ns)
    now_ns += 3 * DAY_NS
    store.write([trades(BTC, 8, 1, stamped(0, 20, day=5))], [])
    assert store.statistics().removed == 3
    assert sequences(store) == list(range(1, 21))
    store.close()


def test_a_history_that_may_not_be_written_ends_the_start(disk: Path) -> None:
    directory = disk / "history"
    SqliteHistory(directory).close()
    remount(disk, "ro")
    with pytest.raises(StartupError, match=READ_ONLY.format(directory)):
        SqliteHistory(directory)


# ---- the spool of InfluxDB


def influx(directory: Path) -> InfluxHistory:
    return InfluxHistory(HistoryConfig("influxdb", influxdb=(InfluxConfig("http://127.0.0.1:1", name="e"),)), directory)


def test_a_spool_on_a_full_disk_waits_in_memory_and_goes_to_the_disk_when_there_is_room(disk: Path) -> None:
    ballast = fill(disk)
    history = influx(disk)
    history.write([trades(BTC, 7, 1, stamped(0, 20))], [])
    (waiting,) = history.endpoints()
    assert (waiting.disk, waiting.spool_points) == ("No space left on device", 21)
    ballast.unlink()
    history.write([trades(BTC, 7, 21, stamped(20, 20))], [])
    (waiting,) = history.endpoints()
    assert (waiting.disk, waiting.spool_points) == ("", 42)
    history.close()
    later = influx(disk)
    assert later.endpoints()[0].spool_points == 42
    later.close()


def test_what_waits_in_memory_at_the_end_is_lost_and_told(disk: Path) -> None:
    fill(disk)
    history = influx(disk)
    history.write([trades(BTC, 7, 1, stamped(0, 20))], [])
    with capture_logs() as logs:
        history.close()
    assert [(entry["log_level"], entry["points"]) for entry in logs] == [("error", 21)]
    (waiting,) = history.endpoints()
    assert (waiting.points_dropped, waiting.spool_points) == (21, 0)


def test_a_spool_that_may_not_be_written_ends_the_start(disk: Path) -> None:
    influx(disk).close()
    remount(disk, "ro")
    with pytest.raises(StartupError, match=READ_ONLY.format(disk / "spool")):
        influx(disk)


# ---- latest values


def test_latest_values_are_read_when_there_is_room(disk: Path) -> None:
    """Until then the store is one that is away (tests/store/latest/test_writer.py)."""
    value = LatestValue(Topic("sim", "BTC-USDT", Kind.TRADE), 7, 1, b"status", b"image")
    store = open_latest(CacheConfig(), disk)
    assert store is not None
    store.put([value])
    store.close()
    ballast = fill(disk)
    store = open_latest(CacheConfig(), disk)
    assert store is not None
    with pytest.raises(StoreError, match=r"latest\.sqlite"):
        store.load(["sim"])
    ballast.unlink()
    assert store.load(["sim"]) == [value]
    store.close()
