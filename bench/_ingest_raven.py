"""Raven's side of `ingest.py`: a supervised Binance feed, the memory channel and the broker, without clients.

python _ingest_raven.py WORKLOAD PORT EVENTS WARMUP CORE [--tops] [--reader NAME] [--profile FILE]
"""

from __future__ import annotations

import argparse
import cProfile
import sys
from functools import partial
from importlib.metadata import version
from random import Random

import structlog
import trio
from _meter import Meter, pin, tell

from raven.adapter import FeedSpec
from raven.adapter.batch import Batch
from raven.app import BATCHES_WAITING_MAX
from raven.broker import Broker, BrokerLimits
from raven.broker.topics import TopicState
from raven.feed.limits import FeedLimits
from raven.feed.transport import open_websocket
from raven.model.topic import Kind, Topic
from raven.ops.garbage import spare_what_stays
from raven.supervisor import ConfiguredFeed, Supervisor, SupervisorConfig
from raven_binance import BinanceSpotAdapter, SpotOptions

FEED = "binance-spot"
KINDS = {"trades": Kind.TRADE, "depth": Kind.BOOK}


class MeteredBroker(Broker):
    """A broker that looks at one topic's sequence after each flush, which is once for many events."""

    def __init__(self, topic: Topic, meter: Meter, *, tops: bool) -> None:
        super().__init__(BrokerLimits(), book_top_feeds=[FEED] if tops else [])
        self._topic, self._meter = topic, meter
        self._before = -1  # the sequence that the count begins at
        self.done = trio.Event()

    def flush(self) -> None:
        """As the broker has it."""
        super().flush()
        state = self.state
        if self._before < 0:
            if state.live and state.last is not None:
                self._before = state.sequence
                tell("ready")
        elif state.sequence - self._before >= self._meter.mark and self._meter.reach(state.sequence - self._before):
            self.done.set()

    @property
    def state(self) -> TopicState:
        """The topic."""
        state = self.directory.find(self._topic)
        assert state is not None
        return state


async def ingest(options: argparse.Namespace) -> None:
    """Run until all events are in, then tell what it took."""
    topic = Topic(FEED, "BTC-USDT", KINDS[options.workload])
    meter = Meter(options.warmup, options.events)
    broker = MeteredBroker(topic, meter, tops=options.tops)
    send, receive = trio.open_memory_channel[Batch](BATCHES_WAITING_MAX)
    supervisor = Supervisor(
        [feed(topic, options)],
        send,
        random=Random(1),
        config=SupervisorConfig(),
        limits=FeedLimits(),
        open_socket=partial(open_websocket, reader=options.reader),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spare_what_stays)  # as `raven serve` has it
        nursery.start_soon(broker.run, receive)
        nursery.start_soon(supervisor.run)
        await broker.done.wait()
        nursery.cancel_scope.cancel()
    book = broker.state.book
    facts = {"best": (book.best_bid, book.best_ask), "levels": len(book)} if book is not None else {}
    tell("done", program=f"raven {version('raven-marketdata')}", **meter.facts, **facts)


def feed(topic: Topic, options: argparse.Namespace) -> ConfiguredFeed:
    """The feed, as the configuration would make it."""
    here = SpotOptions(ws_url=f"ws://127.0.0.1:{options.port}", rest_url=f"http://127.0.0.1:{options.port}")
    return ConfiguredFeed(FeedSpec(FEED, (topic,), here), BinanceSpotAdapter(), FEED, "", book_top=options.tops)


def main() -> None:
    """Parse the command line and go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=KINDS)
    for name in ("port", "events", "warmup", "core"):
        parser.add_argument(name, type=int)
    parser.add_argument("--tops", action="store_true")
    parser.add_argument("--reader", default="websockets")
    parser.add_argument("--profile", default="")
    options = parser.parse_args()
    pin(options.core)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if not options.profile:
        trio.run(ingest, options)
        return
    profile = cProfile.Profile()
    profile.runcall(trio.run, ingest, options)
    profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
