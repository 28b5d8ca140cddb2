"""USD-M sessions by literals: what arrives, and what is to happen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from raven.adapter import (
    Catalogue,
    Count,
    Established,
    Event,
    Fetch,
    FrameError,
    Kind,
    Output,
    Reconnect,
    Refused,
    Resync,
    Send,
    Topic,
)
from raven.model.events import (
    BookSnapshot,
    Funding,
    Gap,
    GapCause,
    Liquidation,
    MarkPrice,
    OpenInterest,
    Quote,
    Side,
    State,
    StatusCause,
    TopicStatus,
    Trade,
)

VENUE, PERP, DATED = "binance-usdm", "BTC-USDT-PERP", "BTC-USDT-20261225"
TRADE, QUOTE, BOOK, MARK, FUNDING, LIQUIDATION, INTEREST, INSTRUMENT, TICKER = (
    Topic(VENUE, PERP, kind)
    for kind in (
        Kind.TRADE,
        Kind.QUOTE,
        Kind.BOOK,
        Kind.MARK_PRICE,
        Kind.FUNDING,
        Kind.LIQUIDATION,
        Kind.OPEN_INTEREST,
        Kind.INSTRUMENT,
        Kind.TICKER,
    )
)
REST = "https://fapi.binance.com/fapi/v1/"
LISTED = '{"symbol":"BTCUSDT","contractType":"PERPETUAL","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT"}'
INVALID_SYMBOL = '{"code":-1121,"msg":"Invalid symbol."}'
T = TypeVar("T")


def of(kind: type[T], outputs: Sequence[Output]) -> list[T]:
    return [output for output in outputs if isinstance(output, kind)]


def payloads(outputs: Sequence[Output]) -> list[Any]:
    return [event.payload for event in of(Event, outputs)]


def sent(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [json.loads(output.data) for output in of(Send, outputs)]


def fetch_of(outputs: Sequence[Output], purpose: str) -> Fetch:
    return next(fetch for fetch in of(Fetch, outputs) if fetch.purpose.startswith(purpose))


def frame(stream: str, **data: Any) -> str:
    return json.dumps({"stream": f"btcusdt@{stream}", "data": data}, separators=(",", ":"))


def trade(trade_id: int, origin: str = "MARKET", **more: Any) -> str:
    return frame("trade", e="trade", T=1723161256322, t=trade_id, p="61800.30", q="0.006", X=origin, m=False, **more)


def quote(update_id: int, **more: Any) -> str:
    return frame("bookTicker", u=update_id, b="61800.20", B="2.507", a="61800.30", A="2.510", T=1723161256313, **more)


def depth(previous: int, first: int, last: int) -> str:
    return frame("depth@100ms", E=1723161256300, T=1723161256298, U=first, u=last, pu=previous, b=[["10.0", "1.0"]], a=[])


def snapshot(last_id: int) -> str:
    return f'{{"lastUpdateId":{last_id},"E":1723161256501,"T":1723161256493,"bids":[["10.0","5.0"]],"asks":[["11.0","7.0"]]}}'


def mark(
    event_ms: int = 1597536008000, rate: str = "0.00015640", next_ms: int = 1597564800000, index: str = "11851.86949091"
) -> str:
    return frame("markPrice@1s", E=event_ms, s="BTCUSDT", p="11857.56000000", i=index, r=rate, T=next_ms)


def force_order(event_ms: int, side: str = "SELL", filled: str = "0.014") -> str:
    order = {"s": "BTCUSDT", "S": side, "q": "0.020", "p": "4793.91", "ap": "4706.04", "z": filled, "T": event_ms - 5}
    return frame("forceOrder", e="forceOrder", E=event_ms, o=order)


# Trades and quotes.


def test_a_trade_and_a_quote_with_their_times(usdm: Any) -> None:
    session = usdm(TRADE, QUOTE)
    assert sent(session.connect()) == [{"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@bookTicker"], "id": 1}]
    session.frame('{"result":null,"id":1}')
    assert session.frame(trade(5266583935)) == [
        Event(TRADE, Trade(61800.3, 0.006, Side.BUY, "5266583935"), session.now_ns, 1_723_161_256_322_000_000)
    ]
    assert session.frame(quote(5123107839020)) == [
        Event(QUOTE, Quote(61800.2, 2.507, 61800.3, 2.51), session.now_ns, 1_723_161_256_313_000_000)
    ]


@pytest.mark.parametrize("origin", ["INSURANCE_FUND", "ADL", "NA"])
def test_what_is_no_trade_of_the_market_is_counted_and_is_no_hole(origin: str, usdm: Any) -> None:
    session = usdm(TRADE)
    session.stand()
    session.frame(trade(10))
    assert session.frame(trade(11, origin)) == [Count("excluded_trade")]
    assert session.frame(trade(11, origin)) == [Count("repeated_event")]
    assert [type(payload) for payload in payloads(session.frame(trade(12)))] == [Trade]
    gap, _ = payloads(session.frame(trade(14)))
    assert gap == Gap(GapCause.VENUE, missed=1)


def test_a_hole_before_what_is_no_trade_of_the_market_is_told(usdm: Any) -> None:
    session = usdm(TRADE)
    session.stand()
    session.frame(trade(10))
    assert session.frame(trade(13, "ADL")) == [
        Event(TRADE, Gap(GapCause.VENUE, missed=2), session.now_ns),
        Count("excluded_trade"),
    ]


def test_aggregates(usdm: Any) -> None:
    def aggregate(number: int, first: int, last: int) -> str:
        return frame("aggTrade", a=number, p="0.001", q="100", f=first, l=last, T=1672515782136, m=True)

    session = usdm(TRADE, trade_stream="aggTrade")
    assert sent(session.connect())[0]["params"] == ["btcusdt@aggTrade"]
    session.frame('{"result":null,"id":1}')
    assert session.frame(aggregate(12345, 100, 105)) == [
        Event(TRADE, Trade(0.001, 100.0, Side.SELL, "105", "100"), session.now_ns, 1_672_515_782_136_000_000)
    ]
    assert len(session.frame(aggregate(12346, 108, 108))) == 1  # 106 and 107 were no trades of the market
    assert session.frame(aggregate(12346, 108, 108)) == [Count("repeated_event")]
    assert payloads(session.frame(aggregate(12348, 120, 120)))[0] == Gap(GapCause.VENUE, missed=1)


def test_frames_of_the_other_business_are_counted(usdm: Any) -> None:
    session = usdm(TRADE, QUOTE)
    session.stand()
    assert session.frame(trade(1, st=2)) == session.frame(quote(1, st=2)) == [Count("other_business")]
    assert len(session.frame(trade(1, st=1, ps="BTCUSDT"))) == len(session.frame(quote(1, st=1))) == 1


# Books.


def test_a_book_follows_pu(usdm: Any) -> None:
    session = usdm(BOOK)
    fetch = session.stand()
    assert fetch == Fetch(REST + "depth?symbol=BTCUSDT&limit=1000", "depth:BTCUSDT", BOOK)
    session.frame(depth(80, 85, 90))
    session.frame(depth(90, 97, 104))
    image, held = of(Event, session.reply(fetch, body=snapshot(100)))
    assert image == Event(BOOK, BookSnapshot((10.0,), (5.0,), (11.0,), (7.0,), 100), session.now_ns, 1_723_161_256_493_000_000)
    assert (held.payload.venue_sequence, held.venue_ts_ns) == (104, 1_723_161_256_298_000_000)
    assert len(session.frame(depth(104, 130, 140))) == 1  # U is not the last u + 1
    resync, fetch = session.frame(depth(141, 142, 150))
    assert resync == Resync(BOOK, StatusCause.SEQUENCE_GAP, "pu 141 after u 140")
    assert fetch.purpose == "depth:BTCUSDT"


def test_the_first_delta_may_follow_the_snapshot_exactly(usdm: Any) -> None:
    session = usdm(BOOK)
    fetch = session.stand()
    session.frame(depth(80, 85, 100))
    session.frame(depth(100, 115, 120))
    assert [event.payload.venue_sequence for event in of(Event, session.reply(fetch, body=snapshot(100)))] == [100, 120]


def test_the_speed_of_books_is_an_option(usdm: Any) -> None:
    names = {speed: sent(usdm(BOOK, depth_speed=speed).connect())[0]["params"] for speed in ("0ms", "250ms", "500ms")}
    assert names == {"0ms": ["btcusdt@depth@0ms"], "250ms": ["btcusdt@depth"], "500ms": ["btcusdt@depth@500ms"]}


# Mark price and funding.


def test_one_stream_feeds_mark_price_and_funding(usdm: Any) -> None:
    session = usdm(MARK, FUNDING)
    connected = session.connect()
    assert sent(connected) == [{"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 1}]
    assert of(Established, session.frame('{"result":null,"id":1}')) == [Established([MARK, FUNDING])]
    assert session.frame(mark()) == [
        Event(MARK, MarkPrice(11857.56, 11851.86949091), session.now_ns, 1_597_536_008_000_000_000),
        Event(FUNDING, Funding(0.0001564, 1_597_564_800_000_000_000), session.now_ns, 1_597_536_008_000_000_000),
    ]
    assert session.frame(mark()) == [Count("repeated_event")]
    terms = fetch_of(connected, "funding:")
    assert terms.url == REST + "fundingInfo"
    session.reply(terms, body='[{"symbol":"BTCUSDT","fundingIntervalHours":4}]')
    assert payloads(session.frame(mark(1597536009000)))[1].interval_s == 14_400
    assert of(Fetch, session.after(3600))[-1] == terms


def test_what_the_venue_leaves_out_is_absent(usdm: Any) -> None:
    session = usdm(MARK, FUNDING)
    session.stand()
    assert payloads(session.frame(mark(rate="", next_ms=0, index=""))) == [MarkPrice(11857.56, None), Funding(None, None)]
    assert payloads(session.frame(mark(1597536009000, rate="-0.00010000")))[1].rate == -0.0001
    with pytest.raises(FrameError):
        session.frame(mark(1597536010000, rate="NaN"))


def test_the_second_topic_of_a_stream_comes_and_goes_alone(usdm: Any) -> None:
    session = usdm(MARK)
    session.stand()
    outputs = session.session.on_subscribe([FUNDING])
    assert (sent(outputs), of(Established, outputs)) == ([], [Established([FUNDING])])
    assert session.session.on_subscribe([FUNDING]) == []
    assert len(session.frame(mark())) == 2
    assert sent(session.session.on_unsubscribe([MARK])) == []
    assert [event.topic for event in of(Event, session.frame(mark(1597536009000)))] == [FUNDING]
    assert sent(session.session.on_unsubscribe([FUNDING])) == [
        {"method": "UNSUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 2}
    ]


def test_a_late_message_is_dropped_and_a_clock_that_was_set_back_is_not_for_ever(usdm: Any) -> None:
    session = usdm(MARK)
    session.stand()
    session.frame(mark(1597536008000))
    assert session.frame(mark(1597536007000)) == [Count("repeated_event")]
    assert len(session.frame(mark(1597536008000 - 60_001))) == 1


def test_a_contract_with_a_date_has_no_funding(usdm: Any) -> None:
    dated = Topic(VENUE, DATED, Kind.FUNDING)
    outputs = usdm(dated, MARK).connect()
    assert [refused.topic for refused in of(Refused, outputs)] == [dated]
    assert sent(outputs)[0]["params"] == ["btcusdt@markPrice@1s"]


# Liquidations.


def test_a_liquidation_has_the_side_of_its_order_and_what_was_filled(usdm: Any) -> None:
    session = usdm(LIQUIDATION)
    session.stand()
    assert session.frame(force_order(1584059031426)) == [
        Event(LIQUIDATION, Liquidation(4706.04, 0.014, Side.SELL), session.now_ns, 1_584_059_031_421_000_000)
    ]
    assert payloads(session.frame(force_order(1584059032426, "BUY")))[0].side is Side.BUY
    assert session.frame(force_order(1584059032426, "BUY")) == [Count("repeated_event")]
    assert session.frame(force_order(1584059033426, filled="0.000")) == [Count("unfilled_liquidation")]


# Open interest.


def test_open_interest_is_asked_for_again_and_again(usdm: Any) -> None:
    session = usdm(INTEREST, open_interest_s=20.0)
    fetch = fetch_of(session.connect(), "interest:")
    assert fetch == Fetch(REST + "openInterest?symbol=BTCUSDT", "interest:BTCUSDT", INTEREST)
    body = '{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}'
    assert of(Event, session.reply(fetch, body=body)) == [
        Event(INTEREST, OpenInterest(10659.509), session.now_ns, 1_589_437_530_011_000_000)
    ]
    assert of(Fetch, session.after(19)) == []
    assert of(Fetch, session.after(1)) == [fetch]
    assert of(Event, session.reply(fetch, body=body)) == []  # the venue has nothing new
    assert session.session.on_subscribe([INTEREST]) == []
    session.session.on_unsubscribe([INTEREST])
    assert of(Fetch, session.after(100)) == []


def test_open_interest_that_does_not_come_is_stale_and_then_live_again(usdm: Any) -> None:
    session = usdm(INTEREST, open_interest_s=20.0)
    fetch = fetch_of(session.connect(), "interest:")
    body = '{"openInterest":"1.5","symbol":"BTCUSDT","time":1589437530011}'
    session.reply(fetch, body=body)
    (fetch,) = of(Fetch, session.after(20))
    assert of(Count, session.reply(fetch, body="<html>")) == [Count("unreadable_reply")]
    outputs = session.after(40)
    assert [(status.state, status.cause) for status in payloads(outputs)] == [(State.STALE, StatusCause.VENUE_SILENT)]
    assert of(Count, outputs) == [Count("silent_poll")]
    assert payloads(session.reply(fetch, body=body)) == [OpenInterest(1.5)]  # said again, so that the topic is live


def test_open_interest_of_many_keeps_to_the_budget(usdm: Any) -> None:
    topics = [Topic(VENUE, f"A{number}-USDT-PERP", Kind.OPEN_INTEREST) for number in range(300)]
    session = usdm(*topics)
    assert len(of(Fetch, session.connect())) == 200  # one of them for the instruments
    assert len(of(Fetch, session.after(1))) == 10


def test_a_symbol_without_open_interest_is_refused(usdm: Any) -> None:
    session = usdm(INTEREST, MARK)
    fetch = fetch_of(session.connect(), "interest:")
    assert [refused.topic for refused in of(Refused, session.reply(fetch, 400, INVALID_SYMBOL))] == [MARK, INTEREST]


# Instruments.


def test_the_venue_lists_everything_and_the_feed_hears_of_its_own(usdm: Any) -> None:
    session = usdm(INSTRUMENT, TRADE)
    fetch = fetch_of(session.connect(), "instruments:")
    assert fetch == Fetch(REST + "exchangeInfo", "instruments:*")
    outputs = session.reply(fetch, body=f'{{"symbols":[{LISTED},{LISTED.replace("BTC", "SOL")}]}}')
    assert [instrument.symbol for instrument in of(Catalogue, outputs)[0].instruments] == [PERP]
    assert of(Established, outputs) == [Established([INSTRUMENT])]
    eth = Topic(VENUE, "ETH-USDT-PERP", Kind.TRADE)
    again = fetch_of(session.session.on_subscribe([eth]), "instruments:")
    assert of(Refused, session.reply(again, body=f'{{"symbols":[{LISTED}]}}')) == [Refused(eth, "the venue lists no ETHUSDT")]


def test_every_instrument_if_it_is_wanted(usdm: Any) -> None:
    session = usdm(INSTRUMENT, all_instruments=True)
    fetch = fetch_of(session.connect(), "instruments:")
    outputs = session.reply(fetch, body=f'{{"symbols":[{LISTED},{LISTED.replace("BTC", "SOL")}]}}')
    assert [instrument.venue_symbol for instrument in of(Catalogue, outputs)[0].instruments] == ["BTCUSDT", "SOLUSDT"]


# Silence.


def stale(topic: Topic, now_ns: int) -> Event:
    text = "nothing came within 60 s of the venue's confirmation"
    return Event(topic, TopicStatus(State.STALE, StatusCause.VENUE_SILENT, text, now_ns), now_ns)


def test_a_stream_that_is_confirmed_and_silent_makes_its_topics_stale(usdm: Any) -> None:
    session = usdm(MARK, FUNDING, TICKER, LIQUIDATION)
    session.stand()
    session.frame(frame("ticker", E=1, c="1", o="1", h="1", l="1", v="1", q="1"))
    outputs = session.after(60)
    assert of(Event, outputs) == [stale(MARK, session.now_ns), stale(FUNDING, session.now_ns)]
    assert of(Count, outputs) == [Count("silent_stream", 1)]
    again = next(message for message in sent(outputs) if message["method"] == "SUBSCRIBE")
    assert again["params"] == ["btcusdt@markPrice@1s"]
    assert of(Established, session.frame(json.dumps({"result": None, "id": again["id"]}))) == []
    answer_probes(session, outputs)
    assert session.quiet(25) == []
    session.frame(frame("ticker", E=2, c="1", o="1", h="1", l="1", v="1", q="1"))
    assert payloads(session.frame(mark())) == [
        MarkPrice(11857.56, 11851.86949091),
        Funding(0.0001564, 1_597_564_800_000_000_000),
    ]


def answer_probes(session: Any, outputs: Sequence[Output]) -> None:
    for message in sent(outputs):
        session.frame(json.dumps({"result": None, "id": message["id"]}))


@pytest.mark.parametrize(
    ("topics", "ends"), [((QUOTE, TRADE), True), ((MARK,), True), ((TRADE,), False), ((LIQUIDATION,), False)]
)
def test_a_connection_that_never_gives_anything_is_made_anew(topics: tuple[Topic, ...], ends: bool, usdm: Any) -> None:
    """The wrong path: every stream is confirmed, the venue answers, and nothing comes. Quiet markets are no fault."""
    session = usdm(*topics)
    session.stand()
    reconnects: list[Reconnect] = []
    for _ in range(12):
        outputs = session.after(10)
        reconnects += of(Reconnect, outputs)
        answer_probes(session, outputs)
    assert reconnects == ([Reconnect("no stream of this connection ever gave anything")] if ends else [])


def test_a_book_that_was_silent_begins_with_a_new_snapshot(usdm: Any) -> None:
    session = usdm(BOOK, QUOTE)
    session.reply(session.stand(), body=snapshot(100))
    session.frame(quote(1))
    assert of(Event, session.after(60)) == [stale(BOOK, session.now_ns)]
    (fetch,) = of(Fetch, session.frame(depth(100, 101, 105)))  # no delta while the topic is not live
    assert [event.payload.venue_sequence for event in of(Event, session.reply(fetch, body=snapshot(103)))] == [103, 105]
    assert len(session.frame(depth(105, 106, 107))) == 1


def test_a_quiet_connection_is_asked_for_a_sign_of_life(usdm: Any) -> None:
    session = usdm(LIQUIDATION)
    session.stand()
    session.after(4)
    session.frame(force_order(1584059031426))
    assert sent(session.after(4)) == []
    assert sent(session.after(1)) == [{"method": "LIST_SUBSCRIPTIONS", "id": 2}]
    assert sent(session.after(4)) == []
    assert of(Count, session.frame('{"result":["btcusdt@forceOrder"],"id":2}')) == []
    (probe,) = sent(session.after(5))
    assert of(Reconnect, session.after(4)) == []
    assert of(Reconnect, session.after(1)) == [Reconnect(f"no answer to LIST_SUBSCRIPTIONS {probe['id']} within 5 s")]


def test_who_waits_for_an_answer_asks_nothing_more(usdm: Any) -> None:
    """A venue that takes long over SUBSCRIBE has the deadline of that."""
    session = usdm(LIQUIDATION)
    session.connect()
    assert [sent(session.after(1)) for _ in range(29)] == [[]] * 29
    assert of(Reconnect, session.after(1)) == [Reconnect("no answer to SUBSCRIBE 1 within 30 s")]
