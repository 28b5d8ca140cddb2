"""What `raven adapter check binance-spot` plays: frames as the venue's documentation has them, and the events that must come.

Found by the entry point in the group `raven.conformance`; a server never imports it. USD-M is in `conformance_usdm`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raven.adapter import Established, Event, Kind, Resync, Topic
from raven.model.events import BookDelta, BookSnapshot, Candle, Gap, GapCause, Quote, Side, StatusCause, Ticker, Trade
from raven.testing import Answer, ConformanceKit, Frame, LateSubscription, Scenario

__all__ = ["CANDLE_SPANS", "SPOT_KIT", "candle_events", "kline_frames"]

VENUE = "binance-spot"
START_NS = 1_723_161_255_000_000_000
MS = 1_000_000

TRADES = Topic(VENUE, "BTC-USDT", Kind.TRADE)
QUOTES = Topic(VENUE, "BTC-USDT", Kind.QUOTE)
BOOK = Topic(VENUE, "BTC-USDT", Kind.BOOK)
INSTRUMENT = Topic(VENUE, "BTC-USDT", Kind.INSTRUMENT)
ETH_QUOTES = Topic(VENUE, "ETH-USDT", Kind.QUOTE)
TICKER = Topic(VENUE, "BTC-USDT", Kind.TICKER)

# Of each interval the candle that START_NS is in: its first millisecond, and the first one that is not of it any more.
CANDLE_SPANS = {
    "1s": (1_723_161_255_000, 1_723_161_256_000),
    "1m": (1_723_161_240_000, 1_723_161_300_000),
    "3m": (1_723_161_240_000, 1_723_161_420_000),
    "5m": (1_723_161_000_000, 1_723_161_300_000),
    "15m": (1_723_160_700_000, 1_723_161_600_000),
    "30m": (1_723_159_800_000, 1_723_161_600_000),
    "1h": (1_723_158_000_000, 1_723_161_600_000),
    "2h": (1_723_154_400_000, 1_723_161_600_000),
    "4h": (1_723_147_200_000, 1_723_161_600_000),
    "6h": (1_723_140_000_000, 1_723_161_600_000),
    "8h": (1_723_132_800_000, 1_723_161_600_000),
    "12h": (1_723_118_400_000, 1_723_161_600_000),
    "1d": (1_723_075_200_000, 1_723_161_600_000),
    "3d": (1_722_988_800_000, 1_723_248_000_000),
    "1w": (1_722_816_000_000, 1_723_420_800_000),
    "1M": (1_722_470_400_000, 1_725_148_800_000),
}
CANDLES = tuple(Topic(VENUE, "BTC-USDT", Kind.CANDLE, interval) for interval in CANDLE_SPANS)


def _at(milliseconds: int) -> int:
    return START_NS + milliseconds * MS


def kline_frames(intervals: Iterable[str], at_ms: int) -> Iterator[tuple[int, str]]:
    """One frame of a candle of each interval, received at `at_ms` after START_NS; its event time is 2 ms before."""
    for interval in intervals:
        begin, end = CANDLE_SPANS[interval]
        text = (
            f'{{"stream":"btcusdt@kline_{interval}","data":{{"e":"kline","E":{1_723_161_254_998 + at_ms},"s":"BTCUSDT","k":'
            f'{{"t":{begin},"T":{end - 1},"s":"BTCUSDT","i":"{interval}","f":3735683000,"L":3735683260,"o":"61830.01000000",'
            '"c":"61837.64000000","h":"61840.10000000","l":"61829.99000000","v":"12.34567000","n":261,"x":false,'
            '"q":"763412.12345678","V":"7.00000000","Q":"432860.00000001","B":"0"}}}'
        )
        yield at_ms, text


def candle_events(venue: str, symbol: str, intervals: Iterable[str], at_ms: int) -> Iterator[Event]:
    """What must come of `kline_frames`."""
    for interval in intervals:
        begin, end = CANDLE_SPANS[interval]
        candle = Candle(
            open_ts_ns=begin * MS,
            close_ts_ns=end * MS,
            open=61830.01,
            high=61840.1,
            low=61829.99,
            close=61837.64,
            volume=12.34567,
            quote_volume=763412.12345678,
            trades=261,
            taker_buy_volume=7.0,
        )
        yield Event(Topic(venue, symbol, Kind.CANDLE, interval), candle, _at(at_ms), _at(at_ms - 2))


def _trade(trade_id: int, price: str, size: str, at_ms: int, sold: bool) -> str:
    """In the venue's own words."""
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{1_723_161_255_001 + at_ms},"s":"BTCUSDT","t":{trade_id},'
        f'"p":"{price}","q":"{size}","T":{1_723_161_255_000 + at_ms},"m":{"true" if sold else "false"},"M":true}}}}'
    )


