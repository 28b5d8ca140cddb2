"""Each benchmark runs, in its quick mode. What comes out of that is no figure, so a missed goal is none either."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raven import speedups
from tests.bench.parts import BENCH

MISSED = 1
RUN_S = 120.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="raw readers use epoll, and processes are pinned: Linux")


def run(name: str, results: Path, *options: str) -> dict[str, Any]:
    """The results of a quick run."""
    command = [sys.executable, str(BENCH / f"{name}.py"), "--quick", "--results", str(results), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)
    told = results / f"{name}.json"
    assert done.returncode in (0, MISSED), done.stderr
    assert told.is_file(), f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(told.read_text())
    return found


def test_fanout(tmp_path: Path) -> None:
    columns = ["raven", "bare loop of send"]
    found = run("fanout", tmp_path, "--only", *columns, "redis")
    assert set(columns) <= set(found["runs"])
    assert all(run["deliveries"] > 0 for of_column in found["runs"].values() for run in of_column)
    assert ("redis" in found["runs"]) == bool(shutil.which("redis-server"))


def test_latency(tmp_path: Path) -> None:
    found = run("latency", tmp_path, "--only", "raven", "bare")
    assert all(run["p50"] > 0 for name in ("raven", "bare loop of send") for run in found["runs"][name])


def test_memory(tmp_path: Path) -> None:
    found = run("memory", tmp_path)
    assert found["runs"]["KiB"].keys() >= {"raven", "grpclib"}
    assert found["runs"]["KiB"]["raven"][0] > 1
    assert found["runs"]["where"]


def test_stall(tmp_path: Path) -> None:
    found = run("stall", tmp_path)
    assert found["runs"]["one stalled"][0]["count"] > 0


def test_speedups(tmp_path: Path) -> None:
    found = run("speedups", tmp_path)
    if speedups.compiled is None:
        assert found["verdicts"] == [{"what": "what is compiled", "missing": speedups.missing}]
    else:
        assert all(us > 0 for pairs in found["runs"].values() for pair in pairs for us in pair)
        assert len(found["runs"]) >= len(speedups.compiled)
