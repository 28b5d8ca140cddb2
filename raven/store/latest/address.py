"""Where a Redis is, out of one URL: a server, the sentinels that know it, or nodes of a cluster.

    redis://[user:password@]host[:port][/db]
    redis+sentinel://[user:password@]host[:port],host[:port].../name[/db]
    redis+cluster://[user:password@]host[:port],host[:port]...

`rediss` in place of `redis` is TLS, to all of them. Behind a `?`: ca_file, cert_file and key_file (PEM) with TLS, and
sentinel_username and sentinel_password where the sentinels want their own. What a URL does not take is percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from urllib.parse import unquote

import attrs

from raven.errors import InvalidValue, nearest

__all__ = ["Deployment", "RedisAddress", "parse_redis_url"]

PORT, SENTINEL_PORT, PORT_MAX = 6379, 26379, 65535
DB_MAX = 1_000_000  # what a server has is its own configuration; 16 by default

_HIDDEN = "********"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+(%25[A-Za-z0-9._~-]+)?\]", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,7}", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_TLS_OPTIONS = ("ca_file", "cert_file", "key_file")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class Deployment(Enum):
    """How a Redis is run."""

    SERVER = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


_SCHEMES = {
    scheme: (deployment, scheme.startswith("rediss"))
    for deployment in Deployment
    for scheme in (deployment.value, deployment.value.replace("redis", "rediss", 1))
}


@attrs.frozen
class RedisAddress:
    """What a URL says.

    Args:
        nodes: host and port of the server, of the sentinels, or of some nodes of the cluster.
        service: the name under which sentinels know the primary.
        options: as they stand behind the "?", decoded.
    """

    deployment: Deployment
    tls: bool
    nodes: tuple[tuple[str, int], ...]
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    service: str = ""
    db: int = 0
    options: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def __str__(self) -> str:
        """For logs: without credentials."""
        scheme = next(scheme for scheme, meant in _SCHEMES.items() if meant == (self.deployment, self.tls))
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}://{nodes}" + (f"/{self.service}" if self.service else "") + (f"/{self.db}" if self.db else "")


def parse_redis_url(url: str, field: str = "redis_url") -> RedisAddress:
    """What `url` says.

    Raises:
        InvalidValue: naming the part ("redis_url, port"), without what is secret.
    """
    try:
        return _parse(url)
    except InvalidValue as error:
        raise InvalidValue(field, _HIDDEN, f"{error.field}: {error.reason}") from None


def _parse(url: str) -> RedisAddress:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise InvalidValue("scheme", scheme if separator else _HIDDEN, f"one of {', '.join(_SCHEMES)}, and ://")
    deployment, tls = _SCHEMES[scheme]
    rest, _, query = rest.partition("?")
    before, at, after = rest.rpartition("@")
    if "/" in before or "#" in rest or "@" in query:
        raise InvalidValue("user:password", _HIDDEN, "percent-encoded: %2F for '/', %40 for '@', %23 for '#', %3F for '?'")
    username, password = _credentials(before) if at else ("", "")
    hosts, *path = after.split("/")
    service, db = _path(deployment, path)
    nodes = _nodes(deployment, hosts)
    return RedisAddress(deployment, tls, nodes, username, password, service, db, _options(deployment, tls, query))


def _credentials(text: str) -> tuple[str, str]:
    username, colon, password = text.partition(":")
    if not colon or not password:
        raise InvalidValue("user:password", _HIDDEN, "user:password@ or :password@")
    return _decoded("user", username), _decoded("password", password)


def _decoded(part: str, text: str) -> str:
    if _BAD_ESCAPE.search(text) or "@" in text or ":" in text:
        raise InvalidValue(part, _HIDDEN, "percent-encoded: %25 for '%', %40 for '@', %3A for ':'")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidValue(part, _HIDDEN, "UTF-8, percent-encoded") from None


def _nodes(deployment: Deployment, text: str) -> tuple[tuple[str, int], ...]:
    default = SENTINEL_PORT if deployment is Deployment.SENTINEL else PORT
    nodes = tuple(_node(node, default) for node in text.split(","))
    if deployment is Deployment.SERVER and len(nodes) > 1:
        raise InvalidValue("host", text, "one server; with several: redis+sentinel:// or redis+cluster://")
    return nodes


def _node(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    if not _HOST.fullmatch(host):
        raise InvalidValue("host", host, "a host name, an IPv4 address, or an IPv6 address in [ ]")
    return host.strip("[]").replace("%25", "%"), _number("port", port, 1, PORT_MAX)


def _number(part: str, text: str, low: int, high: int) -> int:
    if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise InvalidValue(part, text, f"{low} to {high}")
    return int(text)


def _path(deployment: Deployment, parts: list[str]) -> tuple[str, int]:
    """Service and database."""
    parts = parts[:-1] if parts and not parts[-1] else parts
    service = ""
    if deployment is Deployment.SENTINEL:
        service, *parts = parts or [""]
        if not _NAME.fullmatch(service):
            raise InvalidValue("name", service, "behind the hosts the name that the sentinels know, like /mymaster")
    if deployment is Deployment.CLUSTER and parts:
        raise InvalidValue("path", "/".join(parts), "none: a cluster has no databases")
    if len(parts) > 1:
        raise InvalidValue("path", "/".join(parts), "at most the number of a database, like /0")
    return service, _number("database", parts[0], 0, DB_MAX) if parts else 0


def _options(deployment: Deployment, tls: bool, query: str) -> dict[str, str]:
    valid = (*(_TLS_OPTIONS if tls else ()), *(_SENTINEL_OPTIONS if deployment is Deployment.SENTINEL else ()))
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in valid:
            raise InvalidValue("option", name, nearest(name, valid) if valid else "none here")
        if not value or name in options:
            raise InvalidValue(f"option {name}", _HIDDEN, "it stands there once, with a value")
        options[name] = _decoded(f"option {name}", value)
    if ("cert_file" in options) != ("key_file" in options):
        raise InvalidValue("option cert_file", options.get("cert_file", ""), "cert_file and key_file, or neither")
    return options
