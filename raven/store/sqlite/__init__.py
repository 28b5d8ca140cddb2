"""The embedded history: one SQLite file per UTC day."""

from raven.store.sqlite.history import SqliteHistory, SqliteStatistics

__all__ = ["SqliteHistory", "SqliteStatistics"]
