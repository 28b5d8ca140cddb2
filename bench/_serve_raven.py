"""Raven as it is measured: the whole App, default configuration, with events made inside the process.

The feed of a phase hands bursts to the channel that feeds hand theirs to. With --source events come from a WebSocket venue
instead, through transport, session and supervisor. Tells "ready" with its port, and "report" at its end.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import logging
import pstats
import sys
import time
import tracemalloc
from pathlib import Path

import attrs
import structlog
import trio
from _bench_adapter import bench_feed
from _board import Board, run_phases
from _meter import pin, tell
from _trades import BURST, VENUE, make_burst, make_topics, shape_of

from raven.adapter.batch import Batch, Carry
from raven.adapter.outputs import Established
from raven.app import App
from raven.config import Config, HealthConfig, MetricsConfig, ServerConfig, TlsConfig
from raven.model.topic import Selector, Topic
from raven.ops.garbage import spare_what_stays

__all__ = ["Pauses"]

MODULES_MAX = 14


class Pauses:
    """Garbage collections: how many, and the longest, by generation. Counts from `reset` on.

    The longest by the clock, and by CPU time, which a machine that others use too does not lengthen.
    """

    def __init__(self) -> None:
        self.reset()
        self._begun = (0, 0)
        gc.callbacks.append(self._on_gc)

    def reset(self) -> None:
        """Forget what was seen."""
        self.counts, self.longest_ns, self.longest_cpu_ns = [0, 0, 0], [0, 0, 0], [0, 0, 0]

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._begun = (time.perf_counter_ns(), time.thread_time_ns())
        else:
            generation = info["generation"]
            wall_ns, cpu_ns = time.perf_counter_ns() - self._begun[0], time.thread_time_ns() - self._begun[1]
            self.counts[generation] += 1
            self.longest_ns[generation] = max(self.longest_ns[generation], wall_ns)
            self.longest_cpu_ns[generation] = max(self.longest_cpu_ns[generation], cpu_ns)

    @property
    def facts(self) -> dict[str, object]:
        """For JSON."""
        return {
            "counts": self.counts,
            "longest_ms": [nanoseconds / 1e6 for nanoseconds in self.longest_ns],
            "longest_cpu_ms": [nanoseconds / 1e6 for nanoseconds in self.longest_cpu_ns],
        }


class BenchFeed:
    """Makes bursts for the topics in turn, and knows how many deliveries they are."""

    def __init__(self, app: App, topics: list[Topic], ahead: int, pauses: Pauses) -> None:
        self._app = app
        self._ahead = ahead
        self._topics = topics
        self._channel = app._send.clone()
        self._next = 0
        self._subscribers: list[int] = []
        self._pauses = pauses

    async def carry(self) -> None:
        """Announce the topics and make them live."""
        await self._channel.send(Batch(VENUE, [Carry(self._topics), Established(self._topics)]))

    async def publish(self) -> int:
        """One burst, or as many as are ahead, each as a batch of its own."""
        first, size = self._next, len(self._topics)
        if not first:
            self._begin()
        self._next = first + BURST * self._ahead
        for number in range(first, self._next, BURST):
            self._channel.send_nowait(Batch(VENUE, list(make_burst(self._topics, number, time.time_ns()))))
        await trio.lowlevel.checkpoint()  # as the channel's own `send` has it: now the broker can run
        subscribers = self._subscribers
        if size == 1:
            return (self._next - first) * subscribers[0]
        return sum(subscribers[number % size] for number in range(first, self._next))

    def _begin(self) -> None:
        views = self._app.broker.directory.views([Selector(VENUE, "*")])
        counts = {view.topic: view.subscribers for view in views}
        self._subscribers = [counts[topic] for topic in self._topics]
        self._pauses.reset()


async def serve(options: argparse.Namespace) -> None:
    """Until the board says END."""
    board, pauses = Board(options.board), Pauses()
    app = App(bench_config(options), (bench_feed(options.source),) if options.source else (), options.data_dir)
    feed = BenchFeed(app, make_topics(options.topics), options.ahead, pauses)
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(app.run)
        nursery.start_soon(spare_what_stays)  # as `raven serve` has it
        if not options.source:
            await feed.carry()
        before = take_memory() if options.trace else None
        tell("ready", port=int(addresses.grpc.rpartition(":")[2]), shape=shape_of().facts)
        await run_phases(board, trio.sleep, feed.publish)
        memory = memory_by_module(before) if before is not None else []
        history = await keep_all(app)
        tell("report", history=history, gc=pauses.facts, slow=app.broker.statistics().slow_consumers, memory=memory)
        nursery.cancel_scope.cancel()


async def keep_all(app: App) -> tuple[int, int]:
    """Events that the history has when it has all, and those that it lost."""
    if app.recorder is None:
        return 0, 0
    await app.recorder.flush()
    kept = app.recorder.statistics()
    return kept.events, sum(kept.lost.values())


def bench_config(options: argparse.Namespace) -> Config:
    """The defaults, on free ports."""
    server = ServerConfig(port=0)
    if options.tls:
        tls = TlsConfig(options.tls / "cert.pem", options.tls / "key.pem")
        server = attrs.evolve(server, tls=tls)
    return Config(server=server, health=HealthConfig(port=0), metrics=MetricsConfig(port=0), feeds=())


def take_memory() -> tracemalloc.Snapshot:
    """What is allocated now."""
    gc.collect()
    return tracemalloc.take_snapshot()


def memory_by_module(before: tracemalloc.Snapshot) -> list[tuple[str, int, int]]:
    """What came since, by the file whose line allocated it: name, bytes, blocks; the largest first."""
    found = take_memory().compare_to(before, "filename")
    return [(short_name(one.traceback[0].filename), one.size_diff, one.count_diff) for one in found[:MODULES_MAX]]


def short_name(path: str) -> str:
    """From the package on."""
    parts = Path(path).parts
    roots = [index for index, part in enumerate(parts) if part in ("site-packages", "python3.11", "python3.12", "python3.13")]
    start = roots[-1] + 1 if roots else next((i for i, part in enumerate(parts) if part == "raven"), len(parts) - 1)
    return "/".join(parts[start:])


def main() -> None:
    """Parse the command line and go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("board", type=Path)
    parser.add_argument("core", type=int)
    parser.add_argument("--topics", type=int, default=1)
    parser.add_argument("--ahead", type=int, default=1)
    parser.add_argument("--tls", type=Path)
    parser.add_argument("--data-dir", type=Path, help="where the history is kept; without it nothing is")
    parser.add_argument("--source", type=int, help="port of a venue; without it the feed is made here")
    parser.add_argument("--trace", action="store_true", help="report what is allocated where")
    parser.add_argument("--profile", type=Path, help="file for the table of cProfile")
    options = parser.parse_args()
    pin(options.core)
    if options.trace:
        tracemalloc.start()
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    if not options.profile:
        trio.run(serve, options)
        return
    profile = cProfile.Profile()
    profile.runcall(trio.run, serve, options)
    with options.profile.open("w") as table:
        pstats.Stats(profile, stream=table).sort_stats("tottime").print_stats(30)
    tell("profiled")


if __name__ == "__main__":
    main()
