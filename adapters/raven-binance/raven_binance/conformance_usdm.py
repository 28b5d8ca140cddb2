"""What `raven adapter check binance-usdm` plays: both routes, as the venue's documentation has their frames.

Found by the entry point in the group `raven.conformance`; a server never imports it.
"""

from __future__ import annotations

from raven.adapter import Established, Event, Kind, Resync, Topic
from raven.model.events import (
    BookDelta,
    BookSnapshot,
    Funding,
    Gap,
    GapCause,
    Liquidation,
    MarkPrice,
    OpenInterest,
    Quote,
    Side,
    StatusCause,
    Ticker,
    Trade,
)
from raven.testing import Answer, ConformanceKit, Frame, Scenario
from raven_binance.conformance import CANDLE_SPANS, candle_events, kline_frames

__all__ = ["USDM_KIT"]

VENUE, SYMBOL = "binance-usdm", "BTC-USDT-PERP"
START_NS = 1_723_161_255_000_000_000
MS = 1_000_000
INTERVALS = tuple(interval for interval in CANDLE_SPANS if interval != "1s")  # this market has none of a second


def _at(milliseconds: int) -> int:
    return START_NS + milliseconds * MS


def _topic(kind: Kind) -> Topic:
    return Topic(VENUE, SYMBOL, kind)


TRADES, QUOTES, BOOK, TICKER = map(_topic, (Kind.TRADE, Kind.QUOTE, Kind.BOOK, Kind.TICKER))
MARK_PRICE, FUNDING, LIQUIDATION, OPEN_INTEREST = map(
    _topic, (Kind.MARK_PRICE, Kind.FUNDING, Kind.LIQUIDATION, Kind.OPEN_INTEREST)
)
TOPICS = (
    *(TRADES, QUOTES, BOOK, TICKER, MARK_PRICE, FUNDING, LIQUIDATION, OPEN_INTEREST, _topic(Kind.INSTRUMENT)),
    *(Topic(VENUE, SYMBOL, Kind.CANDLE, interval) for interval in INTERVALS),
)

LISTING = (
    '{"timezone":"UTC","serverTime":1723161255000,"rateLimits":[],"exchangeFilters":[],"assets":[],"symbols":['
    '{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,"onboardDate":1569398400000,'
    '"status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","filters":['
    '{"filterType":"PRICE_FILTER","minPrice":"556.80","maxPrice":"4529764","tickSize":"0.10"},'
    '{"filterType":"LOT_SIZE","minQty":"0.001","maxQty":"1000","stepSize":"0.001"},'
    '{"filterType":"MIN_NOTIONAL","notional":"100"}]}]}'
)


# ---- public: trades, quotes, books


def _trade(trade_id: int, price: str, size: str, at_ms: int, *, sold: bool, origin: str = "MARKET") -> str:
    """In the venue's own words."""
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{1_723_161_255_001 + at_ms},"T":{1_723_161_255_000 + at_ms},'
        f'"s":"BTCUSDT","t":{trade_id},"p":"{price}","q":"{size}","X":"{origin}","m":{"true" if sold else "false"}}}}}'
    )


def _quote(update_id: int, bid: tuple[str, str], ask: tuple[str, str], at_ms: int) -> str:
    return (
        f'{{"stream":"btcusdt@bookTicker","data":{{"e":"bookTicker","u":{update_id},"s":"BTCUSDT","b":"{bid[0]}","B":"{bid[1]}",'
        f'"a":"{ask[0]}","A":"{ask[1]}","T":{1_723_161_255_000 + at_ms},"E":{1_723_161_255_003 + at_ms}}}}}'
    )


def _depth(previous_id: int, first_id: int, last_id: int, bids: str, asks: str, at_ms: int) -> str:
    return (
        f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":{1_723_161_255_002 + at_ms},'
        f'"T":{1_723_161_255_000 + at_ms},"s":"BTCUSDT","U":{first_id},"u":{last_id},"pu":{previous_id},'
        f'"b":{bids},"a":{asks}}}}}'
    )


