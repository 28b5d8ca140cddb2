"""A storm: all clients of a server are cut at once and come back behind their bookmarks, under a steady load of trades.

    nox -s bench -- resume [--rounds 3] [--only NAME ...] [--quick]

1,000 clients that reconnect within 2 s: how long from the cut until each is whole again, that is, until it has what it missed
and its topics' statuses behind that. 10,000 within 20 s: none is sent away, and the server's memory stays in bounds. Every
client's record is then held against (epoch, sequence) from its beginning to its end. Exits with 1 where a goal is missed. See
bench/README.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _programs import LOAD_CORE, SERVER_CORE, Program, get_ready, open_program, python
from _trades import make_topics, shape_of
from _verdict import Goal, Verdicts, add_only, describe_machine, is_chosen, parser_of

__all__ = ["COLUMNS", "Storm", "judge", "memory_kib"]

TOPICS, TOPICS_EACH = 100, 10
HEARTBEAT_S, QUICK_HEARTBEAT_S = 5.0, 0.2
SETTLE_S, QUICK_SETTLE_S = 3.0, 0.3
QUICK_CLIENTS, QUICK_SPREAD_S = 40, 0.2
RECOVERED_MAX_S = 3.0
GROWN_MAX = 1.5
"""Memory at its peak, to that with all clients connected before the storm."""
CONNECT_S = 300.0
"""That the crowd may take to come the first time."""
MIB = 1024
NONE = Goal(0, at_least=False)


@dataclass(frozen=True)
class Storm:
    """One thing that is measured.

    Args:
        clients: connections, one each.
        spread_s: each comes back some time within that, evenly.
        rate: trades a second meanwhile.
        goal: of the p99 from the cut.
    """

    clients: int
    spread_s: float
    rate: float
    goal: Goal | None = None


COLUMNS: Mapping[str, Storm] = {
    "1,000 in 2 s": Storm(1_000, 2.0, 50, Goal(RECOVERED_MAX_S, at_least=False, unit=" s")),
    "1,000 at once": Storm(1_000, 0.0, 50),
    "10,000 in 20 s": Storm(10_000, 20.0, 20),
}
Run = dict[str, Any]
Runs = dict[str, list[Run]]


def run_storm(storm: Storm, heartbeat_s: float, settle_s: float) -> Run:
    """A server, its clients, the storm, and what their records say."""
    command = python("_serve_storm", SERVER_CORE, "--topics", TOPICS, "--heartbeat", heartbeat_s)
    with (
        open_program(command, SERVER_CORE) as server,
        open_program(python("_storm_clients"), LOAD_CORE) as crowd,
    ):
        names = [topic.symbol for topic in make_topics(TOPICS)]
        port = server.hear("ready")["port"]
        crowd.tell(core=LOAD_CORE, port=port, clients=storm.clients, topics=names, topics_each=TOPICS_EACH)
        crowd.hear("ready", CONNECT_S)
        server.tell(word="run", rate=storm.rate)
        found = crowd.ask("await_bookmarks")
        if found["without"] or found["gone"]:
            raise RuntimeError(f"{found['without']} clients got no bookmark; {found['gone']}")
        return strike(storm, server, crowd, settle_s)


def strike(storm: Storm, server: Program, crowd: Program, settle_s: float) -> Run:
    """The storm itself, with the server's memory before, at its peak and after."""
    process_id = server.process.pid
    before = memory_kib(process_id, "VmRSS")
    forget_peak(process_id)
    cpu_s = server.cpu_s
    found = crowd.ask("storm", spread_s=storm.spread_s)
    used_s = server.cpu_s - cpu_s
    time.sleep(settle_s)
    memory = {"before": before, "peak": memory_kib(process_id, "VmHWM"), "after": memory_kib(process_id, "VmRSS")}
    end = server.ask("stop")
    record = crowd.ask("finish", sequences=end["sequences"], wait_s=settle_s)
    return {**found, **record, "slow": end["slow"], "server_cpu_s": used_s, "kib": memory}


