"""The file of latest values: what is in it after a kill, and what becomes of one that is damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from raven.errors import StoreError
from raven.store.latest.sqlite import DAMAGED_NAME, FILE_NAME, SqliteLatest
from raven.store.latest.values import KEEP_S
from tests.store.latest.samples import BOOK, NOW_S, QUOTE, client, value


def kept_in(directory: Path) -> SqliteLatest:
    return SqliteLatest(directory, lambda: NOW_S)


def test_another_process_finds_what_was_put_before_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from raven.store.latest.sqlite import SqliteLatest\nfrom tests.store.latest.samples import *\n"
        "store = SqliteLatest(Path(sys.argv[1]), lambda: NOW_S)\n"
        "store.put([value(), value(BOOK, 8)])\nstore.put_clients([client('desk', 'a')])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    assert done.returncode == -9
    store = kept_in(tmp_path)
    assert store.load(["sim"]) == [value(), value(BOOK, 8)]
    assert store.load_clients(NOW_S) == [client("desk", "a")]
    store.close()


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_file_that_is_none_is_set_aside_with_a_word(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(damage)
    store = kept_in(tmp_path)
    with capture_logs() as logs:
        assert store.load(["sim"]) == []
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "a new file is begun" in logs[0]["event"]
    store.put([value()])
    assert store.load(["sim"]) == [value()]
    assert (tmp_path / DAMAGED_NAME).read_bytes() == damage
    store.close()


def test_a_page_that_is_damaged_later_costs_one_call(tmp_path: Path) -> None:
    store = kept_in(tmp_path)
    store.put([value(QUOTE._replace(symbol=f"S{number}")) for number in range(500)])
    store.close()
    file = tmp_path / FILE_NAME
    data = bytearray(file.read_bytes())
    data[4096 * 3 : 4096 * 20] = b"\xa5" * (4096 * 17)
    file.write_bytes(data)
    store = kept_in(tmp_path)
    with capture_logs(), pytest.raises(StoreError, match="malformed"):
        store.load(["sim"])
    assert store.load(["sim"]) == []
    store.put([value()])
    assert store.load(["sim"]) == [value()]
    store.close()


def test_a_file_of_a_later_version_is_set_aside(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("PRAGMA user_version = 2")
    db.close()
    store = kept_in(tmp_path)
    with capture_logs() as logs:
        store.put([value()])
    assert "it is of version 2, and this Raven knows 1" in logs[0]["error"]
    assert (tmp_path / DAMAGED_NAME).exists()
    store.close()


def test_a_directory_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    store = kept_in(tmp_path / "missing")
    with pytest.raises(StoreError, match="unable to open database file"):
        store.put([value()])


def test_a_file_that_somebody_else_holds_is_an_error_and_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven.store.latest.sqlite.BUSY_S", 0.01)
    store = kept_in(tmp_path)
    store.put([value()])
    store.close()
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        store.put([value(sequence=6)])
    other.execute("ROLLBACK")
    other.close()
    store.put([value(sequence=6)])
    assert store.load(["sim"]) == [value(sequence=6)]
    store.close()


def test_what_nobody_has_written_for_a_week_is_forgotten(tmp_path: Path) -> None:
    now_s = NOW_S
    store = SqliteLatest(tmp_path, lambda: now_s)
    store.put([value(), value(BOOK)])
    now_s += KEEP_S
    store.put([value()])
    now_s += 1
    assert store.load(["sim"]) == [value()]
    store.close()


def test_rows_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    store = kept_in(tmp_path)
    store.put([value(), value(BOOK)])
    store.put_clients([client("desk", "a"), client("broken", "a"), client("kind", "a")])
    store.close()
    db = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    db.execute("UPDATE latest SET kind = 99 WHERE kind = 3")
    db.execute("UPDATE clients SET subscriptions = x'7b' WHERE client_id = 'broken'")
    db.execute('UPDATE clients SET subscriptions = CAST(\'[["s","sim","X",[77]]]\' AS BLOB) WHERE client_id = \'kind\'')
    db.close()
    with capture_logs() as logs:
        assert store.load(["sim"]) == [value()]
        assert store.load_clients(NOW_S) == [client("desk", "a")]
    assert len(logs) == 3
    store.close()
