"""Each rule finds what it is there for: an adapter that keeps all of them, and adapters that break one."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import re
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any, ClassVar

import attrs
import msgspec
import pytest
from msgspec.structs import replace

from raven.adapter import (
    Capabilities,
    Catalogue,
    Connection,
    Established,
    Event,
    FeedSpec,
    Fetch,
    FrameError,
    Kind,
    Output,
    Reconnect,
    Reply,
    Send,
    Topic,
    Wakeup,
)
from raven.errors import InvalidValue
from raven.model.events import Quote, Trade
from raven.model.instrument import Instrument
from raven.testing import RULES, ConformanceKit, Scenario, Subject, Verdict, check_rule, check_subject
from raven.testing.conformance import measure_events_per_s
from tests.testing.toy import (
    BTC,
    EVENTS,
    KIT,
    SCENARIO,
    DeltaFrame,
    ToyAdapter,
    ToyOptions,
    ToySession,
    TradeFrame,
    frame_decoder,
)

RULE = {rule.name: rule for rule in RULES}


def broken(session: type[ToySession] = ToySession, **attributes: Any) -> ToyAdapter:
    """The toy with another session, or other attributes."""
    cls = type("BrokenAdapter", (ToyAdapter,), {"session_type": session, "__module__": __name__, **attributes})
    return cls()


def findings(adapter: ToyAdapter, rule: str, kit: ConformanceKit | None = KIT) -> str:
    """What the rule finds, in one text; it must find something."""
    outcome = check_rule(RULE[rule], Subject("toy", adapter, kit))
    assert outcome.verdict is Verdict.FAILED, outcome
    assert outcome.findings
    return "\n".join(outcome.findings)


def test_a_good_adapter_keeps_every_rule() -> None:
    report = check_subject(Subject("toy", ToyAdapter(), KIT), "raven-toy 0.1.0")
    assert [result for result in report.results if result.outcome.verdict is not Verdict.PASSED] == []
    assert report.passed
    assert report.events_per_s is not None
    assert report.events_per_s > 100


# ---- the adapter object


def test_api_has_to_be_written_and_right() -> None:
    assert "api is 2, this Raven has 1" in findings(broken(api=2), "API level")

    class Silent(ToyAdapter.__mro__[1]):  # type: ignore[misc]
        capabilities = ToyAdapter.capabilities
        connections = ToyAdapter.connections
        session = ToyAdapter.session

    assert "api is not written in the class" in findings(Silent(), "API level")


@attrs.define
class Loose:
    depth: int = 1


@attrs.define(slots=False)
class LooseDict:
    depth: int = 1


@pytest.mark.parametrize("kind", [Loose, LooseDict])
def test_options_are_frozen(kind: type) -> None:
    assert "can be changed: use @attrs.frozen" in findings(broken(options_type=kind), "options")


def test_options_are_an_attrs_class_and_fit_the_kit() -> None:
    assert "not an attrs class" in findings(broken(options_type=dict), "options")
    kit = ConformanceKit([attrs.evolve(SCENARIO, options={"dept": 1})])
    assert "options.dept: 1 is not valid: there is no such key: did you mean 'depth'?" in findings(ToyAdapter(), "options", kit)


@pytest.mark.parametrize(
    ("capabilities", "text"),
    [
        (Capabilities(frozenset()), "no kinds are declared"),
        (Capabilities(frozenset({Kind.BOOK, Kind.BOOK_TOP})), "BOOK_TOP is declared"),
        (Capabilities(frozenset({Kind.CANDLE})), "CANDLE needs them"),
        (Capabilities(frozenset({Kind.TRADE}), ("1m",)), "they belong to CANDLE"),
        (Capabilities(frozenset({Kind.CANDLE}), ("1m", "1m")), "one twice"),
        (Capabilities(frozenset({Kind.CANDLE}), ("1 minute",)), "'1 minute' is not valid"),
    ],
)
def test_capabilities_that_cannot_be(capabilities: Capabilities, text: str) -> None:
    assert text in findings(broken(capabilities=capabilities), "capabilities")


def test_what_is_declared_is_what_is_seen() -> None:
    more = Capabilities(frozenset({Kind.TRADE, Kind.BOOK, Kind.FUNDING, Kind.CANDLE}), ("1m", "1h"))
    outcome = check_rule(RULE["declared kinds are seen"], Subject("toy", broken(capabilities=more), KIT))
    assert outcome.verdict is Verdict.NOT_COVERED
    assert outcome.text == "declared, and not seen in the kit: candle, funding, candle 1m, candle 1h"
    less = Capabilities(frozenset({Kind.TRADE}))
    assert findings(broken(capabilities=less), "declared kinds are seen") == "book is sent and not declared"


counter = itertools.count()


def connections_of(*connections: Connection) -> Any:
    return lambda self, feed: connections


@pytest.mark.parametrize(
    ("connections", "text"),
    [
        (connections_of(), "the feed has no connection"),
        (lambda self, feed: [Connection(f"n{next(counter)}", None, feed.topics)], "different connections"),
        (lambda self, feed: [Connection("main", None, feed.topics[1:])], "toy/BTC-USD/trade is given to 0 connections"),
        (lambda self, feed: [Connection(name, None, feed.topics) for name in "ab"], "is given to 2 connections"),
        (lambda self, feed: [Connection("a", None, feed.topics), Connection("a", None, ())], "have one name: a, a"),
        (lambda self, feed: [Connection("main", "https://toy.invalid", feed.topics)], "no ws:// or wss:// address"),
        (lambda self, feed: [Connection("", None, feed.topics)], "it is a metric label"),
        (lambda self, feed: [Connection("main", None, feed.topics, sends_per_s_max=0)], "sends_per_s_max is 0, not above 0"),
        (
            lambda self, feed: [Connection("main", None, feed.topics, idle_timeout_s=time.time())],
            "it is not pure: time.time at",
        ),
    ],
)
def test_connections_that_cannot_be(connections: Any, text: str) -> None:
    assert text in findings(broken(connections=connections), "connections")


# ---- what a session says


def test_a_wrong_last_digit_is_found() -> None:
    wrong = replace(EVENTS[1], payload=replace(EVENTS[1].payload, price=64000.100000000006))
    kit = ConformanceKit([attrs.evolve(SCENARIO, events=(EVENTS[0], wrong, *EVENTS[2:]))])
    assert findings(ToyAdapter(), "golden events", kit) == (
        "scenario 'main': event 1, Trade of toy/BTC-USD/trade: payload.price should be 64000.100000000006 and is 64000.1"
    )


@pytest.mark.parametrize("events", [EVENTS[:-1], (*EVENTS, EVENTS[-1]), EVENTS[::-1]])
def test_events_too_many_too_few_or_in_another_order(events: Sequence[Event]) -> None:
    findings(ToyAdapter(), "golden events", ConformanceKit([attrs.evolve(SCENARIO, events=events)]))


class Wandering(ToySession):
    def on_trade(self, trade: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        return [Event(BTC._replace(symbol=trade.sym), Trade(trade.p, trade.q), received_ts_ns)]


class Mixed(ToySession):
    def on_trade(self, trade: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        return [Event(BTC, Quote(trade.p), received_ts_ns)]


def test_events_of_other_topics_and_of_other_kinds() -> None:
    assert "an event of toy/ETH-USD/trade before it was asked for" in findings(
        broken(Wandering), "nothing before its subscription"
    )
    assert "toy/BTC-USD/trade, in a feed that does not have it" in findings(broken(Wandering), "topics and payloads")
    assert "a Quote on toy/BTC-USD/trade" in findings(broken(Mixed), "topics and payloads")


class Listing(ToySession):
    def on_connect(self, now_ns: int) -> Sequence[Output]:
        return [
            Catalogue(
                [Instrument("other", "BTC-USD", "b"), Instrument("toy", "btc", "B"), Instrument("toy", "btc", "C")], now_ns
            )
        ]


def test_catalogues() -> None:
    found = findings(broken(Listing), "topics and payloads")
    assert "instrument BTC-USD has the venue 'other'; it is the feed's name, 'toy'" in found
    assert "symbol: 'btc' is not valid" in found
    assert "a catalogue has btc twice" in found


class Unencodable(ToySession):
    def on_trade(self, trade: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        return [Event(BTC, Trade(trade.p, trade.q, trade_id=trade.id), received_ts_ns)]  # type: ignore[arg-type]


def test_what_cannot_be_encoded() -> None:
    assert "cannot be encoded: AttributeError: 'int' object has no attribute 'encode'" in findings(
        broken(Unencodable), "encodable"
    )


class InMilliseconds(ToySession):
    def on_trade(self, trade: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        return [Event(BTC, Trade(trade.p, trade.q), received_ts_ns + 1, trade.t)]


def test_times_in_another_unit_and_of_another_clock() -> None:
    found = findings(broken(InMilliseconds), "times")
    assert "venue_ts_ns 1700000000100 is not of this century" in found
    assert "received_ts_ns 1700000000110000001 was never on the clock" in found


class Hasty(ToySession):
    def on_delta(self, delta: DeltaFrame, received_ts_ns: int) -> Sequence[Output]:
        self.seq.setdefault("BTC-USD", delta.seq - 1)
        return super().on_delta(delta, received_ts_ns)


def test_a_delta_without_its_book() -> None:
    assert "a delta of toy/BTC-USD/book without a snapshot before it" in findings(broken(Hasty), "books")


class LateConfirming(ToySession):
    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        return [Established([BTC])]

    def confirmed(self, topic: Topic) -> list[Output]:
        return super().confirmed(topic) if topic.kind is Kind.BOOK else []


class Premature(ToySession):
    def on_connect(self, now_ns: int) -> Sequence[Output]:
        return [Event(BTC, Trade(1.0, 1.0), now_ns)]

    def confirmed(self, topic: Topic) -> list[Output]:
        return []


def test_events_before_their_subscription() -> None:
    rule = "nothing before its subscription"
    assert "an event of toy/BTC-USD/trade before its Established" in findings(broken(LateConfirming), rule)
    assert "an event of toy/BTC-USD/trade before the first frame" in findings(broken(Premature), rule)


class Twice(ToySession):
    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        return [*super().on_subscribe(topics), *(Send(f"+{topic}") for topic in topics)]


class Anew(ToySession):
    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        self.seq.clear()
        return super().on_subscribe(topics)


class Deaf(ToySession):
    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        return [Send("-")]


def test_subscribing_again_and_leaving() -> None:
    assert "on_subscribe of what it carries already returns Send" in findings(broken(Twice), "resubscribing")
    assert "other events follow: event 4 should be" in findings(broken(Anew), "resubscribing")
    found = findings(broken(Deaf), "unsubscribing")
    assert "an event of toy/BTC-USD/trade after its on_unsubscribe" in found
    assert "on_unsubscribe of what it does not carry returns Send" in found


class Counting(ToySession):
    number = itertools.count()

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        return [Send(str(next(self.number)))]


def test_outputs_that_are_not_the_same_twice() -> None:
    found = findings(broken(Counting), "same frames, same outputs")
    assert "on_wakeup, the first time and then: output 0, Send: data should be" in found


# ---- purity


def calls(call: Any) -> type[ToySession]:
    class Calling(ToySession):
        def on_connect(self, now_ns: int) -> Sequence[Output]:
            call()
            return super().on_connect(now_ns)

    return Calling


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: time.time_ns(), "time.time_ns"),
        (lambda: monotonic_ns(), "time.monotonic_ns"),
        (lambda: dt.datetime.now(dt.UTC), "datetime.now"),
        (lambda: dt.date.today(), "date.today"),  # noqa: DTZ011
        (lambda: random.random(), "random.random"),
        (lambda: Path(__file__).read_text(), "open"),
        (lambda: socket.create_connection(("127.0.0.1", 9)), "socket.create_connection"),
        (lambda: socket.socket(), "socket.socket"),
        (lambda: threading.Thread(target=print).start(), "threading.Thread.start"),
    ],
)
def test_trespasses(call: Any, name: str) -> None:
    found = findings(broken(calls(call)), "no clock, socket or file")
    assert re.search(rf"^{re.escape(name)} at testing/test_rules\.py:\d+$", found, re.MULTILINE), found


# ---- bad frames and replies


class Raising(ToySession):
    def decode(self, data: bytes, decoder: Any = frame_decoder) -> Any:
        return decoder.decode(data)


class TakesNaN(ToySession):
    def check(self, message: Any) -> None:
        pass


class Forgetful(ToySession):
    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        try:
            return super().on_frame(frame, received_ts_ns)
        except FrameError:
            self.seq.clear()
            raise


class HalfReading(ToySession):
    """Finds its fields by a pattern, so that the beginning of a text is enough."""

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        found = re.search(rb'"id":(\d+),"p":"([0-9.]+)', frame)
        if found:
            return [Event(BTC, Trade(float(found[2]), 1.0, trade_id=found[1].decode()), received_ts_ns)]
        return super().on_frame(frame, received_ts_ns)


class GivingUp(ToySession):
    """Restarts the connection for a bad frame: it is allowed to, and what follows tells nothing."""

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        try:
            return super().on_frame(frame, received_ts_ns)
        except FrameError as error:
            return [Reconnect(str(error))]


def test_bad_frames() -> None:
    assert "raised DecodeError" in findings(broken(Raising), "bad frames: truncated")
    assert "cannot be encoded: InvalidValue" in findings(broken(TakesNaN), "bad frames: NaN and infinite")
    assert re.search(
        r"after bad frames \(b.* before frame \d+ is enough\) event \d+",
        findings(broken(Forgetful), "bad frames: garbage"),
    )
    assert "which is no JSON" in findings(broken(HalfReading), "bad frames: truncated")
    outcome = check_rule(RULE["bad frames: garbage"], Subject("toy", broken(GivingUp), KIT))
    assert outcome.verdict is Verdict.PASSED


class Repeating(ToySession):
    def is_repeat(self, trade: TradeFrame) -> bool:
        return False


class Unmindful(ToySession):
    def __init__(self, topics: Sequence[Topic], memory: Any) -> None:
        super().__init__(topics, {})


class Assertive(ToySession):
    def on_trade(self, trade: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        assert trade.id > self.last.get(trade.sym, 0)
        return super().on_trade(trade, received_ts_ns)


def test_frames_in_another_order_and_again() -> None:
    assert "doubled: trade_id 1 comes twice on toy/BTC-USD/trade" in findings(broken(Repeating), "frames repeated")
    assert "raised AssertionError" in findings(broken(Assertive), "frames reordered")
    assert "trade_id 2 of toy/BTC-USD/trade comes again" in findings(broken(Unmindful), "next connection")
    assert check_rule(RULE["frames repeated"], Subject("toy", broken(Unmindful), KIT)).verdict is Verdict.PASSED


class Trusting(ToySession):
    def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
        return super().on_reply(request, attrs.evolve(reply, body=msgspec.json.encode(msgspec.json.decode(reply.body))))


def test_bad_replies() -> None:
    assert "on_reply(Fetch(" in findings(broken(Trusting), "bad replies")


# ---- faults that any rule meets


class Nothing(ToySession):
    def on_frame(self, frame: bytes, received_ts_ns: int) -> Any:
        return None


class Words(ToySession):
    def on_frame(self, frame: bytes, received_ts_ns: int) -> Any:
        return ["an event"]


class Restless(ToySession):
    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        return [Wakeup(0)]


@pytest.mark.parametrize(
    ("session", "text"),
    [
        (Nothing, "on_frame(b'"),
        (Words, "on_frame returned 'an event', which is no output"),
        (Restless, "there is no end"),
    ],
)
def test_faults_are_findings(session: type[ToySession], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven.testing.driver.CALLS_MAX", 500)
    assert text in findings(broken(session), "golden events")
    assert measure_events_per_s(Subject("toy", broken(session), KIT)) is None


# ---- without a kit, or with one that has little


class Picky(ToyAdapter):
    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        for topic in feed.topics:
            if topic.symbol != "BTC-USD-PERP":
                raise InvalidValue("symbols", topic.symbol, "a perpetual")
        return super().connections(feed)


@attrs.frozen
class Needy:
    key: str


@pytest.mark.parametrize("adapter", [ToyAdapter(), Picky()])
def test_without_a_kit_what_can_be_checked_is(adapter: ToyAdapter) -> None:
    report = check_subject(Subject("toy", adapter))
    verdicts = {result.rule: result.outcome.verdict for result in report.results}
    assert report.passed
    assert report.events_per_s is None
    assert verdicts["golden events"] is verdicts["bad frames: truncated"] is verdicts["encodable"] is Verdict.NOT_COVERED
    assert verdicts["bad frames: garbage"] is verdicts["connections"] is verdicts["resubscribing"] is Verdict.PASSED
    assert "raised DecodeError" in findings(broken(Raising), "bad frames: garbage", None)


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (broken(options_type=Needy), "without a kit its options are unknown"),
        (broken(connections=connections_of()), "it makes no connection"),
        (broken(capabilities=Capabilities(frozenset())), "it declares no kinds"),
    ],
)
def test_what_cannot_be_made_up_is_not_covered(adapter: ToyAdapter, reason: str) -> None:
    subject = Subject("toy", adapter)
    for rule in ("connections", "topics and payloads", "bad frames: garbage", "frames repeated", "bad replies"):
        outcome = check_rule(RULE[rule], subject)
        assert outcome.verdict is Verdict.NOT_COVERED
        assert reason in outcome.text


def test_a_kit_without_events_covers_no_golden_events() -> None:
    kit = ConformanceKit([Scenario(topics=[BTC])])
    outcome = check_rule(RULE["golden events"], Subject("toy", ToyAdapter(), kit))
    assert (outcome.verdict, outcome.text) == (Verdict.NOT_COVERED, "no scenario of the kit has events")


class Mute(ToyAdapter):
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({Kind.TRADE}))

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return (Connection("main", None, feed.topics),)


def test_rules_that_do_not_apply_say_so() -> None:
    results = check_subject(Subject("toy", Mute(), ConformanceKit([Scenario(topics=[BTC])]))).results
    not_applicable = {result.rule for result in results if result.outcome.verdict is Verdict.NOT_APPLICABLE}
    assert {"bad frames: garbage", "frames repeated", "next connection", "bad replies", "books"} <= not_applicable


def test_the_toy_options_are_used() -> None:
    assert SCENARIO.feed(ToyAdapter()).options == ToyOptions(5)
