"""Symbols, instruments, and how an adapter divides a feed."""

from __future__ import annotations

from typing import Any

import pytest

from raven.adapter import Capabilities, FeedSpec, Kind, Topic, load_adapter
from raven.errors import ConfigError, FrameError, InvalidValue
from raven.model.instrument import Instrument, InstrumentStatus, InstrumentType, SizeUnit
from raven.structure import structure
from raven_binance import BinanceSpotAdapter, SpotOptions
from raven_binance.adapter import STREAMS_PER_CONNECTION_MAX
from raven_binance.catalogue import parse_exchange_info, spot_instrument, trim_decimal
from raven_binance.market import SPOT_INTERVALS
from raven_binance.symbols import canonical_symbol, format_stream_symbol, format_venue_symbol, split_venue_symbol

# Keys and filters as `rest-api.md` has them; the NOTIONAL filter stands last but one on purpose.
EXCHANGE_INFO = """{"timezone":"UTC","serverTime":1565246363776,"rateLimits":[],"exchangeFilters":[],"symbols":[
{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","baseAssetPrecision":8,"quoteAsset":"USDT","filters":[
{"filterType":"LOT_SIZE","minQty":"0.00001000","maxQty":"9000.00000000","stepSize":"0.00001000"},
{"filterType":"ICEBERG_PARTS","limit":10},
{"filterType":"PRICE_FILTER","minPrice":"0.01000000","maxPrice":"1000000.00000000","tickSize":"0.01000000"},
{"filterType":"NOTIONAL","minNotional":"5.00000000","applyMinToMarket":true,"maxNotional":"9000000.00000000"},
{"filterType":"MAX_NUM_ORDERS","maxNumOrders":200}]},
{"symbol":"SHIBDOGE","status":"BREAK","baseAsset":"SHIB","quoteAsset":"DOGE","filters":[
{"filterType":"PRICE_FILTER","tickSize":"0.00000000"},{"filterType":"LOT_SIZE","stepSize":"1.00000000","minQty":"100"},
{"filterType":"MIN_NOTIONAL","minNotional":"10.00000000"}]},
{"symbol":"\\u5e01\\u5b89USDT","status":"TRADING","baseAsset":"\\u5e01\\u5b89","quoteAsset":"USDT","filters":[]}]}"""


def test_exchange_info() -> None:
    btc, shib, foreign = (spot_instrument("binance-spot", entry) for entry in parse_exchange_info(EXCHANGE_INFO.encode()))
    assert btc == Instrument(
        "binance-spot",
        "BTC-USDT",
        "BTCUSDT",
        type=InstrumentType.SPOT,
        status=InstrumentStatus.TRADING,
        base="BTC",
        quote="USDT",
        settle="USDT",
        price_increment="0.01",
        size_increment="0.00001",
        size_unit=SizeUnit.BASE,
        min_size="0.00001",
        min_notional="5",
    )
    assert shib is not None
    assert (shib.symbol, shib.status) == ("SHIB-DOGE", InstrumentStatus.HALTED)
    assert (shib.price_increment, shib.size_increment, shib.min_size, shib.min_notional) == ("", "1", "100", "10")
    assert foreign is None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"symbols":[{}]}', b'{"symbols":[{"symbol":1}]}', b"[" * 100_000])
def test_exchange_info_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(FrameError, match=r"^exchangeInfo: "):
        parse_exchange_info(body)


@pytest.mark.parametrize(
    ("text", "trimmed"),
    [("0.00000100", "0.000001"), ("1.00000000", "1"), ("100", "100"), ("0.10", "0.1"), ("0.00", ""), ("0", ""), ("", "")],
)
def test_decimals_keep_their_value(text: str, trimmed: str) -> None:
    assert trim_decimal(text) == trimmed


