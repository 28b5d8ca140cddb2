"""What an operator says about the stores: [history] and [cache] of raven.toml."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import attrs

from raven.errors import InvalidValue

__all__ = ["CacheConfig", "HistoryConfig", "InfluxConfig"]

GIB = 1024 * 1024 * 1024


def _from(low: float, high: float = math.inf) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: Any, attribute: attrs.Attribute[Any], value: float) -> None:
        if not low <= value <= high:
            raise InvalidValue(attribute.name, value, f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more")

    return check


@attrs.frozen
class InfluxConfig:
    """[[history.influxdb]]: one endpoint that everything is written to. A token wins over username and password.

    Args:
        url: where it is ("http://influxdb:8086").
        database: of InfluxDB 1.x; and the bucket of 2.x where that is not named.
        username, password: sent as `Token username:password`, which 1.8 and 2.x take.
        token, org, bucket: of InfluxDB 2.x.
        timeout_s: a request that takes longer has failed.
        batch_points: points of one request at most.
        spool_bytes_max: what may wait on the disk while the endpoint does not take it; the oldest goes first.
    """

    url: str
    database: str = "market_data"
    username: str = ""
    password: str = ""
    token: str = ""
    org: str = ""
    bucket: str = ""
    timeout_s: float = attrs.field(default=10.0, validator=_from(0.1, 600))
    batch_points: int = attrs.field(default=5_000, validator=_from(1, 100_000))
    spool_bytes_max: int = attrs.field(default=GIB, validator=_from(1024 * 1024))


@attrs.frozen
class HistoryConfig:
    """[history]: every event, to be asked for later.

    Args:
        backend: "sqlite" needs nothing beside Raven; "influxdb" writes to every [[history.influxdb]]; "none" keeps nothing.
        commit_s: how often what was published is written; after a crash at most so much is missing.
        image_s: how often the state of a topic is kept in whole, from which a range of a book is rebuilt.
        keep_days: UTC days that stay; older ones go.
        keep_bytes: what all days may take on the disk; the oldest go first, never today's.
        influxdb: the endpoints.
    """

    backend: Literal["sqlite", "influxdb", "none"] = "sqlite"
    commit_s: float = attrs.field(default=1.0, validator=_from(0.05, 60))
    image_s: float = attrs.field(default=300.0, validator=_from(1))
    keep_days: int = attrs.field(default=7, validator=_from(1))
    keep_bytes: int = attrs.field(default=20 * GIB, validator=_from(1024 * 1024))
    influxdb: tuple[InfluxConfig, ...] = ()


@attrs.frozen
class CacheConfig:
    """[cache]: latest values and clients' subscriptions, across restarts.

    Args:
        backend: "sqlite" needs nothing beside Raven; "memory" keeps nothing across a restart; "redis" is for several servers.
        redis_url: redis://, rediss:// (TLS), redis+sentinel://host:port,host:port/name or redis+cluster://host:port,host:port; user and
            password before the @.
        write_s: how often what has changed is written.
        timeout_s: a request that takes longer has failed.
    """

    backend: Literal["sqlite", "memory", "redis"] = "sqlite"
    redis_url: str = ""
    write_s: float = attrs.field(default=1.0, validator=_from(0.05, 60))
    timeout_s: float = attrs.field(default=2.0, validator=_from(0.1, 60))
