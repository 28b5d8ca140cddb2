"""USD-M's symbols and instruments, its options, and how the adapter divides a feed by the venue's paths."""

from __future__ import annotations

from typing import Any

import pytest

from raven.adapter import Capabilities, FeedSpec, Kind, Topic, load_adapter
from raven.errors import ConfigError, InvalidValue
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, SizeUnit
from raven.structure import structure
from raven_binance import BinanceUsdmAdapter, UsdmOptions
from raven_binance.catalogue import parse_exchange_info, usdm_instrument
from raven_binance.market import USDM_INTERVALS
from raven_binance.symbols import format_contract_symbol

VENUE, PERP = "binance-usdm", "BTC-USDT-PERP"

EXCHANGE_INFO = """{"symbols":[
{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,"onboardDate":1569398400000,
"status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","pricePrecision":2,"filters":[
{"filterType":"MIN_NOTIONAL","notional":"100"},{"filterType":"MAX_NUM_ORDERS","limit":200},
{"filterType":"LOT_SIZE","minQty":"0.001","stepSize":"0.001","maxQty":"1000"},
{"filterType":"MARKET_LOT_SIZE","minQty":"0.001","stepSize":"0.01","maxQty":"120"},
{"filterType":"PRICE_FILTER","minPrice":"556.80","maxPrice":"4529764","tickSize":"0.10"}]},
{"symbol":"BTCUSDT_261225","contractType":"CURRENT_QUARTER","deliveryDate":1798185600000,"status":"PENDING_TRADING",
"baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","filters":[]},
{"symbol":"OLDUSDT","contractType":"PERPETUAL","deliveryDate":1700000000000,"status":"SETTLING",
"baseAsset":"OLD","quoteAsset":"USDT","marginAsset":"USDT"},
{"symbol":"BTCETH","contractType":"PERPETUAL","status":"TRADING","baseAsset":"BTC","quoteAsset":"ETH","marginAsset":"USDT"},
{"symbol":"BTCUSD_PERP","contractType":"PERPETUAL","status":"TRADING","baseAsset":"BTC","quoteAsset":"USD","marginAsset":"BTC"},
{"symbol":"XUSD","contractType":"PERPETUAL","status":"TRADING","baseAsset":"X","quoteAsset":"USD","marginAsset":"USD","st":2},
{"symbol":"NEWUSDT","contractType":"","status":"PENDING_TRADING","baseAsset":"NEW","quoteAsset":"USDT","marginAsset":"USDT"}]}"""


def test_exchange_info() -> None:
    listed = parse_exchange_info(EXCHANGE_INFO.encode())
    btc, dated, old, cross, *others = (usdm_instrument(VENUE, entry) for entry in listed)
    assert btc == Instrument(
        VENUE,
        PERP,
        "BTCUSDT",
        type=InstrumentType.PERPETUAL,
        status=InstrumentStatus.TRADING,
        base="BTC",
        quote="USDT",
        settle="USDT",
        price_increment="0.1",
        size_increment="0.001",
        contract_size="1",
        contract_currency="BTC",
        size_unit=SizeUnit.BASE,
        listed_ts_ns=1_569_398_400_000_000_000,
        min_size="0.001",
        min_notional="100",
    )
    assert dated is not None
    assert (dated.symbol, dated.type, dated.status) == ("BTC-USDT-20261225", InstrumentType.FUTURE, InstrumentStatus.PRE_OPEN)
    assert dated.expiry_ts_ns == 1_798_185_600_000_000_000
    assert old is not None
    assert (old.status, old.expiry_ts_ns) == (InstrumentStatus.HALTED, 1_700_000_000_000_000_000)  # it is being delisted
    assert cross is not None
    assert (cross.symbol, cross.settle) == ("BTC-ETH-PERP:USDT", "USDT")
    assert others == [None, None, None]  # two of the other business, and one that is nothing yet


def test_canonical_and_venue_symbols_lead_to_each_other() -> None:
    for entry in parse_exchange_info(EXCHANGE_INFO.encode())[:4]:
        instrument = usdm_instrument(VENUE, entry)
        assert instrument is not None
        assert format_contract_symbol(instrument.symbol) == entry.symbol


