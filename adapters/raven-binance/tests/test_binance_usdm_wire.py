"""USD-M's frames and candles and statistics of both markets, as recorded or documented, into exact values."""

from __future__ import annotations

from typing import Any

import pytest

from raven.errors import FrameError
from raven_binance.wire import parse_book_ticker, parse_depth_reply
from raven_binance.wire_statistics import parse_kline, parse_ticker
from raven_binance.wire_usdm import (
    parse_aggregate,
    parse_force_order,
    parse_funding_info,
    parse_mark_price,
    parse_open_interest,
    parse_optional,
    parse_usdm_depth_update,
    parse_usdm_trade,
)

TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,'
    b'"p":"61800.30","q":"0.006","X":"MARKET","m":false}}'
)
BOOK_TICKER = (
    b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
    b'"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}}'
)
NEW_BOOK_TICKER = (
    b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":359220650272,"s":"BTCUSDT","ps":"BTCUSDT","b":"64336.00",'
    b'"B":"73.3346","a":"64346.70","A":"589.8026","T":1785048483771,"E":1785048483771,"st":1}}'
)
DEPTH = (
    b'{"stream":"sushiusdt@depth@100ms","data":{"e":"depthUpdate","E":1626992741037,"T":1626992741024,"s":"SUSHIUSDT",'
    b'"U":600859599090,"u":600859600917,"pu":600859598061,"b":[["7.5040","813"],["7.6090","0"],["7.6110","2"]],'
    b'"a":[["7.6150","1563"],["7.6220","3284"]]}}'
)
ONE_SIDED = (
    b'{"stream":"akrousdt@depth@100ms","data":{"e":"depthUpdate","E":1626992741077,"T":1626992740974,"s":"AKROUSDT",'
    b'"U":600859599831,"u":600859599831,"pu":600859598737,"b":[],"a":[["0.01737","437848"]]}}'
)
KLINE = (
    b'{"stream":"ctkusdt@kline_1m","data":{"e":"kline","E":1626992741424,"s":"CTKUSDT","k":{"t":1626992700000,'
    b'"T":1626992759999,"s":"CTKUSDT","i":"1m","f":23961275,"L":23961322,"o":"1.01000","c":"1.01100","h":"1.01100",'
    b'"l":"1.01000","v":"3917","n":48,"x":false,"q":"3957.89900","V":"1729","Q":"1748.01900","B":"0"}}}'
)
TICKER = (
    b'{"stream":"bnbbtc@ticker","data":{"e":"24hrTicker","E":1672515782136,"s":"BNBBTC","p":"0.0015","P":"250.00",'
    b'"w":"0.0018","x":"0.0009","c":"0.0025","Q":"10","b":"0.0024","B":"10","a":"0.0026","A":"100","o":"0.0010",'
    b'"h":"0.0025","l":"0.0010","v":"10000","q":"18","O":0,"C":86400000,"F":0,"L":18150,"n":18151}}'
)
MARK_PRICE = (
    b'{"stream":"btcusdt@markPrice@1s","data":{"e":"markPriceUpdate","E":1597536008000,"s":"BTCUSDT","p":"11857.56000000",'
    b'"i":"11851.86949091","r":"0.00015640","T":1597564800000}}'
)
FORCE_ORDER = (
    b'{"stream":"btcusdt@forceOrder","data":{"e":"forceOrder","E":1584059031426,"o":{"s":"BTCUSDT","S":"BUY","o":"LIMIT",'
    b'"f":"IOC","q":"0.014","p":"4793.91","ap":"4706.04","X":"FILLED","l":"0.015","z":"0.014","T":1584059031421}}}'
)
AGGREGATE = (
    b'{"stream":"bnbbtc@aggTrade","data":{"e":"aggTrade","E":1672515782136,"s":"BNBBTC","a":12345,"p":"0.001","q":"100",'
    b'"f":100,"l":105,"T":1672515782136,"m":true,"M":true}}'
)


def test_trade() -> None:
    trade = parse_usdm_trade(TRADE)
    assert (trade.trade_id, trade.price, trade.size) == (5266583935, 61800.3, 0.006)
    assert (trade.trade_time, trade.buyer_is_maker, trade.origin, trade.business) == (1723161256322, False, "MARKET", 0)
    assert parse_usdm_trade(TRADE.replace(b"MARKET", b"INSURANCE_FUND")).origin == "INSURANCE_FUND"
    assert parse_usdm_trade(TRADE.replace(b'"X":"MARKET",', b"")).origin == "MARKET"


def test_aggregate() -> None:
    trade = parse_aggregate(AGGREGATE)
    assert (trade.aggregate_id, trade.first_id, trade.last_id) == (12345, 100, 105)
    assert (trade.price, trade.size, trade.trade_time, trade.buyer_is_maker) == (0.001, 100.0, 1672515782136, True)


def test_book_ticker_has_a_time() -> None:
    quote = parse_book_ticker(BOOK_TICKER)
    assert (quote.update_id, quote.transaction_time, quote.business) == (5123107839020, 1723161256313, 0)
    assert (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size) == (61800.2, 2.507, 61800.3, 2.51)


def test_book_ticker_of_2026_says_its_business() -> None:
    quote = parse_book_ticker(NEW_BOOK_TICKER)
    assert (quote.business, quote.bid_price, quote.ask_size, quote.transaction_time) == (1, 64336.0, 589.8026, 1785048483771)


