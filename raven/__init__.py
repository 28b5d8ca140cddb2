"""Raven: a market-data subscription server.

Venue WebSockets in, one typed, sequenced, honest stream of events out over gRPC. `docs/architecture.md` is the map of this
package; imports point down its layers only.
"""

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    for distribution in ("raven-marketdata", "raven-client"):  # the latter has the client library alone
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "0.0.0"  # run from a source tree that is not installed


__version__ = _installed_version()
