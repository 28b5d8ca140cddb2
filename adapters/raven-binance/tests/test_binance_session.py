"""Sessions by literals: what arrives, and what is to happen."""

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
    Wakeup,
)
from raven.model.events import BookDelta, BookSnapshot, Flag, Gap, GapCause, Quote, Side, State, StatusCause, Trade
from raven_binance.book_sync import SNAPSHOT_TRIES_MAX

BTC_TRADE, BTC_QUOTE, BTC_BOOK = (Topic("binance-spot", "BTC-USDT", kind) for kind in (Kind.TRADE, Kind.QUOTE, Kind.BOOK))
ETH_TRADE = Topic("binance-spot", "ETH-USDT", Kind.TRADE)
BTC_INSTRUMENT = Topic("binance-spot", "BTC-USDT", Kind.INSTRUMENT)
BTC_LISTED = '{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[]}'
INVALID_SYMBOL = '{"code":-1121,"msg":"Invalid symbol."}'
DEPTH_URL = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
INFO_URL = "https://api.binance.com/api/v3/exchangeInfo"
T = TypeVar("T")


def trade(trade_id: int, maker: str = "true", price: str = "61837.63000000") -> str:
    return (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT",'
        f'"t":{trade_id},"p":"{price}","q":"0.02000000","T":1723161255342,"m":{maker},"M":true}}}}'
    )


def quote(update_id: int, bid: str = "61837.63000000") -> str:
    return (
        f'{{"stream":"btcusdt@bookTicker","data":{{"u":{update_id},"s":"BTCUSDT",'
        f'"b":"{bid}","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}}}'
    )


def depth(first: int, last: int, bids: str = '["10.0","1.0"]') -> str:
    return (
        '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT",'
        f'"U":{first},"u":{last},"b":[{bids}],"a":[["11.0","0.0"]]}}}}'
    )


def snapshot(last_id: int) -> str:
    return f'{{"lastUpdateId":{last_id},"bids":[["10.0","5.0"],["9.0","6.0"]],"asks":[["11.0","7.0"]]}}'


def of(kind: type[T], outputs: Sequence[Output]) -> list[T]:
    return [output for output in outputs if isinstance(output, kind)]


