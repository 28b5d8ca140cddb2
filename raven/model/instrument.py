"""What can be traded at a venue: definition and trading status."""

from __future__ import annotations

from enum import IntEnum

import attrs

__all__ = ["Instrument", "InstrumentStatus", "InstrumentType", "OptionType", "PriceStep", "SizeUnit"]


class InstrumentType(IntEnum):
    """The numbers are those of raven.v1.Instrument.Type."""

    UNSPECIFIED = 0
    SPOT = 1
    PERPETUAL = 2
    FUTURE = 3
    OPTION = 4
    INDEX = 5


class InstrumentStatus(IntEnum):
    """Whether it trades."""

    UNSPECIFIED = 0
    TRADING = 1
    HALTED = 2
    PRE_OPEN = 3
    CLOSED = 4


class SizeUnit(IntEnum):
    """In what every size, volume and amount of an instrument is counted."""

    UNSPECIFIED = 0
    BASE = 1
    QUOTE = 2
    CONTRACT = 3


class OptionType(IntEnum):
    """Call or put."""

    UNSPECIFIED = 0
    CALL = 1
    PUT = 2


@attrs.frozen
class PriceStep:
    """From this price on, this increment. Exact decimal strings."""

    from_price: str
    increment: str


@attrs.frozen
class Instrument:
    """One instrument of one venue.

    Args:
        venue: the venue's name in topics.
        symbol: canonical ("BTC-USDT", "BTC-USDT-PERP"); unique within the venue.
        venue_symbol: the venue's own spelling ("BTCUSDT").
        price_increment, size_increment, contract_size, strike, min_size, min_notional: exact decimal strings, empty where the
            venue does not say.
        expiry_ts_ns, listed_ts_ns: 0 where there is none.
    """

    venue: str
    symbol: str
    venue_symbol: str
    type: InstrumentType = InstrumentType.UNSPECIFIED
    status: InstrumentStatus = InstrumentStatus.UNSPECIFIED
    base: str = ""
    quote: str = ""
    settle: str = ""
    price_increment: str = ""
    size_increment: str = ""
    contract_size: str = ""
    contract_currency: str = ""
    size_unit: SizeUnit = SizeUnit.UNSPECIFIED
    inverse: bool = False
    expiry_ts_ns: int = 0
    listed_ts_ns: int = 0
    strike: str = ""
    option_type: OptionType = OptionType.UNSPECIFIED
    underlying: str = ""
    min_size: str = ""
    min_notional: str = ""
    price_steps: tuple[PriceStep, ...] = ()
