"""Backups: made under a server that writes, refused when a byte of them is another, taken back whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from raven.errors import StartupError, StoreError
from raven.model.topic import Selector
from raven.store import open_data_dir
from raven.store.backup import backup, restore, verify
from raven.store.blocks import TimeRange
from raven.store.latest.sqlite import SqliteLatest
from raven.store.latest.values import LatestValue
from raven.store.manifest import MANIFEST_NAME, SUM_NAME, format_manifest, format_sum, parse_manifest
from raven.store.query import HistoryQuery, open_reading
from raven.store.sqlite import SqliteHistory
from tests.store.memory_history import BTC, DAY_NS, trades

DAY = 20_000
EVER = TimeRange(0, 2**62)
NOW_NS = (DAY + 2) * DAY_NS


def start_ns(day: int = 0) -> int:
    return (DAY + day) * DAY_NS + 10**9


def write(history: SqliteHistory, first: int, count: int = 20, day: int = 0) -> None:
    at = start_ns(day) + first * 1_000
    history.write([trades(BTC, 7, first, [(at + number, at) for number in range(count)])], [])


def sequences(data_dir: Path) -> list[int]:
    """Of all events that are kept, as a reader gets them."""
    history = SqliteHistory(data_dir / "history", now_ns=lambda: NOW_NS)
    with closing(history):
        reading = open_reading(history, HistoryQuery((Selector("*", "*"),), 0, NOW_NS))
        count = 0
        while not reading.done:
            count += sum(chunk.count for chunk in reading.step())
        found = [
            number for block in history.blocks(BTC, EVER) for number in range(block.first_sequence, block.last_sequence + 1)
        ]
        assert len(found) == count
        return found


def value(sequence: int) -> LatestValue:
    return LatestValue(BTC, 7, sequence, b"status", b"image")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of two days, a damaged one, and latest values; and beside it the data directory."""
    root = tmp_path_factory.mktemp("whole")
    data = root / "data"
    with closing(SqliteHistory(data / "history", now_ns=lambda: NOW_NS)) as history:
        write(history, 1)
        write(history, 21, day=1)
    (data / "history" / "2020-01-01.sqlite.damaged-1577840400000000000").write_bytes(b"no database")
    with closing(SqliteLatest(data)) as latest:
        latest.put([value(3)])
    (data / "recent-v1").write_bytes(b"of a clean end")
    return backup(data, root / "backups", "1.2.3", now_ns=1_704_110_400 * 10**9)


