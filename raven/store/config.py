"""What an operator says about the stores: [history] and [cache] of raven.toml."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs

from raven.errors import InvalidValue

__all__ = ["CacheConfig", "HistoryConfig", "InfluxConfig"]

GIB = 1024 * 1024 * 1024


def _from(low: float, high: float = math.inf) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: Any, attribute: attrs.Attribute[Any], value: float) -> None:
        if not low <= value <= high:
            most = f"to {high:.15g}" if math.isfinite(high) else "or more"
            raise InvalidValue(attribute.name, value, f"{low:.15g} {most}")

    return check


_CREDENTIALS = re.compile(r"(?<=//)[^/]*(?=@)")
_ENDPOINT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)


def _http_url(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    shown = _CREDENTIALS.sub("********", value)
    if shown != value:
        raise InvalidValue(attribute.name, shown, "an address alone: give username and password in keys of their own")
    if not usable or parts.query or parts.fragment or any(letter.isspace() for letter in value):
        raise InvalidValue(attribute.name, value, 'an address like "http://influxdb:8086"')


def _endpoint_name(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    if value and not _ENDPOINT_NAME.fullmatch(value):
        raise InvalidValue(attribute.name, value, "1 to 100 of A-Z, a-z, 0-9 and '._-', no '.' first")


def _default_name(config: InfluxConfig) -> str:
    """Host, port and bucket; what is not valid in a name becomes "_"."""
    parts = urlsplit(config.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    text = re.sub(r"[^A-Za-z0-9._-]", "_", f"{parts.hostname}-{port}-{config.bucket or config.database}")
    return text[:100]


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
        name: of the endpoint in metrics, logs and the spool's directory. Without it: host, port and bucket.
    """

    url: str = attrs.field(validator=_http_url)
    database: str = "market_data"
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    token: str = attrs.field(default="", repr=False)
    org: str = ""
    bucket: str = ""
    timeout_s: float = attrs.field(default=10.0, validator=_from(0.1, 600))
    batch_points: int = attrs.field(default=5_000, validator=_from(1, 100_000))
    spool_bytes_max: int = attrs.field(default=GIB, validator=_from(1024 * 1024))
    name: str = attrs.field(default="", validator=_endpoint_name)

    @property
    def endpoint(self) -> str:
        """What the endpoint is called."""
        return self.name or _default_name(self)


def _apart(_: Any, attribute: attrs.Attribute[Any], value: tuple[InfluxConfig, ...]) -> None:
    for name, times in Counter(config.endpoint for config in value).items():
        if times > 1:
            raise InvalidValue(attribute.name, name, f"{times} endpoints are called so: give each a name of its own")


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
    influxdb: tuple[InfluxConfig, ...] = attrs.field(default=(), validator=_apart)


def _redis_url(cache: CacheConfig, attribute: attrs.Attribute[str], value: str) -> None:
    from raven.store.latest.address import parse_redis_url  # only who has one waits for the stores to be imported

    if value:
        parse_redis_url(value, attribute.name)
    elif cache.backend == "redis":
        raise InvalidValue(attribute.name, value, 'the URL of Redis, which backend = "redis" needs, like redis://cache:6379')


@attrs.frozen
class CacheConfig:
    """[cache]: latest values and clients' subscriptions, across restarts.

    Args:
        backend: "sqlite" needs nothing beside Raven; "memory" keeps nothing across a restart; "redis" is for several servers.
        redis_url: redis://host:port, redis+sentinel://host:port,host:port/name or redis+cluster://host:port,host:port; rediss
            for TLS; user:password before an @ (raven.store.latest.address). With it alone the backend is "redis".
        write_s: how often what has changed is written.
        timeout_s: a request that takes longer has failed.
    """

    backend: Literal["sqlite", "memory", "redis"] = "sqlite"
    redis_url: str = attrs.field(default="", validator=_redis_url)
    write_s: float = attrs.field(default=1.0, validator=_from(0.05, 60))
    timeout_s: float = attrs.field(default=2.0, validator=_from(0.1, 60))
