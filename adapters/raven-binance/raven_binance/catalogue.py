"""REST `exchangeInfo` into instruments; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct, field

from raven.errors import FrameError
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, SizeUnit
from raven_binance.symbols import canonical_symbol
from raven_binance.wire import UNREADABLE

__all__ = ["SpotSymbol", "parse_exchange_info", "spot_instrument", "trim_decimal"]

_STATUS: Mapping[str, InstrumentStatus] = {
    "TRADING": InstrumentStatus.TRADING,
    "HALT": InstrumentStatus.HALTED,
    "BREAK": InstrumentStatus.HALTED,
    "AUCTION_MATCH": InstrumentStatus.HALTED,
    "PRE_TRADING": InstrumentStatus.PRE_OPEN,
    "POST_TRADING": InstrumentStatus.CLOSED,
    "END_OF_DAY": InstrumentStatus.CLOSED,
}


class Filter(Struct):
    """One of a symbol's trading rules; which keys it has depends on `kind`."""

    kind: str = field(name="filterType")
    tick_size: str = field(name="tickSize", default="")
    step_size: str = field(name="stepSize", default="")
    min_size: str = field(name="minQty", default="")
    min_notional: str = field(name="minNotional", default="")


class SpotSymbol(Struct):
    """One entry of `symbols`."""

    symbol: str
    status: str = ""
    base: str = field(name="baseAsset", default="")
    quote: str = field(name="quoteAsset", default="")
    filters: list[Filter] = field(default_factory=list)


class _ExchangeInfo(Struct):
    symbols: list[SpotSymbol]


_decode = msgspec.json.Decoder(_ExchangeInfo).decode


def parse_exchange_info(body: bytes) -> list[SpotSymbol]:
    """The symbols in an `exchangeInfo` body. Raises FrameError."""
    try:
        return _decode(body).symbols
    except UNREADABLE as error:
        raise FrameError(f"exchangeInfo: {error}") from error


def spot_instrument(venue: str, listed: SpotSymbol) -> Instrument | None:
    """The instrument that `listed` defines; None where its assets cannot be written as a canonical symbol."""
    symbol = canonical_symbol(listed.base, listed.quote)
    if symbol is None:
        return None
    return Instrument(
        venue,
        symbol,
        listed.symbol,
        type=InstrumentType.SPOT,
        status=_STATUS.get(listed.status, InstrumentStatus.UNSPECIFIED),
        base=listed.base,
        quote=listed.quote,
        settle=listed.quote,
        price_increment=_rule(listed.filters, ("PRICE_FILTER",), "tick_size"),
        size_increment=_rule(listed.filters, ("LOT_SIZE",), "step_size"),
        size_unit=SizeUnit.BASE,
        min_size=_rule(listed.filters, ("LOT_SIZE",), "min_size"),
        min_notional=_rule(listed.filters, ("NOTIONAL", "MIN_NOTIONAL"), "min_notional"),
    )


def trim_decimal(text: str) -> str:
    """The same decimal without zeros at its end; empty for zero, by which the venue says that a rule is off.

    >>> trim_decimal("0.01000000"), trim_decimal("10.00000000"), trim_decimal("100"), trim_decimal("0.00000000")
    ('0.01', '10', '100', '')
    """
    trimmed = text.rstrip("0").rstrip(".") if "." in text else text
    return "" if trimmed == "0" else trimmed


def _rule(filters: Iterable[Filter], kinds: tuple[str, ...], name: str) -> str:
    """The value of a rule. By its kind and never by its place: the venue changes the order and adds kinds."""
    for kind in kinds:
        for each in filters:
            if each.kind == kind:
                return trim_decimal(getattr(each, name))
    return ""
