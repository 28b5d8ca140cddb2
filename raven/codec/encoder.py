"""Events as the bytes of one `events` element, which is the same field of every response that carries events.

Such elements are joined byte for byte into messages, so an event is encoded once for all subscribers. What does not change for
a topic (its name and epoch) is made once; the rest of a trade or a quote is one `struct.pack`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache, partial
from math import dist, isfinite
from struct import Struct

from raven.codec.payloads import DELTA_TAG, encode_payload, encode_topic, level_heads
from raven.codec.varint import varint
from raven.errors import InvalidValue
from raven.model.events import BookDelta, Event, Quote, Trade
from raven.model.topic import Topic
from raven.speedups import compiled

__all__ = ["SENT_TS_SIZE", "UNENCODABLE", "TopicEncoder", "sent_ts"]

# tag and value, in the order of field numbers: sequence 3, venue_ts_ns 4, received_ts_ns 5, first_sequence 6
_SEQUENCE = Struct("<BQ").pack
_TIME = Struct("<Bq").pack
_STAMPS = Struct("<BQBqBq").pack
_STAMPS_SIZE = 27
# ... then trade 10: tag, length, price, size, aggressor, trade_id's tag and length
_TRADE = Struct("<BQBqBqBBBdBdBBBB").pack
_TRADE_BODY, _TRADE_FIXED = 22, 9 + 18 + 2 + 22
# ... then quote 11: tag, length, four prices and sizes
_QUOTE = Struct("<BQBqBBBdBdBdBd").pack
_QUOTE_FIXED = 9 + 9 + 2 + 36
_QUOTE_TIMED = Struct("<BQBqBqBBBdBdBdBd").pack
_QUOTE_TIMED_FIXED = _QUOTE_FIXED + 9
_ENUM_MAX = 128  # from there on a varint has more than one byte
_ID_MAX = 100  # longer trade ids take the general way, whose lengths are varints

_LAYOUTS_MAX = 8192  # shapes of deltas, over all topics
_SHAPES_MAX = 512  # ... of one topic, which it finds without a look at its name's length
_LEVELS_BITS = 24  # of a shape's number, for the levels of a side

UNENCODABLE = (InvalidValue, LookupError, TypeError, AttributeError, ArithmeticError, ValueError, struct.error)
"""What an adapter's mistakes end in here: a number that is none, or that its field has no room for."""

DeltaLayout = tuple[Callable[..., bytes], bytes, bytes, bytes, bytes, bytes]

SENT_TS_SIZE = 9
"""Bytes that `sent_ts` adds to a message."""


def sent_ts(now_ns: int) -> bytes:
    """The field sent_ts_ns (15) of a response, to stand behind its events."""
    field: bytes = _TIME(0x79, now_ns)
    return field


class TopicEncoder:
    """Encodes the events of one topic within one epoch.

    Attributes:
        encode: the `events` element of an event under a sequence. Raises InvalidValue where a number of the payload is NaN or
            infinite.
    """

    __slots__ = ("_prefix", "encode")

    def __init__(self, topic: Topic, epoch: int) -> None:
        name = encode_topic(*topic)
        self._prefix = b"\x0a" + varint(len(name)) + name + _SEQUENCE(0x11, epoch)
        self.encode: Callable[[Event, int], bytes]
        if compiled is not None:
            general = partial(encode_general, self._prefix)
            self.encode = compiled.ElementEncoder(self._prefix, Trade, Quote, BookDelta, general).encode
        else:
            self.encode = _ElementEncoder(self._prefix).encode

    def encode_general(self, event: Event, sequence: int, *, flags: int = 0, first_sequence: int = 0) -> bytes:
        """Any event, with `flags` added to its own; see raven.proto for `first_sequence`."""
        return encode_general(self._prefix, event, sequence, flags, first_sequence)


def encode_general(prefix: bytes, event: Event, sequence: int, flags: int = 0, first_sequence: int = 0) -> bytes:
    """The `events` element of any event. Args: prefix: topic and epoch."""
    flags |= event.flags
    body = b"".join(
        (
            prefix,
            _SEQUENCE(0x19, sequence) if sequence else b"",
            _TIME(0x21, event.venue_ts_ns) if event.venue_ts_ns is not None else b"",
            _TIME(0x29, event.received_ts_ns) if event.received_ts_ns else b"",
            _SEQUENCE(0x31, first_sequence) if first_sequence else b"",
            b"\x38" + varint(flags) if flags else b"",
            encode_payload(event.payload),
        )
    )
    return b"\x0a" + varint(len(body)) + body


