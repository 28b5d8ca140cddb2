"""The adapters for Binance's markets, and how a feed's topics are divided among connections."""

from __future__ import annotations

import abc
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, ClassVar

from raven.adapter import Adapter, Capabilities, Connection, Emulator, FeedSpec, Session, Topic
from raven.errors import InvalidValue
from raven_binance.market import SPOT, SPOT_INTERVALS, USDM_INTERVALS, Market
from raven_binance.options import SpotOptions, UsdmOptions
from raven_binance.session import BinanceSession
from raven_binance.usdm import usdm_market

__all__ = ["STREAMS_PER_CONNECTION_MAX", "BinanceSpotAdapter", "BinanceUsdmAdapter"]

STREAMS_PER_CONNECTION_MAX = 1024  # the venue's limit
FRAME_BYTES_MAX = 4 * 1024 * 1024


class _BinanceAdapter(Adapter):
    """What both have in common."""

    idle_timeout_s: ClassVar[float]
    sends_per_s_max: ClassVar[float]

    @abc.abstractmethod
    def market(self, options: Any) -> Market:
        """The market, with the options' choices."""

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        """One connection for each route that has topics, or as many as the venue's limit of streams asks for.

        A symbol's topics of one route stay together.
        """
        market = self.market(feed.options)
        routed = _by_route(market, feed.topics)
        url = feed.options.ws_url.rstrip("/")
        return [
            Connection(
                route if number == 1 else f"{route}-{number}",
                url + market.routes[route],
                part,
                idle_timeout_s=self.idle_timeout_s,
                sends_per_s_max=self.sends_per_s_max,
                frame_bytes_max=FRAME_BYTES_MAX,
            )
            for route, topics in routed.items()
            for number, part in enumerate(_parts(market, topics), 1)
        ]

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        """A session for one of these connections; the first one asks for everything that `all_instruments` wants."""
        options = feed.options
        first = next(iter(_by_route(self.market(options), feed.topics)))
        return BinanceSession(
            self.market(options),
            feed.name,
            connection.topics,
            rest_url=options.rest_url.rstrip("/"),
            depth_limit=options.depth_limit,
            all_instruments=options.all_instruments and connection.name == first,
            open_interest_s=getattr(options, "open_interest_s", 0.0),
            memory=memory,
        )


class BinanceSpotAdapter(_BinanceAdapter):
    """Binance spot."""

    api: ClassVar[int] = 1
    title: ClassVar[str] = "Binance spot"
    capabilities: ClassVar[Capabilities] = Capabilities(SPOT.kinds, SPOT_INTERVALS)
    options_type: ClassVar[type] = SpotOptions
    idle_timeout_s: ClassVar[float] = 40.0  # the venue pings every 20 s; the session asks sooner, when it hears nothing
    sends_per_s_max: ClassVar[float] = 4.0  # the venue's limit is 5, and pongs count too

    def market(self, options: SpotOptions) -> Market:
        """Spot has no choices."""
        del options
        return SPOT

    def emulator(self) -> Emulator:
        """The venue on this machine."""
        from raven_binance.emulator import SpotEmulator

        return SpotEmulator()


class BinanceUsdmAdapter(_BinanceAdapter):
    """Binance USD-M futures: perpetuals and contracts with a date that are margined in a stable coin."""

    api: ClassVar[int] = 1
    title: ClassVar[str] = "Binance USD-M futures"
    capabilities: ClassVar[Capabilities] = Capabilities(usdm_market().kinds, USDM_INTERVALS)
    example_symbol: ClassVar[str] = "BTC-USDT-PERP"
    options_type: ClassVar[type] = UsdmOptions
    idle_timeout_s: ClassVar[float] = 75.0  # the venue pings every 3 minutes only; see above
    sends_per_s_max: ClassVar[float] = 5.0  # half of the venue's limit; a message has up to 200 streams

    def market(self, options: UsdmOptions) -> Market:
        """By the stream that trades come from and the speed of books."""
        return usdm_market(options.trade_stream, options.depth_speed)

    def emulator(self) -> Emulator:
        """The venue on this machine."""
        from raven_binance.emulator import UsdmEmulator

        return UsdmEmulator()


def _by_route(market: Market, topics: Sequence[Topic]) -> dict[str, list[Topic]]:
    """The topics of each route that has some, at least of one. Raises InvalidValue for one that the venue cannot have.

    What REST feeds goes along with a connection that is there anyway.
    """
    routed: dict[str, list[Topic]] = {}
    for topic in topics:
        market.check(topic)
        stream = market.streams.get(topic.kind)
        if stream is not None:
            routed.setdefault(stream.route, []).append(topic)
    there = tuple(route for route in market.routes if route in routed)
    for topic in topics:
        if topic.kind in market.rest_routes:
            route = market.rest_routes[topic.kind]
            routed.setdefault(route if route in there or not there else there[0], []).append(topic)
    ordered = {route: routed[route] for route in market.routes if route in routed}
    return ordered or {next(iter(market.routes)): []}


def _parts(market: Market, topics: Sequence[Topic]) -> Iterator[tuple[Topic, ...]]:
    """Topics in groups that one connection can carry; one empty group where there are none."""
    part: list[Topic] = []
    streams = 0
    for group in _by_symbol(market, topics):
        wanted = len({market.stream_name(topic) for topic in group} - {None})
        if part and streams + wanted > STREAMS_PER_CONNECTION_MAX:
            yield tuple(part)
            part, streams = [], 0
        part += group
        streams += wanted
    yield tuple(part)


def _by_symbol(market: Market, topics: Sequence[Topic]) -> list[list[Topic]]:
    groups: dict[str, list[Topic]] = {}
    for topic in topics:
        group = groups.setdefault(market.format_symbol(topic.symbol), [])
        if group and group[0].symbol != topic.symbol:
            raise InvalidValue("symbols", topic.symbol, f"at the venue it is the same as {group[0].symbol}")
        group.append(topic)
    return list(groups.values())
