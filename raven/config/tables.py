"""The tables of raven.toml as frozen attrs classes. Each attribute is one key; its default is the default of the key.

`Config()` is the configuration of a machine where nothing is set: one simulated venue, everything on loopback.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import attrs

from raven.errors import InvalidName, InvalidValue
from raven.model.topic import Kind, check_symbol, check_variant, check_venue, parse_kind
from raven.ops.logs import LogConfig
from raven.store.config import CacheConfig, HistoryConfig

__all__ = [
    "Config",
    "DataConfig",
    "FeedTable",
    "HealthConfig",
    "MetricsConfig",
    "ResumeConfig",
    "ServerConfig",
    "TlsConfig",
]

PORT_MAX = 65535

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _port(_: Any, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= PORT_MAX:
        raise InvalidValue(attribute.name, value, f"0 to {PORT_MAX} (0 = any free port)")


def _host(_: Any, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and (not value or any(letter.isspace() or letter in "/[]" for letter in value)):
        raise InvalidValue(attribute.name, value, "an address or host name to listen on, like 127.0.0.1, 0.0.0.0 or ::1")


def _at_least(low: float) -> _Validator:
    def check(_: Any, attribute: attrs.Attribute[Any], value: float) -> None:
        if not math.isfinite(value) or value < low:
            raise InvalidValue(attribute.name, value, f"{low:g} or more")

    return check


def _above_zero(_: Any, attribute: attrs.Attribute[float], value: float) -> None:
    if not math.isfinite(value) or value <= 0:
        raise InvalidValue(attribute.name, value, "more than 0")


def _with_cert_file(tls: TlsConfig, _: attrs.Attribute[Path | None], value: Path | None) -> None:
    if (value is None) != (tls.cert_file is None):
        there, missing = ("cert_file", "key_file") if value is None else ("key_file", "cert_file")
        raise InvalidValue(there, str(value or tls.cert_file), f"set {missing} as well, TLS needs both; or neither")


@attrs.frozen
class TlsConfig:
    """[server.tls]: TLS on the gRPC port. Without files it is plain. Paths are seen from where the server is started.

    Args:
        cert_file: the certificate in PEM, with those between it and the authority behind it.
        key_file: its private key in PEM, without a passphrase.
    """

    cert_file: Path | None = None
    key_file: Path | None = attrs.field(default=None, validator=_with_cert_file)


@attrs.frozen
class ServerConfig:
    """[server]: what clients reach over gRPC, and the limits of each of them.

    Args:
        host, port: where gRPC listens.
        drain_s: how long clients may take to leave after SIGTERM; at once when there are none.
        heartbeat_s: the pause after which a silent stream gets a Heartbeat.
        stall_s: a client that takes nothing for so long while something waits for it is disconnected.
        streams_per_s: how fast new streams are let in; a crowd that comes at once waits in line.
        outbox_events_max, outbox_bytes_max: what may wait for one client, in events and in bytes.
        control_bytes_max: the same for answers and statuses, in bytes.
        subscriptions_max: subscriptions of one client.
        topics_max: topics that the subscriptions of one client may expand to.
        reflection: gRPC reflection; "auto" = while the bind is loopback or no authentication is configured.
        connections_max: open connections; one more is closed as soon as it is accepted.
        streams_max: calls at once on one connection; one more is refused, and its client may try again.
        handshake_s: how long a client may take for TLS, and then for the beginning of HTTP/2.
        keepalive_s: a client that sent nothing for so long is asked whether it is there.
        keepalive_timeout_s: how long it may take to answer that.
        tls: certificate and key.
    """

    host: str = attrs.field(default="127.0.0.1", validator=_host)
    port: int = attrs.field(default=50051, validator=_port)
    drain_s: float = attrs.field(default=10.0, validator=_at_least(0))
    heartbeat_s: float = attrs.field(default=5.0, validator=_above_zero)
    stall_s: float = attrs.field(default=30.0, validator=_above_zero)
    streams_per_s: float = attrs.field(default=1000.0, validator=_above_zero)
    outbox_events_max: int = attrs.field(default=16_384, validator=_at_least(1))
    outbox_bytes_max: int = attrs.field(default=8 * 1024 * 1024, validator=_at_least(1024))
    control_bytes_max: int = attrs.field(default=64 * 1024, validator=_at_least(1024))
    subscriptions_max: int = attrs.field(default=1000, validator=_at_least(1))
    topics_max: int = attrs.field(default=10_000, validator=_at_least(1))
    reflection: Literal["auto", "on", "off"] = "auto"
    connections_max: int = attrs.field(default=10_000, validator=_at_least(1))
    streams_max: int = attrs.field(default=100, validator=_at_least(1))
    handshake_s: float = attrs.field(default=5.0, validator=_above_zero)
    keepalive_s: float = attrs.field(default=20.0, validator=_above_zero)
    keepalive_timeout_s: float = attrs.field(default=10.0, validator=_above_zero)
    tls: TlsConfig = attrs.field(factory=TlsConfig)


@attrs.frozen
class ResumeConfig:
    """[resume]: how much of each feed is kept for clients that come back. Whichever limit is met first holds.

    Args:
        events_max, bytes_max: of one feed.
        age_s: an event is kept at most so long.
    """

    events_max: int = attrs.field(default=65_536, validator=_at_least(1))
    bytes_max: int = attrs.field(default=32 * 1024 * 1024, validator=_at_least(1024))
    age_s: float = attrs.field(default=300.0, validator=_above_zero)


@attrs.frozen
class DataConfig:
    """[data]: what outlives the process.

    Args:
        dir: where it stands; one server has it at a time. Without it: `raven-data` beside the configuration file, or where the
            server is started.
    """

    dir: Path | None = None


@attrs.frozen
class HealthConfig:
    """[health]: the HTTP health endpoint. Without `host` it listens where gRPC does."""

    host: str | None = attrs.field(default=None, validator=_host)
    port: int = attrs.field(default=8080, validator=_port)


@attrs.frozen
class MetricsConfig:
    """[metrics]: the Prometheus endpoint. Without `host` it listens where gRPC does."""

    host: str | None = attrs.field(default=None, validator=_host)
    port: int = attrs.field(default=9090, validator=_port)


def _name(_: Any, attribute: attrs.Attribute[str], value: str) -> None:
    check_venue(value, attribute.name)


def _unique(field: str, values: Iterable[str]) -> None:
    for value, times in Counter(values).items():
        if times > 1:
            raise InvalidValue(field, value, f"it stands there {times} times: once is enough")


def _symbols(_: Any, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    if not value:
        raise InvalidValue(attribute.name, list(value), 'at least one symbol, like "BTC-USDT"')
    for index, symbol in enumerate(value):
        _check_symbol(symbol, f"{attribute.name}[{index}]")
    _unique(attribute.name, value)


def _check_symbol(symbol: str, field: str) -> None:
    try:
        check_symbol(symbol, field)
    except InvalidName as error:
        guess = symbol.strip().upper().replace("/", "-").replace("_", "-")
        try:
            check_symbol(guess)
        except InvalidName:
            raise error from None
        raise InvalidName(field, symbol, f"{error.expected}; did you mean {guess!r}?") from None


def _kinds(_: Any, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    if not value:
        raise InvalidValue(attribute.name, list(value), 'at least one kind, like "trade"')
    for index, kind in enumerate(value):
        parse_kind(kind, f"{attribute.name}[{index}]")
    _unique(attribute.name, (kind.lower() for kind in value))


def _intervals(_: Any, attribute: attrs.Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    for index, interval in enumerate(value):
        if not check_variant(interval, f"{attribute.name}[{index}]"):
            raise InvalidValue(f"{attribute.name}[{index}]", interval, 'an interval, like "1m"')
    _unique(attribute.name, value)


@attrs.frozen
class FeedTable:
    """[[feeds]]: one supervised feed.

    Args:
        name: the venue's name in every topic of the feed.
        adapter: the entry point of the adapter; `raven adapters` lists what is installed.
        symbols: canonical symbols.
        kinds: labels of kinds ("trade", "book_top").
        intervals: of candles; of no effect without the kind "candle".
        reader: which library reads the feed's WebSockets; "websockets" is the quicker one by far (docs/benchmarks.md).
        options: the adapter's own keys; the adapter's `options_type` says which.
    """

    name: str = attrs.field(validator=_name)
    adapter: str
    symbols: tuple[str, ...] = attrs.field(validator=_symbols)
    kinds: tuple[str, ...] = attrs.field(validator=_kinds)
    intervals: tuple[str, ...] = attrs.field(default=("1m",), validator=_intervals)
    reader: Literal["websockets", "trio-websocket"] = "websockets"
    options: dict[str, Any] = attrs.field(factory=dict)

    @property
    def kind_set(self) -> frozenset[Kind]:
        """The kinds that `kinds` names."""
        return frozenset(parse_kind(kind) for kind in self.kinds)


DEFAULT_FEED = FeedTable(
    name="sim",
    adapter="sim",
    symbols=("BTC-USDT", "ETH-USDT", "SOL-USDT"),
    kinds=("trade", "quote", "book", "book_top", "candle", "ticker", "instrument"),
)


def _feeds(_: Any, attribute: attrs.Attribute[tuple[FeedTable, ...]], value: tuple[FeedTable, ...]) -> None:
    seen: dict[str, int] = {}
    for index, feed in enumerate(value):
        first = seen.setdefault(feed.name, index)
        if first != index:
            name = f"{attribute.name}[{index}].name"
            raise InvalidValue(name, feed.name, f"another name: {attribute.name}[{first}] has this one, and it is the venue")


@attrs.frozen
class Config:
    """All of raven.toml. A file without [[feeds]] gets the simulated venue; `feeds = []` gets none."""

    server: ServerConfig = ServerConfig()
    resume: ResumeConfig = ResumeConfig()
    data: DataConfig = DataConfig()
    history: HistoryConfig = attrs.field(factory=HistoryConfig)
    cache: CacheConfig = attrs.field(factory=CacheConfig)
    health: HealthConfig = HealthConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = attrs.field(factory=LogConfig)
    feeds: tuple[FeedTable, ...] = attrs.field(default=(DEFAULT_FEED,), validator=_feeds)

    @property
    def health_host(self) -> str:
        """Where the health endpoint listens."""
        return self.health.host or self.server.host

    @property
    def metrics_host(self) -> str:
        """Where the metrics endpoint listens."""
        return self.metrics.host or self.server.host