@pytest.mark.parametrize(
    "symbol",
    ["BTCUSDT", "BTC-USDT", "-USDT-PERP", "BTC--PERP", "BTC-USDT-PERPS", "BTC-USDT-20261301", "BTC-USDT-261225", "BTC-USDT-"],
)
def test_a_symbol_that_is_no_contract(symbol: str) -> None:
    with pytest.raises(InvalidValue, match="BASE-QUOTE-PERP or BASE-QUOTE-YYYYMMDD"):
        format_contract_symbol(symbol)


def test_the_entry_point_leads_to_the_adapter() -> None:
    adapter = load_adapter("binance-usdm")
    assert isinstance(adapter, BinanceUsdmAdapter)
    kinds = set(Kind) - {Kind.BOOK_TOP, Kind.GREEKS, Kind.BAR}
    assert adapter.capabilities == Capabilities(frozenset(kinds), USDM_INTERVALS)
    assert "1s" not in USDM_INTERVALS
    assert structure(adapter.options_type, {}) == UsdmOptions()


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"ws_url": "wss://fstream.binance.com/public"}, "ws_url"),
        ({"rest_url": "https://fapi.binance.com/fapi"}, "rest_url"),
        ({"depth_limit": 5000}, "depth_limit"),
        ({"depth_speed": "1000ms"}, "depth_speed"),
        ({"trade_stream": "trades"}, "trade_stream"),
        ({"open_interest_s": 1}, "open_interest_s"),
        ({"open_interest_s": 86400}, "open_interest_s"),
    ],
)
def test_options_that_cannot_be(table: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure(UsdmOptions, table, "feeds[0].options")
    assert caught.value.field == f"feeds[0].options.{field}"


def plan(*kinds: Kind, symbols: tuple[str, ...] = (PERP,), **options: Any) -> dict[str, tuple[str | None, set[Kind], int]]:
    topics = tuple(Topic(VENUE, symbol, kind, "1m" if kind is Kind.CANDLE else "") for symbol in symbols for kind in kinds)
    connections = BinanceUsdmAdapter().connections(FeedSpec(VENUE, topics, UsdmOptions(**options)))
    assert sorted(topic for connection in connections for topic in connection.topics) == sorted(topics)
    return {each.name: (each.url, {topic.kind for topic in each.topics}, len(each.topics)) for each in connections}


def test_two_connections_by_path() -> None:
    kinds = BinanceUsdmAdapter.capabilities.kinds
    public = {Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.INSTRUMENT}
    assert plan(*kinds) == {
        "public": ("wss://fstream.binance.com/public/stream", public, 4),
        "market": ("wss://fstream.binance.com/market/stream", kinds - public, len(kinds) - 4),
    }


@pytest.mark.parametrize(
    ("kinds", "options", "names"),
    [
        ((Kind.TRADE,), {}, ["public"]),
        ((Kind.TRADE,), {"trade_stream": "aggTrade"}, ["market"]),
        ((Kind.TRADE, Kind.OPEN_INTEREST), {}, ["public"]),
        ((Kind.MARK_PRICE, Kind.INSTRUMENT), {}, ["market"]),
        ((Kind.INSTRUMENT, Kind.OPEN_INTEREST), {}, ["public", "market"]),
        ((), {}, ["public"]),
    ],
)
def test_a_connection_only_where_there_is_something_for_it(
    kinds: tuple[Kind, ...], options: dict[str, Any], names: list[str]
) -> None:
    assert list(plan(*kinds, **options)) == names


def test_mark_price_and_funding_are_one_stream_of_the_venues_limit() -> None:
    symbols = tuple(f"A{number}-USDT-PERP" for number in range(1100))
    planned = plan(Kind.MARK_PRICE, Kind.FUNDING, symbols=symbols)
    assert {name: count for name, (_, _, count) in planned.items()} == {"market": 2048, "market-2": 152}


@pytest.mark.parametrize(
    ("topic", "field"),
    [
        (Topic(VENUE, "BTC-USDT", Kind.TRADE), "symbols"),
        (Topic(VENUE, PERP, Kind.GREEKS), "kinds"),
        (Topic(VENUE, PERP, Kind.CANDLE, "1s"), "intervals"),
    ],
)
def test_a_topic_that_cannot_be(topic: Topic, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        BinanceUsdmAdapter().connections(FeedSpec(VENUE, (topic,), UsdmOptions()))
    assert caught.value.field == field
