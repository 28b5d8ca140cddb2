"""The whole App with a data directory, as `raven serve` runs it, for the benchmark of the history.

    python _history_serve.py CORE DIRECTORY BACKEND [--source PORT] [--influxdb JSON] [--probe]

BACKEND is none, sqlite or influxdb; nothing else differs. Tells "ready" with its port, and answers one command a line: "report"
(when everything that was published is kept) and "endpoints" (how the databases stand). Ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
from _bench_adapter import bench_feed
from _meter import pin, tell
from _trades import shape_of

from raven.app import App
from raven.config import Config, HealthConfig, MetricsConfig, ServerConfig
from raven.ops.garbage import spare_what_stays
from raven.store.config import HistoryConfig, InfluxConfig
from raven.store.opening import endpoint_statistics
from raven.store.query import StoredHistory

__all__ = ["StepProbe", "history_config"]

KEEP_DAYS = 100_000
LONGEST = 5


class StepProbe(trio.abc.Instrument):
    """How long each turn of each task held the loop: by the clock, and by the thread's CPU time, free of what others do."""

    def __init__(self) -> None:
        self._began = (0.0, 0.0)
        self.longest: dict[str, tuple[float, float]] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  the contract
        """A task goes on."""
        self._began = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It waits for something."""
        wall_s, cpu_s = time.perf_counter() - self._began[0], time.thread_time() - self._began[1]
        known = self.longest.get(task.name, (0.0, 0.0))
        if wall_s > known[0] or cpu_s > known[1]:
            self.longest[task.name] = max(wall_s, known[0]), max(cpu_s, known[1])

    @property
    def facts(self) -> list[tuple[str, float, float]]:
        """Task, longest turn in ms by the clock and by CPU time, of those that held the loop for longest."""
        found = sorted(self.longest.items(), key=lambda item: item[1][1], reverse=True)
        return [(short_name(name), 1e3 * wall_s, 1e3 * cpu_s) for name, (wall_s, cpu_s) in found[:LONGEST]]


def short_name(task: str) -> str:
    """Class and method, or module and function."""
    return ".".join(part for part in task.split(".")[-2:] if part != "<locals>")


def history_config(backend: str, influxdb: Mapping[str, Any] | None) -> Config:
    """The defaults on free ports, and this history."""
    endpoints = (InfluxConfig(**influxdb),) if influxdb else ()
    history = attrs.evolve(HistoryConfig(), backend=backend, keep_days=KEEP_DAYS, influxdb=endpoints)
    here = {"health": HealthConfig(port=0), "metrics": MetricsConfig(port=0)}
    return Config(server=ServerConfig(port=0), feeds=(), history=history, **here)


class Answers:
    """What the benchmark may ask.

    Args:
        probe: that is installed when the first report was given, behind the warming up.
    """

    def __init__(self, app: App, probe: StepProbe | None) -> None:
        self._app = app
        self._probe = probe

    async def report(self) -> dict[str, Any]:
        """The recorder when everything that was published until now is kept, the loop, and this process."""
        app = self._app
        told: dict[str, Any] = {"slow": app.broker.statistics().slow_consumers}
        if app.recorder is not None:
            await app.recorder.flush()
            while app.recorder.statistics().behind:
                await app.recorder.flush()
            kept = app.recorder.statistics()
            told |= {"events": kept.events, "lost": sum(kept.lost.values()), "writes": kept.writes, "write_s": kept.write_s}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        loop = app.watchdog.statistics()
        told |= {"lag_max_ms": 1e3 * loop.lag_max_s, "cpu_s": usage.ru_utime + usage.ru_stime}
        if self._probe is not None:
            told["turns"] = self._probe.facts
            self._probe.longest.clear()
        return told

    async def endpoints(self) -> dict[str, Any]:
        """How the databases stand; "waits": points that are not there yet."""
        fields = ("points_written", "requests_failed", "points_rejected", "points_dropped")
        found = endpoint_statistics(self._app.history)
        told = {each.name: {field: getattr(each, field) for field in fields} for each in found}
        return {"waits": sum(each.spool_points for each in found), "endpoints": told}


async def serve(options: argparse.Namespace) -> None:
    """Until standard input ends."""
    app = App(
        history_config(options.backend, options.influxdb),
        (bench_feed(options.source),) if options.source else (),
        options.directory,
    )
    probe = StepProbe() if options.probe else None
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(app.run)
        nursery.start_soon(spare_what_stays)  # as `raven serve` has it
        if probe is not None:
            trio.lowlevel.add_instrument(probe)
        if app.grpc.historical.history is None and app.history is not None and app.recorder is not None:
            app.grpc.historical.history = StoredHistory(app.history, app.recorder.flush)
        tell("ready", port=int(addresses.grpc.rpartition(":")[2]), shape=shape_of().facts)
        await answer(Answers(app, probe))
        nursery.cancel_scope.cancel()


async def answer(answers: Answers) -> None:
    """One command a line."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        command: Callable[[], Awaitable[dict[str, Any]]] = getattr(answers, json.loads(line)["word"])
        tell("answer", **await command())


def main() -> None:
    """Parse the command line and go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("core", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("backend", choices=("none", "sqlite", "influxdb"))
    parser.add_argument("--source", type=int, help="port of a venue")
    parser.add_argument("--influxdb", type=json.loads, help="fields of an endpoint")
    parser.add_argument("--probe", action="store_true", help="measure every turn of every task")
    options = parser.parse_args()
    pin(options.core)
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    trio.run(serve, options)


if __name__ == "__main__":
    main()
