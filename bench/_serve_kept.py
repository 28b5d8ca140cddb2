"""Raven with so many trades in its ring: a client that continues in front of them gets them as fast as it reads.

Nothing is made or encoded while it reads, so that one process can keep up with the client that is measured. The whole App,
and the default configuration but for the size of the ring. Tells "ready" with its port and the bookmark in front of the first
trade; ends with its standard input.

    python _serve_kept.py CORE EVENTS
"""

from __future__ import annotations

import logging
import sys
import time
from base64 import b64encode

import structlog
import trio
from _meter import pin, tell
from _trades import VENUE, make_burst, make_topics, shape_of

from raven.adapter.batch import Batch, Carry
from raven.adapter.outputs import Established
from raven.app import App
from raven.config import Config, HealthConfig, MetricsConfig, ResumeConfig, ServerConfig
from raven.ops.garbage import spare_what_stays

BATCH = 1_000
DAY_S = 86_400.0
SLACK = 1_000  # statuses


def kept_config(events: int) -> Config:
    """The defaults on free ports, and a ring that holds so many trades."""
    ring = ResumeConfig(events + SLACK, (events + SLACK) * shape_of().size, DAY_S)
    here = {"health": HealthConfig(port=0), "metrics": MetricsConfig(port=0)}
    return Config(server=ServerConfig(port=0), resume=ring, feeds=(), **here)


def fill(app: App, events: int) -> bytes:
    """Publish the trades; the bookmark in front of them."""
    topics = make_topics(1)
    app.broker.publish(Batch(VENUE, [Carry(topics), Established(topics)]))
    bookmark = app.broker.clients.bookmark()
    for first in range(0, events, BATCH):
        app.broker.publish(Batch(VENUE, list(make_burst(topics, first, time.time_ns(), min(BATCH, events - first)))))
    return bookmark


async def serve(events: int) -> None:
    """Until standard input ends."""
    app = App(kept_config(events), ())
    bookmark = fill(app, events)
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(app.run)
        nursery.start_soon(spare_what_stays)  # as `raven serve` has it
        port = int(addresses.grpc.rpartition(":")[2])
        tell("ready", port=port, bookmark=b64encode(bookmark).decode(), shape=shape_of().facts)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Serve until standard input ends."""
    core, events = map(int, sys.argv[1:])
    pin(core)
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    trio.run(serve, events)


if __name__ == "__main__":
    main()
