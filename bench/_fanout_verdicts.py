"""What comes out of the fan-out: the table, the goals of its columns, the fit over clients, the collector's pauses."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from _runs import Phase
from _verdict import Goal, Verdicts, ratios

__all__ = ["Runs", "fit_cost", "judge", "print_rates"]

GC_PAUSE_MAX_MS = 1.0
PER_EVENT_MAX_US = 10.0
IDLE_PART = 0.05  # a peer that is so much less busy than Raven was not at its limit
GOALS: Mapping[str, Goal | None] = {  # raven's deliveries/s over the column's
    "grpcio.aio": Goal(40),
    "grpclib": Goal(15),
    "grpclib, encoded once": None,
    "redis": Goal(0.8),
    "nats": None,
    "grpc-go": None,
    "bare loop of send": None,
}
HISTORY = "raven, history on"
PARTS: Mapping[str, Goal | None] = {  # the column's deliveries/s over raven's
    "raven, 1,000 topics by wildcard": Goal(0.5),
    "raven, 1,000 topics mixed": Goal(0.5),
    "raven, TLS": Goal(0.5),
    HISTORY: None,
}
FIT: Mapping[str, int] = {"raven, 1 client": 1, "raven, 10 clients": 10, "raven 5": 100, "raven, 1,000 clients": 1000}
PLAIN = ("raven", *(f"raven {number}" for number in range(2, 6)))
"""The same measured several times a round: the host of a machine is quicker or slower for seconds at a time, and a ratio says
most where both were measured within a few."""
AHEAD_NAME = ", source ahead"

Runs = dict[str, list[Phase]]


def print_rates(runs: Runs) -> None:
    """A line per column."""
    print(f"\n  {'':<34} {'deliveries/s':>13} {'lowest':>11} {'highest':>11} {'CPU us each':>12} {'a message':>10} "
          f"{'server':>7} {'readers':>8}")  # fmt: skip
    for name, phases in runs.items():
        rates = [phase.rate for phase in phases]
        cpu_us = statistics.median(1e6 * phase.server_cpu_s / phase.deliveries for phase in phases)
        reading = statistics.median(phase.readers_cpu_s / phase.wall_s for phase in phases)
        joined = statistics.median(phase.deliveries / phase.messages if phase.messages else 0 for phase in phases)
        print(f"  {name:<34} {statistics.median(rates):>13,.0f} {min(rates):>11,.0f} {max(rates):>11,.0f} {cpu_us:>12.3f} "
              f"{joined:>10.1f} {busy(phases):>7.0%} {reading:>8.0%}")  # fmt: skip
    print()


def judge(runs: Runs, missing: Mapping[str, str], verdicts: Verdicts, order: Sequence[str]) -> None:
    """Every goal for which there is something to compare.

    Args:
        order: of the columns in a round.
    """
    plain = [name for name in PLAIN if name in runs]
    if not plain:
        return
    for earlier, later in pairwise(plain):
        verdicts.judge(f"A/A, {later} to {earlier}", by_rate(runs[later], runs[earlier]))
    for name, goal in GOALS.items():
        if name in runs:
            ours = runs[nearest(name, plain, order)]
            verdicts.judge(f"raven to {name}", by_rate(ours, runs[name]), goal)
            verdicts.judge("  the same by the server's CPU time", by_cpu(ours, runs[name]))
            if busy(runs[name]) < busy(ours) - IDLE_PART:
                print(f"    {name} had to wait at times ({busy(runs[name]):.0%} busy), which flatters Raven: see the CPU time")
        elif name in missing:
            verdicts.absent(f"raven to {name}", missing[name])
    for name, goal in PARTS.items():
        if name in runs:
            verdicts.judge(f"{name} to raven", by_rate(runs[name], runs[nearest(name, plain, order)]), goal)
        elif name in missing:
            verdicts.absent(f"{name} to raven", missing[name])
    if HISTORY in runs and "redis" in runs:
        verdicts.judge(f"{HISTORY} to redis", by_rate(runs[HISTORY], runs["redis"]), GOALS["redis"])
    judge_ahead(runs, verdicts)
    judge_fit(runs, verdicts)
    judge_pauses([phase for name in plain for phase in runs[name]], verdicts)


def nearest(name: str, plain: Sequence[str], order: Sequence[str]) -> str:
    """The plain run of Raven that stands nearest to a column in a round; of two the one before it."""
    return min(plain, key=lambda one: abs(order.index(one) - order.index(name)))


def busy(phases: Sequence[Phase]) -> float:
    """The part of the time in which the server's process had the processor."""
    return statistics.median(phase.server_cpu_s / phase.wall_s for phase in phases)