def sent(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [json.loads(output.data) for output in of(Send, outputs)]


def info_fetch(outputs: Sequence[Output]) -> Fetch:
    return next(fetch for fetch in of(Fetch, outputs) if fetch.purpose.startswith("instruments:"))


# Connecting and subscribing.


def test_connecting_subscribes_and_asks_for_the_instruments(driver: Any) -> None:
    assert driver(BTC_TRADE, BTC_QUOTE, BTC_BOOK, BTC_INSTRUMENT).connect() == [
        Send('{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@bookTicker","btcusdt@depth@100ms"],"id":1}'),
        Fetch(INFO_URL + "?symbols=%5B%22BTCUSDT%22%5D", "instruments:BTCUSDT"),
        Wakeup(5_000_000_000),
    ]


def test_the_answer_establishes_and_only_then_the_snapshot_is_asked_for(driver: Any) -> None:
    session = driver(BTC_TRADE, BTC_QUOTE, BTC_BOOK)
    session.connect()
    outputs = session.frame('{"result":null,"id":1}')
    assert outputs[:2] == [
        Established([BTC_TRADE, BTC_QUOTE, BTC_BOOK]),
        Fetch(DEPTH_URL, "depth:BTCUSDT", BTC_BOOK),
    ]


def test_many_streams_go_in_few_messages(driver: Any, topics: Any) -> None:
    messages = sent(driver(*topics(*(f"A{number}-USDT" for number in range(150)))).connect())
    assert [len(message["params"]) for message in messages] == [200, 200, 50]
    assert [message["id"] for message in messages] == [1, 2, 3]


def test_no_answer_in_time_ends_the_connection(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.connect()
    assert session.after(29) == [Wakeup(1_000_000_000)]
    assert session.after(1)[0] == Reconnect("no answer to SUBSCRIBE 1 within 30 s")


def test_an_answer_in_time_does_not(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    assert of(Reconnect, session.after(60)) == []


def test_a_stream_that_stays_silent_is_subscribed_once_more(driver: Any) -> None:
    session = driver(BTC_TRADE, BTC_QUOTE)
    session.stand()
    session.frame(trade(1))
    assert session.quiet(59) == []
    outputs = session.quiet(1)
    assert of(Count, outputs) == [Count("silent_stream", 1)]
    (stale,) = of(Event, outputs)
    assert (stale.topic, stale.payload.state, stale.payload.cause) == (BTC_QUOTE, State.STALE, StatusCause.VENUE_SILENT)
    (again,) = sent(outputs)
    assert (again["method"], again["params"]) == ("SUBSCRIBE", ["btcusdt@bookTicker"])
    assert of(Established, session.frame(json.dumps({"result": None, "id": again["id"]}))) == []  # it was established already
    assert session.quiet(3000) == []
    assert len(session.frame(quote(1))) == 1


def test_a_refused_stream_does_not_take_the_others_along(driver: Any) -> None:
    session = driver(BTC_TRADE, BTC_QUOTE, BTC_BOOK)
    session.connect()
    halves = session.frame('{"code":2,"msg":"Invalid request","id":1}')
    assert [message["params"] for message in sent(halves)] == [["btcusdt@trade"], ["btcusdt@bookTicker", "btcusdt@depth@100ms"]]
    assert session.frame('{"error":{"code":2,"msg":"no such stream"},"id":2}') == [
        Refused(BTC_TRADE, "no such stream (code 2)")
    ]
    assert session.frame('{"result":null,"id":3}')[0] == Established([BTC_QUOTE, BTC_BOOK])
    assert session.frame(trade(1)) == []


def test_an_error_without_an_id_belongs_to_the_oldest_request(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.connect()
    session.session.on_subscribe([ETH_TRADE])
    assert of(Refused, session.frame('{"code":3,"msg":"Invalid JSON"}')) == [Refused(BTC_TRADE, "Invalid JSON (code 3)")]
    assert of(Established, session.frame('{"result":null,"id":2}')) == [Established([ETH_TRADE])]


def test_answers_to_nothing_are_counted(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    assert session.frame('{"result":null,"id":77}') == [Count("unmatched_answer")]
    assert session.frame('{"code":3,"msg":"Invalid JSON"}') == [Count("unmatched_answer")]


# Trades and quotes.


def test_a_trade(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    assert session.frame(trade(3735683259)) == [
        Event(BTC_TRADE, Trade(61837.63, 0.02, Side.SELL, "3735683259"), session.now_ns, 1_723_161_255_342_000_000)
    ]
    assert session.frame(trade(3735683260, maker="false"))[0].payload.aggressor is Side.BUY


def test_a_hole_in_trade_ids_is_a_gap_before_the_trade(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    session.frame(trade(10))
    gap, event = session.frame(trade(14))
    assert gap == Event(BTC_TRADE, Gap(GapCause.VENUE, missed=3), session.now_ns)
    assert event.payload.trade_id == "14"


def test_repeated_and_older_trades_are_dropped(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    session.frame(trade(10))
    assert session.frame(trade(10)) == session.frame(trade(9)) == [Count("repeated_event")]
    assert len(session.frame(trade(11))) == 1


def test_the_next_connection_knows_what_the_last_one_had(driver: Any) -> None:
    first = driver(BTC_TRADE, BTC_QUOTE)
    first.stand()
    first.frame(trade(10))
    first.frame(quote(100))
    second = driver(BTC_TRADE, BTC_QUOTE, memory=first.memory)
    second.stand()
    assert second.frame(trade(10)) == second.frame(quote(100)) == [Count("repeated_event")]
    gap, _ = second.frame(trade(12))
    assert gap.payload == Gap(GapCause.VENUE, missed=1)
    assert len(second.frame(quote(101))) == 1


def test_a_trade_without_a_price_is_marked(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    (event,) = session.frame(trade(10, price="0.00000000"))
    assert event.flags == Flag.SUSPECT_VALUE


def test_a_quote_has_no_time_of_the_venue(driver: Any) -> None:
    session = driver(BTC_QUOTE)
    session.stand()
    assert session.frame(quote(50093239212)) == [
        Event(BTC_QUOTE, Quote(61837.63, 3.78826, 61837.64, 1.54698), session.now_ns, None)
    ]
    assert session.frame(quote(50093239212)) == session.frame(quote(50093239211)) == [Count("repeated_event")]


def test_an_empty_side_of_a_quote_is_none(driver: Any) -> None:
    session = driver(BTC_QUOTE)
    session.stand()
    assert session.frame(quote(1, bid="0.00000000"))[0].payload == Quote(None, None, 61837.64, 1.54698)


# Books.


def test_a_book_is_its_snapshot_and_then_every_delta(driver: Any) -> None:
    session = driver(BTC_BOOK)
    fetch = session.stand()
    assert session.frame(depth(95, 99)) == session.frame(depth(100, 104)) == []
    image, held = session.reply(fetch, body=snapshot(102))
    assert image == Event(BTC_BOOK, BookSnapshot((10.0, 9.0), (5.0, 6.0), (11.0,), (7.0,), 102), session.now_ns)
    assert held == Event(BTC_BOOK, BookDelta((10.0,), (1.0,), (11.0,), (0.0,), 104), session.now_ns, 1_723_161_255_308_000_000)
    assert session.frame(depth(105, 105))[0].payload.venue_sequence == 105


def test_a_hole_in_a_book_asks_for_a_new_snapshot_and_holds_the_deltas(driver: Any) -> None:
    session = driver(BTC_BOOK)
    session.reply(session.stand(), body=snapshot(100))
    session.frame(depth(101, 103))
    resync, fetch = session.frame(depth(106, 110))
    assert resync == Resync(BTC_BOOK, StatusCause.SEQUENCE_GAP, "U 106 after u 103")
    assert fetch == Fetch(DEPTH_URL, "depth:BTCUSDT", BTC_BOOK)
    assert session.frame(depth(111, 112)) == []
    outputs = session.reply(fetch, body=snapshot(108))
    assert [event.payload.venue_sequence for event in of(Event, outputs)] == [108, 110, 112]


def test_an_unreadable_delta_is_a_hole_and_no_more(driver: Any) -> None:
    session = driver(BTC_BOOK)
    session.reply(session.stand(), body=snapshot(100))
    with pytest.raises(FrameError):
        session.frame(depth(101, 103, '["NaN","1.0"]'))
    assert of(Resync, session.frame(depth(104, 105))) == [Resync(BTC_BOOK, StatusCause.SEQUENCE_GAP, "U 104 after u 100")]


def test_an_old_snapshot_is_asked_for_again_after_a_pause(driver: Any) -> None:
    session = driver(BTC_BOOK)
    fetch = session.stand()
    session.frame(depth(100, 104))
    assert of(Count, session.reply(fetch, body=snapshot(90))) == [Count("old_snapshot")]
    assert of(Fetch, session.after(0.9)) == []
    assert of(Fetch, session.after(0.1)) == [fetch]
    assert len(of(Event, session.reply(fetch, body=snapshot(99)))) == 2


def test_only_old_snapshots_end_in_doubt_and_are_left_for_minutes(driver: Any) -> None:
    session = driver(BTC_BOOK)
    fetch = session.stand()
    session.frame(depth(100, 104))
    for _ in range(SNAPSHOT_TRIES_MAX - 1):
        session.reply(fetch, body=snapshot(90))
        assert of(Fetch, session.after(1)) == [fetch]
    (resync,) = of(Resync, session.reply(fetch, body=snapshot(90)))
    assert "older than the deltas held" in resync.text
    assert of(Fetch, session.after(299)) == []
    session.frame(depth(105, 106))
    assert of(Fetch, session.after(1)) == [fetch]
    session.frame(depth(107, 107))
    assert [event.payload.venue_sequence for event in of(Event, session.reply(fetch, body=snapshot(106)))] == [106, 107]


@pytest.mark.parametrize(
    ("status", "body", "more", "pause_s"),
    [
        (0, "", {"error": "timed out after 10 s"}, 1),
        (500, "<html>", {}, 1),
        (429, '{"code":-1003,"msg":"Too many requests"}', {"retry_after_s": 17.0}, 17),
        (418, "", {"retry_after_s": 120.0}, 120),
        (200, "not json", {}, 1),
        (200, '{"lastUpdateId":1,"bids":[["NaN","1"]],"asks":[]}', {}, 1),
    ],
)
def test_a_snapshot_that_did_not_come_is_asked_for_again(
    status: int, body: str, more: dict[str, Any], pause_s: float, driver: Any
) -> None:
    session = driver(BTC_BOOK)
    fetch = session.stand()
    assert of(Fetch, session.reply(fetch, status, body, **more)) == []
    assert of(Fetch, session.after(pause_s - 0.5)) == []
    assert of(Fetch, session.after(0.5)) == [fetch]
    assert len(of(Event, session.reply(fetch, body=snapshot(100)))) == 1


def test_snapshots_of_many_books_keep_to_the_venues_budget(driver: Any, topics: Any) -> None:
    books = topics(*(f"A{number}-USDT" for number in range(100)), kinds=(Kind.BOOK,))
    session = driver(*books)
    session.connect()
    at_once = of(Fetch, session.frame('{"result":null,"id":1}'))
    assert len(at_once) == 19  # 20 of weight to list the symbols, 19 x 50 for books: the burst of 1,000
    seconds = 0
    asked = list(at_once)
    while len(asked) < 100:
        asked += of(Fetch, session.after(1))
        seconds += 1
    assert len({fetch.purpose for fetch in asked}) == 100
    assert seconds == 81  # one a second: 50 of 6,000 a minute each


# Instruments.


def test_the_catalogue_and_the_instrument_topic(driver: Any) -> None:
    session = driver(BTC_INSTRUMENT)
    fetch = info_fetch(session.connect())
    outputs = session.reply(fetch, body=f'{{"symbols":[{BTC_LISTED}]}}')
    (catalogue,) = of(Catalogue, outputs)
    assert [instrument.symbol for instrument in catalogue.instruments] == ["BTC-USDT"]
    assert of(Established, outputs) == [Established([BTC_INSTRUMENT])]


def test_instruments_are_asked_for_each_hour_and_only_changes_are_told(driver: Any) -> None:
    session = driver(BTC_INSTRUMENT)
    fetch = info_fetch(session.connect())
    session.reply(fetch, body=f'{{"symbols":[{BTC_LISTED}]}}')
    assert of(Fetch, session.after(3600)) == [fetch]
    assert of(Catalogue, session.reply(fetch, body=f'{{"symbols":[{BTC_LISTED}]}}')) == []
    assert of(Fetch, session.after(3600)) == [fetch]
    assert len(of(Catalogue, session.reply(fetch, body=f'{{"symbols":[{BTC_LISTED}]}}'.replace("TRADING", "HALT")))) == 1


def test_everything_that_the_venue_lists(driver: Any) -> None:
    session = driver(BTC_TRADE, all_instruments=True)
    everything = next(fetch for fetch in of(Fetch, session.connect()) if fetch.url == INFO_URL)
    foreign = BTC_LISTED.replace("BTC", "\u5e01")
    outputs = session.reply(everything, body=f'{{"symbols":[{BTC_LISTED},{BTC_LISTED.replace("BTC", "SOL")},{foreign}]}}')
    assert [instrument.venue_symbol for instrument in of(Catalogue, outputs)[0].instruments] == ["BTCUSDT", "SOLUSDT"]
    assert of(Count, outputs) == [Count("unusable_symbol", 1)]


def test_a_symbol_that_the_venue_does_not_list_is_refused_and_the_rest_goes_on(driver: Any, topics: Any) -> None:
    session = driver(BTC_TRADE, *topics("NO-USDT"))
    fetch = info_fetch(session.connect())
    assert fetch.purpose == "instruments:BTCUSDT,NOUSDT"
    btc, no = of(Fetch, session.reply(fetch, 400, INVALID_SYMBOL))
    assert of(Catalogue, session.reply(btc, body=f'{{"symbols":[{BTC_LISTED}]}}'))
    outputs = session.reply(no, 400, INVALID_SYMBOL)
    text = "the venue lists no NOUSDT: Invalid symbol."
    assert of(Refused, outputs) == [Refused(topic, text) for topic in topics("NO-USDT")]
    assert sent(outputs)[0]["method"] == "UNSUBSCRIBE"
    assert session.frame(trade(1))


def test_a_symbol_missing_from_the_answer_is_refused_too(driver: Any) -> None:
    session = driver(BTC_TRADE)
    outputs = session.reply(info_fetch(session.connect()), body='{"symbols":[]}')
    assert of(Refused, outputs) == [Refused(BTC_TRADE, "the venue lists no BTCUSDT")]


def test_a_depth_request_can_tell_that_too(driver: Any) -> None:
    session = driver(BTC_BOOK, BTC_TRADE)
    outputs = session.reply(session.stand(), 400, INVALID_SYMBOL)
    assert [refused.topic for refused in of(Refused, outputs)] == [BTC_BOOK, BTC_TRADE]


def test_a_symbol_that_the_venue_splits_elsewhere_is_refused(driver: Any) -> None:
    wrong = Topic("binance-spot", "BT-CUSDT", Kind.TRADE)
    session = driver(wrong)
    outputs = session.reply(info_fetch(session.connect()), body=f'{{"symbols":[{BTC_LISTED}]}}')
    assert of(Refused, outputs) == [Refused(wrong, "the venue's BTCUSDT is BTC-USDT")]


def test_instruments_that_did_not_come_are_asked_for_again(driver: Any) -> None:
    session = driver(BTC_TRADE)
    fetch = info_fetch(session.connect())
    session.reply(fetch, 0, error="connection refused")
    assert of(Fetch, session.after(1)) == [fetch]


# Topics that come and go while the connection stands.


def test_subscribing_at_run_time_changes_nothing_for_what_is_carried(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    assert session.session.on_subscribe([BTC_TRADE]) == []
    assert sent(session.session.on_subscribe([BTC_TRADE, BTC_QUOTE, BTC_QUOTE])) == [
        {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 2}
    ]
    assert session.session.on_subscribe([BTC_QUOTE]) == []
    assert session.frame('{"result":null,"id":2}')[0] == Established([BTC_QUOTE])


def test_a_new_symbol_at_run_time_is_looked_up(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    assert info_fetch(session.session.on_subscribe([ETH_TRADE])).purpose == "instruments:ETHUSDT"


def test_a_topic_that_cannot_be_is_refused_at_run_time(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    topics = [
        Topic("binance-spot", "BTC-USDT-PERP", Kind.TRADE),
        Topic("binance-spot", "BTC-USDT", Kind.FUNDING),
        Topic("binance-spot", "BT-CUSDT", Kind.TRADE),
    ]
    outputs = session.session.on_subscribe(topics)
    assert [refused.topic for refused in of(Refused, outputs)] == topics
    assert of(Send, outputs) == []


def test_unsubscribing(driver: Any) -> None:
    session = driver(BTC_TRADE, BTC_BOOK)
    session.stand()
    session.frame(trade(10))
    assert sent(session.session.on_unsubscribe([BTC_TRADE, ETH_TRADE])) == [
        {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 2}
    ]
    assert session.session.on_unsubscribe([BTC_TRADE]) == []
    assert session.frame(trade(11)) == []  # it was on its way
    assert of(Established, session.frame('{"result":null,"id":2}')) == []
    assert session.frame(trade(12)) == [Count("unknown_message")]
    session.session.on_subscribe([BTC_TRADE])
    assert [type(event.payload) for event in of(Event, session.frame(trade(99)))] == [Trade]  # nobody missed 11 to 98


def test_an_answer_for_what_is_carried_no_longer_establishes_nothing(driver: Any) -> None:
    session = driver(BTC_BOOK)
    session.connect()
    session.session.on_unsubscribe([BTC_BOOK])
    assert of(Established, session.frame('{"result":null,"id":1}')) == []
    assert of(Fetch, session.frame('{"result":null,"id":2}')) == []


def test_a_snapshot_for_a_book_that_left_is_ignored(driver: Any) -> None:
    session = driver(BTC_BOOK)
    fetch = session.stand()
    session.session.on_unsubscribe([BTC_BOOK])
    assert session.reply(fetch, body=snapshot(100)) == []


def test_a_refused_unsubscribe_is_counted(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    session.session.on_unsubscribe([BTC_TRADE])
    assert session.frame('{"code":2,"msg":"Invalid request","id":2}')[0] == Count("unsubscribe_refused")


# Notices, unknown things, garbage.


@pytest.mark.parametrize(
    "frame",
    [
        '{"e":"serverShutdown","E":1770123456789}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    ],
)
def test_the_notice_of_a_shutdown(frame: str, driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    (reconnect,) = session.frame(frame)
    assert isinstance(reconnect, Reconnect)
    assert reconnect.planned


@pytest.mark.parametrize("frame", ['{"stream":"btcusdt@newThing","data":{}}', '{"e":"newThing"}', "{}"])
def test_an_unknown_message_is_counted(frame: str, driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    assert session.frame(frame) == [Count("unknown_message")]


def test_the_order_of_keys_and_spaces_do_not_matter(driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    plain = session.frame(trade(10))
    loaded = json.loads(trade(11))
    other = session.frame(json.dumps({"data": loaded["data"], "new": 1, "stream": loaded["stream"]}, indent=2))
    assert plain[0].payload.trade_id == "10"
    assert other[0].payload.trade_id == "11"


@pytest.mark.parametrize("frame", [b"", b"null", b"\xff", b"[1]", trade(10).encode()[:-9], trade(10, price="-1").encode()])
def test_a_bad_frame_is_a_frame_error_and_the_session_goes_on(frame: bytes, driver: Any) -> None:
    session = driver(BTC_TRADE)
    session.stand()
    session.frame(trade(9))
    with pytest.raises(FrameError):
        session.frame(frame)
    assert [type(event.payload) for event in session.frame(trade(10))] == [Trade]


def test_no_event_comes_before_a_subscription_was_asked_for(driver: Any) -> None:
    session = driver(BTC_TRADE, BTC_QUOTE, BTC_BOOK)
    for frame in (trade(1), quote(1), depth(1, 2)):
        assert session.frame(frame) == [Count("unknown_message")]
