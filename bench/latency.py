"""Latency socket to socket: from a venue's write until each of 100 readers has the trade, all (event, client) pairs.

    nox -s bench -- latency [--rounds 5] [--seconds 10] [--rate 200] [--only raven redis ...] [--quick]

Against a bare loop of `socket.send` behind the same venue, and Redis and NATS with the same readers. Exits with 1 where a
median misses its goal. See bench/README.md.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

from _paced import open_paced
from _peers import PeerMissing
from _programs import get_ready
from _trades import shape_of
from _verdict import Goal, Verdicts, add_only, describe_machine, is_chosen, parser_of, ratios

CLIENTS = 100
WARM_UP_S = 1.0
QUICK_S = 0.5
COLUMNS: Mapping[str, str] = {
    "raven": "raven",
    "bare loop of send": "bare",
    "redis": "redis",
    "nats": "nats",
    "raven again": "raven",
}
P50_MAX_US = 1000.0
TIMES: Mapping[str, tuple[Goal | None, Goal | None]] = {  # raven's p50 and p99 over the column's
    "bare loop of send": (Goal(3, at_least=False), Goal(2, at_least=False)),
    "redis": (Goal(3, at_least=False), Goal(2, at_least=False)),
    "nats": (None, None),
}

Runs = dict[str, list[dict[str, Any]]]


def run_column(peer: str, rate: float, seconds: float) -> dict[str, Any]:
    """Warming up, then what is measured.

    Raises:
        PeerMissing: this column cannot be had here.
    """
    with open_paced(peer, CLIENTS) as paced:
        paced.run(rate, min(WARM_UP_S, seconds))
        return paced.run(rate, seconds)


def measure(columns: Mapping[str, str], rounds: int, rate: float, seconds: float) -> tuple[Runs, dict[str, str]]:
    """The latencies of all rounds by column, and what could not be had."""
    runs: Runs = {name: [] for name in columns}
    missing: dict[str, str] = {}
    for number in range(1, rounds + 1):
        print(f"  round {number}, p50/p99 us:", end="", flush=True)
        for name, peer in columns.items():
            if name not in missing:
                try:
                    runs[name].append(run_column(peer, rate, seconds))
                    print(f"  {name} {runs[name][-1]['p50']:.0f}/{runs[name][-1]['p99']:.0f}", end="", flush=True)
                except PeerMissing as error:
                    missing[name] = str(error)
        print()
    return {name: of_column for name, of_column in runs.items() if of_column}, missing


def judge(runs: Runs, missing: Mapping[str, str], verdicts: Verdicts) -> None:
    """Every goal for which there is something to compare."""
    if "raven" not in runs:
        return
    p50 = [run["p50"] for run in runs["raven"]]
    verdicts.judge("raven: p50", p50, Goal(P50_MAX_US, at_least=False, unit=" us"), " us")
    for part in ("p50", "p99"):
        ours = [run[part] for run in runs["raven"]]
        if "raven again" in runs:
            verdicts.judge(f"A/A, raven again to raven: {part}", ratios([run[part] for run in runs["raven again"]], ours))
        for name, goals in TIMES.items():
            if name in runs:
                goal = goals[part == "p99"]
                verdicts.judge(f"raven to {name}: {part}", ratios(ours, [run[part] for run in runs[name]]), goal)
            elif name in missing and part == "p50":
                verdicts.absent(f"raven to {name}", missing[name])


def print_latencies(runs: Runs) -> None:
    """A line per column."""
    parts = ("p50", "p90", "p99", "p999", "max")
    print(f"\n  {'us, medians of the rounds':<34}" + "".join(f"{part:>10}" for part in parts))
    for name, of_column in runs.items():
        values = (statistics.median(run[part] for run in of_column) for part in parts)
        print(f"  {name:<34}" + "".join(f"{value:>10,.0f}" for value in values))
    print()


def main() -> int:
    """Measure, print, and write latency.json."""
    parser = parser_of(__doc__, rounds=5, seconds=10.0)
    parser.add_argument("--rate", type=float, default=200.0, help="trades a second")
    add_only(parser, COLUMNS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, QUICK_S
    get_ready()
    print(f"latency: {describe_machine()}; {options.rate:g} trades of {shape_of().size} bytes a second, {CLIENTS} readers")
    columns = {name: peer for name, peer in COLUMNS.items() if is_chosen(name, peer, options.only)}
    runs, missing = measure(columns, options.rounds, options.rate, options.seconds)
    print_latencies(runs)
    verdicts = Verdicts()
    judge(runs, missing, verdicts)
    return verdicts.write(options.results, "latency", runs)


if __name__ == "__main__":
    sys.exit(main())