PUBLIC_FRAMES = (
    (100, '{"result":null,"id":1}'),
    (110, _trade(5266583935, "61800.10", "0.006", 105, sold=False)),
    (112, _quote(5123107839020, ("61800.00", "2.507"), ("61800.10", "2.510"), 108)),
    (150, _depth(5123107838000, 5123107838990, 5123107839010, '[["61771.90","0.001"]]', "[]", 147)),
    (160, _trade(5266583936, "61799.00", "1.250", 158, sold=True, origin="INSURANCE_FUND")),
    (250, _depth(5123107839010, 5123107839015, 5123107839120, '[["61800.00","3.5"]]', '[["61800.30","0"]]', 248)),
    (350, _depth(5123107839120, 5123107839130, 5123107839200, '[["61790.50","0.213"]]', '[["61801.1","2"]]', 347)),
    # two trades are missing here, and an update of the book
    (420, _trade(5266583939, "61801.10", "1.000", 418, sold=True)),
    (450, _depth(5123107839300, 5123107839301, 5123107839310, "[]", '[["61801.10","1"]]', 447)),
    (570, _quote(5123107839400, ("61799.90", "0.617"), ("61801.10", "1.000"), 566)),
    (750, _depth(5123107839310, 5123107839311, 5123107839420, '[["61799.90","0.7"]]', "[]", 746)),
)

SNAPSHOT = (
    '{"lastUpdateId":5123107839100,"E":1723161255290,"T":1723161255285,"bids":[["61800.00","2.507"],["61799.00","0.617"]],'
    '"asks":[["61800.10","2.510"],["61800.30","0.323"]]}'
)

NEXT_SNAPSHOT = (
    '{"lastUpdateId":5123107839405,"E":1723161255640,"T":1723161255635,"bids":[["61799.90","0.617"]],'
    '"asks":[["61801.10","1.000"]]}'
)

PUBLIC_EVENTS = (
    Event(TRADES, Trade(61800.1, 0.006, Side.BUY, "5266583935"), _at(110), _at(105)),
    Event(QUOTES, Quote(61800.0, 2.507, 61800.1, 2.51), _at(112), _at(108)),
    # the insurance fund's booking is no trade; the snapshot was asked for at 100 and is there at 300
    Event(
        BOOK,
        BookSnapshot([61800.0, 61799.0], [2.507, 0.617], [61800.1, 61800.3], [2.51, 0.323], 5123107839100),
        _at(300),
        _at(285),
    ),
    Event(BOOK, BookDelta([61800.0], [3.5], [61800.3], [0.0], 5123107839120), _at(250), _at(248)),
    Event(BOOK, BookDelta([61790.5], [0.213], [61801.1], [2.0], 5123107839200), _at(350), _at(347)),
    Event(TRADES, Gap(GapCause.VENUE, missed=2), _at(420)),
    Event(TRADES, Trade(61801.1, 1.0, Side.SELL, "5266583939"), _at(420), _at(418)),
    Event(QUOTES, Quote(61799.9, 0.617, 61801.1, 1.0), _at(570), _at(566)),
    Event(BOOK, BookSnapshot([61799.9], [0.617], [61801.1], [1.0], 5123107839405), _at(650), _at(635)),
    Event(BOOK, BookDelta([61799.9], [0.7], [], [], 5123107839420), _at(750), _at(746)),
)


# ---- market: candles, statistics, mark price and funding, forced orders; open interest by REST


def _mark_price(at_ms: int, price: str, index: str, rate: str) -> str:
    return (
        f'{{"stream":"btcusdt@markPrice@1s","data":{{"e":"markPriceUpdate","E":{1_723_161_255_000 + at_ms},"s":"BTCUSDT",'
        f'"p":"{price}","i":"{index}","P":"61700.12345678","r":"{rate}","T":1723190400000}}}}'
    )


TICKER_FRAME = (
    '{"stream":"btcusdt@ticker","data":{"e":"24hrTicker","E":1723161255609,"s":"BTCUSDT","p":"1800.10","P":"3.000",'
    '"w":"60123.45","c":"61800.10","Q":"0.006","o":"60000.00","h":"62000.00","l":"59000.10","v":"380001.234",'
    '"q":"23000000000.98","O":1723074855600,"C":1723161255600,"F":5260000000,"L":5266583935,"n":6583936}}'
)

FORCED_ORDER_FRAME = (
    '{"stream":"btcusdt@forceOrder","data":{"e":"forceOrder","E":1723161255700,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT",'
    '"f":"IOC","q":"0.020","p":"61500.00","ap":"61788.40","X":"FILLED","l":"0.014","z":"0.014","T":1723161255695}}}'
)

MARKET_FRAMES = (
    (100, '{"result":null,"id":1}'),
    (502, _mark_price(500, "61810.56000000", "61805.86949091", "0.00010000")),
    *kline_frames(INTERVALS, 600),
    (611, TICKER_FRAME),
    (702, FORCED_ORDER_FRAME),
    (1_502, _mark_price(1_500, "61811.00000000", "61806.00000001", "-0.00000125")),
)