class _ElementEncoder:
    """The short ways of what comes most often; `raven.speedups` has the same, compiled."""

    __slots__ = ("_prefix", "_quote", "_quote_timed", "_shapes", "_trades")

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        size = len(prefix)
        self._shapes: dict[int, DeltaLayout] = {}
        # the element's own tag and length belong to the prefix where the rest has a fixed size
        self._trades = [self._element(size + _TRADE_FIXED + id_size) for id_size in range(_ID_MAX)]
        self._quote = self._element(size + _QUOTE_FIXED)
        self._quote_timed = self._element(size + _QUOTE_TIMED_FIXED)

    def _element(self, size: int) -> bytes:
        return b"\x0a" + varint(size) + self._prefix

    def encode(self, event: Event, sequence: int) -> bytes:
        """The `events` element of `event` under `sequence`.

        Raises:
            InvalidValue: a number of the payload is NaN or infinite.
        """
        payload, element = event.payload, None
        if not event.flags and event.received_ts_ns:
            if type(payload) is Trade:
                element = self._encode_trade(event, payload, sequence)
            elif type(payload) is BookDelta:
                element = self._encode_delta(event, payload, sequence)
            elif type(payload) is Quote:
                element = self._encode_quote(event, payload, sequence)
        return encode_general(self._prefix, event, sequence) if element is None else element

    # ---- the short ways; None where something is out of the ordinary

    def _encode_trade(self, event: Event, trade: Trade, sequence: int) -> bytes | None:
        price, size, aggressor, venue_ts = trade.price, trade.size, trade.aggressor, event.venue_ts_ns
        trade_id = trade.trade_id.encode() if trade.trade_id.__class__ is str else b""
        id_size = len(trade_id)
        if price is None or size is None or venue_ts is None or not isfinite(price + size):
            return None
        if not (0 < id_size < _ID_MAX and 0 < aggressor < _ENUM_MAX) or trade.first_trade_id:
            return None
        packed: bytes = _TRADE(
            0x19, sequence, 0x21, venue_ts, 0x29, event.received_ts_ns, 0x52, _TRADE_BODY + id_size,
            0x09, price, 0x11, size, 0x18, aggressor, 0x22, id_size,
        )  # fmt: skip
        return self._trades[id_size] + packed + trade_id

    def _encode_quote(self, event: Event, quote: Quote, sequence: int) -> bytes | None:
        bid, bid_size, ask, ask_size = quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size
        if bid is None or bid_size is None or ask is None or ask_size is None:
            return None
        if not isfinite(bid + bid_size + ask + ask_size):
            return None
        received_ts, venue_ts = event.received_ts_ns, event.venue_ts_ns
        numbers = (0x5A, 36, 0x09, bid, 0x11, bid_size, 0x19, ask, 0x21, ask_size)
        packed: bytes
        if venue_ts is None:
            packed = _QUOTE(0x19, sequence, 0x29, received_ts, *numbers)
            return self._quote + packed
        packed = _QUOTE_TIMED(0x19, sequence, 0x21, venue_ts, 0x29, received_ts, *numbers)
        return self._quote_timed + packed

    def _encode_delta(self, event: Event, delta: BookDelta, sequence: int) -> bytes | None:
        bid_prices, bid_sizes, ask_prices, ask_sizes = delta.bid_price, delta.bid_size, delta.ask_price, delta.ask_size
        bids, asks, venue_ts, venue_sequence = len(bid_prices), len(ask_prices), event.venue_ts_ns, delta.venue_sequence
        if venue_ts is None or not venue_sequence or len(bid_sizes) != bids or len(ask_sizes) != asks:
            return None
        # A distance is finite where all of its numbers are; it takes half as long as four sums.
        if not isfinite(dist(bid_prices, bid_sizes) + dist(ask_prices, ask_sizes)):
            return None
        layout = self._shapes.get(bids << _LEVELS_BITS | asks)
        if layout is None:
            layout = self._learn_shape(bids, asks)
        pack, head, bid_head, bid_size_head, ask_head, ask_size_head = layout
        return pack(
            head, sequence, 0x21, venue_ts, 0x29, event.received_ts_ns,
            bid_head, *bid_prices, bid_size_head, *bid_sizes, ask_head, *ask_prices, ask_size_head, *ask_sizes,
            0x29, venue_sequence,
        )  # fmt: skip

    def _learn_shape(self, bids: int, asks: int) -> DeltaLayout:
        """Remember how a delta of so many levels is laid out."""
        if len(self._shapes) >= _SHAPES_MAX:
            self._shapes.clear()
        pack, size, heads = _delta_layout(len(self._prefix), bids, asks)
        layout = self._shapes[bids << _LEVELS_BITS | asks] = (pack, b"\x0a" + varint(size) + self._prefix + b"\x19", *heads)
        return layout


@lru_cache(maxsize=_LAYOUTS_MAX)
def _delta_layout(prefix: int, bids: int, asks: int) -> tuple[Callable[..., bytes], int, tuple[bytes, bytes, bytes, bytes]]:
    """How a delta is packed behind a prefix of so many bytes, and the size of its MarketEvent."""
    heads = level_heads(DELTA_TAG, bids, asks, 9)
    size = prefix + _STAMPS_SIZE + sum(map(len, heads)) + 16 * (bids + asks) + 9
    columns = "".join(f"{len(head)}s{count}d" for head, count in zip(heads, (bids, bids, asks, asks), strict=True))
    first = 1 + len(varint(size)) + prefix + 1
    return Struct(f"<{first}sQBqBq{columns}BQ").pack, size, (heads[0], heads[1], heads[2], heads[3])