def by_rate(ours: Sequence[Phase], theirs: Sequence[Phase]) -> list[float]:
    """Ratios of deliveries per second."""
    return ratios([phase.rate for phase in ours], [phase.rate for phase in theirs])


def by_cpu(ours: Sequence[Phase], theirs: Sequence[Phase]) -> list[float]:
    """Ratios of deliveries per second of the server's CPU time."""
    rates = [[phase.deliveries / max(phase.server_cpu_s, 0.01) for phase in phases] for phases in (ours, theirs)]
    return ratios(*rates)


def judge_ahead(runs: Runs, verdicts: Verdicts) -> None:
    """With bursts that wait, who can joins them: Raven and the message servers. Told only."""
    for name in ("redis", "nats", "bare loop of send"):
        ours, theirs = runs.get(f"raven{AHEAD_NAME}"), runs.get(f"{name}{AHEAD_NAME}")
        if ours and theirs:
            verdicts.judge(f"raven to {name}{AHEAD_NAME}", by_rate(ours, theirs))


def judge_fit(runs: Runs, verdicts: Verdicts) -> None:
    """cost = c + e/N: what a delivery costs, and what an event costs however many want it."""
    if any(name not in runs for name in FIT):
        return
    clients = list(FIT.values())
    rounds = list(zip(*([phase.cost_us for phase in runs[name]] for name in FIT), strict=True))
    fits = [fit_cost(clients, costs) for costs in rounds]
    verdicts.judge("fit of cost = c + e/N: c", [c for c, _ in fits], unit=" us")
    verdicts.judge("fit of cost = c + e/N: e", [e for _, e in fits], Goal(PER_EVENT_MAX_US, at_least=False, unit=" us"), " us")
    verdicts.judge("cost at 1,000 readers to that at 100", [costs[3] / costs[2] for costs in rounds], Goal(1.3, at_least=False))


def fit_cost(clients: Sequence[int], costs: Sequence[float]) -> tuple[float, float]:
    """c and e of cost = c + e/N by least squares of the relative errors, so that the dear point of N = 1 does not decide."""
    rows = [(1 / cost, 1 / (number * cost)) for number, cost in zip(clients, costs, strict=True)]
    aa, ab, bb = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a1, b1 = sum(row[0] for row in rows), sum(row[1] for row in rows)
    determinant = aa * bb - ab * ab
    return (a1 * bb - b1 * ab) / determinant, (b1 * aa - a1 * ab) / determinant


def judge_pauses(phases: Sequence[Phase], verdicts: Verdicts) -> None:
    """The longest garbage collection of each run."""
    longest = [max(phase.report["gc"]["longest_ms"]) for phase in phases]
    verdicts.judge("longest garbage collection", longest, Goal(GC_PAUSE_MAX_MS, at_least=False, unit=" ms"), " ms")
    verdicts.judge("  the same by its CPU time", [max(phase.report["gc"]["longest_cpu_ms"]) for phase in phases], unit=" ms")
    counts = [sum(phase.report["gc"]["counts"][generation] for phase in phases) for generation in range(3)]
    print(f"    collections of generations 0, 1, 2 in {len(phases)} runs: {counts[0]}, {counts[1]}, {counts[2]}")
