"""Counters that nobody increments for Prometheus: they are read from frozen statistics when a scrape asks.

The Protocols say what the parts of the server must show; `raven.app` hands in callables that return them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Protocol

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from raven.ops.watchdog import LoopStatistics

__all__ = [
    "BrokerStatistics",
    "CacheStatistics",
    "ConnectionStatistics",
    "FeedStatistics",
    "HistoryFiles",
    "HistoryStatistics",
    "StatisticsCollector",
]


class BrokerStatistics(Protocol):
    """What the broker counts since the start."""

    @property
    def events(self) -> Mapping[tuple[str, str], int]:
        """Events that were published, by (venue, label of the kind)."""

    @property
    def topics_by_state(self) -> Mapping[str, int]:
        """Topics that exist, by the name of their state in lower case."""

    @property
    def clients(self) -> int:
        """Clients that are connected."""

    @property
    def events_sent(self) -> int:
        """Events that clients' writers took."""

    @property
    def bytes_sent(self) -> int:
        """... and their bytes, with those of control messages."""

    @property
    def slow_consumers(self) -> int:
        """Clients that were ended because they did not read."""

    @property
    def events_missed(self) -> int:
        """Events that clients did not get one by one because they were slow."""

    @property
    def refused_events(self) -> Mapping[str, int]:
        """Events of adapters that broke the contract, by feed."""


class ConnectionStatistics(Protocol):
    """What is known of one connection of a feed."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What the session counted itself (`raven.adapter.Count`), by name."""


class FeedStatistics(Protocol):
    """What is known of one feed. Its counters go on over restarts."""

    @property
    def name(self) -> str:
        """Of the feed: the venue."""

    @property
    def state(self) -> IntEnum:
        """How it stands."""

    @property
    def connections(self) -> Iterable[ConnectionStatistics]:
        """Its connections."""

    @property
    def frames(self) -> int:
        """Frames that arrived."""

    @property
    def decode_errors(self) -> int:
        """... and could not be understood."""

    @property
    def reconnects(self) -> int:
        """Connections that were made again."""

    @property
    def faults(self) -> int:
        """Times that the adapter raised or broke its contract."""


class CacheStatistics(Protocol):
    """What is known of the store of latest values (raven.store.latest.LatestStatistics)."""

    @property
    def backend(self) -> str:
        """What it is."""

    @property
    def written(self) -> int:
        """Values that it took."""

    @property
    def written_bytes(self) -> int:
        """... and their bytes."""

    @property
    def failures(self) -> int:
        """Times that it did not."""

    @property
    def away_s(self) -> float | None:
        """Since when it does not; None = it does."""

    @property
    def behind_s(self) -> float:
        """Since when it lacks something that has changed, at most."""


class HistoryStatistics(Protocol):
    """What is known of the writing of history (raven.store.recorder.RecorderStatistics)."""

    @property
    def events(self) -> int:
        """Events that it took."""

    @property
    def blocks(self) -> int:
        """... in so many blocks."""

    @property
    def images(self) -> int:
        """States of topics that it took."""

    @property
    def lost(self) -> Mapping[str, int]:
        """Events that it does not have, by feed."""

    @property
    def behind(self) -> int:
        """Events that it does not have yet."""

    @property
    def writes(self) -> int:
        """Calls of the store that went well."""

    @property
    def write_s(self) -> float:
        """... and what they took together."""

    @property
    def failing_s(self) -> float | None:
        """For how long it has taken nothing; None = it does."""


class HistoryFiles(Protocol):
    """What the embedded history has on the disk, as of its last look (raven.store.sqlite.SqliteStatistics)."""

    @property
    def files(self) -> int:
        """Days that are kept."""

    @property
    def bytes(self) -> int:
        """What they take."""

    @property
    def removed(self) -> int:
        """Files that have become too old or too much since the start."""

    @property
    def damaged(self) -> int:
        """Files that could not be read and were set aside since the start."""


@attrs.frozen(eq=False)  # a registry keeps its collectors by identity
class StatisticsCollector(Collector):
    """Turns statistics into metrics at scrape time.

    Args:
        version: of Raven.
        broker, feeds, loop, cache, history: return the statistics of this moment. Called in the thread that serves the scrape.
            There may be no history.
        history_files: the same of the embedded history; None when there is none.
    """

    version: str
    broker: Callable[[], BrokerStatistics]
    feeds: Callable[[], Iterable[FeedStatistics]]
    loop: Callable[[], LoopStatistics]
    cache: Callable[[], CacheStatistics] | None = None
    history: Callable[[], HistoryStatistics | None] | None = None
    history_files: Callable[[], HistoryFiles | None] | None = None

    def describe(self) -> list[Metric]:
        """Nothing: a registry would call `collect` at registration, before the server stands."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, each read once."""
        yield InfoMetricFamily("raven_build", "This Raven.", value={"version": self.version})
        yield from _of_broker(self.broker())
        yield from _of_feeds(list(self.feeds()))
        yield from _of_loop(self.loop())
        if self.cache is not None:
            yield from _of_cache(self.cache())
        history = self.history() if self.history is not None else None
        if history is not None:
            yield from _of_history(history)
        files = self.history_files() if self.history_files is not None else None
        if files is not None:
            yield from _of_history_files(files)


