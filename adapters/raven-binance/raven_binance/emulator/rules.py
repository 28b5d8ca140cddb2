"""What the emulator lists, and its `exchangeInfo`; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time

import attrs
import msgspec

from raven.errors import InvalidValue
from raven_binance.symbols import split_venue_symbol

__all__ = ["CONTRACTS", "SYMBOLS", "SymbolRules", "contract_info", "decimal_text", "exchange_info", "rules_of"]

UNITS = 100_000_000  # spot writes eight decimals
DELIVERY_TIME = time(8, tzinfo=UTC)
NO_DELIVERY_MS = 4_133_404_800_000  # how the venue writes it
ONBOARD_MS = 1_569_398_400_000


@attrs.frozen
class SymbolRules:
    """One listed symbol.

    Args:
        tick_units, step_units, price_units: increments of price and size, and a price to begin with, in units of 1e-8.
        lots_usual: an order's size is below so many steps.
        price_decimals, size_decimals: how many the venue writes.
    """

    symbol: str
    base: str
    quote: str
    tick_units: int = 1_000_000
    step_units: int = 1_000
    price_units: int = 100 * UNITS
    lots_usual: int = 100_000
    price_decimals: int = 8
    size_decimals: int = 8

    @property
    def delivery_ms(self) -> int:
        """When a contract ends, by its symbol ("BTCUSDT_261225")."""
        _, dated, day = self.symbol.partition("_")
        if not dated:
            return NO_DELIVERY_MS
        return int(datetime.combine(date.fromisoformat(f"20{day[:2]}-{day[2:4]}-{day[4:]}"), DELIVERY_TIME).timestamp() * 1000)

    def price(self, ticks: int) -> str:
        """A price as the venue writes it."""
        return decimal_text(ticks * self.tick_units, self.price_decimals)

    def size(self, lots: int) -> str:
        """A size as the venue writes it."""
        return decimal_text(lots * self.step_units, self.size_decimals)

    def value(self, ticks_by_lots: int) -> str:
        """Prices times sizes as the venue writes them."""
        return decimal_text(ticks_by_lots * self.tick_units * self.step_units // UNITS, self.price_decimals)


SYMBOLS = (
    SymbolRules("BTCUSDT", "BTC", "USDT", price_units=61_837 * UNITS),
    SymbolRules("ETHUSDT", "ETH", "USDT", step_units=10_000, price_units=2_683 * UNITS),
    SymbolRules("SOLUSDT", "SOL", "USDT", step_units=100_000, price_units=163 * UNITS),
)

_BITCOIN = SymbolRules("BTCUSDT", "BTC", "USDT", 10_000_000, 100_000, 61_800 * UNITS, 2_000, 2, 3)

CONTRACTS = (
    _BITCOIN,
    SymbolRules("ETHUSDT", "ETH", "USDT", 1_000_000, 100_000, 2_682 * UNITS, 20_000, 2, 3),
    attrs.evolve(_BITCOIN, symbol="BTCUSDT_261225", price_units=62_900 * UNITS),
)


def rules_of(symbol: str, known: Iterable[SymbolRules] = SYMBOLS) -> SymbolRules:
    """The rules of a recorded symbol: those above, or usual ones for a symbol that is not among them."""
    for rules in known:
        if rules.symbol == symbol:
            return rules
    try:
        base, quote = split_venue_symbol(symbol.partition("_")[0])
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


def contract_info(symbols: Iterable[SymbolRules], now_ms: int) -> bytes:
    """The body of USD-M's answer about these symbols."""
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}
    entries = [_contract_entry(rules) for rules in symbols]
    return msgspec.json.encode(
        {"timezone": "UTC", "serverTime": now_ms, "futuresType": "U_MARGINED", "rateLimits": [limit], "symbols": entries}
    )


def _contract_entry(rules: SymbolRules) -> dict[str, object]:
    tick, step = decimal_text(rules.tick_units, rules.price_decimals), decimal_text(rules.step_units, rules.size_decimals)
    return {
        "symbol": rules.symbol,
        "pair": rules.symbol.partition("_")[0],
        "contractType": "PERPETUAL" if rules.delivery_ms == NO_DELIVERY_MS else "CURRENT_QUARTER",
        "deliveryDate": rules.delivery_ms,
        "onboardDate": ONBOARD_MS,
        "status": "TRADING",
        "baseAsset": rules.base,
        "quoteAsset": rules.quote,
        "marginAsset": rules.quote,
        "pricePrecision": 8,  # not the tick, as at the venue
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000", "stepSize": step},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
    }


def decimal_text(units: int, decimals: int = 8) -> str:
    """So many 1e-8, as the venue writes it; what has no place in so many decimals is left out."""
    return f"{units // UNITS}.{units % UNITS:08d}"[: decimals - 8 or None]
