"""Latest values and clients' subscriptions, across restarts: memory, SQLite and Redis behind one Protocol."""

from raven.store.latest.opening import open_latest
from raven.store.latest.restore import Restored, restore
from raven.store.latest.values import ClientSubscriptions, LatestStore, LatestValue
from raven.store.latest.writer import LatestStatistics, LatestWriter

__all__ = [
    "ClientSubscriptions",
    "LatestStatistics",
    "LatestStore",
    "LatestValue",
    "LatestWriter",
    "Restored",
    "open_latest",
    "restore",
]