def _of_broker(broker: BrokerStatistics) -> Iterator[Metric]:
    events = CounterMetricFamily("messages_processed", "Events that were published.", labels=["venue", "kind"])
    for labels, amount in sorted(broker.events.items()):
        events.add_metric(labels, amount)
    yield events
    yield _labelled(GaugeMetricFamily, "raven_topics", "Topics that exist.", "state", broker.topics_by_state)
    yield GaugeMetricFamily("raven_clients", "Clients that are connected.", value=broker.clients)
    yield CounterMetricFamily("raven_events_sent", "Events that clients took.", value=broker.events_sent)
    yield CounterMetricFamily("raven_bytes_sent", "Bytes that clients took.", value=broker.bytes_sent)
    yield CounterMetricFamily("raven_slow_consumers", "Clients that were ended for not reading.", value=broker.slow_consumers)
    text = "Events that clients did not get one by one because they were slow: conflated or dropped."
    yield CounterMetricFamily("raven_events_missed", text, value=broker.events_missed)
    text = "Events of adapters that broke the contract."
    yield _labelled(CounterMetricFamily, "raven_refused_events", text, "venue", broker.refused_events)


def _of_loop(loop: LoopStatistics) -> Iterator[Metric]:
    yield GaugeMetricFamily("raven_loop_lag_seconds", "How late the event loop last was.", value=loop.lag_s)
    yield GaugeMetricFamily("raven_loop_lag_max_seconds", "How late the event loop ever was.", value=loop.lag_max_s)
    yield CounterMetricFamily("raven_loop_stalls", "Times that something held the event loop.", value=loop.stalls)
    yield CounterMetricFamily("raven_loop_stalled_seconds", "How long it was held.", value=loop.stalled_s)


def _of_cache(cache: CacheStatistics) -> Iterator[Metric]:
    up = {cache.backend: int(cache.away_s is None)}
    yield _labelled(GaugeMetricFamily, "raven_cache_up", "1 while latest values are written.", "backend", up)
    yield CounterMetricFamily("raven_cache_written", "Latest values that were written.", value=cache.written)
    yield CounterMetricFamily("raven_cache_written_bytes", "... and their bytes.", value=cache.written_bytes)
    yield CounterMetricFamily("raven_cache_failures", "Times that the store did not take them.", value=cache.failures)
    text = "How old what it lacks is at most."
    yield GaugeMetricFamily("raven_cache_behind_seconds", text, value=cache.behind_s)


def _of_history(history: HistoryStatistics) -> Iterator[Metric]:
    failing = int(history.failing_s is not None)
    yield GaugeMetricFamily("raven_history_failing", "1 while the history takes nothing.", value=failing)
    yield CounterMetricFamily("raven_history_events", "Events that were written into the history.", value=history.events)
    yield CounterMetricFamily("raven_history_blocks", "... in so many blocks.", value=history.blocks)
    yield CounterMetricFamily("raven_history_images", "States of topics that were written.", value=history.images)
    yield _of_each("raven_history_lost_events", "Events that the history does not have.", history.lost)
    yield GaugeMetricFamily("raven_history_behind_events", "Events that wait to be written.", value=history.behind)
    text = "Writes into the history, and what they took."
    yield SummaryMetricFamily("raven_history_write_seconds", text, count_value=history.writes, sum_value=history.write_s)


def _of_history_files(files: HistoryFiles) -> Iterator[Metric]:
    yield GaugeMetricFamily("raven_history_files", "Days that are kept.", value=files.files)
    yield GaugeMetricFamily("raven_history_bytes", "What they take on the disk.", value=files.bytes)
    yield CounterMetricFamily("raven_history_files_removed", "Files that became too old or too much.", value=files.removed)
    yield CounterMetricFamily("raven_history_files_damaged", "Files that could not be read.", value=files.damaged)


def _of_feeds(feeds: list[FeedStatistics]) -> Iterator[Metric]:
    yield _states(feeds)
    yield _of_each("raven_feed_frames", "Frames that arrived.", {feed.name: feed.frames for feed in feeds})
    yield _of_each("raven_feed_bad_frames", "Frames that made no sense.", {feed.name: feed.decode_errors for feed in feeds})
    yield _of_each("raven_feed_reconnects", "Connections made again.", {feed.name: feed.reconnects for feed in feeds})
    yield _of_each("raven_feed_adapter_faults", "Faults of the adapter.", {feed.name: feed.faults for feed in feeds})
    counts = CounterMetricFamily("raven_feed_adapter_count", "What the adapter counts.", labels=["venue", "what"])
    for feed in feeds:
        for what, amount in sorted(_adapter_counts(feed).items()):
            counts.add_metric([feed.name, what], amount)
    yield counts


def _adapter_counts(feed: FeedStatistics) -> Counter[str]:
    total: Counter[str] = Counter()
    for connection in feed.connections:
        total.update(connection.counts)
    return total


def _of_each(name: str, text: str, amounts: Mapping[str, int]) -> Metric:
    return _labelled(CounterMetricFamily, name, text, "venue", amounts)


def _labelled(
    family: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, label: str, amounts: Mapping[str, int]
) -> Metric:
    metric = family(name, text, labels=[label])
    for value, amount in sorted(amounts.items()):
        metric.add_metric([value], amount)
    return metric


def _states(feeds: list[FeedStatistics]) -> Metric:
    """One series for each state that there is, so that a state that was left goes to 0."""
    family = GaugeMetricFamily("raven_feed_state", "1 at the state that the feed is in.", labels=["venue", "state"])
    for feed in feeds:
        for state in type(feed.state):
            family.add_metric([feed.name, state.name.lower()], float(state == feed.state))
    return family
