"""Values that cannot be are passed on as the venue sent them, and marked."""

from __future__ import annotations

import pytest

from raven.adapter import Event, Kind, Topic
from raven.model.events import Flag
from raven_binance.streams import BookStream, QuoteStream
from raven_binance.wire import parse_depth_reply

QUOTE, BOOK = Topic("b", "BTC-USDT", Kind.QUOTE), Topic("b", "BTC-USDT", Kind.BOOK)


@pytest.mark.parametrize(
    ("bid", "ask", "flags"),
    [
        ("100.0", "100.1", Flag.NONE),
        ("100.1", "100.1", Flag.SUSPECT_VALUE),
        ("100.2", "100.1", Flag.SUSPECT_VALUE),
        ("0.0", "100.1", Flag.NONE),
        ("100.0", "0.0", Flag.NONE),
        ("0.0", "0.0", Flag.NONE),
    ],
)
def test_a_quote_whose_sides_meet_is_suspect_and_an_empty_side_is_not(bid: str, ask: str, flags: Flag) -> None:
    frame = f'{{"stream":"btcusdt@bookTicker","data":{{"u":1,"b":"{bid}","B":"1","a":"{ask}","A":"1"}}}}'
    (event,) = QuoteStream(QUOTE, "BTCUSDT", {}).on_frame(frame.encode(), 5)
    assert isinstance(event, Event)
    assert event.flags == flags


@pytest.mark.parametrize(
    ("bids", "asks", "flags"),
    [
        ('["100.0","1"]', '["100.1","1"]', Flag.NONE),
        ('["100.1","1"]', '["100.1","1"]', Flag.SUSPECT_VALUE),
        ('["0.0","1"]', '["100.1","1"]', Flag.SUSPECT_VALUE),
        ("", '["100.1","1"]', Flag.NONE),
        ("", "", Flag.NONE),
    ],
)
def test_a_snapshot_whose_sides_meet_is_suspect(bids: str, asks: str, flags: Flag) -> None:
    reply = parse_depth_reply(f'{{"lastUpdateId":7,"bids":[{bids}],"asks":[{asks}]}}'.encode())
    _, (event,) = BookStream(BOOK, "BTCUSDT", {}, lambda _: []).on_snapshot(reply, 5)
    assert isinstance(event, Event)
    assert event.flags == flags
