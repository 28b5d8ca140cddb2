"""The venue's frames, as recorded or documented, into exact values; and what is refused."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from raven.errors import FrameError
from raven_binance.wire import (
    parse_book_ticker,
    parse_control,
    parse_depth_reply,
    parse_depth_update,
    parse_error,
    parse_trade,
    time_ns,
)

TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
    b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)
OLD_TRADE = (
    b'{"stream":"bnbbtc@trade","data":{"e":"trade","E":1554076800945,"s":"BNBBTC","t":40756030,"p":"0.00426990",'
    b'"q":"33.82000000","b":133829535,"a":133829504,"T":1554076800940,"m":false,"M":true}}'
)
BOOK_TICKER = (
    b'{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",'
    b'"a":"61837.64000000","A":"1.54698000"}}'
)
DEPTH = (
    b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":50093239203,'
    b'"u":50093239207,"b":[["55653.87000000","0.00000000"]],"a":[["61838.04000000","0.32332000"],'
    b'["61844.30000000","0.40163000"],["61862.50000000","0.05019000"],["61862.51000000","0.00000000"]]}}'
)
ONE_SIDED = (
    b'{"stream":"nknusdt@depth@100ms","data":{"e":"depthUpdate","E":1633998512068,"s":"NKNUSDT","U":499869750,'
    b'"u":499869752,"b":[["0.35130000","6195.00000000"],["0.34750000","5548.00000000"],'
    b'["0.34640000","6222.00000000"]],"a":[]}}'
)


def test_trade() -> None:
    trade = parse_trade(TRADE)
    assert (trade.trade_id, trade.price, trade.size) == (3735683259, 61837.63, 0.02)
    assert (trade.trade_time, trade.buyer_is_maker) == (1723161255342, True)


def test_trade_of_2019_has_more_keys() -> None:
    trade = parse_trade(OLD_TRADE)
    assert (trade.trade_id, trade.price, trade.size, trade.buyer_is_maker) == (40756030, 0.0042699, 33.82, False)


def test_book_ticker() -> None:
    quote = parse_book_ticker(BOOK_TICKER)
    assert quote.update_id == 50093239212
    assert (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size) == (61837.63, 3.78826, 61837.64, 1.54698)


def test_depth_update() -> None:
    depth = parse_depth_update(DEPTH)
    assert (depth.event_time, depth.first_id, depth.last_id) == (1723161255308, 50093239203, 50093239207)
    assert depth.bids == [(55653.87, 0.0)]
    assert depth.asks == [(61838.04, 0.32332), (61844.3, 0.40163), (61862.5, 0.05019), (61862.51, 0.0)]


def test_depth_update_of_one_side() -> None:
    depth = parse_depth_update(ONE_SIDED)
    assert depth.bids == [(0.3513, 6195.0), (0.3475, 5548.0), (0.3464, 6222.0)]
    assert depth.asks == []


def test_depth_reply() -> None:
    reply = parse_depth_reply(b'{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}')
    assert (reply.last_id, reply.bids, reply.asks) == (160, [(0.0024, 10.0)], [(0.0026, 100.0)])


@pytest.mark.parametrize("number", ["NaN", "nan", "Infinity", "-Infinity", "inf", "-0.01", "1e400", "", "1_000", "0x10", "1,5"])
@pytest.mark.parametrize(
    ("frame", "parse"), [(TRADE, parse_trade), (BOOK_TICKER, parse_book_ticker), (DEPTH, parse_depth_update)]
)
def test_a_number_that_is_none_refuses_the_frame(number: str, frame: bytes, parse: object) -> None:
    for good in (b'"61837.63000000"', b'"0.02000000"', b'"3.78826000"', b'"61862.51000000"', b'"0.32332000"'):
        if good in frame:
            with pytest.raises(FrameError, match=r"float|out of range"):
                parse(frame.replace(good, f'"{number}"'.encode()))  # type: ignore[operator]


@pytest.mark.parametrize(
    "level", ['["1"]', '["1","2","3"]', '"1"', "[]", "null", '["1",null]', '{"p":"1"}', '["1",["2"]]', '[true,"1"]']
)
def test_a_level_that_is_no_pair_of_numbers_refuses_the_frame(level: str) -> None:
    with pytest.raises(FrameError, match=r"\$\.data\.b"):
        parse_depth_update(DEPTH.replace(b'["55653.87000000","0.00000000"]', level.encode()))


@pytest.mark.parametrize(
    "change",
    [
        (b'"t":3735683259', b'"t":-1'),
        (b'"t":3735683259', b'"t":9223372036854775808'),
        (b'"t":3735683259', b'"t":1.5'),
        (b'"t":3735683259,', b""),
        (b'"T":1723161255342', b'"T":-5'),
        (b'"T":1723161255342', b'"T":9000000000000001'),  # in ns it would leave 64 bits
        (b'"m":true', b'"m":"maybe"'),
        (b'"m":true', b'"m":null'),
        (b'"data":{', b'"data":[{'),
        (b'"data"', b'"date"'),
    ],
)
def test_a_trade_that_cannot_be(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(FrameError, match=r"^trade: "):
        parse_trade(TRADE.replace(*change))


@pytest.mark.parametrize("frame", [TRADE, BOOK_TICKER, DEPTH])
def test_every_truncation_is_refused_and_nothing_else_happens(frame: bytes) -> None:
    for parse in (parse_trade, parse_book_ticker, parse_depth_update, parse_control, parse_depth_reply):
        for end in range(len(frame)):
            with pytest.raises(FrameError):
                parse(frame[:end])


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff\xfe", b"null", b"[]", b"1", b'"x"', b'{"data":{"x":' + b"[" * 100_000, b"[" * 100_000, b"{" * 100_000],
)
def test_garbage(frame: bytes) -> None:
    for parse in (parse_trade, parse_book_ticker, parse_depth_update, parse_control, parse_depth_reply):
        with pytest.raises(FrameError):
            parse(frame)


def test_control_messages() -> None:
    confirmed = parse_control(b'{"result":null,"id":312}')
    assert confirmed.id == 312
    assert confirmed.result is not UNSET
    assert confirmed.refusal is None
    refused = parse_control(b'{"code":2,"msg":"Invalid request: missing field `method` at line 1 column 73"}').refusal
    assert refused is not None
    assert (refused.code, refused.msg) == (2, "Invalid request: missing field `method` at line 1 column 73")
    nested = parse_control(b'{"error":{"code":2,"msg":"Invalid request"},"id":7}')
    assert nested.id == 7
    assert nested.refusal is not None
    assert nested.refusal.msg == "Invalid request"
    assert parse_control(b'{"e":"serverShutdown","E":1770123456789}').event == "serverShutdown"


def test_error_bodies() -> None:
    assert parse_error(b'{"code":-1121,"msg":"Invalid symbol."}').code == -1121
    assert parse_error(b"<html>bad gateway</html>").msg == "<html>bad gateway</html>"
    assert len(parse_error(b"x" * 100_000).msg) == 200


def test_times_are_ms_or_us() -> None:
    assert time_ns(1723161255342) == 1_723_161_255_342_000_000
    assert time_ns(1723161255342001) == 1_723_161_255_342_001_000
    assert time_ns(0) is None
    assert time_ns(9_000_000_000_000_000) == 9_000_000_000_000_000_000 < 2**63
