"""The messages of Example venue, as they are on the wire.

Struct fields are those that the session needs; others that the venue sends are skipped. A number that comes as text is declared
`float`: the decoder makes it the nearest double. It makes NaN and Infinity of such texts too, so `decode` looks for those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from raven.errors import FrameError

__all__ = ["Closing", "Frame", "Heartbeat", "QuoteFrame", "RefusedFrame", "Subscribed", "TradeFrame", "decode", "request"]


Id = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000)]  # to the year 2100; microseconds are more


class Subscribed(msgspec.Struct, tag_field="type", tag="subscribed"):
    channel: str


class RefusedFrame(msgspec.Struct, tag_field="type", tag="refused"):
    channel: str
    reason: str


class TradeFrame(msgspec.Struct, tag_field="type", tag="trade"):
    market: str
    id: Id
    price: float
    size: float
    taker: Literal["buy", "sell"]
    time_ms: Milliseconds


class QuoteFrame(msgspec.Struct, tag_field="type", tag="quote"):
    market: str
    bid: tuple[float, float]
    ask: tuple[float, float]


class Heartbeat(msgspec.Struct, tag_field="type", tag="heartbeat"):
    pass


class Closing(msgspec.Struct, tag_field="type", tag="closing"):
    pass


Frame = Subscribed | RefusedFrame | TradeFrame | QuoteFrame | Heartbeat | Closing

_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame, strict=False)


def decode(frame: bytes) -> Frame:
    """One message of the venue.

    Raises:
        FrameError: no JSON, no UTF-8, nested too deep, of an unknown type, a field missing or of the wrong type, or a number
            that is not finite.
    """
    try:
        message = _decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error
    if not all(map(math.isfinite, _numbers(message))):
        raise FrameError("a number is not finite")
    return message


def _numbers(message: Frame) -> Iterable[float]:
    match message:
        case TradeFrame():
            return message.price, message.size
        case QuoteFrame():
            return *message.bid, *message.ask
        case _:
            return ()


def request(op: str, channels: Iterable[str]) -> str:
    """The text that subscribes or unsubscribes.

    >>> request("subscribe", ["trades.BTCUSD"])
    '{"op":"subscribe","channels":["trades.BTCUSD"]}'
    """
    return msgspec.json.encode({"op": op, "channels": list(channels)}).decode()
