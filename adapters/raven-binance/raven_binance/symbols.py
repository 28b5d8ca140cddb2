"""Canonical symbols ("BTC-USDT") and Binance's own ("BTCUSDT")."""

from __future__ import annotations

from raven.errors import InvalidName, InvalidValue
from raven.model.topic import check_symbol

__all__ = ["canonical_symbol", "format_stream_symbol", "format_venue_symbol", "split_venue_symbol"]

# Longest first, so that "FDUSD" is not read as something that ends in "USD". Only for where the venue cannot be asked.
KNOWN_QUOTES = tuple(
    "FDUSD USDT USDC TUSD BUSD USD1 BIDR IDRT BTC ETH BNB EUR TRY BRL GBP JPY ARS MXN USD DAI".split()  # noqa: SIM905
)


def format_venue_symbol(symbol: str, field: str = "symbols") -> str:
    """The venue's spelling of a canonical spot symbol.

    >>> format_venue_symbol("BTC-USDT")
    'BTCUSDT'

    Raises:
        InvalidValue: not of the form BASE-QUOTE.
    """
    base, dash, quote = symbol.partition("-")
    if not (dash and base.isalnum() and quote.isalnum()):
        raise InvalidValue(field, symbol, 'a spot symbol is BASE-QUOTE, as "BTC-USDT"')
    return base + quote


def format_stream_symbol(venue_symbol: str) -> str:
    """As stream names have it: in lower case."""
    return venue_symbol.lower()


def canonical_symbol(base: str, quote: str) -> str | None:
    """The canonical symbol of two assets; None where one cannot be written in a topic (the venue lists non-Latin names)."""
    try:
        return check_symbol(f"{base}-{quote}")
    except InvalidName:
        return None


def split_venue_symbol(venue_symbol: str) -> tuple[str, str]:
    """Base and quote by the quotes that are known, for recordings that come without the venue's own list.

    >>> split_venue_symbol("ETHFDUSD")
    ('ETH', 'FDUSD')

    Raises:
        InvalidValue: it ends in no known quote.
    """
    for quote in KNOWN_QUOTES:
        if venue_symbol.endswith(quote) and venue_symbol != quote:
            return venue_symbol[: -len(quote)], quote
    raise InvalidValue("symbol", venue_symbol, f"a symbol that ends in one of {', '.join(KNOWN_QUOTES)}")
