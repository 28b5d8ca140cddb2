"""`[feeds.options]` of the adapters."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

import attrs

from raven.errors import InvalidValue
from raven_binance.market import SPOT
from raven_binance.usdm import DEPTH_SPEEDS, usdm_market

__all__ = ["SpotOptions", "UsdmOptions"]

OPEN_INTEREST_MIN_S = 5.0


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


def _one_of(*choices: object) -> Any:
    """A validator: one of `choices`."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in choices:
            raise InvalidValue(attribute.name, value, f"one of {', '.join(map(str, choices))}")

    return check


def _check_open_interest(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not OPEN_INTEREST_MIN_S <= value <= 3600:
        raise InvalidValue(attribute.name, value, f"{OPEN_INTEREST_MIN_S:g} to 3600 seconds")


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
    depth_limit: int = attrs.field(default=1000, validator=_one_of(*SPOT.depth_weights))
    all_instruments: bool = False


@attrs.frozen
class UsdmOptions:
    """`[feeds.options]` of a `binance-usdm` feed.

    Args:
        ws_url, rest_url: base addresses, without a path; the adapter adds `/public/stream`, `/market/stream`, `/fapi/v1/...`.
        depth_limit: levels a side in the snapshot that a book begins with (1,000 levels: 20 of the venue's REST budget, which
            is 2,400 a minute).
        depth_speed: how often a book's changes come.
        trade_stream: "trade" is every trade; "aggTrade" is what the venue documents: the fills of one taker order at one
            price together, every 100 ms.
        open_interest_s: how often a symbol's open interest is asked for; there is no stream of it.
        all_instruments: know every instrument that the venue lists, not only those of the feed.
    """

    ws_url: str = attrs.field(default="wss://fstream.binance.com", validator=_base_url("wss", "ws"))
    rest_url: str = attrs.field(default="https://fapi.binance.com", validator=_base_url("https", "http"))
    depth_limit: int = attrs.field(default=1000, validator=_one_of(*usdm_market().depth_weights))
    depth_speed: str = attrs.field(default="100ms", validator=_one_of(*DEPTH_SPEEDS))
    trade_stream: Literal["trade", "aggTrade"] = "trade"
    open_interest_s: float = attrs.field(default=30.0, validator=_check_open_interest)
    all_instruments: bool = False
