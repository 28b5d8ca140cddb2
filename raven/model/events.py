"""Market events and their payloads, as raven.proto has them.

Events and payloads are structs of msgspec, which are made in C (an attrs class costs three times as much, and a trade is two of
them) and hold nothing that could refer back to them, so that the garbage collector does not count them. They are never changed
once made, but for the flags of an event on its way. None means that the venue did not say; 0 means zero. Numbers are finite.
Times are nanoseconds since the Unix epoch, UTC. Sizes are in the instrument's size unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag

from msgspec import Struct, field

from raven.model.instrument import Instrument
from raven.model.topic import Kind, Topic

__all__ = [
    "Bar",
    "BookDelta",
    "BookSnapshot",
    "Candle",
    "Event",
    "Flag",
    "Funding",
    "Gap",
    "GapCause",
    "Greeks",
    "Liquidation",
    "MarkPrice",
    "OpenInterest",
    "Payload",
    "Quote",
    "Side",
    "State",
    "StatusCause",
    "Ticker",
    "TopicStatus",
    "Trade",
    "payload_kinds",
]


class Flag(IntFlag):
    """Bits of an event's flags."""

    NONE = 0
    IMAGE = 1
    LOCAL = 2
    BACKFILLED = 4
    SUSPECT_TIME = 8
    SUSPECT_VALUE = 16
    INFERRED = 32


class Side(IntEnum):
    """Who: of a trade the aggressor, of a liquidation its order."""

    UNSPECIFIED = 0
    BUY = 1
    SELL = 2


class State(IntEnum):
    """Data quality of a topic."""

    UNSPECIFIED = 0
    LIVE = 1
    STALE = 2
    RESYNCING = 3
    DOWN = 4
    CLOSED = 5


class StatusCause(IntEnum):
    """Why a topic is in its state."""

    UNSPECIFIED = 0
    FEED_DOWN = 1
    VENUE_SILENT = 2
    SEQUENCE_GAP = 3
    CHECKSUM = 4
    CROSSED = 5
    CLOCK = 6
    LEADER_CHANGE = 7
    BUS_LOSS = 8
    VENUE_REFUSED = 9
    DELISTED = 10
    OPERATOR = 11
    ADAPTER_FAILED = 12
    NOT_ENTITLED = 13
    STARTING = 14


class GapCause(IntEnum):
    """Why events are missing."""

    UNSPECIFIED = 0
    VENUE = 1
    SLOW_CONSUMER = 2
    RESUME_TOO_OLD = 3
    NEW_EPOCH = 4
    STORE = 5


class Trade(Struct, gc=False):
    """One execution. Of an aggregate, `trade_id` is the last and `first_trade_id` the first."""

    price: float | None = None
    size: float | None = None
    aggressor: Side | int = 0
    trade_id: str = ""
    first_trade_id: str = ""


class Quote(Struct, gc=False):
    """Best bid and ask."""

    bid_price: float | None = None
    bid_size: float | None = None
    ask_price: float | None = None
    ask_size: float | None = None


class BookSnapshot(Struct, gc=False):
    """A whole book: `bid_price[i]` goes with `bid_size[i]`. Bids from the highest price down, asks from the lowest up.

    `depth_limit` is how many levels a side the venue keeps; 0 = all.
    """

    bid_price: Sequence[float] = ()
    bid_size: Sequence[float] = ()
    ask_price: Sequence[float] = ()
    ask_size: Sequence[float] = ()
    venue_sequence: int = 0
    depth_limit: int = 0


class BookDelta(Struct, gc=False):
    """New absolute size per price; size 0 removes the level."""

    bid_price: Sequence[float] = ()
    bid_size: Sequence[float] = ()
    ask_price: Sequence[float] = ()
    ask_size: Sequence[float] = ()
    venue_sequence: int = 0


class Candle(Struct, gc=False):
    """[open_ts_ns, close_ts_ns). `open` to `close` are None when no trade fell into it. `closed` is final."""

    open_ts_ns: int = 0
    close_ts_ns: int = 0
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    volume: float | None = None
    quote_volume: float | None = None
    trades: int | None = None
    taker_buy_volume: float | None = None
    closed: bool = False
    incomplete: bool = False


