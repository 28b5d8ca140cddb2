"""The world around one session: its clock, its replies, its wakeups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from raven.adapter import (
    Count,
    Established,
    Fetch,
    FrameError,
    Kind,
    Output,
    Reconnect,
    Refused,
    Reply,
    Send,
    Session,
    Topic,
    Wakeup,
)
from raven.errors import AdapterFault
from raven.testing import Answer, Driver, Frame, LateSubscription, Scenario, play
from raven.testing.driver import connection_of
from tests.testing.toy import BTC, ETH, ToyAdapter

FETCH = Fetch("https://toy.invalid/book?symbol=A", "book:A")


class Scripted(Session):
    """Notes every call, and returns what the script says for it."""

    def __init__(self, **script: Callable[..., Sequence[Output]] | Sequence[Output]) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.script = script

    def _note(self, method: str, *arguments: Any) -> Any:
        self.calls.append((method, *arguments))
        outputs = self.script.get(method, ())
        return outputs(*arguments) if callable(outputs) else outputs

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        return self._note("connect", now_ns)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        return self._note("frame", frame, received_ts_ns)

    def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
        return self._note("reply", reply.status, reply.body, reply.received_ts_ns)

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        return self._note("wakeup", now_ns)

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        return self._note("subscribe", *topics)

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        return self._note("unsubscribe", *topics)


def run(session: Session, answers: Sequence[Answer] = (), **fields: Any) -> Driver:
    scenario = Scenario([BTC], start_ns=0, answers=answers, **fields)
    driver = Driver(session, answers, 0, scenario.topics)
    play(driver, scenario)
    return driver


def test_frames_have_their_receipt_times_and_late_subscriptions_their_place() -> None:
    session = Scripted()
    run(session, frames=[Frame(10, b"a"), Frame(10, b"b"), Frame(20, b"c")], late=[LateSubscription(15, (ETH,))])
    expected = [("connect", 0), ("frame", b"a", 10), ("frame", b"b", 10), ("subscribe", ETH), ("frame", b"c", 20)]
    assert session.calls == expected


def test_a_late_subscription_may_be_the_last_thing() -> None:
    session = Scripted()
    run(session, frames=[Frame(10, b"a")], late=[LateSubscription(15, (ETH,))])
    assert session.calls[-1] == ("subscribe", ETH)


def test_wakeups_come_when_they_are_due_and_a_later_one_takes_the_place() -> None:
    wakeups = iter([[Wakeup(30)], [Wakeup(100)], []])
    session = Scripted(connect=[Wakeup(40), Wakeup(25)], wakeup=lambda now_ns: next(wakeups))
    run(session, frames=[Frame(10, b"a"), Frame(25, b"b"), Frame(200, b"c")])
    times = [call[:1] + call[-1:] for call in session.calls[1:]]
    assert times == [("frame", 10), ("wakeup", 25), ("frame", 25), ("wakeup", 55), ("wakeup", 155), ("frame", 200)]


def test_time_goes_on_after_the_last_frame() -> None:
    session = Scripted(connect=[Wakeup(0)], wakeup=[Wakeup(400_000_000)])
    run(session, run_s=1.0)
    assert session.calls[1:] == [("wakeup", 0), ("wakeup", 400_000_000), ("wakeup", 800_000_000)]


def test_answers_in_turn_the_last_one_again() -> None:
    session = Scripted(frame=[FETCH, Fetch("https://other.invalid", "other")])
    answers = (Answer("book:A", b"1"), Answer("/book?", b"2", status=429, after_ns=15))
    run(session, answers, frames=[Frame(at, b"x") for at in (10, 20, 30)], run_s=1e-6)
    assert [call for call in session.calls if call[0] == "reply"] == [
        ("reply", 200, b"1", 10),
        ("reply", 429, b"2", 35),
        ("reply", 429, b"2", 45),
    ]


def test_a_reconnect_is_the_end() -> None:
    session = Scripted(frame=[Wakeup(0), Reconnect("enough")])
    driver = run(session, frames=[Frame(10, b"a"), Frame(20, b"b")], run_s=1.0)
    assert driver.ended == Reconnect("enough")
    assert [call[0] for call in session.calls] == ["connect", "frame"]


def test_what_is_injected_is_marked_and_ends_nothing() -> None:
    session = Scripted(frame=[Reconnect("bad")])
    driver = Driver(session, (), 5)
    step = driver.frame(b"bad", injected=True)
    assert (step.injected, step.outputs, driver.ended) == (True, (Reconnect("bad"),), None)


def test_what_is_carried() -> None:
    driver = Driver(Scripted(subscribe=[Refused(ETH, "no")]), (), 0, [BTC])
    driver.subscribe([ETH])
    assert list(driver.carried) == [BTC]
    driver.unsubscribe([BTC])
    assert list(driver.carried) == []


def refusing(*_: Any) -> Sequence[Output]:
    raise FrameError("odd")


def test_a_frame_error_is_kept_where_something_arrived() -> None:
    driver = run(Scripted(frame=refusing), frames=[Frame(10, b"a")])
    assert (driver.steps[-1].refusal, driver.steps[-1].outputs) == ("odd", ())
    with pytest.raises(AdapterFault, match="on_connect raised FrameError, and nothing had arrived: odd"):
        run(Scripted(connect=refusing))


def raising(*_: Any) -> Sequence[Output]:
    raise KeyError("BTC")


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ({"frame": raising}, r"^on_frame\(b'a'\) raised KeyError: 'BTC' \(test_driver\.py:\d+\)$"),
        ({"frame": lambda *_: None}, r"^on_frame\(b'a'\) raised TypeError: 'NoneType' object is not iterable$"),
        ({"frame": ["text"]}, r"^on_frame returned 'text', which is no output"),
        ({"frame": [("a", "tuple")]}, r"which is no output"),
    ],
)
def test_faults(script: dict[str, Any], text: str) -> None:
    with pytest.raises(AdapterFault, match=text):
        run(Scripted(**script), frames=[Frame(10, b"a")])


def test_all_kinds_of_outputs_are_outputs() -> None:
    outputs = (Send("x"), Wakeup(1), Established([BTC]), Refused(BTC, "no"), Count("x"), FETCH)
    assert run(Scripted(connect=outputs)).steps[0].outputs == outputs


class TwoConnections(ToyAdapter):
    def connections(self, feed: Any) -> Any:
        (one,) = super().connections(feed)
        return [one, type(one)("other", None, ())]


def test_which_connection() -> None:
    scenario = Scenario([BTC, Topic("toy", "BTC-USD", Kind.BOOK)])
    assert connection_of(ToyAdapter(), scenario).name == "main"
    assert connection_of(TwoConnections(), Scenario([BTC], connection="other")).name == "other"
    with pytest.raises(AdapterFault, match="scenario 'main' is about connection '', the feed has main, other"):
        connection_of(TwoConnections(), scenario)
