"""The history: what it costs clients, how fast it is written and read, what it takes on the disk, and InfluxDB going away.

    nox -s bench -- history [--only ROW ...] [--pairs 7] [--rounds 3] [--seconds 5] [--scale 1] [--disk DIR] [--quick]

Rows: latency (history on against off, interleaved pairs with A/A pairs beside them), write (blocks and rings until they are
committed, beside InfluxDB 1.x with prebuilt lines), bytes (on disk a trade), read (GetHistoricalData of ten million events to a
raw reader, and the server's memory), replay (`raven replay` flat out to one client), outage (InfluxDB killed and back).
Exits with 1 where a median misses its goal. See bench/README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import _history_runs as runs
import _history_verdicts as verdict
from _history_replay import replay_once
from _history_trades import rates_of_mix
from _programs import SERVER_CORE, get_ready
from _verdict import Verdicts, describe_machine, parser_of

BUSY_RATE = 10_000.0
CASES = ((100, 2_000.0), (10, BUSY_RATE))
"""Clients, and trades a second."""
QUICK_CLIENTS, QUICK_S, QUICK_SCALE = 10, 0.6, 0.01
WRITE_EVENTS, RING_EVENTS, LINES = 2_000_000, 1_000_000, 500_000
READ_EVENTS, MIXED_EVENTS, MIXED_TOPICS = 10_000_000, 2_000_000, 100
REPLAY_EVENTS = 2_000_000
MIX_TOPICS, MIX_S, ONE_RATE, ONE_S = 100, 600, 1_000.0, 300
ROUNDS_OF_LINES = 5_000
OFF, ON = "history off", "history on"
HEALTHY, AWAY = "InfluxDB healthy", "InfluxDB away"


def latency(options: argparse.Namespace, verdicts: Verdicts) -> dict[str, Any]:
    """Row 1."""
    found: dict[str, Any] = {}
    for most, rate in CASES:
        clients = min(most, options.clients)
        what = f"{clients} clients, {rate:,.0f}/s"
        print(f"\n  {what}")

        def run(column: str, clients: int = clients, rate: float = rate) -> dict[str, Any]:
            return runs.run_latency(options.disk, "sqlite" if column == ON else "none", clients, rate, options.seconds)

        found[what] = runs.interleaved((OFF, ON, OFF + verdict.AGAIN), options.pairs, run)
        verdict.judge_latency(what, found[what], verdicts)
    print("\n  longest turns of the loop, of one run each; whatever else the machine does is in the first column")
    for name, backend in ((OFF, "none"), (ON, "sqlite")):
        clients = min(CASES[-1][0], options.clients)
        found[f"turns, {name}"] = runs.run_latency(options.disk, backend, clients, BUSY_RATE, options.seconds, probe=True)
        print(f"   {name}")
        verdict.judge_turns(name, found[f"turns, {name}"], verdicts)
    return found


def outage(options: argparse.Namespace, verdicts: Verdicts) -> dict[str, Any]:
    """Row 6."""
    clients = min(CASES[-1][0], options.clients)
    what = f"{clients} clients, {BUSY_RATE:,.0f}/s into InfluxDB"
    with runs.open_influx(options.disk) as influx:
        if isinstance(influx, str):
            verdicts.absent(what, influx)
            return {}

    def run(column: str) -> dict[str, Any]:
        with runs.open_influx(options.disk) as influx:
            assert not isinstance(influx, str)
            seconds = options.seconds
            away = column == AWAY
            return runs.run_latency(options.disk, "influxdb", clients, BUSY_RATE, seconds, influx=influx, outage=away)

    print(f"\n  {what}")
    found = runs.interleaved((HEALTHY, AWAY, HEALTHY + verdict.AGAIN), options.pairs, run)
    verdict.judge_latency(what, found, verdicts)
    points = sum(run["points"] for of in found.values() for run in of)
    print(f"    all {points:,} points of {sum(map(len, found.values()))} runs are in the database")
    return {what: found}


def write(options: argparse.Namespace, verdicts: Verdicts) -> dict[str, Any]:
    """Row 2."""
    found: dict[str, list[dict[str, Any]]] = {}
    missing = ""
    for _ in range(options.rounds):
        for topics in verdict.WRITE_RATES:
            for what, events in (("blocks", WRITE_EVENTS), ("ring", RING_EVENTS)):
                of_what = runs.work(options.disk, what, topics=topics, events=scaled(options, events))
                found.setdefault(f"{what} {topics}", []).append(of_what)
            with runs.open_influx(options.disk, SERVER_CORE, 0) as influx:
                if isinstance(influx, str):
                    missing = influx
                    continue
                lines = max(ROUNDS_OF_LINES, scaled(options, LINES))
                told = influx.program.ask("prebuilt", database="prebuilt", topics=topics, events=lines)
                found.setdefault(f"influx {topics}", []).append(told)
    print("\n  write path alone, one core each")
    verdict.judge_write(found, missing, verdicts)
    return found


def size(options: argparse.Namespace, verdicts: Verdicts) -> dict[str, Any]:
    """Row 3."""
    one = f"one topic, {ONE_RATE:,.0f}/s"
    mix = f"{MIX_TOPICS} topics of 1 to 10/s"
    share = max(options.scale, 0.1)
    found = {
        one: runs.work(options.disk, "paced", rates=[ONE_RATE], seconds=int(ONE_S * share)),
        mix: runs.work(options.disk, "paced", rates=rates_of_mix(MIX_TOPICS), seconds=int(MIX_S * share)),
    }
    print("\n  on the disk")
    verdict.judge_bytes(found, verdicts)
    return found


def read(options: argparse.Namespace, verdicts: Verdicts) -> dict[str, Any]:
    """Row 4."""
    found: dict[str, Any] = {}
    print("\n  GetHistoricalData to a raw reader")
    for what, topics, events, rounds in (
        ("one topic", 1, READ_EVENTS, options.rounds),
        (f"{MIXED_TOPICS} topics at once", MIXED_TOPICS, MIXED_EVENTS, 1),
    ):
        with runs.data_directory(options.disk) as directory:
            made = runs.work(
                options.disk,
                "make",
                directory=directory / runs.HISTORY_DIR,
                topics=topics,
                events=scaled(options, events),
                rate=BUSY_RATE,
            )
            of_what = runs.read_history(directory, made, rounds)
        name = f"{what}, {made['events']:,} events"
        found[what] = {"made": made, "read": of_what}
        verdict.judge_read(name, of_what, verdicts, goal=topics == 1)
        reader = of_what[-1]["cpu_s"] / of_what[-1]["wall_s"]
        print(f"    the reader was busy for {reader:.0%} of the time; {of_what[-1]['messages']:,} messages")
    return found


def replay(options: argparse.Namespace, verdicts: Verdicts) -> dict[str, Any]:
    """Row 5."""
    print("\n  replay flat out")
    with runs.data_directory(options.disk) as directory:
        events = scaled(options, REPLAY_EVENTS)
        place = directory / runs.HISTORY_DIR
        made = runs.work(options.disk, "make", directory=place, topics=1, events=events, rate=BUSY_RATE)
        found = [replay_once(directory, made["events"], runs.read_raw) for _ in range(options.rounds)]
    whole = [run for run in found if not isinstance(run, str)]
    if len(whole) < len(found):
        verdicts.absent("replay to one client", next(why for why in found if isinstance(why, str)))
        return {}
    verdict.judge_replay(whole, verdicts)
    return {"replay": whole}


ROWS: Mapping[str, Callable[[argparse.Namespace, Verdicts], dict[str, Any]]] = {
    "latency": latency,
    "write": write,
    "bytes": size,
    "read": read,
    "replay": replay,
    "outage": outage,
}


def scaled(options: argparse.Namespace, events: int) -> int:
    """By --scale."""
    return max(1, int(events * options.scale))


def main() -> int:
    """Measure, print, and write history.json."""
    parser = parser_of(__doc__, rounds=3, seconds=5.0)
    parser.add_argument("--pairs", type=int, default=7, help="of runs whose p99 is compared")
    parser.add_argument("--scale", type=float, default=1.0, help="of the events that are written, read and replayed")
    parser.add_argument("--disk", type=Path, default=Path(tempfile.gettempdir()), help="where histories are made")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    options = parser.parse_args()
    options.clients = max(clients for clients, _ in CASES)
    if options.quick:
        options.pairs, options.rounds, options.seconds, options.scale = 1, 1, QUICK_S, QUICK_SCALE
        options.clients = QUICK_CLIENTS
    get_ready()
    print(f"history: {describe_machine()}; trades, {options.pairs} pairs of {options.seconds:g} s, scale {options.scale:g}")
    verdicts = Verdicts()
    found = {name: row(options, verdicts) for name, row in ROWS.items() if name in options.only}
    return verdicts.write(options.results, "history", found)


if __name__ == "__main__":
    sys.exit(main())
