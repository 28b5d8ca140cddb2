"""Raven under a steady load of trades, for clients that drop and come back: the whole App, made inside its own process.

The default configuration on free ports, but for `connections_max`, and the heartbeat where it is said. Tells "ready" with its
port. Commands are lines of JSON on its standard input: {"word": "run", "rate": trades a second}, and {"word": "stop"}, which is
answered with the last sequence of each symbol. Ends with its standard input.

    python _serve_storm.py CORE [--topics 100] [--connections 12000] [--heartbeat 5]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time

import structlog
import trio
import trio.testing
from _meter import pin, tell
from _programs import allow_files
from _trades import BURST, VENUE, make_burst, make_topics

from raven.adapter.batch import Batch, Carry
from raven.adapter.outputs import Established
from raven.app import App
from raven.config import Config, HealthConfig, MetricsConfig, ServerConfig
from raven.ops.garbage import spare_what_stays

SPARE_FILES = 200


class SteadyFeed:
    """Bursts of trades for the topics in turn, on a fixed schedule."""

    def __init__(self, app: App, topics: int) -> None:
        self._app = app
        self._topics = make_topics(topics)
        self._channel = app._send.clone()
        self._next = 0

    async def carry(self) -> None:
        """Announce the topics and make them live."""
        await self._channel.send(Batch(VENUE, [Carry(self._topics), Established(self._topics)]))

    async def run(self, rate: float) -> None:
        """Until cancelled."""
        begun, bursts = trio.current_time(), 0
        while True:
            await trio.sleep_until(begun + bursts * BURST / rate)
            await self._channel.send(Batch(VENUE, list(make_burst(self._topics, self._next, time.time_ns()))))
            self._next += BURST
            bursts += 1

    def sequences(self) -> dict[str, int]:
        """Of the last event of each symbol."""
        find = self._app.broker.directory.find
        return {topic.symbol: state.sequence for topic in self._topics if (state := find(topic)) is not None}


async def serve(options: argparse.Namespace) -> None:
    """Until standard input ends."""
    server = ServerConfig(port=0, connections_max=options.connections, heartbeat_s=options.heartbeat)
    app = App(Config(server=server, health=HealthConfig(port=0), metrics=MetricsConfig(port=0), feeds=()), ())
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(app.run)
        nursery.start_soon(spare_what_stays)  # as `raven serve` has it
        feed = SteadyFeed(app, options.topics)
        await feed.carry()
        tell("ready", port=int(addresses.grpc.rpartition(":")[2]))
        await obey(feed, app)
        nursery.cancel_scope.cancel()


async def obey(feed: SteadyFeed, app: App) -> None:
    """Do what standard input says, until it ends."""
    scope = trio.CancelScope()

    async def run(rate: float) -> None:
        with scope:
            await feed.run(rate)

    async with trio.open_nursery() as nursery:
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command = json.loads(line)
            if command["word"] == "run":
                nursery.start_soon(run, command["rate"])
            else:
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()  # what was made is published
                tell("answer", sequences=feed.sequences(), slow=app.broker.statistics().slow_consumers)


def main() -> None:
    """Parse the command line and go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("core", type=int)
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--connections", type=int, default=12_000)
    parser.add_argument("--heartbeat", type=float, default=5.0)
    options = parser.parse_args()
    pin(options.core)
    allow_files(options.connections + SPARE_FILES)
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    trio.run(serve, options)


if __name__ == "__main__":
    main()
