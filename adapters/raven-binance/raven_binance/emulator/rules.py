"""What the emulator lists, and its `exchangeInfo`; pure."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import msgspec

from raven.errors import InvalidValue
from raven_binance.symbols import split_venue_symbol

__all__ = ["SYMBOLS", "SymbolRules", "decimal_text", "exchange_info", "rules_of"]

UNITS = 100_000_000  # the venue writes eight decimals


@attrs.frozen
class SymbolRules:
    """One listed symbol.

    Args:
        tick_units, step_units, price_units: increments of price and size, and a price to begin with, in units of 1e-8.
        lots_usual: an order's size is below so many steps.
    """

    symbol: str
    base: str
    quote: str
    tick_units: int = 1_000_000
    step_units: int = 1_000
    price_units: int = 100 * UNITS
    lots_usual: int = 100_000


SYMBOLS = (
    SymbolRules("BTCUSDT", "BTC", "USDT", price_units=61_837 * UNITS),
    SymbolRules("ETHUSDT", "ETH", "USDT", step_units=10_000, price_units=2_683 * UNITS),
    SymbolRules("SOLUSDT", "SOL", "USDT", step_units=100_000, price_units=163 * UNITS),
)


def rules_of(symbol: str) -> SymbolRules:
    """The rules of a recorded symbol: those above, or usual ones for a symbol that is not among them."""
    for rules in SYMBOLS:
        if rules.symbol == symbol:
            return rules
    try:
        base, quote = split_venue_symbol(symbol)
    except InvalidValue:
        base, quote = symbol, "UNKNOWN"
    return SymbolRules(symbol, base, quote)


def exchange_info(symbols: Iterable[SymbolRules], now_ms: int) -> bytes:
    """The body of the answer about these symbols."""
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
    return msgspec.json.encode(
        {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [limit],
            "exchangeFilters": [],
            "symbols": [_entry(rules) for rules in symbols],
        }
    )


def _entry(rules: SymbolRules) -> dict[str, object]:
    tick, step = decimal_text(rules.tick_units), decimal_text(rules.step_units)
    return {
        "symbol": rules.symbol,
        "status": "TRADING",
        "baseAsset": rules.base,
        "baseAssetPrecision": 8,
        "quoteAsset": rules.quote,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "avgPriceMins": 5},
        ],
    }


def decimal_text(units: int) -> str:
    """So many 1e-8, as the venue writes it."""
    return f"{units // UNITS}.{units % UNITS:08d}"
