"""Databases of the history in metrics and health."""

from __future__ import annotations

import attrs
from prometheus_client import CollectorRegistry

from raven.ops.endpoints import EndpointCollector, endpoint_health
from raven.ops.health import Condition
from raven.store.influx.breaker import BreakerState
from raven.store.influx.endpoint import EndpointStatistics

WELL = EndpointStatistics("a", BreakerState.CLOSED, "", 10, 1, 0, 0, 0, 0, 0, "")
DOWN = EndpointStatistics("b", BreakerState.OPEN, "502 Bad Gateway", 1, 2, 3, 4, 500, 6, 7, "")


def test_each_endpoint_has_its_series() -> None:
    registry = CollectorRegistry()
    registry.register(EndpointCollector(lambda: (WELL, DOWN)))

    def values(name: str, **labels: str) -> list[float | None]:
        return [registry.get_sample_value(f"raven_history_endpoint_{name}", {"endpoint": each, **labels}) for each in "ab"]

    assert values("points_written_total") == [10, 1]
    assert values("requests_failed_total") == [1, 2]
    assert values("points_rejected_total") == [0, 3]
    assert values("points_dropped_total") == [0, 4]
    assert values("spool_bytes") == [0, 500]
    assert values("spool_points") == [0, 6]
    assert values("breaker_state", state="closed") == [1, 0]
    assert values("breaker_state", state="half_open") == [0, 0]
    assert values("breaker_state", state="open") == [0, 1]


def test_without_endpoints_there_is_nothing() -> None:
    assert list(EndpointCollector(list).collect()) == []


def test_health() -> None:
    assert endpoint_health(WELL).condition is Condition.OK
    down = endpoint_health(DOWN)
    assert (down.name, down.condition) == ("history b", Condition.DEGRADED)
    assert down.text.startswith("6 points wait: 502 Bad Gateway; it has refused 3 points")
    full = endpoint_health(attrs.evolve(WELL, disk="No space left on device"))
    assert (full.condition, full.text) == (Condition.DEGRADED, "0 points wait: No space left on device")
    refused = endpoint_health(attrs.evolve(WELL, points_rejected=2))
    assert (refused.condition, refused.text) == (Condition.OK, "it has refused 2 points, which are set aside")
