"""The adapter of the benchmarks' own venue, `_venue_trades.py`: a feed like any other, with one topic of trades."""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

import attrs
from _trades import VENUE, make_topics, make_trade

from raven.adapter import Adapter, AdapterEntry, Capabilities, Connection, FeedSpec, Session
from raven.adapter.outputs import Established, Output
from raven.config import ResolvedFeed
from raven.model.topic import Kind, Topic

__all__ = ["bench_feed"]


@attrs.frozen
class Options:
    """Where the venue is."""

    url: str


class TradesSession(Session):
    """Frames are trades of the one topic."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    def on_connect(self, now_ns: int) -> Sequence[Output]:  # noqa: ARG002  the contract
        """There is nothing to ask for."""
        return [Established([self._topic])]

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One trade."""
        told = json.loads(frame)
        return [make_trade(self._topic, told["n"], told["T"], received_ts_ns)]


class BenchAdapter(Adapter):
    """One connection, one topic."""

    title = "Benchmark"
    capabilities = Capabilities(frozenset({Kind.TRADE}))
    options_type = Options

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        """One."""
        return [Connection("main", feed.options.url, feed.topics)]

    def session(
        self,
        feed: FeedSpec,  # noqa: ARG002  the contract
        connection: Connection,
        memory: MutableMapping[str, Any],  # noqa: ARG002  the contract
    ) -> Session:
        """A new one."""
        return TradesSession(connection.topics[0])


def bench_feed(port: int) -> ResolvedFeed:
    """The feed of a venue at that port."""
    spec = FeedSpec(VENUE, tuple(make_topics(1)), Options(f"ws://127.0.0.1:{port}"))
    point = EntryPoint("bench", f"{__name__}:BenchAdapter", "raven.adapters")
    return ResolvedFeed(spec, BenchAdapter(), AdapterEntry("bench", "bench", "0", point.value, (), point), book_top=False)
