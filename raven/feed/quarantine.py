"""Values that cannot be: flagged and passed on as the venue sent them, until a topic sends nothing else.

Then the topic is told to be in doubt. A book begins anew, because what came before may be wrong as well; of another topic what
cannot be is withheld until something comes that can. A time that cannot be does not spoil the value beside it, and it may be
our clock that is wrong: such events go on, flagged, after the word of doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import attrs

from raven.adapter.outputs import Resync
from raven.model.events import BookSnapshot, Event, Flag, Quote, StatusCause, Trade
from raven.model.topic import Kind, Topic

__all__ = ["Quarantine", "Verdict", "mark"]

VENUE_TS_NS_MIN = 1_230_768_000 * 10**9  # 2009-01-01, when there was nothing to trade yet
VENUE_AHEAD_NS_MAX = 24 * 3600 * 10**9

TIME, VALUE = int(Flag.SUSPECT_TIME), int(Flag.SUSPECT_VALUE)
SUSPECT = TIME | VALUE


def mark(event: Event) -> None:
    """Flag a time that no venue can mean (before there was one, or a day ahead of us), and values that cannot be.

    Of the kinds whose check costs next to nothing: trades, quotes, and the touch of whole books. Deltas are the session's.
    """
    venue_ts_ns = event.venue_ts_ns
    check = _CHECKS.get(event.payload.__class__)
    try:
        if venue_ts_ns is not None and not VENUE_TS_NS_MIN <= venue_ts_ns <= event.received_ts_ns + VENUE_AHEAD_NS_MAX:
            event.flags |= TIME
        if check is not None and not check(event.payload):
            event.flags |= VALUE
    except (TypeError, ValueError, LookupError):
        return  # no number where one belongs: who encodes it says so, by the name of the field


def _is_trade(trade: Trade) -> bool:
    price, size = trade.price, trade.size
    return (price is None or price > 0) and (size is None or size >= 0)


def _is_quote(quote: Quote) -> bool:
    bid, ask = quote.bid_price, quote.ask_price
    if bid is None or ask is None:
        return (bid is None or bid > 0) and (ask is None or ask > 0)
    return 0 < bid < ask


def _is_snapshot(book: BookSnapshot) -> bool:
    bids, asks = book.bid_price, book.ask_price
    return (not bids or bids[-1] > 0) and (not asks or asks[0] > 0) and (not bids or not asks or bids[0] < asks[0])


_CHECKS: Mapping[type, Callable[[Any], bool]] = {Trade: _is_trade, Quote: _is_quote, BookSnapshot: _is_snapshot}


class Verdict(Enum):
    """What becomes of an event."""

    PASS = "pass"  # noqa: S105  # it goes on
    WITHHOLD = "withhold"  # it does not
    DOUBT = "doubt"  # its topic is to be told to be in doubt; of a book it does not go on


@attrs.define
class _Run:
    """Suspect events of one topic, one after the other."""

    count: int = 0
    told: bool = False


class Quarantine:
    """Which topics of one connection send nothing plausible.

    Args:
        suspects_max: so many suspect events of a topic in a row are one too many.
        pause_s: a topic is not told to be in doubt again before.
    """

    def __init__(self, suspects_max: int, pause_s: float) -> None:
        self.runs: dict[Topic, _Run] = {}
        self._suspects_max = suspects_max
        self._pause_s = pause_s
        self._renewed: set[Topic] = set()
        self._doubted_at: dict[Topic, float] = {}

    def judge(self, event: Event, now_s: float) -> Verdict:
        """What becomes of `event`. To be asked for each that is flagged, and for all while there are `runs`.

        Args:
            now_s: any clock that never goes back.
        """
        topic, flags = event.topic, event.flags & SUSPECT
        if topic in self._renewed:
            return Verdict.WITHHOLD
        if not flags:
            self.runs.pop(topic, None)
            return Verdict.PASS
        run = self.runs.setdefault(topic, _Run())
        run.count += 1
        if run.told:
            return Verdict.WITHHOLD if flags & VALUE and topic.kind is not Kind.BOOK else Verdict.PASS
        if run.count < self._suspects_max or not self.may_doubt(topic, now_s):
            return Verdict.PASS
        run.told = True
        if topic.kind is Kind.BOOK:
            self._renewed.add(topic)
        return Verdict.DOUBT

    def may_doubt(self, topic: Topic, now_s: float) -> bool:
        """Whether the topic may be told to be in doubt; if so, it is taken to be told."""
        if now_s - self._doubted_at.get(topic, -self._pause_s) < self._pause_s:
            return False
        self._doubted_at[topic] = now_s
        return True

    def resync(self, event: Event) -> Resync:
        """The word of doubt, when the verdict of `event` was that."""
        only_time = event.flags & SUSPECT == TIME
        cause, what = (StatusCause.CLOCK, "times") if only_time else (StatusCause.CROSSED, "values")
        return Resync(event.topic, cause, f"{self.runs[event.topic].count} events in a row with {what} that cannot be")

    def begun_anew(self) -> None:
        """Books in doubt have begun anew: what the session makes of them from here on goes on."""
        self._renewed.clear()
