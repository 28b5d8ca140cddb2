"""What a session says of its topics beside events: forgotten, early, of the wrong form, not as the kit says, said once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import attrs
import pytest
from msgspec.structs import replace

from raven.adapter import Established, Event, Kind, Output, Reconnect, Refused, Resync, Topic
from raven.model.events import Quote, Side, StatusCause, Trade
from raven.testing import RULES, ConformanceKit, StatusOutput, Subject, Verdict, check_rule, check_subject
from raven.testing.differences import event_difference, output_difference, value_difference
from raven.testing.report import Result, failed, once_each, passed
from tests.testing.toy import BOOK, BTC, ETH, EVENTS, KIT, SCENARIO, DeltaFrame, ToyAdapter, ToySession

RULE = {rule.name: rule for rule in RULES}
STATUSES: tuple[StatusOutput, ...] = (
    Established([BTC, BOOK]),
    Resync(BOOK, StatusCause.SEQUENCE_GAP, "103 after 101"),
    Established([ETH]),
)
REST = "return Established when the venue confirms it, or put its kind into the scenario's `unconfirmed`"


def findings(rule: str, session: type[ToySession] = ToySession, **scenario: Any) -> tuple[str, ...]:
    adapter = cast(ToyAdapter, type("BrokenAdapter", (ToyAdapter,), {"session_type": session})())
    kit = ConformanceKit([attrs.evolve(SCENARIO, **scenario)])
    outcome = check_rule(RULE[rule], Subject("toy", adapter, kit))
    assert outcome.verdict in (Verdict.FAILED, Verdict.PASSED), outcome
    return outcome.findings


def without(*kinds: type) -> type[ToySession]:
    """A session that forgets to return these."""

    class Forgets(ToySession):
        def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
            return [output for output in super().on_frame(frame, received_ts_ns) if type(output) not in kinds]

    return Forgets


def test_statuses_as_the_kit_says() -> None:
    assert findings("statuses", statuses=STATUSES) == ()
    assert findings("statuses", statuses=[Established([BTC]), Established([BOOK]), *STATUSES[1:]]) == ()


@pytest.mark.parametrize(
    ("statuses", "finding"),
    [
        (STATUSES[:-1], "output 3 should be none and is Established of toy/ETH-USD/trade"),
        ((*STATUSES, Established([BTC])), "output 4 should be Established of toy/BTC-USD/trade and is none"),
        (STATUSES[::-1], "output 0 should be Established of toy/ETH-USD/trade and is Established of toy/BTC-USD/trade"),
        (
            (STATUSES[0], Refused(BOOK, "no"), *STATUSES[1:]),
            "output 2 should be Refused of toy/BTC-USD/book and is Resync of toy/BTC-USD/book",
        ),
        (
            (STATUSES[0], Resync(BOOK, StatusCause.CHECKSUM, "103 after 101"), STATUSES[2]),
            "output 2, Resync of toy/BTC-USD/book: cause should be CHECKSUM and is SEQUENCE_GAP",
        ),
    ],
)
def test_the_first_that_is_another(statuses: Sequence[StatusOutput], finding: str) -> None:
    assert findings("statuses", statuses=statuses) == (f"scenario 'main': {finding}",)


def test_what_is_never_confirmed_is_named_without_any_statuses_in_the_kit() -> None:
    forgotten = findings("statuses", without(Established))
    assert forgotten == tuple(
        f"scenario 'main': events of {topic} come and nothing confirmed it: {REST}" for topic in (BTC, BOOK, ETH)
    )
    assert findings("statuses", without(Established), unconfirmed=tuple(Kind)) == ()
    assert len(findings("statuses", without(Established), unconfirmed=[Kind.TRADE])) == 1


def test_a_topic_of_which_nothing_is_heard() -> None:
    silent = Topic("toy", "X-USD", Kind.TRADE)
    assert findings("statuses", topics=[BTC, BOOK, silent]) == (
        f"scenario 'main': {silent} is subscribed and neither confirmed nor refused: {REST}",
    )


class Muddled(ToySession):
    def on_connect(self, now_ns: int) -> Sequence[Output]:
        swapped = Refused(BTC, cast(Any, StatusCause.DELISTED), cast(Any, "gone"))
        return [swapped, Resync(BOOK, StatusCause.FEED_DOWN), *super().on_connect(now_ns)]


def test_arguments_in_another_order_and_causes_that_are_none() -> None:
    assert findings("statuses", Muddled) == (
        "scenario 'main': Refused(topic, text, cause): cause is 'gone', valid are DELISTED, NOT_ENTITLED, VENUE_REFUSED",
        "scenario 'main': Refused(topic, text, cause): text is <StatusCause.DELISTED: 10>, which is no text",
        "scenario 'main': Resync(topic, cause, text): cause is FEED_DOWN, valid are CHECKSUM, CLOCK, CROSSED, SEQUENCE_GAP",
    )


def test_without_a_kit_nobody_knows_what_is_confirmed() -> None:
    assert check_rule(RULE["statuses"], Subject("toy", ToyAdapter())).verdict is Verdict.NOT_COVERED


# ---- lost deltas

WITHOUT_A_HOLE = tuple(
    attrs.evolve(
        frame,
        data=re.sub(rb'"seq":10(3|4|6)', lambda seq: b'"seq":10' + {b"3": b"2", b"4": b"3", b"6": b"4"}[seq[1]], frame.data),
    )
    for frame in SCENARIO.frames
)


class Heedless(ToySession):
    """Passes on every delta that is newer than the last."""

    def on_delta(self, delta: DeltaFrame, received_ts_ns: int) -> Sequence[Output]:
        if delta.sym in self.seq and delta.seq > self.seq[delta.sym]:
            self.seq[delta.sym] = delta.seq - 1
        return super().on_delta(delta, received_ts_ns)


class Leaving(ToySession):
    """Makes a new connection of a hole."""

    def on_delta(self, delta: DeltaFrame, received_ts_ns: int) -> Sequence[Output]:
        outputs = super().on_delta(delta, received_ts_ns)
        return [Reconnect("a hole") if isinstance(output, Resync) else output for output in outputs]


def test_a_delta_that_is_lost_has_to_be_told() -> None:
    assert findings("a delta is lost") == ()
    for session in (ToySession, Leaving):
        assert findings("a delta is lost", session, frames=WITHOUT_A_HOLE) == ()
    first, *_ = findings("a delta is lost", Heedless)
    assert first == (
        "scenario 'main', without frame 4: toy/BTC-USD/book goes on, delta 103 follows what was before 101, and no Resync"
    )


def test_without_two_deltas_in_a_row_nobody_knows() -> None:
    kit = ConformanceKit([attrs.evolve(SCENARIO, frames=SCENARIO.frames[:4], late=())])
    assert check_rule(RULE["a delta is lost"], Subject("toy", ToyAdapter(), kit)).verdict is Verdict.NOT_COVERED


# ---- books that begin anew


class Keeping(ToySession):
    """Goes on with the book that it had."""

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        before = dict(self.seq)
        outputs = super().on_unsubscribe(topics)
        self.seq = before
        return outputs


class Silent(ToySession):
    """Knows the venue to have it subscribed still, and forgets that its book is gone."""

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        super().on_subscribe(topics)
        return []


def test_a_book_that_is_asked_for_again_begins_with_a_snapshot() -> None:
    assert findings("a book begins anew") == ()
    assert findings("a book begins anew", Keeping, frames=WITHOUT_A_HOLE) == (
        "a delta of toy/BTC-USD/book without a snapshot before it, after it was left and asked for again",
    )
    assert findings("a book begins anew", Silent) == (
        "on_subscribe of toy/BTC-USD/book, which it had just left, returns nothing: how is the book to come back?",
    )
    other = BOOK._replace(symbol="ETH-USD")
    assert findings("a book begins anew", topics=[BTC, BOOK, other]) == ()


# ---- said once


class Raising(ToySession):
    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        raise KeyError("sym")


def test_one_exception_is_said_once() -> None:
    adapter = cast(ToyAdapter, type("BrokenAdapter", (ToyAdapter,), {"session_type": Raising})())
    report = check_subject(Subject("toy", adapter, KIT))
    (told,) = [result for result in report.results if result.outcome.verdict is Verdict.FAILED]
    assert told.rule == "golden events"
    assert "raised KeyError: 'sym' (test_statuses.py:" in told.outcome.findings[0]
    others = {result.outcome.text for result in report.results if result.outcome.verdict is Verdict.NOT_COVERED}
    assert others == {"it fails as under 'golden events'"}
    assert not report.passed


def test_what_is_new_is_said_with_what_is_known() -> None:
    known, both, new = failed(["a"]), failed(["a", "b"]), failed(["on_frame(b'x') raised X: 1 (a.py:2)"])
    again = failed(["on_frame(b'y') raised X: 1 (a.py:2)"])
    results = once_each(
        [
            Result("1", known),
            Result("2", both),
            Result("3", new),
            Result("4", again),
            Result("5", both),
            Result("6", passed("x")),
        ]
    )
    verdicts = [result.outcome.verdict.name for result in results]
    assert verdicts == ["FAILED", "FAILED", "FAILED", "NOT_COVERED", "NOT_COVERED", "PASSED"]
    assert [results[3].outcome.text, results[4].outcome.text] == ["it fails as under '3'", "it fails as under '1'"]


# ---- differences


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        (1, 1, ""),
        (1, 2, "it should be 1 and is 2"),
        ((1.0, 2.0), [1.0, 2.0], ""),
        ((1.0, 2.0), [1.0, 3.0], "[1] should be 2.0 and is 3.0"),
        ((1.0, 2.0), [1.0], "it should be (1.0, 2.0) and is [1.0]"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "['a']['b'] should be 1 and is 2"),
        ({"a": 1}, {}, "['a'] should be 1 and is None"),
        (Trade(1.0, 2.0), Trade(1.0, 2.5), "size should be 2.0 and is 2.5"),
        (Trade(1.0), Quote(1.0), f"it should be {Trade(1.0)!r} and is {Quote(1.0)!r}"),
        (BTC, ETH, "it should be toy/BTC-USD/trade and is toy/ETH-USD/trade"),
        (Established([BTC, ETH]), Established((BTC, BOOK)), "topics[1] should be toy/ETH-USD/trade and is toy/BTC-USD/book"),
    ],
)
def test_values(one: Any, other: Any, difference: str) -> None:
    assert value_difference(one, other)[:70] == difference[:70]


def test_events_are_named_in_a_few_words() -> None:
    trade, quote = Event(BTC, Trade(1.0, 1.0, Side.BUY), 5), Event(BTC, Quote(1.0), 5)
    assert event_difference([trade], [trade]) == ""
    assert event_difference([trade], []) == "event 0 should be Trade of toy/BTC-USD/trade and is none"
    assert event_difference([], [trade]) == "event 0 should be none and is Trade of toy/BTC-USD/trade"
    expected = "event 1 should be Trade of toy/BTC-USD/trade and is Quote of toy/BTC-USD/trade"
    assert event_difference([trade, trade], [trade, quote]) == expected
    assert event_difference([trade], [replace(trade, venue_ts_ns=9)]) == (
        "event 0, Trade of toy/BTC-USD/trade: venue_ts_ns should be None and is 9"
    )
    snapshot = replace(EVENTS[0], payload=replace(EVENTS[0].payload, bid_price=(63999.5,)))
    assert event_difference([EVENTS[0]], [snapshot]) == (
        "event 0, BookSnapshot of toy/BTC-USD/book: payload.bid_price[0] should be 63999.0 and is 63999.5"
    )
    assert output_difference([Reconnect("a")], [Reconnect("b")]) == "output 0, Reconnect: reason should be 'a' and is 'b'"