def _quote(update_id: int, bid: tuple[str, str], ask: tuple[str, str], symbol: str = "BTCUSDT") -> str:
    return (
        f'{{"stream":"{symbol.lower()}@bookTicker","data":{{"u":{update_id},"s":"{symbol}",'
        f'"b":"{bid[0]}","B":"{bid[1]}","a":"{ask[0]}","A":"{ask[1]}"}}}}'
    )


def _depth(first_id: int, last_id: int, bids: str, asks: str, at_ms: int) -> str:
    return (
        f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":{1_723_161_255_000 + at_ms},"s":"BTCUSDT",'
        f'"U":{first_id},"u":{last_id},"b":{bids},"a":{asks}}}}}'
    )


TICKER_FRAME = (
    '{"stream":"btcusdt@ticker","data":{"e":"24hrTicker","E":1723161255609,"s":"BTCUSDT","p":"1837.64000000","P":"3.063",'
    '"w":"60123.45678901","x":"60000.00000000","c":"61837.64000000","Q":"0.00015000","b":"61837.63000000","B":"3.78826000",'
    '"a":"61837.64000000","A":"1.54698000","o":"60000.00000000","h":"62000.00000000","l":"59000.01000000","v":"38000.12345000",'
    '"q":"2300000000.98765432","O":1723074855600,"C":1723161255600,"F":3730000000,"L":3735683264,"n":5683265}}'
)

FRAMES = (
    (100, '{"result":null,"id":1}'),
    (110, _trade(3735683259, "61837.63000000", "0.02000000", 108, sold=True)),
    (112, _quote(50093239212, ("61837.63000000", "3.78826000"), ("61837.64000000", "1.54698000"))),
    (150, _depth(50093239208, 50093239215, '[["61771.97000000","0.00100000"]]', "[]", 148)),
    (
        250,
        _depth(
            50093239216, 50093239224, '[["61837.63000000","3.5"]]', '[["61838.04000000","0.00000000"],["61840.1","2"]]', 248
        ),
    ),
    (320, _trade(3735683260, "61837.64000000", "0.00015000", 317, sold=False)),
    (350, _depth(50093239225, 50093239237, '[["61830.17000000","0.00000000"],["61829.5","0.21367000"]]', "[]", 347)),
    # something is missing here: the next trade by three ids, the next delta by some
    (420, _trade(3735683264, "61840.10000000", "1.00000000", 418, sold=False)),
    (450, _depth(50093239250, 50093239255, "[]", '[["61840.10000000","1.00000000"]]', 447)),
    (550, '{"result":null,"id":2}'),
    (560, _quote(31000000001, ("2682.99000000", "4.14130000"), ("2683.01000000", "9.61840000"), "ETHUSDT")),
    (570, _quote(50093239270, ("61837.62000000", "0.61700000"), ("61840.10000000", "1.00000000"))),
    *kline_frames(CANDLE_SPANS, 600),
    (610, TICKER_FRAME),
    (750, _depth(50093239256, 50093239260, '[["61837.62000000","0.7"]]', "[]", 746)),
    (850, _depth(50093239261, 50093239262, "[]", '[["61841.00000000","0.5"]]', 845)),
)

SNAPSHOT = (
    '{"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"],["61830.17000000","0.61700000"]],'
    '"asks":[["61837.64000000","1.54698000"],["61838.04000000","0.32332000"]]}'
)

