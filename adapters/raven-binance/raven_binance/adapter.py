"""The adapter of the spot market: options, and how a feed's topics are divided among connections."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import attrs

from raven.adapter import Adapter, Capabilities, Connection, Emulator, FeedSpec, Kind, Session, Topic
from raven.errors import InvalidValue
from raven_binance.market import SPOT
from raven_binance.session import BinanceSession

__all__ = ["STREAMS_PER_CONNECTION_MAX", "BinanceSpotAdapter", "SpotOptions"]

STREAMS_PER_CONNECTION_MAX = 1024  # the venue's limit
SENDS_PER_S_MAX = 4.0  # the venue's limit is 5, and pongs count too
IDLE_TIMEOUT_S = 40.0  # the venue pings every 20 s
FRAME_BYTES_MAX = 4 * 1024 * 1024
MAIN = "main"


def _base_url(*schemes: str) -> Any:
    """A validator: an address of one of `schemes` with a host and without a path."""
    expected = f'{" or ".join(f"{scheme}://" for scheme in schemes)} with a host and without a path, as "{schemes[0]}://127.0.0.1:9443"'

    def check(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        try:
            parts = urlsplit(value)
            fine = parts.scheme in schemes and parts.hostname and parts.path in ("", "/") and not parts.query + parts.fragment
            fine = fine and (parts.port is None or parts.port > 0)
        except ValueError:
            fine = False
        if not fine:
            raise InvalidValue(attribute.name, value, expected)

    return check


def _check_depth_limit(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value not in SPOT.depth_weights:
        raise InvalidValue(attribute.name, value, f"one of {', '.join(map(str, SPOT.depth_weights))}")


@attrs.frozen
class SpotOptions:
    """`[feeds.options]` of a `binance-spot` feed.

    Args:
        ws_url, rest_url: base addresses, without a path.
        depth_limit: levels a side in the snapshot that a book begins with; more cost more of the venue's REST budget
            (1,000 levels: 50 of 6,000 a minute).
        all_instruments: know every instrument that the venue lists, not only those of the feed.
    """

    ws_url: str = attrs.field(default="wss://stream.binance.com:9443", validator=_base_url("wss", "ws"))
    rest_url: str = attrs.field(default="https://api.binance.com", validator=_base_url("https", "http"))
    depth_limit: int = attrs.field(default=1000, validator=_check_depth_limit)
    all_instruments: bool = False


class BinanceSpotAdapter(Adapter):
    """Binance spot."""

    api: ClassVar[int] = 1
    title: ClassVar[str] = "Binance spot"
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({*SPOT.streams, Kind.INSTRUMENT}))
    options_type: ClassVar[type] = SpotOptions

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        """One connection, or as many as the venue's limit of streams asks for. A symbol's topics stay together."""
        parts = list(_parts(feed.topics)) or [()]
        url = feed.options.ws_url.rstrip("/") + "/stream"
        return [
            Connection(
                MAIN if number == 1 else f"{MAIN}-{number}",
                url,
                part,
                idle_timeout_s=IDLE_TIMEOUT_S,
                sends_per_s_max=SENDS_PER_S_MAX,
                frame_bytes_max=FRAME_BYTES_MAX,
            )
            for number, part in enumerate(parts, 1)
        ]

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        """A session for one of these connections; the first one asks for everything that `all_instruments` wants."""
        options: SpotOptions = feed.options
        return BinanceSession(
            SPOT,
            feed.name,
            connection.topics,
            rest_url=options.rest_url.rstrip("/"),
            depth_limit=options.depth_limit,
            all_instruments=options.all_instruments and connection.name == MAIN,
            memory=memory,
        )

    def emulator(self) -> Emulator:
        """The venue on this machine."""
        from raven_binance.emulator import SpotEmulator

        return SpotEmulator()


def _parts(topics: Sequence[Topic]) -> Iterator[tuple[Topic, ...]]:
    """Topics in groups that one connection can carry. Raises InvalidValue for one that the venue cannot have."""
    part: list[Topic] = []
    streams = 0
    for group in _by_symbol(topics):
        wanted = sum(topic.kind in SPOT.streams for topic in group)
        if part and streams + wanted > STREAMS_PER_CONNECTION_MAX:
            yield tuple(part)
            part, streams = [], 0
        part += group
        streams += wanted
    if part:
        yield tuple(part)


def _by_symbol(topics: Sequence[Topic]) -> list[list[Topic]]:
    groups: dict[str, list[Topic]] = {}
    for topic in topics:
        if topic.kind not in BinanceSpotAdapter.capabilities.kinds:
            known = ", ".join(sorted(kind.label for kind in BinanceSpotAdapter.capabilities.kinds))
            raise InvalidValue("kinds", topic.kind.label, f"Binance spot feeds {known}")
        group = groups.setdefault(SPOT.format_symbol(topic.symbol), [])
        if group and group[0].symbol != topic.symbol:
            raise InvalidValue("symbols", topic.symbol, f"at the venue it is the same as {group[0].symbol}")
        group.append(topic)
    return list(groups.values())
