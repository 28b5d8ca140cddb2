"""Frames of Example venue, and what must come of them, to the last digit: what `raven adapter check example` plays.

Found by the entry point in the group `raven.conformance`; a server never imports it.
"""

from __future__ import annotations

from raven.adapter import Established, Event, Kind, Refused, Resync, Topic
from raven.model.events import Quote, Side, StatusCause, Trade
from raven.testing import ConformanceKit, Frame, LateSubscription, Scenario

__all__ = ["KIT"]

BTC = Topic("example", "BTC-USD", Kind.TRADE)
BTC_QUOTES = Topic("example", "BTC-USD", Kind.QUOTE)
ETH = Topic("example", "ETH-USD", Kind.TRADE)
DOGE = Topic("example", "DOGE-USD", Kind.TRADE)
SOL = Topic("example", "SOL-USD", Kind.TRADE)

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000

# When each was received, in ms after START_NS, and its text.
FRAMES = (
    (20, '{"type":"subscribed","channel":"trades.BTCUSD"}'),
    (20, '{"type":"subscribed","channel":"quotes.BTCUSD"}'),
    (21, '{"type":"refused","channel":"trades.DOGEUSD","reason":"no such market"}'),
    (125, '{"type":"trade","market":"BTCUSD","id":101,"price":"64000.10","size":"0.5","taker":"buy","time_ms":1700000000123}'),
    (126, '{"type":"quote","market":"BTCUSD","bid":["64000.0","1.5"],"ask":["64000.1","0.7"]}'),
    (129, '{"type":"trade","market":"BTCUSD","id":102,"price":"64000.00","size":"2","taker":"sell","time_ms":1700000000125}'),
    (129, '{"type":"quote","market":"BTCUSD","bid":["63999.9","0.00012345"],"ask":["64000.1","0.7"]}'),
    (155, '{"type":"trade","market":"BTCUSD","id":104,"price":"64000.00","size":"1","taker":"sell","time_ms":1700000000150}'),
    (300, '{"type":"subscribed","channel":"trades.ETHUSD"}'),
    (310, '{"type":"trade","market":"ETHUSD","id":7,"price":"3200.01","size":"0.25","taker":"buy","time_ms":1700000000308}'),
    (9_990, '{"type":"heartbeat"}'),
    (9_991, '{"type":"trade","market":"BTCUSD","id":105,"price":"63999.9","size":"3","taker":"buy","time_ms":1700000009990}'),
)

EVENTS = (
    Event(BTC, Trade(64000.1, 0.5, Side.BUY, "101"), START_NS + 125 * MS, START_NS + 123 * MS),
    Event(BTC_QUOTES, Quote(64000.0, 1.5, 64000.1, 0.7), START_NS + 126 * MS),
    Event(BTC, Trade(64000.0, 2.0, Side.SELL, "102"), START_NS + 129 * MS, START_NS + 125 * MS),
    Event(BTC_QUOTES, Quote(63999.9, 0.00012345, 64000.1, 0.7), START_NS + 129 * MS),
    Event(BTC, Trade(64000.0, 1.0, Side.SELL, "104"), START_NS + 155 * MS, START_NS + 150 * MS),
    Event(ETH, Trade(3200.01, 0.25, Side.BUY, "7"), START_NS + 310 * MS, START_NS + 308 * MS),
    Event(BTC, Trade(63999.9, 3.0, Side.BUY, "105"), START_NS + 9_991 * MS, START_NS + 9_990 * MS),
)

# Beside the events, in order: what was confirmed, refused, missed.
STATUSES = (
    Established([BTC]),
    Established([BTC_QUOTES]),
    Refused(DOGE, "no such market", StatusCause.VENUE_REFUSED),
    Resync(BTC, StatusCause.SEQUENCE_GAP, "trade 104 after 102"),
    Established([ETH]),
    Refused(SOL, "the venue did not answer"),  # the cause is VENUE_REFUSED where none is given
)

KIT = ConformanceKit(
    [
        Scenario(
            topics=[BTC, BTC_QUOTES, DOGE, SOL],
            frames=[Frame(START_NS + at_ms * MS, text.encode()) for at_ms, text in FRAMES],
            events=EVENTS,
            statuses=STATUSES,
            late=[LateSubscription(START_NS + 200 * MS, (ETH,))],
            run_s=5.0,
        )
    ]
)