def test_symbols() -> None:
    assert format_venue_symbol("BTC-USDT") == "BTCUSDT"
    assert format_stream_symbol("1000SATSUSDT") == "1000satsusdt"
    assert canonical_symbol("1000SATS", "USDT") == "1000SATS-USDT"
    assert canonical_symbol("\u5e01\u5b89", "USDT") is None
    assert split_venue_symbol("BTCUSDT") == ("BTC", "USDT")
    assert split_venue_symbol("BTCFDUSD") == ("BTC", "FDUSD")
    with pytest.raises(InvalidValue, match=r"XYZ.*ends in one of"):
        split_venue_symbol("XYZ")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC-USDT-PERP", "-USDT", "BTC-", "BTC-USD-20261225", "BTC:X-USDT"])
def test_a_symbol_that_is_not_spot(symbol: str) -> None:
    with pytest.raises(InvalidValue, match="BASE-QUOTE"):
        format_venue_symbol(symbol)


def test_the_entry_point_leads_to_the_adapter() -> None:
    adapter = load_adapter("binance-spot")
    assert isinstance(adapter, BinanceSpotAdapter)
    kinds = {Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.CANDLE, Kind.TICKER, Kind.INSTRUMENT}
    assert adapter.capabilities == Capabilities(frozenset(kinds), SPOT_INTERVALS)
    assert (SPOT_INTERVALS[0], len(SPOT_INTERVALS)) == ("1s", 16)
    assert structure(adapter.options_type, {}) == SpotOptions()


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"ws_url": "http://127.0.0.1:9443"}, "ws_url"),
        ({"ws_url": "ws://127.0.0.1:9443/stream"}, "ws_url"),
        ({"ws_url": "ws://"}, "ws_url"),
        ({"ws_url": "ws://host:99999"}, "ws_url"),
        ({"rest_url": "https://api.binance.com/api/v3"}, "rest_url"),
        ({"rest_url": "https://api.binance.com?x=1"}, "rest_url"),
        ({"depth_limit": 99}, "depth_limit"),
        ({"all_instruments": 1}, "all_instruments"),
        ({"depht_limit": 100}, "depht_limit"),
    ],
)
def test_options_that_cannot_be(table: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure(SpotOptions, table, "feeds[0].options")
    assert caught.value.field == f"feeds[0].options.{field}"


def feed(topics: tuple[Topic, ...], **options: Any) -> FeedSpec:
    return FeedSpec("binance-spot", topics, SpotOptions(**options))


def test_one_connection_to_the_combined_streams(topics: Any) -> None:
    (connection,) = BinanceSpotAdapter().connections(feed(topics("BTC-USDT", "ETH-USDT"), ws_url="ws://127.0.0.1:9443/"))
    assert connection.name == "main"
    assert connection.url == "ws://127.0.0.1:9443/stream"
    assert connection.topics == topics("BTC-USDT", "ETH-USDT")


def test_a_feed_without_topics_has_a_connection_for_those_to_come() -> None:
    (connection,) = BinanceSpotAdapter().connections(feed(()))
    assert connection.topics == ()


def test_as_many_connections_as_the_venues_limit_asks_for(topics: Any) -> None:
    kinds = (Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.INSTRUMENT)
    all_topics = topics(*(f"A{number}-USDT" for number in range(700)), kinds=kinds)
    connections = BinanceSpotAdapter().connections(feed(all_topics))
    assert [connection.name for connection in connections] == ["main", "main-2", "main-3"]
    assert tuple(topic for connection in connections for topic in connection.topics) == all_topics
    for connection in connections:
        streams = [topic for topic in connection.topics if topic.kind is not Kind.INSTRUMENT]
        assert len(streams) <= STREAMS_PER_CONNECTION_MAX
        assert len(streams) % 3 == 0  # no symbol is torn apart


@pytest.mark.parametrize(
    ("topic", "field"),
    [
        (Topic("binance-spot", "BTC-USDT-PERP", Kind.TRADE), "symbols"),
        (Topic("binance-spot", "BT-CUSDT", Kind.TRADE), "symbols"),
        (Topic("binance-spot", "BTC-USDT", Kind.FUNDING), "kinds"),
    ],
)
def test_a_topic_that_cannot_be(topic: Topic, field: str, topics: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        BinanceSpotAdapter().connections(feed((*topics("BTC-USDT"), topic)))
    assert caught.value.field == field
