"""The metrics that are written where something happens. What is counted per event is read at scrape time (raven.ops.metrics).

Names without the prefix `raven_` are those that operators of the system before knew; their dashboards go on working.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

__all__ = ["LATENCY_BUCKETS_S", "Instruments"]

LATENCY_BUCKETS_S = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per series that nobody reads


class Instruments:
    """The instruments of one server, on one registry.

    Args:
        registry: where they are registered; a registry holds one set of them.
        proc: where the kernel shows processes.
    """

    def __init__(self, registry: CollectorRegistry, proc: Path = Path("/proc")) -> None:
        self.registry = registry
        self.active_connections = Gauge("grpc_active_connections", "gRPC connections that are open now.", registry=registry)
        self._latency = Histogram(
            "response_latency_seconds",
            "From a request's arrival to its answer: of a stream, to its first answer.",
            ["method"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._errors = Counter(
            "errors_total", "Errors, by the component that met them and their kind.", ["component", "kind"], registry=registry
        )
        self._ended = Counter(
            "raven_connections_ended_total", "gRPC connections that ended or were refused.", ["reason"], registry=registry
        )
        if (proc / "self" / "stat").exists():
            ProcessCollector(proc=str(proc), registry=registry)
        else:
            registry.register(PeakMemory())

    def response(self, method: str, seconds: float) -> None:
        """One answer of `method` ("Ping"; a known name, never what a client sent) took `seconds`."""
        self._latency.labels(method).observe(seconds)

    def error(self, component: str, kind: str, amount: int = 1) -> None:
        """`amount` errors of one kind. Both are of a few fixed names, never data."""
        self._errors.labels(component, kind).inc(amount)

    def connection_ended(self, reason: str) -> None:
        """One connection ended, or was refused, for one of a few fixed reasons ("client", "ping_flood")."""
        self._ended.labels(reason).inc()


class PeakMemory(Collector):
    """`process_resident_memory_bytes` where there is no /proc: the peak, which is what getrusage knows."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge; nothing on a system without getrusage."""
        try:
            import resource
        except ImportError:
            return
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, everybody else KiB
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory, at its peak.", value=peak * unit)
