"""Binance's JSON, decoded once, straight into typed structs (venue documentation: `web-socket-streams.md`, `rest-api.md`).

Every number that the venue writes as text becomes a float in C (`strict=False`). That mode would take "NaN" and "Infinity", so
the bounds stand in the types: a price or size that is negative or not finite is a `FrameError` of the whole frame. Only known
keys are read, the venue may add others at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from raven.errors import FrameError

__all__ = [
    "BookTickerMessage",
    "ControlMessage",
    "DepthReply",
    "DepthUpdate",
    "ErrorBody",
    "Level",
    "Number",
    "Signed",
    "TradeMessage",
    "UpdateId",
    "VenueTime",
    "frame_parser",
    "parse_book_ticker",
    "parse_control",
    "parse_depth_reply",
    "parse_depth_update",
    "parse_error",
    "parse_trade",
    "time_ns",
]

TEXT_SHOWN_MAX = 200  # characters of the venue's own words that are passed on
MICROSECONDS_FROM = 9_000_000_000_000  # in ms the year 2255, in us April 1970: no time of either unit is on the wrong side

Number = Annotated[float, Meta(ge=0.0, le=1e300)]  # NaN and the infinities fail these bounds
Signed = Annotated[float, Meta(ge=-1e300, le=1e300)]
UpdateId = Annotated[int, Meta(ge=0, le=2**63 - 1)]
VenueTime = Annotated[int, Meta(ge=0, le=9_000_000_000_000_000)]  # ms or us; in ns it still fits 64 bits
Level = tuple[Number, Number]
"""Price and size."""


class TradeMessage(Struct, gc=False):
    """`<symbol>@trade`. `buyer_is_maker` says that the aggressor sold."""

    trade_id: UpdateId = field(name="t")
    price: Number = field(name="p")
    size: Number = field(name="q")
    trade_time: VenueTime = field(name="T")
    buyer_is_maker: bool = field(name="m")


class BookTickerMessage(Struct, gc=False):
    """`<symbol>@bookTicker`; spot sends no time with it. `business` is USD-M's `st`: 2 = not of this market."""

    update_id: UpdateId = field(name="u")
    bid_price: Number = field(name="b")
    bid_size: Number = field(name="B")
    ask_price: Number = field(name="a")
    ask_size: Number = field(name="A")
    transaction_time: VenueTime = field(name="T", default=0)
    business: int = field(name="st", default=0)


class DepthUpdate(Struct, gc=False):
    """`<symbol>@depth`: the levels that changed between two update ids, both included."""

    business: ClassVar[int] = 0

    event_time: VenueTime = field(name="E")
    first_id: UpdateId = field(name="U")
    last_id: UpdateId = field(name="u")
    bids: list[Level] = field(name="b")
    asks: list[Level] = field(name="a")

    @property
    def previous_id(self) -> int:
        """The update id that the book must have for this one to follow."""
        return self.first_id - 1

    @property
    def venue_time(self) -> int:
        """When it happened, as near as the venue says."""
        return self.event_time

    @property
    def begins(self) -> str:
        """Where it begins, in the venue's words."""
        return f"U {self.first_id}"


class DepthReply(Struct, gc=False):
    """REST `depth`: a book's best levels as of `last_id`; only USD-M says when that was."""

    last_id: UpdateId = field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]
    transaction_time: VenueTime = field(name="T", default=0)


class ErrorBody(Struct):
    """What the venue says when it refuses, over REST and over the socket."""

    code: int = 0
    msg: str = ""


class ControlMessage(Struct):
    """Any message that is not of a subscribed stream: answers, errors, notices, unknown things."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    event: str | None = field(default=None, name="e")
    id: int | str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    code: int | None = None
    msg: str = ""
    error: ErrorBody | None = None

    @property
    def refusal(self) -> ErrorBody | None:
        """The error that this message is, in either of the two forms that the venue uses."""
        return self.error or (ErrorBody(self.code, self.msg) if self.code is not None else None)


_decode_depth_reply = msgspec.json.Decoder(DepthReply, strict=False).decode
_decode_control = msgspec.json.Decoder(ControlMessage).decode
_decode_error = msgspec.json.Decoder(ErrorBody).decode

# RecursionError is how a million brackets show, UnicodeDecodeError how a text that is not UTF-8 does.
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
T = TypeVar("T")


def frame_parser(name: str, message: type[T]) -> Callable[[bytes], T]:
    """A function that reads `message` out of a combined-stream frame, and raises FrameError where it is not there."""
    decode = msgspec.json.Decoder(msgspec.defstruct("Frame", [("data", message)], gc=False), strict=False).decode

    def parse(frame: bytes) -> T:
        try:
            return decode(frame).data  # type: ignore[attr-defined, no-any-return]  # the type is made at run time
        except UNREADABLE as error:
            raise FrameError(f"{name}: {error}") from error

    return parse


parse_trade = frame_parser("trade", TradeMessage)
parse_book_ticker = frame_parser("bookTicker", BookTickerMessage)
parse_depth_update = frame_parser("depthUpdate", DepthUpdate)


def parse_depth_reply(body: bytes) -> DepthReply:
    """The body of a depth request's answer. Raises FrameError."""
    try:
        return _decode_depth_reply(body)
    except UNREADABLE as error:
        raise FrameError(f"depth reply: {error}") from error


def parse_control(frame: bytes) -> ControlMessage:
    """Whatever else came over the socket. Raises FrameError where it is no JSON object or a known key has a strange type."""
    try:
        return _decode_control(frame)
    except UNREADABLE as error:
        raise FrameError(f"message: {error}") from error


def parse_error(body: bytes) -> ErrorBody:
    """The venue's words in the body of a refused request; those of the body itself where it is not in the venue's form."""
    try:
        return _decode_error(body)
    except UNREADABLE:
        return ErrorBody(0, body[:TEXT_SHOWN_MAX].decode(errors="replace"))


def time_ns(stamp: int) -> int | None:
    """A time of the venue, ms or us since 1970 (its `timeUnit` decides), in ns; None for 0, which is no time.

    >>> time_ns(1723161255342), time_ns(1723161255342123), time_ns(0)
    (1723161255342000000, 1723161255342123000, None)
    """
    return stamp * 1_000_000 if 0 < stamp < MICROSECONDS_FROM else stamp * 1_000 or None