@pytest.fixture
def made(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


def test_a_backup_has_its_name_and_says_what_is_in_it(whole: Path) -> None:
    assert whole.name == "raven_backup_20240101_120000"
    assert [path.name for path in whole.parent.iterdir()] == [whole.name]
    manifest = verify(whole)
    assert (manifest.raven, manifest.created) == ("1.2.3", "2024-01-01T12:00:00+00:00")
    assert [(file.path, file.kind.value, file.schema) for file in manifest.files] == [
        ("history/2024-10-04.sqlite", "history", 1),
        ("history/2024-10-05.sqlite", "history", 1),
        ("history/2020-01-01.sqlite.damaged-1577840400000000000", "damaged", 0),
        ("latest.sqlite", "latest", 1),
    ]
    there = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert there == {file.path for file in manifest.files} | {MANIFEST_NAME, SUM_NAME}, (
        "and nothing beside: no WAL, no recent events"
    )
    assert manifest.bytes == sum((whole / file.path).stat().st_size for file in manifest.files)


def test_what_is_restored_is_what_was_there(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "data"
    restored = restore(made, target)
    assert restored.aside is None
    assert sequences(target) == list(range(1, 41))
    with closing(SqliteHistory(target / "history", now_ns=lambda: NOW_NS)) as history:
        assert history.holes(EVER) == [(1_577_836_800 * 10**9, 1_577_840_400 * 10**9)]
        write(history, 41, day=1)  # and it goes on
    with closing(SqliteLatest(target)) as latest:
        assert latest.load(["sim"]) == [value(3)]
    assert sequences(target) == list(range(1, 61))
    assert sorted(path.name for path in target.iterdir()) == ["history", "latest.sqlite", "raven.lock"]


def test_under_a_server_that_writes_it_has_exactly_what_was_committed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    history = SqliteHistory(data / "history", now_ns=lambda: NOW_NS)
    committed, stop, some = [0], threading.Event(), threading.Event()

    def serve() -> None:
        while not stop.is_set():
            write(history, committed[0] + 1)
            committed[0] += 20
            if committed[0] >= 4_000:
                some.set()

    server = threading.Thread(target=serve)
    server.start()
    try:
        assert some.wait(20)
        for number in range(3):
            before = committed[0]
            made = backup(data, tmp_path, "1", now_ns=number * 10**9)
            after = committed[0] + 20  # one may be committed, and not counted yet
            target = tmp_path / f"restored-{number}"
            restore(made, target)
            found = sequences(target)
            assert found == list(range(1, found[-1] + 1))
            assert before <= found[-1] <= after
            assert found[-1] % 20 == 0, "a commit is in it or not"
        assert committed[0] > before, "nobody held the server up"
    finally:
        stop.set()
        server.join()
        history.close()
    assert sequences(data) == list(range(1, committed[0] + 1))


def flips(directory: Path) -> Iterator[tuple[str, int]]:
    """Of every file its first, its last and some bytes between."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            for place in {0, size // 3, size // 2, size - 1}:
                yield str(path.relative_to(directory)), place


def test_a_flipped_byte_anywhere_is_refused_by_the_name_of_its_file(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "data"
    seen = set()
    for name, place in flips(made):
        data = bytearray((made / name).read_bytes())
        data[place] ^= 1
        (made / name).write_bytes(data)
        with pytest.raises(StoreError, match=name.replace(".", r"\.")):
            restore(made, target)
        data[place] ^= 1
        (made / name).write_bytes(data)
        seen.add(name)
    assert len(seen) == 6
    assert not target.exists(), "nothing was touched"
    restore(made, target)


@pytest.mark.parametrize("name", ["history/2024-10-05.sqlite", "latest.sqlite", MANIFEST_NAME, SUM_NAME])
def test_what_is_missing_or_cut_is_refused_by_name(name: str, made: Path, tmp_path: Path) -> None:
    data = (made / name).read_bytes()
    (made / name).write_bytes(data[:-1])
    with pytest.raises(StoreError, match=name.removesuffix(".sha256")):
        restore(made, tmp_path / "data")
    (made / name).unlink()
    with pytest.raises(StoreError, match=f"{name}.*missing"):
        restore(made, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def rewrite(made: Path, **changes: object) -> None:
    """Another manifest, with the checksum that it would have."""
    manifest = parse_manifest((made / MANIFEST_NAME).read_bytes(), (made / SUM_NAME).read_bytes(), made)
    text = format_manifest(msgspec.structs.replace(manifest, **changes))
    (made / MANIFEST_NAME).write_bytes(text)
    (made / SUM_NAME).write_bytes(format_sum(text))


def test_what_a_newer_raven_made_is_refused(made: Path, tmp_path: Path) -> None:
    files = verify(made).files
    rewrite(made, files=(msgspec.structs.replace(files[0], schema=99), *files[1:]))
    with pytest.raises(
        StoreError, match=r"2024-10-04\.sqlite was written by a newer Raven: its version is 99, this one reads up to 1"
    ):
        restore(made, tmp_path / "data")
    rewrite(made, files=files, format=2)
    with pytest.raises(StoreError, match=r"manifest\.json was written by a newer Raven"):
        restore(made, tmp_path / "data")


def test_a_manifest_leads_nowhere_else(made: Path, tmp_path: Path) -> None:
    files = verify(made).files
    rewrite(made, files=(msgspec.structs.replace(files[0], path="../elsewhere"),))
    with pytest.raises(StoreError, match=r"names '\.\./elsewhere', which is no file of a data directory"):
        restore(made, tmp_path / "data")


def test_a_directory_in_use_is_refused(made: Path, tmp_path: Path) -> None:
    with open_data_dir(tmp_path / "data") as data, pytest.raises(StartupError, match="belongs to another running server"):
        restore(made, data, replace=True)


def test_a_directory_that_is_not_empty_is_moved_aside_when_that_is_said(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(SqliteHistory(data / "history", now_ns=lambda: NOW_NS)) as history:
        write(history, 1_001)
    (data / "recent-v1").write_bytes(b"recent")
    (data / "spool").mkdir()
    with pytest.raises(StoreError, match=r"is not empty \(history, recent-v1, spool\): --replace moves its stores aside"):
        restore(made, data)
    assert sequences(data) == list(range(1_001, 1_021))
    aside = restore(made, data, replace=True, now_ns=0).aside
    assert aside == data / "replaced_19700101_000000"
    assert sequences(data) == list(range(1, 41))
    assert sequences(aside) == list(range(1_001, 1_021))
    assert (aside / "recent-v1").read_bytes() == b"recent"
    assert sorted(path.name for path in data.iterdir()) == ["history", "latest.sqlite", "raven.lock", aside.name, "spool"]
    restore(made, data, replace=True, now_ns=10**9)  # what was moved aside is in nobody's way


def test_a_restore_that_fails_half_way_leaves_what_was_there(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    with closing(SqliteHistory(data / "history", now_ns=lambda: NOW_NS)) as history:
        write(history, 1_001)
    rename = Path.rename

    def fail_at_the_last(path: Path, target: Path) -> Path:
        if path.name == "latest.sqlite" and path.parent.name == "restoring.part":
            raise OSError(28, "No space left on device", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_at_the_last)
    with pytest.raises(StoreError, match=r"cannot be restored: .*latest\.sqlite: No space left on device"):
        restore(made, data, replace=True)
    assert sequences(data) == list(range(1_001, 1_021))
    assert sorted(path.name for path in data.iterdir()) == ["history", "raven.lock"]


def test_a_damaged_file_is_not_backed_up_as_if_it_were_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with closing(SqliteHistory(data / "history", now_ns=lambda: NOW_NS)) as history:
        for number in range(100):
            write(history, 1 + 20 * number)
    path = data / "history" / "2024-10-04.sqlite"
    broken = bytearray(path.read_bytes())
    broken[3 * 8192 : 3 * 8192 + 64] = bytes(64)
    path.write_bytes(broken)
    with pytest.raises(StoreError, match=r"2024-10-04\.sqlite"):
        backup(data, tmp_path / "backups", "1")
    assert list((tmp_path / "backups").iterdir()) == []


def test_nothing_to_back_up_and_nowhere_to_put_it(tmp_path: Path, made: Path) -> None:
    with pytest.raises(StoreError, match="there is nothing to back up in"):
        backup(tmp_path / "none", tmp_path / "backups", "1")
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot be written: .*file"):
        backup(tmp_path / "none", file, "1")
    with pytest.raises(StoreError, match="is there already"):
        backup(made, made.parent, "1", now_ns=1_704_110_400 * 10**9)


def test_the_copy_is_one_file_that_sqlite_says_is_whole(whole: Path) -> None:
    for file in verify(whole).files:
        if file.schema:
            with closing(sqlite3.connect(f"file:{whole / file.path}?mode=ro", uri=True)) as database:
                assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    verify(whole)
