"""Which history there is: as the operator says, and where there is a data directory to keep it in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import trio

from raven.errors import StartupError
from raven.store.blocks import HistoryStore
from raven.store.config import HistoryConfig
from raven.store.sqlite import SqliteHistory

if TYPE_CHECKING:
    from raven.store.influx.endpoint import EndpointStatistics

__all__ = ["HISTORY_DIR", "endpoint_statistics", "open_history"]

HISTORY_DIR = "history"
"""Where the embedded history stands within the data directory."""

CLOSE_S = 5.0
"""How long the embedded history may take to bring its files in order; what it does not get done the next start does."""


@asynccontextmanager
async def open_history(config: HistoryConfig, data_dir: Path | None) -> AsyncIterator[HistoryStore | None]:
    """The history while the context lasts; None when nothing is to be kept.

    Args:
        data_dir: held against other servers (raven.store.open_data_dir); None = nothing outlives the server.

    Raises:
        StartupError: it cannot be used.
    """
    if config.backend == "influxdb" and data_dir is None:
        raise StartupError("history.backend: influxdb needs a data directory, for what an endpoint does not take: set data.dir")
    if data_dir is None or config.backend == "none":
        yield None
    elif config.backend == "influxdb":
        # its libraries take half a second to import, which only its users wait for, and not the event loop
        influx = await trio.to_thread.run_sync(import_module, "raven.store.influx")
        async with influx.open_influx_history(config, data_dir) as history:
            yield history
    else:
        history = SqliteHistory(data_dir / HISTORY_DIR, keep_days=config.keep_days, keep_bytes=config.keep_bytes)
        try:
            yield history
        finally:
            with trio.move_on_after(CLOSE_S, shield=True):
                await trio.to_thread.run_sync(history.close, abandon_on_cancel=True)


@runtime_checkable
class HasEndpoints(Protocol):
    """A history that writes to databases elsewhere (raven.store.influx.InfluxHistory)."""

    def endpoints(self) -> tuple[EndpointStatistics, ...]:
        """How each of them stands."""


def endpoint_statistics(history: HistoryStore | None) -> tuple[EndpointStatistics, ...]:
    """How the databases stand that the history is written to; none where it is embedded. May be called in any thread."""
    return history.endpoints() if isinstance(history, HasEndpoints) else ()
