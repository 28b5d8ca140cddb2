"""Raven: a market-data subscription server.

Venue WebSockets in, one typed, sequenced, honest stream of events out over gRPC. `docs/architecture.md` is the map of this
package; imports point down its layers only.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("raven-marketdata")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"
