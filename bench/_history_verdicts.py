"""What the history's runs are held against. Pure, but for what is printed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from _verdict import Goal, Verdicts, ratios

__all__ = ["AGAIN", "judge_bytes", "judge_latency", "judge_read", "judge_replay", "judge_turns", "judge_write", "rate"]

Runs = Mapping[str, Sequence[Mapping[str, Any]]]

AGAIN = " again"
P99_RATIO_MAX = 1.2
NOISE_MAX = 1.5
WRITE_RATES = {1: 500_000, 1_000: 200_000}
TIMES_INFLUX = 2
BYTES_MAX = 60
READ_RATE, READ_MIB_MAX, GROWTH_MIB_MAX = 500_000, 50, 5
REPLAY_RATE = 100_000


def rate(run: Mapping[str, Any], seconds: str = "wall_s") -> float:
    """Events a second."""
    return float(run["events"]) / float(run[seconds])


def judge_latency(what: str, runs: Runs, verdicts: Verdicts) -> None:
    """The ratio of p99 of the second column to the first against 1.2, or against the A/A pairs where those are above; medians.

    Args:
        runs: of three columns: without, with, and again without.
    """
    (plain, without), (name, with_it), (_, again) = ((name, [run["p99"] for run in of]) for name, of in runs.items())
    verdicts.judge(f"{what}: p99, {plain}", without, unit=" us")
    noise = ratios(again, without)
    verdicts.judge(f"{what}: A/A, {plain} again to {plain}", noise)
    if max(noise) > NOISE_MAX or min(noise) < 1 / NOISE_MAX:
        print("    the machine was too busy for this to say much: the A/A pairs are far apart")
    limit = max(P99_RATIO_MAX, statistics.median(noise))
    verdicts.judge(f"{what}: p99, {name} to {plain}", ratios(with_it, without), Goal(limit, at_least=False))
    cpu = {column: statistics.median(run["cpu"] for run in of) for column, of in runs.items()}
    print(f"    the server's core was busy for {cpu[plain]:.0%} ({plain}) and {cpu[name]:.0%} ({name}) of the time")
    lost = sum(run["report"].get("lost", 0) + run["report"]["slow"] for of in runs.values() for run in of)
    verdicts.judge(f"{what}: events lost to clients or history", [lost], Goal(0, at_least=False))


def judge_turns(what: str, run: Mapping[str, Any], verdicts: Verdicts) -> None:
    """How long the tasks held the loop; only told."""
    for task, wall_ms, cpu_ms in run["report"]["turns"]:
        print(f"    {task:<32} {wall_ms:>8.2f} ms  {cpu_ms:>8.2f} ms CPU")
    recorder = [cpu_ms for task, _, cpu_ms in run["report"]["turns"] if task.startswith("Recorder.")]
    verdicts.judge(f"{what}: longest turn of the recorder, CPU", recorder or [0.0], unit=" ms")


def judge_write(runs: Runs, missing: str, verdicts: Verdicts) -> None:
    """Rates by topics, alone and beside InfluxDB."""
    for topics, goal in WRITE_RATES.items():
        of = f"{topics:,} topic{'s' * (topics > 1)}"
        blocks = [rate(run) for run in runs[f"blocks {topics}"]]
        verdicts.judge(f"blocks to committed, {of}, thousands a second", _thousands(blocks), Goal(goal / 1e3))
        by_cpu = [rate(run, "cpu_s") for run in runs[f"blocks {topics}"]]
        verdicts.judge("  ... by CPU time", _thousands(by_cpu))
        ring = [rate(run) for run in runs[f"ring {topics}"]]
        verdicts.judge(f"ring to committed, {of}, thousands a second", _thousands(ring), Goal(goal / 1e3))
        verdicts.judge("  ... by CPU time", _thousands([rate(run, "cpu_s") for run in runs[f"ring {topics}"]]))
        if missing:
            verdicts.absent(f"blocks to InfluxDB, {of}", missing)
            continue
        influx = [rate(run) for run in runs[f"influx {topics}"]]
        verdicts.judge(f"InfluxDB, prebuilt lines, {of}, thousands a second", _thousands(influx))
        verdicts.judge(f"blocks to InfluxDB, {of}", ratios(blocks, influx), Goal(TIMES_INFLUX))


def _thousands(rates: Sequence[float]) -> list[float]:
    return [each / 1e3 for each in rates]


def judge_bytes(runs: Mapping[str, Mapping[str, Any]], verdicts: Verdicts) -> None:
    """Of a trade, on the disk."""
    for name, run in runs.items():
        verdicts.judge(f"bytes on disk a trade, {name}", [run["bytes"] / run["events"]], Goal(BYTES_MAX, at_least=False))


def judge_read(what: str, runs: Sequence[Mapping[str, Any]], verdicts: Verdicts, *, goal: bool) -> None:
    """Rate and memory; without `goal` they are only told."""
    rates = _thousands([rate(run) for run in runs])
    verdicts.judge(f"{what}: thousand events a second", rates, Goal(READ_RATE / 1e3) if goal else None)
    verdicts.judge("  ... by the server's CPU time", _thousands([rate(run, "server_cpu_s") for run in runs]))
    highest = max(run["rss_mib"] for run in runs)
    verdicts.judge(f"{what}: memory above idle, at most", [highest], Goal(READ_MIB_MAX, at_least=False), " MiB")
    growth = [run["growth_mib"] for run in runs]
    verdicts.judge(f"{what}: its growth, second quarter to last", growth, Goal(GROWTH_MIB_MAX, at_least=False), " MiB")


def judge_replay(runs: Sequence[Mapping[str, Any]], verdicts: Verdicts) -> None:
    """Rate of one client."""
    rates = _thousands([rate(run) for run in runs])
    verdicts.judge("replay to one client: thousand events a second", rates, Goal(REPLAY_RATE / 1e3))
    by_cpu = _thousands([rate(run, "server_cpu_s") for run in runs])
    verdicts.judge("  ... by the server's CPU time, with its start", by_cpu)