def memory_kib(process_id: int, name: str) -> int:
    """A value of /proc/PID/status."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name + ":")))


def forget_peak(process_id: int) -> None:
    """Have VmHWM begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def measure(columns: Mapping[str, Storm], rounds: int, heartbeat_s: float, settle_s: float) -> Runs:
    """The runs of all rounds by column."""
    runs: Runs = {name: [] for name in columns}
    for number in range(1, rounds + 1):
        print(f"  round {number}, p99 from the cut:", end="", flush=True)
        for name, storm in columns.items():
            runs[name].append(run_storm(storm, heartbeat_s, settle_s))
            print(f"  {name} {runs[name][-1]['from_drop_s']['p99']:.2f} s", end="", flush=True)
        print()
    return runs


def print_runs(runs: Runs) -> None:
    """A line per run."""
    print(f"\n  {'':<16} {'whole':>6} {'s from the cut: p50, p99, max':>30} {'from the attempt':>18} {'server':>7} "
          f"{'crowd':>6} {'events':>10} {'again':>8} {'MiB before, peak, after':>24}")  # fmt: skip
    for name, found in runs.items():
        for run in found:
            cut, attempt = (_times(run[key]) for key in ("from_drop_s", "from_attempt_s"))
            server, crowd = (run[key] / run["wall_s"] for key in ("server_cpu_s", "cpu_s"))
            memory = ", ".join(f"{kib / MIB:.0f}" for kib in run["kib"].values())
            print(f"  {name:<16} {run['recovered']:>6} {cut:>30} {attempt:>18} {server:>7.0%} {crowd:>6.0%} "
                  f"{run['events']:>10,} {run['again']:>8,} {memory:>24}")  # fmt: skip
            for text in (*run["faults"], *run["reasons"]):
                print(f"    {text}")
    print()


def _times(found: Mapping[str, float]) -> str:
    return ", ".join(f"{found[part]:.2f}" for part in ("p50", "p99", "max"))


def judge(runs: Runs, columns: Mapping[str, Storm], verdicts: Verdicts) -> None:
    """Times by their median; what may never be, over all runs."""
    for name, found in runs.items():
        storm = columns[name]
        verdicts.judge(f"{name}: p99 from the cut", values_of(found, "from_drop_s"), storm.goal, " s")
        verdicts.judge(f"{name}: p99 from the attempt", values_of(found, "from_attempt_s"), unit=" s")
        cpu_ms = [1e3 * run["server_cpu_s"] / storm.clients for run in found]
        verdicts.judge(f"{name}: the server's CPU time, a client", cpu_ms, unit=" ms")
        never = {
            "not recovered": storm.clients * len(found) - sum(run["recovered"] for run in found),
            "sent away": sum(run["refused"] + len(run["gone"]) + run["slow"] for run in found),
            "events lost": sum(run["lost"] for run in found),
            "events twice": sum(run["twice"] for run in found),
        }
        for what, count in never.items():
            verdicts.judge(f"{name}: {what}, all runs", [count], NONE)
        grown = [run["kib"]["peak"] / run["kib"]["before"] for run in found]
        verdicts.judge(f"{name}: memory at its peak, to before", grown, Goal(GROWN_MAX, at_least=False))


def values_of(found: Sequence[Run], key: str) -> list[float]:
    """The p99 of each run."""
    return [run[key]["p99"] for run in found]


def main() -> int:
    """Measure, print, and write resume.json."""
    parser = parser_of(__doc__, rounds=3, seconds=0)
    add_only(parser, COLUMNS)
    options = parser.parse_args()
    columns = {name: storm for name, storm in COLUMNS.items() if is_chosen(name, "raven", options.only)}
    heartbeat_s, settle_s = HEARTBEAT_S, SETTLE_S
    if options.quick:
        options.rounds, heartbeat_s, settle_s = 1, QUICK_HEARTBEAT_S, QUICK_SETTLE_S
        columns = {"quick": Storm(QUICK_CLIENTS, QUICK_SPREAD_S, 200, Goal(RECOVERED_MAX_S, at_least=False))}
    get_ready()
    print(f"resume: {describe_machine()}; trades of {shape_of().size} bytes over {TOPICS} topics; every second client has "
          f"all of them, the others {TOPICS_EACH} by name; one connection a client")  # fmt: skip
    runs = measure(columns, options.rounds, heartbeat_s, settle_s)
    print_runs(runs)
    verdicts = Verdicts()
    judge(runs, columns, verdicts)
    return verdicts.write(options.results, "resume", runs)


if __name__ == "__main__":
    sys.exit(main())
