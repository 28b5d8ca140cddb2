"""The store that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from raven.store.config import CacheConfig
from raven.store.latest.address import parse_redis_url
from raven.store.latest.sqlite import SqliteLatest
from raven.store.latest.values import LatestStore

__all__ = ["open_latest"]


def open_latest(config: CacheConfig, directory: Path | None) -> LatestStore | None:
    """Opens nothing yet; None where nothing is kept across a restart, because the broker itself has the latest values.

    Args:
        directory: the data directory; None = there is none.

    Raises:
        InvalidValue: the URL of Redis.
    """
    if config.backend == "redis":
        from raven.store.latest.redis import RedisLatest  # only who has one waits for redis-py to be imported

        return RedisLatest(parse_redis_url(config.redis_url), config.timeout_s)
    if config.backend == "sqlite" and directory is not None:
        return SqliteLatest(directory)
    return None
