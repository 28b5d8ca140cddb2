"""influxd behind nginx, on the load's core and with what others leave of it: what is measured is what Raven's clients feel.

    python _history_influxd.py CORE DIRECTORY [--nice N]

Tells "ready" with its ports and the fields of an endpoint. One command a line, each answered: create, kill, start, count, and
prebuilt (lines that were made beforehand, posted to influxd's own /write), stop. Ends with its standard input, too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
from _history_trades import blocks_in_turn
from _meter import pin, tell

from raven.client.decode import Decoder
from raven.store.influx.points import PointWriter
from tests.store.influx.servers import InfluxServer, influx_server, missing

__all__ = ["Influxd"]

LINES = 5_000
MEASUREMENT, FIELD = "trades", "price"
LOAD_CORE = 1


class Influxd:
    """The commands."""

    def __init__(self, server: InfluxServer) -> None:
        self._server = server

    def create(self, database: str) -> dict[str, Any]:
        """A database, empty; what writes there."""
        self._server.create(database)
        return {"endpoint": attrs.asdict(self._server.config(database, timeout_s=10.0))}

    def kill(self) -> dict[str, Any]:
        """kill -9."""
        self._server.kill()
        return {}

    def start(self) -> dict[str, Any]:
        """Again, on what it had."""
        self._server.start_influxd()
        return {}

    def count(self, database: str) -> dict[str, Any]:
        """Trades that are there."""
        return {"count": self._server.count(MEASUREMENT, FIELD, database)}

    def prebuilt(self, database: str, topics: int, events: int) -> dict[str, Any]:
        """Lines, LINES a request, one behind the other on one connection."""
        self._server.create(database)
        bodies = make_bodies(topics, events)
        pin(LOAD_CORE)  # influxd stays where it is
        connection = http.client.HTTPConnection("127.0.0.1", self._server.http, timeout=30)
        began = time.perf_counter()
        for body in bodies:
            connection.request("POST", f"/write?db={database}", body)
            answer = connection.getresponse()
            if answer.status != http.client.NO_CONTENT:
                raise RuntimeError(f"influxd answers {answer.status}: {answer.read()[:200]!r}")
            answer.read()
        wall_s = time.perf_counter() - began
        connection.close()
        return {"wall_s": wall_s, "events": events, "count": self._server.count(MEASUREMENT, FIELD, database)}


def make_bodies(topics: int, events: int) -> list[bytes]:
    """Requests of LINES lines: the same trades that the embedded history is given, with the fields of docs/data-model.md."""
    decoder, points = Decoder(), PointWriter()
    blocks = blocks_in_turn(topics, events, max(1, LINES // topics), 10_000.0)
    decoded = chain.from_iterable(decoder.decode(block.elements).events for block in blocks)
    lines = [points.line(event) for event in decoded]
    return ["\n".join(lines[at : at + LINES]).encode() for at in range(0, len(lines), LINES)]


def main() -> None:
    """Parse the command line and go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("core", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args()
    if missing():
        tell("ready", missing=missing())
        return
    pin(options.core)
    os.nice(options.nice)
    with influx_server(options.directory) as server:
        tell("ready", missing="")
        commands = Influxd(server)
        for line in sys.stdin:
            command = json.loads(line)
            word = command.pop("word")
            if word == "stop":
                break
            tell("answer", **getattr(commands, word)(**command))
    tell("answer")


if __name__ == "__main__":
    main()
