"""Ingest: recorded frames over a loopback WebSocket until Raven's broker has them sequenced and encoded, against cryptofeed.

    nox -s bench -- ingest [--rounds 5] [--only trades|depth] [--scale 1.0] [--no-peer]

Each round runs Raven, cryptofeed and Raven again, each in a process of its own on one core; the source is a third process on
another core. The second run of Raven against the first (A/A) says how much of a ratio is noise. Medians of the rounds. Exits
with 1 where a median misses its goal. See bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from _drain import drain
from _peer import PeerUnavailable, peer_python
from _venue import Venue, open_venue
from _workloads import NAMES, find_recording

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
EVENTS = {"trades": 300_000, "depth": 60_000}
GOALS = {"trades": 2.0, "depth": 4.0}  # Raven's events/s over cryptofeed's
WARMUP_PART = 0.1
RUN_TIMEOUT_S = 180.0
CONSUMER_CORE, SOURCE_CORE = 0, 1


@dataclass(frozen=True)
class Run:
    """One run of one program, from the end of its warming up to the last event."""

    program: str
    python: str
    events: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU time per event in microseconds."""
        return 1e6 * self.cpu_s / self.events


def run_program(command: Sequence[str], venue: Venue, events: int) -> Run:
    """Start a program, let it have the flow when it is ready, and take what it tells.

    Raises:
        RuntimeError: it failed, or its book is not the recording's.
    """
    arguments = [*command, str(venue.port), str(events), str(round(events * WARMUP_PART)), str(CONSUMER_CORE)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "XDG_CACHE_HOME": home}  # cryptofeed keeps its list of symbols there
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=home
        )
        alarm = threading.Timer(RUN_TIMEOUT_S, process.kill)
        alarm.start()
        try:
            told = _listen(process, venue)
        finally:
            alarm.cancel()
            process.kill()
            _, errors = process.communicate()
    if told is None:
        raise RuntimeError(f"{' '.join(command)} ended without a result:\n{errors[-2000:]}")
    if (tuple(told.pop("best", venue.best)), told.pop("levels", venue.levels)) != (venue.best, venue.levels):
        raise RuntimeError(f"{' '.join(command)} ended with another book than the recording's")
    return Run(**told)


def _listen(process: subprocess.Popen[str], venue: Venue) -> dict[str, object] | None:
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line) if line.startswith("{") else {}
        word = told.pop("word", "")
        if word == "ready":
            venue.go()
        if word == "done":
            return told
    return None


def measure(workload: str, events: int, rounds: int, peer: Path | None) -> dict[str, list[Run]]:
    """The runs of `rounds` rounds by column: Raven, cryptofeed, Raven again."""
    raven = [sys.executable, str(HERE / "_ingest_raven.py"), workload]
    columns = {"raven": raven}
    if peer is not None:
        columns["cryptofeed"] = [str(peer), str(HERE / "_ingest_cryptofeed.py"), workload]
    columns["raven again"] = raven
    runs: dict[str, list[Run]] = {column: [] for column in columns}
    with open_venue(workload, events, find_recording(), SOURCE_CORE) as venue:
        source = drain(venue, CONSUMER_CORE)
        print(f"\n{workload}: {events} frames of {venue.flow_bytes / events:.0f} bytes; a bare reader gets "
              f"{events / source:,.0f} a second")  # fmt: skip
        for number in range(1, rounds + 1):
            for column, command in columns.items():
                runs[column].append(run_program(command, venue, events))
            rates = "  ".join(f"{column} {runs[column][-1].rate:,.0f}/s" for column in columns)
            print(f"  round {number}: {rates}", flush=True)
    return runs


def report(workload: str, runs: dict[str, list[Run]]) -> bool:
    """Print medians and ratios; whether the goal is met (also where there is nothing to compare with)."""
    print(f"  {'program':<18} {'Python':<8} {'events/s':>10} {'min':>10} {'max':>10} {'CPU us/event':>13}")
    for column, of_column in runs.items():
        rates = [run.rate for run in of_column]
        cpu_us = statistics.median(run.cpu_us for run in of_column)
        name = of_column[0].program + " again" * (column == "raven again")
        print(f"  {name:<18} {of_column[0].python:<8} {statistics.median(rates):>10,.0f} {min(rates):>10,.0f} "
              f"{max(rates):>10,.0f} {cpu_us:>13.2f}")  # fmt: skip
    noise = ratios(runs["raven again"], runs["raven"])
    print(f"  A/A, Raven to Raven:    median {statistics.median(noise):.2f}  ({min(noise):.2f} to {max(noise):.2f})")
    if "cryptofeed" not in runs:
        return True
    gains = ratios(runs["raven"], runs["cryptofeed"])
    gain, goal = statistics.median(gains), GOALS[workload]
    verdict = "met" if gain >= goal else "MISSED"
    cheaper = [other.cpu_us / one.cpu_us for one, other in zip(runs["raven"], runs["cryptofeed"], strict=True)]
    print(f"  Raven to cryptofeed:    median {gain:.2f}  ({min(gains):.2f} to {max(gains):.2f})  goal {goal:g}: {verdict}")
    print(f"  the same by CPU time:   median {statistics.median(cheaper):.2f}  ({min(cheaper):.2f} to {max(cheaper):.2f})")
    return gain >= goal


def ratios(ours: Sequence[Run], theirs: Sequence[Run]) -> list[float]:
    """Of events per second, round by round."""
    return [one.rate / other.rate for one, other in zip(ours, theirs, strict=True)]


def find_peer(wanted: bool) -> Path | None:
    """cryptofeed's Python; None where there is none, which is said."""
    if not wanted:
        return None
    try:
        return peer_python()
    except PeerUnavailable as error:
        print(f"no comparison, Raven's figures alone: {error}")
        return None


def main() -> int:
    """Measure, print, and write results/ingest.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--scale", type=float, default=1.0, help="times so many events")
    parser.add_argument("--no-peer", action="store_true", help="Raven alone")
    options = parser.parse_args()
    peer = find_peer(not options.no_peer)
    print(f"{platform.python_implementation()} on {platform.system()} {platform.release()}, {os.cpu_count()} cores; "
          f"frames: {find_recording().name}")  # fmt: skip
    results = {}
    met = True
    for workload in [options.only] if options.only else NAMES:
        runs = measure(workload, round(EVENTS[workload] * options.scale), options.rounds, peer)
        met &= report(workload, runs)
        results[workload] = {column: [asdict(run) for run in of_column] for column, of_column in runs.items()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ingest.json").write_text(json.dumps(results, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
