"""USD-M's own JSON. Its messages may say `st`, the business that they belong to: 2 is COIN-M, which is another market."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from raven.errors import FrameError
from raven_binance.wire import UNREADABLE, Level, Number, Signed, TradeMessage, UpdateId, VenueTime, frame_parser

__all__ = [
    "AggregateMessage",
    "ForceOrder",
    "FundingInfo",
    "MarkPriceMessage",
    "OpenInterestReply",
    "UsdmDepthUpdate",
    "UsdmTradeMessage",
    "parse_aggregate",
    "parse_force_order",
    "parse_funding_info",
    "parse_mark_price",
    "parse_open_interest",
    "parse_optional",
    "parse_usdm_depth_update",
    "parse_usdm_trade",
]

MARKET_TRADE = "MARKET"


class UsdmTradeMessage(TradeMessage, gc=False):
    """`<symbol>@trade`. `origin` MARKET is a trade; INSURANCE_FUND, ADL and NA are the venue's own bookings."""

    origin: str = field(name="X", default=MARKET_TRADE)
    business: int = field(name="st", default=0)


class AggregateMessage(Struct, gc=False):
    """`<symbol>@aggTrade`: the fills of one taker order at one price."""

    aggregate_id: UpdateId = field(name="a")
    price: Number = field(name="p")
    size: Number = field(name="q")
    first_id: UpdateId = field(name="f")
    last_id: UpdateId = field(name="l")
    trade_time: VenueTime = field(name="T")
    buyer_is_maker: bool = field(name="m")
    business: int = field(name="st", default=0)


class UsdmDepthUpdate(Struct, gc=False):
    """`<symbol>@depth`: what changed up to `last_id`, after the update that ended with `previous_id`."""

    event_time: VenueTime = field(name="E")
    last_id: UpdateId = field(name="u")
    previous_id: UpdateId = field(name="pu")
    bids: list[Level] = field(name="b")
    asks: list[Level] = field(name="a")
    transaction_time: VenueTime = field(name="T", default=0)
    business: int = field(name="st", default=0)

    @property
    def venue_time(self) -> int:
        """When the book changed; when the message was made where the venue does not say."""
        return self.transaction_time or self.event_time

    @property
    def begins(self) -> str:
        """Where it begins, in the venue's words."""
        return f"pu {self.previous_id}"


class MarkPriceMessage(Struct, gc=False):
    """`<symbol>@markPrice@1s`. `index_price` and `funding_rate` are "" and `funding_time` is 0 where there is none."""

    event_time: VenueTime = field(name="E")
    mark_price: str = field(name="p")
    index_price: str = field(name="i", default="")
    funding_rate: str = field(name="r", default="")
    funding_time: VenueTime = field(name="T", default=0)
    business: int = field(name="st", default=0)


class ForceOrder(Struct, gc=False):
    """`o` of a forced order's message: `filled` at `average_price` so far."""

    side: str = field(name="S")
    filled: Number = field(name="z")
    average_price: Number = field(name="ap")
    trade_time: VenueTime = field(name="T")


class _ForceOrderMessage(Struct, gc=False):
    event_time: VenueTime = field(name="E")
    order: ForceOrder = field(name="o")
    business: int = field(name="st", default=0)


class OpenInterestReply(Struct, gc=False):
    """REST `openInterest`."""

    amount: Number = field(name="openInterest")
    time: VenueTime = 0


Hours = Annotated[int, Meta(ge=0, le=366 * 24)]  # the venue has 1, 4 and 8; in seconds it is 32 bits of the contract


class FundingInfo(Struct):
    """An entry of REST `fundingInfo`, which names only the symbols whose terms were changed at some time."""

    symbol: str
    interval_h: Hours = field(name="fundingIntervalHours", default=0)


parse_usdm_trade = frame_parser("trade", UsdmTradeMessage)
parse_aggregate = frame_parser("aggTrade", AggregateMessage)
parse_usdm_depth_update = frame_parser("depthUpdate", UsdmDepthUpdate)
parse_mark_price = frame_parser("markPriceUpdate", MarkPriceMessage)
parse_force_order = frame_parser("forceOrder", _ForceOrderMessage)

_decode_open_interest = msgspec.json.Decoder(OpenInterestReply, strict=False).decode
_decode_funding_info = msgspec.json.Decoder(list[FundingInfo], strict=False).decode


def parse_optional(text: str, name: str) -> float | None:
    """A number that the venue may leave out by writing "". Raises FrameError for what is neither.

    >>> parse_optional("-0.00010000", "r"), parse_optional("", "r")
    (-0.0001, None)
    """
    if not text:
        return None
    try:
        return msgspec.convert(text, Signed, strict=False)
    except UNREADABLE as error:
        raise FrameError(f"{name}: {text[:40]!r} is no number: {error}") from error


def parse_open_interest(body: bytes) -> OpenInterestReply:
    """The body of an open interest answer. Raises FrameError."""
    try:
        return _decode_open_interest(body)
    except UNREADABLE as error:
        raise FrameError(f"openInterest: {error}") from error


def parse_funding_info(body: bytes) -> dict[str, int]:
    """The funding interval in seconds of the symbols that the venue names. Raises FrameError."""
    try:
        return {entry.symbol: entry.interval_h * 3600 for entry in _decode_funding_info(body) if entry.interval_h > 0}
    except UNREADABLE as error:
        raise FrameError(f"fundingInfo: {error}") from error
