"""The instruments, and what is read at scrape time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

import attrs
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from raven.broker import BrokerStatistics
from raven.feed.statistics import ConnectionStatistics as FeedConnection
from raven.feed.statistics import FeedState, FeedStatistics
from raven.instruments import LATENCY_BUCKETS_S, Instruments
from raven.ops.metrics import StatisticsCollector
from raven.ops.watchdog import LoopStatistics
from raven.store.recorder import RecorderStatistics
from raven.store.sqlite import SqliteStatistics

GUIDE = (
    "grpc_active_connections",
    "messages_processed_total",
    "response_latency_seconds",
    "errors_total",
    "process_resident_memory_bytes",
)


def loop() -> LoopStatistics:
    return LoopStatistics(stalls=2, stalled_s=3.5, lag_s=0.25, lag_max_s=3.0, since_stall_s=1.0)


def test_how_the_loop_does() -> None:
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("1.0", broker, list, loop))
    assert registry.get_sample_value("raven_loop_stalls_total") == 2
    assert registry.get_sample_value("raven_loop_stalled_seconds_total") == 3.5
    assert registry.get_sample_value("raven_loop_lag_seconds") == 0.25
    assert registry.get_sample_value("raven_loop_lag_max_seconds") == 3.0


def test_the_five_names_of_the_guide() -> None:
    registry = CollectorRegistry()
    Instruments(registry)
    registry.register(StatisticsCollector("1.0", lambda: broker(), list, loop))
    text = generate_latest(registry).decode()
    assert [name for name in GUIDE if f"# TYPE {name} " not in text] == []


def test_instruments_move() -> None:
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    instruments.active_connections.set(3)
    instruments.response("Ping", 70e-6)
    instruments.response("Ping", 20.0)
    instruments.error("feed", "bad_frame")
    instruments.error("feed", "bad_frame", 4)
    instruments.connection_ended("ping_flood")
    value = registry.get_sample_value
    assert value("grpc_active_connections") == 3
    assert value("response_latency_seconds_count", {"method": "Ping"}) == 2
    assert value("response_latency_seconds_bucket", {"method": "Ping", "le": "5e-05"}) == 0
    assert value("response_latency_seconds_bucket", {"method": "Ping", "le": "0.0001"}) == 1
    assert value("response_latency_seconds_bucket", {"method": "Ping", "le": "10.0"}) == 1
    assert value("errors_total", {"component": "feed", "kind": "bad_frame"}) == 5
    assert value("raven_connections_ended_total", {"reason": "ping_flood"}) == 1
    assert b"_created" not in generate_latest(registry)


def test_buckets_go_from_50_us_to_10_s() -> None:
    assert (LATENCY_BUCKETS_S[0], LATENCY_BUCKETS_S[-1]) == (50e-6, 10.0)
    assert list(LATENCY_BUCKETS_S) == sorted(set(LATENCY_BUCKETS_S))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_resident_memory_moves() -> None:
    registry = CollectorRegistry()
    Instruments(registry)
    before = registry.get_sample_value("process_resident_memory_bytes") or 0.0
    held = os.urandom(64 * 1024 * 1024)
    after = registry.get_sample_value("process_resident_memory_bytes") or 0.0
    assert len(held) / 2 < after - before < len(held) * 2


def test_memory_without_proc_is_the_peak() -> None:
    registry = CollectorRegistry()
    Instruments(registry, Path("/nowhere"))
    assert 10e6 < (registry.get_sample_value("process_resident_memory_bytes") or 0.0) < 100e9


def broker(**change: object) -> BrokerStatistics:
    """All zeros, but for `change`."""
    zeros = {field.name: {} if "Mapping" in str(field.type) else 0 for field in attrs.fields(BrokerStatistics)}
    return BrokerStatistics(**zeros | change)  # type: ignore[arg-type]


def connection(name: str, counts: Mapping[str, int]) -> FeedConnection:
    return FeedConnection(name, FeedState.LIVE, "", 0, 0, 0, 0, 0, 0, counts, 0, 0)


def feed(name: str, state: FeedState, *connections: FeedConnection) -> FeedStatistics:
    return FeedStatistics(
        name=name,
        adapter="a",
        adapter_version="1",
        state=state,
        reason="",
        topics=(),
        connections=connections,
        frames=10,
        events=9,
        decode_errors=1,
        reconnects=2,
        faults=3,
        connected_since_ts_ns=0,
        last_frame_ts_ns=0,
    )


def test_statistics_are_read_at_each_scrape() -> None:
    now = broker()
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("1.0", lambda: now, list, loop))
    labels = {"venue": "sim", "kind": "trade"}
    assert registry.get_sample_value("messages_processed_total", labels) is None
    for amount in (5, 8):
        now = broker(events={("sim", "trade"): amount}, clients=amount, events_sent=amount, slow_consumers=1, events_missed=7)
        assert registry.get_sample_value("messages_processed_total", labels) == amount
        assert registry.get_sample_value("raven_clients") == amount
        assert registry.get_sample_value("raven_events_sent_total") == amount
    assert registry.get_sample_value("raven_slow_consumers_total") == 1
    assert registry.get_sample_value("raven_events_missed_total") == 7
    assert registry.get_sample_value("raven_build_info", {"version": "1.0"}) == 1


def test_registration_reads_nothing() -> None:
    def not_yet() -> BrokerStatistics:
        raise AssertionError("the server does not stand yet")

    CollectorRegistry().register(StatisticsCollector("1.0", not_yet, list, loop))


def test_feeds() -> None:
    one = feed("a", FeedState.LIVE, connection("main", {"unknown": 2}), connection("public", {"unknown": 3, "skipped": 1}))
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("1.0", broker, lambda: [one, feed("b", FeedState.FAILED)], loop))
    value = registry.get_sample_value
    assert value("raven_feed_frames_total", {"venue": "a"}) == 10
    assert value("raven_feed_bad_frames_total", {"venue": "a"}) == 1
    assert value("raven_feed_reconnects_total", {"venue": "b"}) == 2
    assert value("raven_feed_adapter_faults_total", {"venue": "b"}) == 3
    assert value("raven_feed_adapter_count_total", {"venue": "a", "what": "unknown"}) == 5
    states = {state: value("raven_feed_state", {"venue": "b", "state": state.name.lower()}) for state in FeedState}
    assert states == {state: float(state is FeedState.FAILED) for state in FeedState}


def test_a_venue_name_cannot_break_the_exposition() -> None:
    class Odd(IntEnum):
        LIVE = 1

    registry = CollectorRegistry()
    odd = attrs.evolve(feed("a", FeedState.LIVE), name='x"\n', state=Odd.LIVE)  # type: ignore[arg-type]
    registry.register(StatisticsCollector("1.0", broker, lambda: [odd], loop))
    assert b'raven_feed_state{state="live",venue="x\\"\\n"} 1.0\n' in generate_latest(registry)


def test_what_the_history_does() -> None:
    registry = CollectorRegistry()
    written = RecorderStatistics(events=9, blocks=3, images=2, lost={"sim": 4}, behind=5, writes=2, write_s=0.5, failing_s=3.0)
    files = SqliteStatistics(files=3, bytes=4096, removed=2, damaged=1)
    registry.register(StatisticsCollector("1.0", broker, list, loop, None, lambda: written, lambda: files))
    value = registry.get_sample_value
    assert value("raven_history_events_total") == 9
    assert value("raven_history_blocks_total") == 3
    assert value("raven_history_images_total") == 2
    assert value("raven_history_lost_events_total", {"venue": "sim"}) == 4
    assert value("raven_history_behind_events") == 5
    assert (value("raven_history_write_seconds_count"), value("raven_history_write_seconds_sum")) == (2, 0.5)
    assert value("raven_history_failing") == 1
    assert (value("raven_history_files"), value("raven_history_bytes")) == (3, 4096)
    assert (value("raven_history_files_removed_total"), value("raven_history_files_damaged_total")) == (2, 1)


def test_without_a_history_it_has_no_metrics() -> None:
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("1.0", broker, list, loop, None, lambda: None, lambda: None))
    assert b"raven_history" not in generate_latest(registry)
