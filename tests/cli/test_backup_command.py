"""`raven backup`, `raven restore` and their targets in the Makefile: what they print, and with which code they end."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from raven.cli import main
from raven.store import open_data_dir
from raven.store.sqlite import SqliteHistory
from tests.store.test_backup import sequences, write

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(here: Path) -> Path:
    with closing(SqliteHistory(here / "raven-data" / "history")) as history:
        write(history, 1)
    return here / "raven-data"


def test_there_and_back(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["backup"]) == 0
    (made,) = (here / "backups").iterdir()
    out = capsys.readouterr().out
    assert f"backups/{made.name}" in out
    assert "history/2024-10-04.sqlite" in out
    assert main.run(["restore", str(made), "--data-dir", "elsewhere"]) == 0
    assert "elsewhere is as it was at 20" in capsys.readouterr().out
    assert sequences(here / "elsewhere") == list(range(1, 21))
    assert main.run(["restore", str(made), "--replace"]) == 0
    assert "what was there before: raven-data/replaced_" in capsys.readouterr().out


def test_the_configuration_says_which_directory(here: Path, data: Path) -> None:
    data.rename(here / "other")
    (here / "raven.toml").write_text('[data]\ndir = "other"\n')
    assert main.run(["backup", "--to", "b"]) == 0
    assert len(list((here / "b").iterdir())) == 1


def test_refusals_are_one_line_with_their_code(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["backup", "--data-dir", "none"]) == 1
    assert capsys.readouterr().err == "raven: there is nothing to back up in none: neither a history nor latest values\n"
    assert main.run(["backup"]) == 0
    (made,) = (here / "backups").iterdir()
    capsys.readouterr()
    assert main.run(["restore", str(made)]) == 1
    assert capsys.readouterr().err.startswith("raven: raven-data is not empty (history): --replace moves")
    with open_data_dir(data):
        assert main.run(["restore", str(made), "--replace"]) == 1
    assert "belongs to another running server" in capsys.readouterr().err
    assert main.run(["restore", "nowhere"]) == 2


def test_make_knows_both(data: Path, here: Path) -> None:
    """The targets, with the command of this environment in place of the Makefile's."""
    (here / "bin").mkdir()
    raven = here / "bin" / "raven"
    raven.write_text(f'#!/bin/sh\nexec {sys.executable} -m raven.cli.main "$@"\n')
    raven.chmod(0o755)
    stamp = here / "stamp"
    stamp.touch()

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-s", "-f", str(ROOT / "Makefile"), f"BIN={here / 'bin'}", f"STAMP={stamp}", *words]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=30, check=False)

    for file in ("requirements.lock", "pyproject.toml"):
        (here / file).touch()
    stamp.touch()
    done = make("backup")
    assert done.returncode == 0, done.stderr
    (made,) = (here / "docker" / "backups").iterdir()
    asked = make("restore")
    assert (asked.returncode, made.name in asked.stdout) == (2, True)
    done = make("restore", f"BACKUP_NAME={made.name}", "DATA_DIR=elsewhere")
    assert done.returncode == 0, done.stderr
    assert sequences(here / "elsewhere") == list(range(1, 21))