def test_depth_update() -> None:
    depth = parse_usdm_depth_update(DEPTH)
    assert (depth.previous_id, depth.last_id, depth.venue_time) == (600859598061, 600859600917, 1626992741024)
    assert depth.bids == [(7.504, 813.0), (7.609, 0.0), (7.611, 2.0)]
    assert depth.asks == [(7.615, 1563.0), (7.622, 3284.0)]
    assert parse_usdm_depth_update(ONE_SIDED).bids == []
    assert parse_usdm_depth_update(DEPTH.replace(b'"T":1626992741024,', b"")).venue_time == 1626992741037


def test_depth_reply_has_a_time() -> None:
    body = b'{"lastUpdateId":600859605926,"E":1626992741264,"T":1626992741261,"bids":[["7.6110","6"]],"asks":[]}'
    reply = parse_depth_reply(body)
    assert (reply.last_id, reply.transaction_time, reply.bids) == (600859605926, 1626992741261, [(7.611, 6.0)])


def test_kline() -> None:
    message = parse_kline(KLINE)
    kline = message.kline
    assert (message.event_time, kline.open_time, kline.close_time) == (1626992741424, 1626992700000, 1626992759999)
    assert (kline.open, kline.high, kline.low, kline.close) == (1.01, 1.011, 1.01, 1.011)
    assert (kline.volume, kline.quote_volume, kline.taker_buy_volume) == (3917.0, 3957.899, 1729.0)
    assert (kline.trades, kline.closed) == (48, False)


def test_ticker() -> None:
    ticker = parse_ticker(TICKER)
    assert (ticker.event_time, ticker.last_price, ticker.open_price) == (1672515782136, 0.0025, 0.001)
    assert (ticker.high_price, ticker.low_price, ticker.volume, ticker.quote_volume) == (0.0025, 0.001, 10000.0, 18.0)


def test_mark_price() -> None:
    message = parse_mark_price(MARK_PRICE)
    assert (message.event_time, message.mark_price, message.index_price) == (1597536008000, "11857.56000000", "11851.86949091")
    assert (message.funding_rate, message.funding_time) == ("0.00015640", 1597564800000)


def test_force_order() -> None:
    message = parse_force_order(FORCE_ORDER)
    order = message.order
    assert (message.event_time, order.trade_time, order.side) == (1584059031426, 1584059031421, "BUY")
    assert (order.filled, order.average_price) == (0.014, 4706.04)


def test_rest_answers() -> None:
    interest = parse_open_interest(b'{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}')
    assert (interest.amount, interest.time) == (10659.509, 1589437530011)
    body = b'[{"symbol":"BLZUSDT","adjustedFundingRateCap":"0.03","fundingIntervalHours":4},{"symbol":"BTCUSDT"}]'
    assert parse_funding_info(body) == {"BLZUSDT": 14_400}
    for parse, bad in (
        (parse_open_interest, b"[]"),
        (parse_open_interest, b'{"openInterest":"NaN"}'),
        (parse_funding_info, b"{}"),
        (parse_funding_info, b'[{"symbol":"BTCUSDT","fundingIntervalHours":999999999999999999999999999999}]'),
    ):
        with pytest.raises(FrameError):
            parse(bad)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-inf", "1_0", "abc", "1e400", " "])
def test_a_number_that_may_be_missing_and_is_none(text: str) -> None:
    with pytest.raises(FrameError, match=r"^r: "):
        parse_optional(text, "r")


PARSERS: list[tuple[bytes, Any]] = [
    (TRADE, parse_usdm_trade),
    (AGGREGATE, parse_aggregate),
    (DEPTH, parse_usdm_depth_update),
    (KLINE, parse_kline),
    (TICKER, parse_ticker),
    (MARK_PRICE, parse_mark_price),
    (FORCE_ORDER, parse_force_order),
]


@pytest.mark.parametrize(("frame", "parse"), PARSERS)
def test_every_truncation_is_refused_and_nothing_else_happens(frame: bytes, parse: Any) -> None:
    parse(frame)
    for end in range(len(frame)):
        with pytest.raises(FrameError):
            parse(frame[:end])


@pytest.mark.parametrize(("frame", "parse"), PARSERS)
@pytest.mark.parametrize("change", [(b'"', b'"\xff'), (b":1", b":" + b"9" * 300), (b"{", b"[" * 100_000)])
def test_text_that_is_no_json_and_numbers_without_end(frame: bytes, parse: Any, change: tuple[bytes, bytes]) -> None:
    with pytest.raises(FrameError):
        parse(frame.replace(*change))


@pytest.mark.parametrize("number", ["NaN", "-1", "1e400", ""])
@pytest.mark.parametrize(
    ("frame", "good", "parse"),
    [
        (TRADE, b'"0.006"', parse_usdm_trade),
        (AGGREGATE, b'"0.001"', parse_aggregate),
        (DEPTH, b'"813"', parse_usdm_depth_update),
        (KLINE, b'"3957.89900"', parse_kline),
        (TICKER, b'"18"', parse_ticker),
        (FORCE_ORDER, b'"4706.04"', parse_force_order),
    ],
)
def test_a_number_that_is_none_refuses_the_frame(frame: bytes, good: bytes, parse: Any, number: str) -> None:
    with pytest.raises(FrameError):
        parse(frame.replace(good, f'"{number}"'.encode()))
