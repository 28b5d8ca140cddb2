"""`raven replay`, flat out, to one raw reader: the command itself, over a history that was made for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _handshakes
from _history_trades import TradeStream, make_topics
from _meter import pin
from _programs import LOAD_CORE, SERVER_CORE

__all__ = ["replay_once", "replay_shape"]

SUFFIX = "-replay"
COMMAND = "raven.cli.replay"
END_S = 10.0
_ADDRESS = re.compile(r"gRPC\s+\S*:(\d+)")

Read = Callable[[int, bytes, Mapping[str, Any], int], dict[str, Any]]
"""Port, request, shape, events: what a raw reader counts."""


def replay_shape() -> dict[str, Any]:
    """Of the trades, whose venue has a suffix then."""
    topic = make_topics(1)[0]
    element = TradeStream(topic._replace(venue=topic.venue + SUFFIX), 1.0).block(1).elements
    return {"size": len(element), "stamp": 0, "head": element[:2].hex()}


def replay_once(directory: Path, events: int, read: Read) -> dict[str, Any] | str:
    """What one client counted, from its first event to its last; or why it cannot be measured.

    Raises:
        RuntimeError: something did not come, or the command ended before it served.
    """
    if find_spec(COMMAND) is None:
        return f"there is no {COMMAND}"
    greeting = _handshakes.raven([(f"{make_topics(1)[0].venue}{SUFFIX}", "*")])
    with _replaying(directory) as (process, port):
        found = read(port, bytes.fromhex(greeting.request), replay_shape(), events)
        server_cpu_s = _cpu_s(process.pid)
    if found["events"] != events:
        raise RuntimeError(f"{events} events were due and {found['events']} came: {found}")
    return {**found, "wall_s": found["wall_s"] - found["first_s"], "server_cpu_s": server_cpu_s}


def _cpu_s(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _replaying(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command on the server's core, and its port."""
    command = [sys.executable, "-m", "raven.cli.main", "replay", "--data-dir", str(directory), "--from", "2020-01-01"]
    pin(SERVER_CORE)
    quiet = {**os.environ, "RAVEN_LOG": "warning"}
    process = subprocess.Popen([*command, "--speed", "0", "--port", "0"], stdout=subprocess.PIPE, text=True, env=quiet)
    pin(LOAD_CORE)
    try:
        assert process.stdout is not None
        address = next(filter(None, map(_ADDRESS.search, process.stdout)), None)
        if address is None:
            raise RuntimeError(f"{command} ended with {process.wait(END_S)}")
        yield process, int(address[1])
    finally:
        process.kill()
        process.communicate()