NEXT_SNAPSHOT = (
    '{"lastUpdateId":50093239257,"bids":[["61837.63000000","3.50000000"],["61837.62000000","0.61700000"]],'
    '"asks":[["61840.10000000","1.00000000"]]}'
)

LISTING = (
    '{"timezone":"UTC","serverTime":1723161255000,"rateLimits":[],"exchangeFilters":[],"symbols":['
    '{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":['
    '{"filterType":"PRICE_FILTER","minPrice":"0.01000000","maxPrice":"1000000.00000000","tickSize":"0.01000000"},'
    '{"filterType":"LOT_SIZE","minQty":"0.00001000","maxQty":"9000.00000000","stepSize":"0.00001000"}]},'
    '{"symbol":"ETHUSDT","status":"TRADING","baseAsset":"ETH","quoteAsset":"USDT","filters":[]}]}'
)

EVENTS = (
    Event(TRADES, Trade(61837.63, 0.02, Side.SELL, "3735683259"), _at(110), _at(108)),
    Event(QUOTES, Quote(61837.63, 3.78826, 61837.64, 1.54698), _at(112)),
    # the first snapshot, asked for at 100 and there at 300, and of the two deltas held the one that it does not have
    Event(
        BOOK,
        BookSnapshot([61837.63, 61830.17], [3.78826, 0.617], [61837.64, 61838.04], [1.54698, 0.32332], 50093239218),
        _at(300),
    ),
    Event(BOOK, BookDelta([61837.63], [3.5], [61838.04, 61840.1], [0.0, 2.0], 50093239224), _at(250), _at(248)),
    Event(TRADES, Trade(61837.64, 0.00015, Side.BUY, "3735683260"), _at(320), _at(317)),
    Event(BOOK, BookDelta([61830.17, 61829.5], [0.0, 0.21367], [], [], 50093239237), _at(350), _at(347)),
    Event(TRADES, Gap(GapCause.VENUE, missed=3), _at(420)),
    Event(TRADES, Trade(61840.1, 1.0, Side.BUY, "3735683264"), _at(420), _at(418)),
    Event(ETH_QUOTES, Quote(2682.99, 4.1413, 2683.01, 9.6184), _at(560)),
    Event(QUOTES, Quote(61837.62, 0.617, 61840.1, 1.0), _at(570)),
    *candle_events(VENUE, "BTC-USDT", CANDLE_SPANS, 600),
    Event(TICKER, Ticker(61837.64, 60000.0, 62000.0, 59000.01, 38000.12345, 2300000000.98765432), _at(610), _at(609)),
    # the second snapshot, asked for at 450 and there at 650
    Event(BOOK, BookSnapshot([61837.63, 61837.62], [3.5, 0.617], [61840.1], [1.0], 50093239257), _at(650)),
    Event(BOOK, BookDelta([61837.62], [0.7], [], [], 50093239260), _at(750), _at(746)),
    Event(BOOK, BookDelta([], [], [61841.0], [0.5], 50093239262), _at(850), _at(845)),
)

STATUSES = (
    Established([INSTRUMENT]),
    Established([TRADES, QUOTES, BOOK, TICKER, *CANDLES]),
    Resync(BOOK, StatusCause.SEQUENCE_GAP, "U 50093239250 after u 50093239237"),
    Established([INSTRUMENT]),  # with each listing that names it
    Established([ETH_QUOTES]),
)

SPOT_KIT = ConformanceKit(
    [
        Scenario(
            topics=[TRADES, QUOTES, BOOK, INSTRUMENT, TICKER, *CANDLES],
            frames=[Frame(_at(at_ms), text.encode()) for at_ms, text in FRAMES],
            events=EVENTS,
            statuses=STATUSES,
            answers=[
                *(Answer("depth:BTCUSDT", body.encode(), after_ns=200 * MS) for body in (SNAPSHOT, NEXT_SNAPSHOT)),
                Answer("/exchangeInfo?", LISTING.encode(), after_ns=20 * MS),
            ],
            late=[LateSubscription(_at(500), (ETH_QUOTES,))],
        )
    ]
)
