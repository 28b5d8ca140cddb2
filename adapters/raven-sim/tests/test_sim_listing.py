from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.errors import InvalidValue
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, SizeUnit
from raven_sim.listing import Scale, parse_listing
from raven_sim.tables import LADDER, ladder, size_units

assets = st.from_regex(r"[A-Z0-9]{2,10}", fullmatch=True).filter(lambda text: not text.startswith("PERP"))


def test_spot() -> None:
    assert parse_listing("BTC-USDT").instrument("sim") == Instrument(
        venue="sim",
        symbol="BTC-USDT",
        venue_symbol="BTC-USDT",
        type=InstrumentType.SPOT,
        status=InstrumentStatus.TRADING,
        base="BTC",
        quote="USDT",
        settle="USDT",
        price_increment="0.1",
        size_increment="0.00001",
        size_unit=SizeUnit.BASE,
        min_size="0.00001",
    )


def test_perpetual() -> None:
    perpetual = parse_listing("ETH-USDT-PERP").instrument("demo")
    assert (perpetual.venue, perpetual.type, perpetual.settle) == ("demo", InstrumentType.PERPETUAL, "USDT")
    assert (perpetual.contract_size, perpetual.contract_currency, perpetual.underlying) == ("1", "ETH", "ETH-USDT")


@pytest.mark.parametrize(
    ("symbol", "price", "increment"),
    [
        ("BTC-USDT", 64_000.0, "0.1"),
        ("ETH-BTC", 0.05, "0.0000001"),
        ("USDC-USDT", 1.0, "0.00001"),
        ("BTC-JPY", 9_552_240.0, "10"),
        ("BTC-USDT-PERP", 64_000.0, "0.1"),
    ],
)
def test_known_prices(symbol: str, price: float, increment: str) -> None:
    listing = parse_listing(symbol)
    assert listing.price.value(listing.ticks) == price
    assert listing.price.text == increment


@pytest.mark.parametrize(
    "symbol", ["BTCUSDT", "BTC", "BTC-USD-20261225", "BTC-PERP", "BTC-USD-PERP:BTC", "btc-usdt", "-USDT", "A-B-C"]
)
def test_other_symbols_are_refused(symbol: str) -> None:
    with pytest.raises(InvalidValue, match=r"^symbols: .* is not valid: BASE-QUOTE or BASE-QUOTE-PERP") as caught:
        parse_listing(symbol)
    assert caught.value.value == symbol


@given(base=assets, quote=assets)
@settings(max_examples=60, deadline=None)
def test_any_pair_has_tidy_prices_and_sizes(base: str, quote: str) -> None:
    listing = parse_listing(f"{base}-{quote}")
    prices, increment = ladder(listing), Decimal(listing.price.text)
    lowest = listing.ticks - LADDER // 2
    assert prices == [float(increment * (lowest + place)) for place in range(LADDER)]
    assert 0 < prices[0] < prices[-1]
    assert 0.99 < prices[0] / prices[-1] < 1
    units = size_units(listing)
    assert units == sorted(units)
    assert units[0] >= 1
    assert listing.size.values(units) == [float(Decimal(listing.size.text) * count) for count in units]


@given(exponent=st.integers(-18, 6), count=st.integers(0, 10**15))
@settings(max_examples=100)
def test_scale_gives_the_nearest_double(exponent: int, count: int) -> None:
    exact = Fraction(Scale(exponent).text) * count
    assert Scale(exponent).value(count) == float(exact)
    assert Scale(exponent).values([count]) == [float(exact)]
    assert len(Scale(exponent).text.rstrip("0")) <= 20
