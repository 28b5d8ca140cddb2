"""What the simulated venue trades: every BASE-QUOTE and BASE-QUOTE-PERP, each with a plausible price and increments.

Prices start with six significant digits and all increments are powers of ten, so a price is a whole number of increments and
its double is the one nearest to the decimal.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable

import attrs

from raven.errors import InvalidValue
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, SizeUnit

__all__ = ["Listing", "Scale", "parse_listing"]

PRICE_DIGITS = 6
MEDIAN_TRADE_USD = 500.0

_SYMBOL = re.compile(r"([A-Z0-9]{1,16})-(?!PERP)([A-Z0-9]{1,16})(-PERP)?", re.ASCII)

_USD = {
    "BTC": 64_000.0, "ETH": 3_200.0, "BNB": 580.0, "SOL": 150.0, "BCH": 380.0, "LTC": 72.0, "AVAX": 28.0, "LINK": 13.5,
    "DOT": 6.1, "XRP": 0.55, "ADA": 0.42, "TRX": 0.13, "DOGE": 0.12, "USD": 1.0, "USDT": 1.0, "USDC": 1.0, "DAI": 1.0,
    "EUR": 1.08, "GBP": 1.27, "CHF": 1.12, "JPY": 0.0067,
}  # fmt: skip


@attrs.frozen
class Scale:
    """Whole numbers of an increment of 10 ** `exponent`."""

    exponent: int

    def value(self, count: int) -> float:
        """`count` increments: the double nearest to the decimal (whole number by whole number, so rounded once).

        >>> Scale(-2).value(6_400_012)
        64000.12
        """
        return float(count * 10**self.exponent) if self.exponent >= 0 else count / 10**-self.exponent

    def values(self, counts: Iterable[int]) -> list[float]:
        """`value` of each, with the work that they share done once."""
        if self.exponent >= 0:
            return [self.value(count) for count in counts]
        divisor = 10**-self.exponent
        return [count / divisor for count in counts]

    @property
    def text(self) -> str:
        """The increment as an exact decimal string.

        >>> Scale(-5).text
        '0.00001'
        """
        return "1" + "0" * self.exponent if self.exponent >= 0 else "0." + "0" * (-self.exponent - 1) + "1"


@attrs.frozen
class Listing:
    """One symbol of the simulated venue.

    Args:
        ticks: the price around which it moves, in price increments.
        units: the median size, in size increments.
    """

    symbol: str
    base: str
    quote: str
    perpetual: bool
    price: Scale
    size: Scale
    ticks: int
    units: int

    @property
    def value(self) -> Scale:
        """Of a price in increments times a size in increments."""
        return Scale(self.price.exponent + self.size.exponent)

    def instrument(self, venue: str) -> Instrument:
        """Its definition. The venue's own spelling is the canonical one; perpetuals are linear and settle in the quote."""
        return Instrument(
            venue=venue,
            symbol=self.symbol,
            venue_symbol=self.symbol,
            type=InstrumentType.PERPETUAL if self.perpetual else InstrumentType.SPOT,
            status=InstrumentStatus.TRADING,
            base=self.base,
            quote=self.quote,
            settle=self.quote,
            price_increment=self.price.text,
            size_increment=self.size.text,
            contract_size="1" if self.perpetual else "",
            contract_currency=self.base if self.perpetual else "",
            size_unit=SizeUnit.BASE,
            underlying=f"{self.base}-{self.quote}" if self.perpetual else "",
            min_size=self.size.text,
        )


def parse_listing(symbol: str) -> Listing:
    """The listing of a canonical symbol.

    Raises:
        InvalidValue: it is neither BASE-QUOTE nor BASE-QUOTE-PERP; the field is "symbols".
    """
    match = _SYMBOL.fullmatch(symbol)
    if match is None:
        raise InvalidValue("symbols", symbol, "BASE-QUOTE or BASE-QUOTE-PERP, such as 'BTC-USDT' or 'BTC-USDT-PERP'")
    base, quote, perpetual = match.groups()
    price = _usd(base) / _usd(quote)
    median = MEDIAN_TRADE_USD / _usd(base)
    tick = Scale(_magnitude(price) - PRICE_DIGITS + 1)
    step = Scale(min(0, _magnitude(median) - 2))
    ticks, units = round(price / 10.0**tick.exponent), round(median / 10.0**step.exponent)
    return Listing(symbol, base, quote, bool(perpetual), tick, step, ticks, units)


def _usd(asset: str) -> float:
    """What an asset is worth in USD; of one that has no entry between 0.01 and 1000, always the same."""
    known = _USD.get(asset)
    if known is not None:
        return known
    return float(f"{10 ** (zlib.crc32(asset.encode()) % 5000 / 1000 - 2):.4g}")


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value))