MARKET_EVENTS = (
    Event(OPEN_INTEREST, OpenInterest(10659.509), START_NS + 10 * MS, _at(-20)),
    Event(MARK_PRICE, MarkPrice(61810.56, 61805.86949091), _at(502), _at(500)),
    Event(FUNDING, Funding(0.0001, 1_723_190_400_000 * MS, 4 * 3600), _at(502), _at(500)),
    *candle_events(VENUE, SYMBOL, INTERVALS, 600),
    Event(TICKER, Ticker(61800.1, 60000.0, 62000.0, 59000.1, 380001.234, 23000000000.98), _at(611), _at(609)),
    Event(LIQUIDATION, Liquidation(61788.4, 0.014, Side.SELL), _at(702), _at(695)),
    Event(MARK_PRICE, MarkPrice(61811.0, 61806.00000001), _at(1_502), _at(1_500)),
    Event(FUNDING, Funding(-1.25e-06, 1_723_190_400_000 * MS, 4 * 3600), _at(1_502), _at(1_500)),
)

MARKET_ANSWERS = (
    Answer("/openInterest?", b'{"openInterest":"10659.509","symbol":"BTCUSDT","time":1723161254980}', after_ns=10 * MS),
    Answer(
        "/fundingInfo",
        b'[{"symbol":"BTCUSDT","adjustedFundingRateCap":"0.02","adjustedFundingRateFloor":"-0.02","fundingIntervalHours":4}]',
        after_ns=10 * MS,
    ),
    Answer("/exchangeInfo", LISTING.encode(), after_ns=20 * MS),
)


# ---- aggregates in the place of trades


def _aggregate(aggregate_id: int, first_id: int, last_id: int, price: str, size: str, at_ms: int) -> str:
    return (
        f'{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":{1_723_161_255_001 + at_ms},"s":"BTCUSDT",'
        f'"a":{aggregate_id},"p":"{price}","q":"{size}",'
        f'"f":{first_id},"l":{last_id},"T":{1_723_161_255_000 + at_ms},"m":true}}}}'
    )


AGGREGATE_FRAMES = (
    (100, '{"result":null,"id":1}'),
    (210, _aggregate(2345678901, 5266583935, 5266583937, "61800.10", "0.531", 205)),
    (310, _aggregate(2345678902, 5266583940, 5266583940, "61800.00", "1", 305)),
)

AGGREGATE_EVENTS = (
    Event(TRADES, Trade(61800.1, 0.531, Side.SELL, "5266583937", "5266583935"), _at(210), _at(205)),
    Event(TRADES, Trade(61800.0, 1.0, Side.SELL, "5266583940", "5266583940"), _at(310), _at(305)),
)


def _frames(texts: tuple[tuple[int, str], ...]) -> list[Frame]:
    return [Frame(_at(at_ms), text.encode()) for at_ms, text in texts]


USDM_KIT = ConformanceKit(
    [
        Scenario(
            name="public",
            connection="public",
            topics=TOPICS,
            start_ns=START_NS,
            frames=_frames(PUBLIC_FRAMES),
            events=PUBLIC_EVENTS,
            statuses=[
                Established([_topic(Kind.INSTRUMENT)]),
                Established([TRADES, QUOTES, BOOK]),
                Resync(BOOK, StatusCause.SEQUENCE_GAP, "pu 5123107839300 after u 5123107839200"),
            ],
            answers=[
                *(Answer("depth:BTCUSDT", body.encode(), after_ns=200 * MS) for body in (SNAPSHOT, NEXT_SNAPSHOT)),
                Answer("/exchangeInfo", LISTING.encode(), after_ns=20 * MS),
            ],
        ),
        Scenario(
            name="market",
            connection="market",
            topics=TOPICS,
            start_ns=START_NS,
            frames=_frames(MARKET_FRAMES),
            events=MARKET_EVENTS,
            unconfirmed=[Kind.OPEN_INTEREST],  # polled
            answers=MARKET_ANSWERS,
        ),
        Scenario(
            name="aggregates",
            connection="market",
            topics=[TRADES],
            options={"trade_stream": "aggTrade"},
            start_ns=START_NS,
            frames=_frames(AGGREGATE_FRAMES),
            events=AGGREGATE_EVENTS,
            answers=MARKET_ANSWERS,
        ),
    ]
)