class Ticker(Struct, gc=False):
    """Rolling 24 h statistics."""

    last_price: float | None = None
    open_price: float | None = None
    high_price: float | None = None
    low_price: float | None = None
    volume: float | None = None
    quote_volume: float | None = None


class Funding(Struct, gc=False):
    """Funding of a perpetual. `rate`: 0.0001 = 1 basis point."""

    rate: float | None = None
    funding_ts_ns: int | None = None
    interval_s: int | None = None
    settled: bool = False
    predicted_rate: float | None = None


class MarkPrice(Struct, gc=False):
    """Mark and index price."""

    mark_price: float | None = None
    index_price: float | None = None


class OpenInterest(Struct, gc=False):
    """Open positions: `amount` in the size unit, `value` in the quote currency."""

    amount: float | None = None
    value: float | None = None


class Liquidation(Struct, gc=False):
    """A forced order. `side` is that of the order: SELL = a long was liquidated."""

    price: float | None = None
    size: float | None = None
    side: Side | int = 0


class Greeks(Struct, gc=False):
    """Of an option. Volatilities: 0.55 = 55 % a year."""

    mark_iv: float | None = None
    bid_iv: float | None = None
    ask_iv: float | None = None
    delta: float | None = None
    gamma: float | None = None
    vega: float | None = None
    theta: float | None = None
    rho: float | None = None
    underlying_price: float | None = None


class Bar(Struct, gc=False):
    """Output of a processor: a bar closed by information, and named numbers beside it."""

    candle: Candle | None = None
    values: Mapping[str, float] = field(default_factory=dict)


class TopicStatus(Struct, gc=False):
    """Data quality of the topic, and since when."""

    state: State | int = 0
    cause: StatusCause | int = 0
    text: str = ""
    since_ts_ns: int = 0
    final: bool = False
    delay_ms: int = 0


class Gap(Struct, gc=False):
    """Events of the topic that will not come. Sequences and count are 0 where not known."""

    cause: GapCause | int = 0
    epoch: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    missed: int = 0


Payload = (
    Trade
    | Quote
    | BookSnapshot
    | BookDelta
    | Candle
    | Ticker
    | Funding
    | MarkPrice
    | OpenInterest
    | Liquidation
    | Instrument
    | TopicStatus
    | Gap
    | Greeks
    | Bar
)

# Which payloads an adapter may send on which kind. Status and Gap belong to every kind.
payload_kinds: Mapping[type, frozenset[Kind]] = {
    Trade: frozenset({Kind.TRADE}),
    Quote: frozenset({Kind.QUOTE}),
    BookSnapshot: frozenset({Kind.BOOK, Kind.BOOK_TOP}),
    BookDelta: frozenset({Kind.BOOK}),
    Candle: frozenset({Kind.CANDLE}),
    Ticker: frozenset({Kind.TICKER}),
    Funding: frozenset({Kind.FUNDING}),
    MarkPrice: frozenset({Kind.MARK_PRICE}),
    OpenInterest: frozenset({Kind.OPEN_INTEREST}),
    Liquidation: frozenset({Kind.LIQUIDATION}),
    Instrument: frozenset({Kind.INSTRUMENT}),
    Greeks: frozenset({Kind.GREEKS}),
    Bar: frozenset({Kind.BAR}),
    TopicStatus: frozenset(Kind),
    Gap: frozenset(Kind),
}


class Event(Struct, gc=False):
    """One payload of one topic, before it has a sequence.

    Args:
        topic: where it belongs.
        payload: one of the classes above, of the topic's kind.
        received_ts_ns: when Raven read the frame that carried it, wall clock.
        venue_ts_ns: when it happened at the venue; None where the venue does not say. Never invented.
        flags: bits of `Flag`.
    """

    topic: Topic
    payload: Payload
    received_ts_ns: int
    venue_ts_ns: int | None = None
    flags: int = 0
