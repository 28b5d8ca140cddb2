"""Canonical symbols ("BTC-USDT", "BTC-USDT-PERP") and Binance's own ("BTCUSDT", "BTCUSDT_261225")."""

from __future__ import annotations

from datetime import UTC, datetime

from raven.errors import InvalidName, InvalidValue
from raven.model.topic import check_symbol

__all__ = [
    "canonical_symbol",
    "format_contract_symbol",
    "format_stream_symbol",
    "format_venue_symbol",
    "split_venue_symbol",
]

PERPETUAL = "PERP"

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


def format_contract_symbol(symbol: str, field: str = "symbols") -> str:
    """The venue's spelling of a canonical symbol of USD-M.

    >>> format_contract_symbol("BTC-USDT-PERP"), format_contract_symbol("BTC-USDT-20261225")
    ('BTCUSDT', 'BTCUSDT_261225')

    Raises:
        InvalidValue: neither a perpetual nor a contract with a date.
    """
    base, _, rest = symbol.partition(":")[0].partition("-")
    quote, _, term = rest.partition("-")
    if base.isalnum() and quote.isalnum():
        if term == PERPETUAL:
            return base + quote
        if _is_date(term):
            return f"{base}{quote}_{term[2:]}"
    expected = 'a contract is BASE-QUOTE-PERP or BASE-QUOTE-YYYYMMDD, as "BTC-USDT-PERP" and "BTC-USDT-20261225"'
    raise InvalidValue(field, symbol, expected)


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and text.startswith("20") and bool(datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC))
    except ValueError:
        return False


def format_stream_symbol(venue_symbol: str) -> str:
    """As stream names have it: in lower case."""
    return venue_symbol.lower()


def canonical_symbol(base: str, quote: str, term: str = "") -> str | None:
    """The canonical symbol of two assets, and the term of a contract ("PERP", "20261225").

    None where an asset cannot be written in a topic (the venue lists non-Latin names).
    """
    try:
        return check_symbol("-".join(filter(None, (base, quote, term))))
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
