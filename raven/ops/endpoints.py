"""Databases that history is written to, as metrics and in health: which takes what it is sent, and what waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Protocol

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from raven.ops.health import Component, Condition

__all__ = ["EndpointCollector", "EndpointStatistics", "endpoint_health"]


class EndpointStatistics(Protocol):
    """What is known of one database (raven.store.influx.endpoint.EndpointStatistics)."""

    @property
    def name(self) -> str:
        """Of the endpoint."""

    @property
    def breaker(self) -> IntEnum:
        """CLOSED, HALF_OPEN or OPEN."""

    @property
    def reason(self) -> str:
        """Why the last request failed; empty when it did not."""

    @property
    def disk(self) -> str:
        """Why nothing can wait on the disk; empty when it can."""

    @property
    def points_written(self) -> int:
        """That it took."""

    @property
    def requests_failed(self) -> int:
        """That are tried again."""

    @property
    def points_rejected(self) -> int:
        """That it refused."""

    @property
    def points_dropped(self) -> int:
        """That went because too much waited."""

    @property
    def spool_bytes(self) -> int:
        """What waits."""

    @property
    def spool_points(self) -> int:
        """... and how many points that is."""


@attrs.frozen(eq=False)  # a registry keeps its collectors by identity
class EndpointCollector(Collector):
    """Turns statistics of endpoints into metrics at scrape time.

    Args:
        endpoints: returns them. Called in the thread that serves the scrape.
    """

    endpoints: Callable[[], Iterable[EndpointStatistics]]

    def describe(self) -> list[Metric]:
        """Nothing: a registry would call `collect` at registration, before there is a history."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics; nothing where history is not written to endpoints."""
        endpoints = list(self.endpoints())
        if not endpoints:
            return
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"raven_history_endpoint_{name}", text, labels=["endpoint"])
            for endpoint in endpoints:
                counter.add_metric([endpoint.name], getattr(endpoint, name))
            yield counter
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"raven_history_endpoint_{name}", text, labels=["endpoint"])
            for endpoint in endpoints:
                gauge.add_metric([endpoint.name], getattr(endpoint, name))
            yield gauge
        yield _breakers(endpoints)


_COUNTERS = {
    "points_written": "Points that a database of the history took.",
    "requests_failed": "Requests to it that failed, and are tried again.",
    "points_rejected": "Points that it refused, and that were set aside.",
    "points_dropped": "Points that it never got, because too much waited for it.",
}
_GAUGES = {
    "spool_bytes": "What waits for it, on the disk and in memory.",
    "spool_points": "Points that wait for it.",
}


def _breakers(endpoints: list[EndpointStatistics]) -> Metric:
    """One series for each state that there is, so that a state that was left goes to 0."""
    text = "1 at the state that its breaker is in."
    family = GaugeMetricFamily("raven_history_endpoint_breaker_state", text, labels=["endpoint", "state"])
    for endpoint in endpoints:
        for state in type(endpoint.breaker):
            family.add_metric([endpoint.name, state.name.lower()], float(state == endpoint.breaker))
    return family


def endpoint_health(endpoint: EndpointStatistics) -> Component:
    """How a database does. Without one the server serves on, so it is degraded at worst."""
    name = f"history {endpoint.name}"
    reasons = [reason for reason in (endpoint.reason, endpoint.disk) if reason]
    if endpoint.points_rejected:
        reasons.append(f"it has refused {endpoint.points_rejected} points, which are set aside")
    if endpoint.points_dropped:
        reasons.append(f"{endpoint.points_dropped} points were dropped, because too much waited")
    if endpoint.reason or endpoint.disk:
        waits = f"{endpoint.spool_points} points wait: {'; '.join(reasons)}"
        return Component(name, Condition.DEGRADED, waits)
    return Component(name, Condition.OK, "; ".join(reasons))
