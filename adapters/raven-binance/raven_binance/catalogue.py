"""REST `exchangeInfo` of spot and of USD-M into instruments; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import Struct, field

from raven.errors import FrameError
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, SizeUnit
from raven_binance.symbols import PERPETUAL, canonical_symbol
from raven_binance.wire import UNREADABLE

__all__ = ["ListedSymbol", "parse_exchange_info", "spot_instrument", "trim_decimal", "usdm_instrument"]

_STATUS: Mapping[str, InstrumentStatus] = {
    "TRADING": InstrumentStatus.TRADING,
    "HALT": InstrumentStatus.HALTED,
    "BREAK": InstrumentStatus.HALTED,
    "AUCTION_MATCH": InstrumentStatus.HALTED,
    "PRE_TRADING": InstrumentStatus.PRE_OPEN,
    "POST_TRADING": InstrumentStatus.CLOSED,
    "END_OF_DAY": InstrumentStatus.CLOSED,
    # USD-M
    "PENDING_TRADING": InstrumentStatus.PRE_OPEN,
    "PRE_DELIVERING": InstrumentStatus.TRADING,
    "PRE_SETTLE": InstrumentStatus.HALTED,
    "SETTLING": InstrumentStatus.HALTED,
    "DELIVERING": InstrumentStatus.HALTED,
    "DELIVERED": InstrumentStatus.CLOSED,
    "CLOSE": InstrumentStatus.CLOSED,
}

COIN_M = 2  # `st`: the business that a listing belongs to
NEVER_MS = 4_102_444_800_000  # the year 2100: a perpetual's date of delivery is behind it until one is set


class Filter(Struct):
    """One of a symbol's trading rules; which keys it has depends on `kind`."""

    kind: str = field(name="filterType")
    tick_size: str = field(name="tickSize", default="")
    step_size: str = field(name="stepSize", default="")
    min_size: str = field(name="minQty", default="")
    min_notional: str = field(name="minNotional", default="")
    notional: str = ""  # what USD-M calls it


class ListedSymbol(Struct):
    """One entry of `symbols`; what follows `filters` is said of contracts only."""

    symbol: str
    status: str = ""
    base: str = field(name="baseAsset", default="")
    quote: str = field(name="quoteAsset", default="")
    filters: list[Filter] = field(default_factory=list)
    contract_type: str = field(name="contractType", default="")
    settle: str = field(name="marginAsset", default="")
    delivery_ms: int = field(name="deliveryDate", default=0)
    onboard_ms: int = field(name="onboardDate", default=0)
    business: int = field(name="st", default=0)


class _ExchangeInfo(Struct):
    symbols: list[ListedSymbol]


_decode = msgspec.json.Decoder(_ExchangeInfo).decode


def parse_exchange_info(body: bytes) -> list[ListedSymbol]:
    """The symbols in an `exchangeInfo` body. Raises FrameError."""
    try:
        return _decode(body).symbols
    except UNREADABLE as error:
        raise FrameError(f"exchangeInfo: {error}") from error


def spot_instrument(venue: str, listed: ListedSymbol) -> Instrument | None:
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


def usdm_instrument(venue: str, listed: ListedSymbol) -> Instrument | None:
    """The contract that `listed` defines; None where it has no canonical symbol, or is one of another market."""
    perpetual = listed.contract_type.replace(" ", "_").endswith(("PERPETUAL", "PERPETUAL_DELIVERING"))
    term = PERPETUAL if perpetual else _date(listed.delivery_ms)
    symbol = canonical_symbol(listed.base, listed.quote, term) if listed.contract_type and term else None
    settle = listed.settle or listed.quote
    if symbol is None or listed.business == COIN_M or settle == listed.base:
        return None
    return Instrument(
        venue,
        symbol if settle == listed.quote else f"{symbol}:{settle}",
        listed.symbol,
        type=InstrumentType.PERPETUAL if perpetual else InstrumentType.FUTURE,
        status=_STATUS.get(listed.status, InstrumentStatus.UNSPECIFIED),
        base=listed.base,
        quote=listed.quote,
        settle=settle,
        price_increment=_rule(listed.filters, ("PRICE_FILTER",), "tick_size"),
        size_increment=_rule(listed.filters, ("LOT_SIZE",), "step_size"),
        contract_size="1",
        contract_currency=listed.base,
        size_unit=SizeUnit.BASE,
        expiry_ts_ns=_time_ns(listed.delivery_ms),
        listed_ts_ns=_time_ns(listed.onboard_ms),
        min_size=_rule(listed.filters, ("LOT_SIZE",), "min_size"),
        min_notional=_rule(listed.filters, ("MIN_NOTIONAL",), "notional", "min_notional"),
    )


def _time_ns(stamp_ms: int) -> int:
    return stamp_ms * 1_000_000 if 0 < stamp_ms < NEVER_MS else 0


def _date(stamp_ms: int) -> str:
    return f"{datetime.fromtimestamp(stamp_ms / 1000, UTC):%Y%m%d}" if 0 < stamp_ms < NEVER_MS else ""


def trim_decimal(text: str) -> str:
    """The same decimal without zeros at its end; empty for zero, by which the venue says that a rule is off.

    >>> trim_decimal("0.01000000"), trim_decimal("10.00000000"), trim_decimal("100"), trim_decimal("0.00000000")
    ('0.01', '10', '100', '')
    """
    trimmed = text.rstrip("0").rstrip(".") if "." in text else text
    return "" if trimmed == "0" else trimmed


def _rule(filters: Iterable[Filter], kinds: tuple[str, ...], *names: str) -> str:
    """The value of a rule. By its kind and never by its place: the venue changes the order and adds kinds."""
    for kind in kinds:
        for each in filters:
            if each.kind == kind:
                return next((trim_decimal(text) for text in (getattr(each, name) for name in names) if text), "")
    return ""
