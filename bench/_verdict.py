"""What the fan-out benchmarks share: options, ratios with their spread, goals, and the results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Goal", "Verdicts", "add_only", "describe_machine", "is_chosen", "parser_of", "ratios"]

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Goal:
    """What a median must reach."""

    limit: float
    at_least: bool = True
    unit: str = ""

    def met(self, median: float) -> bool:
        """Whether it does."""
        return median >= self.limit if self.at_least else median <= self.limit

    def __str__(self) -> str:
        return f"goal: {'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"


class Verdicts:
    """Judges and prints, and remembers whether all goals were met."""

    def __init__(self) -> None:
        self.met = True
        self.lines: list[dict[str, Any]] = []

    def judge(self, what: str, values: Sequence[float], goal: Goal | None = None, unit: str = "") -> None:
        """Print the median of `values`, lowest and highest, and what it says of the goal; without one it is only told."""
        median, met = statistics.median(values), None
        text = f"  {what:<58} {median:>8.2f}{unit}  ({min(values):.2f} to {max(values):.2f})"
        if goal is not None:
            met = goal.met(median)
            self.met &= met
            text += f"  {goal}: {'met' if met else 'MISSED'}"
        print(text)
        self.lines.append({"what": what, "median": median, "values": list(values), "goal": goal and str(goal), "met": met})

    def absent(self, what: str, why: str) -> None:
        """Nothing to compare with; that is no miss."""
        print(f"  {what:<58} not measured: {why}")
        self.lines.append({"what": what, "missing": why})

    def write(self, directory: Path, name: str, runs: object) -> int:
        """Write DIRECTORY/NAME.json; the exit code."""
        directory.mkdir(parents=True, exist_ok=True)
        results = {"machine": describe_machine(), "verdicts": self.lines, "runs": runs}
        (directory / f"{name}.json").write_text(json.dumps(results, indent=1))
        return 0 if self.met else 1


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def describe_machine() -> str:
    """For the head of a table."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def parser_of(text: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """With the options that all have: --rounds, --seconds, --quick, --results."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="that each run is measured for")
    parser.add_argument("--quick", action="store_true", help="one round of a second: whether it works, not what comes out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    return parser


def add_only(parser: argparse.ArgumentParser, columns: Iterable[str]) -> None:
    """--only, of benchmarks with several columns."""
    names = "; ".join(columns)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help=f"some of: {names}; or a peer's name")


def is_chosen(name: str, peer: str, only: Sequence[str]) -> bool:
    """Whether --only names the column, or its peer; "raven" means the first of its columns. Without --only all are chosen."""
    return not only or name in only or (peer != "raven" and peer in only)
