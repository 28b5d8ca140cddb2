"""Raven's simulated venue: deterministic market data without a network.

The embedded default, so that a server has something to show at once, and the load for benchmarks. Entry point `sim`.
"""

from raven_sim.adapter import SimAdapter
from raven_sim.options import SimOptions

__all__ = ["SimAdapter", "SimOptions"]
