"""The core without any I/O: what it asks for, given bytes and a time."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from raven.client.backoff import Backoff, Reconnect
from raven.client.changes import Change, Connected, Lost, Moving, Refused, Subscribed
from raven.client.core import Deliver, Notice, Output, Phase, Send, StreamCore
from raven.client.errors import (
    CredentialsRefused,
    Disconnected,
    ProtocolRefused,
    Replaced,
    ServerUnavailable,
    StreamEnded,
    SubscriptionRefused,
)
from raven.client.events import GapEvent, StreamEvent
from raven.client.selectors import selector
from raven.client.wishes import Wishes, subscription_message
from raven.codec.encoder import TopicEncoder
from raven.codec.generated.raven import v1
from raven.model.events import Event, Flag, Gap, GapCause, Payload, State, TopicStatus, Trade
from raven.model.topic import Kind, Topic

TOPIC = Topic("sim", "BTC-USDT", Kind.TRADE)
SETTINGS = Reconnect(base_s=1.0, cap_s=8.0, stable_s=5.0, connect_s=3.0, refused_s=60.0)
HEARTBEAT_MS = 5_000


class Highest(Random):
    """Draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def new_core(settings: Reconnect = SETTINGS, **more: Any) -> StreamCore:
    wishes = Wishes([subscription_message(selector("sim/BTC-USDT", "trade"))], covered=bool(more.get("bookmark")))
    return StreamCore(wishes, settings, Highest(), target="here", **more)


def message(**control: Any) -> bytes:
    return bytes(v1.StreamMarketDataResponse(**control))


WELCOME = message(welcome=v1.Welcome("me", "1", "a", HEARTBEAT_MS))


def subscribed(*, accepted: bool = True, field: str = "", error: str = "") -> bytes:
    result = v1.SubscribeResponseResult("1", accepted, field=field, error=error, topics=1)
    return message(subscribed=v1.SubscribeResponse([result]))


def element(sequence: int, payload: Payload | None = None, epoch: int = 7, flags: int = 0, first: int = 0) -> bytes:
    event = Event(TOPIC, payload or Trade(1.0, 2.0, 1, str(sequence)), 5, 5)
    return TopicEncoder(TOPIC, epoch).encode_general(event, sequence, flags=flags, first_sequence=first)


def events_of(outputs: list[Output]) -> list[StreamEvent]:
    return [event for output in outputs if isinstance(output, Deliver) for event in output.events]


def changes_of(outputs: list[Output]) -> list[Change]:
    return [output.change for output in outputs if isinstance(output, Notice)]


def requests_of(outputs: list[Output]) -> list[v1.StreamMarketDataRequest]:
    return [v1.StreamMarketDataRequest.parse(output.data) for output in outputs if isinstance(output, Send)]


def streaming(core: StreamCore, now: float = 0.0) -> StreamCore:
    core.opened(now)
    core.received(WELCOME, now)
    core.received(subscribed(), now)
    return core


def came_back(core: StreamCore, now: float) -> list[v1.Subscription]:
    """Lose the connection, come again, and see what is asked for."""
    core.lost("cut", now)
    assert core.wake_at is not None
    core.tick(core.wake_at)
    requests = requests_of(core.opened(core.wake_at or now))
    return [one for request in requests if request.subscribe for one in request.subscribe.subscriptions]


def summary(events: list[StreamEvent]) -> list[Any]:
    """Sequences, with gaps as (cause, first, last)."""
    return [
        (event.payload.cause, event.payload.first_sequence, event.payload.last_sequence)
        if isinstance(event, GapEvent)
        else event.sequence
        for event in events
    ]


def test_a_stream_begins_with_hello_and_what_is_wished_for() -> None:
    core = new_core(client_id="me")
    assert core.phase is Phase.CONNECTING
    hello, subscribe = requests_of(core.opened(0.0))
    assert hello.hello is not None
    assert (hello.hello.client_id, hello.hello.restore) == ("me", False)
    assert subscribe.subscribe is not None
    assert subscribe.subscribe.subscriptions[0].selector == v1.TopicSelector("sim", "BTC-USDT", [v1.Kind.TRADE])
    assert core.phase is Phase.STREAMING
    (connected,) = changes_of(core.received(WELCOME, 0.1))
    assert connected == Connected("me", "a", "1", 1)
    (answer,) = changes_of(core.received(subscribed(), 0.1))
    assert isinstance(answer, Subscribed)
    assert summary(events_of(core.received(element(4, flags=1) + element(5), 0.2))) == [4, 5]


class TestComingBack:
    def test_pauses_double_up_to_the_cap_and_begin_anew_after_a_stable_stream(self) -> None:
        core = new_core()
        pauses = []
        for _ in range(6):
            (lost,) = changes_of(core.lost("refused", 10.0))
            assert isinstance(lost, Lost)
            pauses.append(lost.retry_s)
            assert core.phase is Phase.BACKING_OFF
            assert core.wake_at is not None
            core.tick(core.wake_at)
            assert core.phase is Phase.CONNECTING
        assert pauses == [1, 2, 4, 8, 8, 8]
        streaming(core, 100.0)
        assert core.lost("cut", 101.0) == [Notice(Lost("cut", 8.0, 7))]  # not stable yet
        core.tick(109.0)
        streaming(core, 110.0)
        core.received(element(1), 116.0)
        assert core.lost("cut", 117.0) == [Notice(Lost("cut", 1.0, 1))]

    def test_jitter_is_full_and_capped(self) -> None:
        backoff = Backoff(SETTINGS, Random(1))
        pauses = [backoff.next_s() for _ in range(400)]
        assert max(pauses) <= 8.0
        assert min(pauses[4:]) < 0.5
        assert max(pauses[4:]) > 7.5

    def test_without_a_bookmark_it_goes_on_behind_each_topic(self) -> None:
        core = streaming(new_core())
        core.received(element(4, flags=1) + element(5), 1.0)
        (wanted,) = came_back(core, 2.0)
        assert wanted.bookmark == b""
        assert wanted.resume == [v1.ResumePoint(v1.Topic("sim", "BTC-USDT", v1.Kind.TRADE), 7, 5)]

    def test_with_one_it_goes_on_behind_that_and_drops_what_it_has(self) -> None:
        core = streaming(new_core())
        core.received(element(4, flags=1), 1.0)
        outputs = core.received(message(heartbeat=v1.Heartbeat(1, bookmark=b"B")), 1.0)
        assert outputs == [Deliver([], b"B")]
        core.received(element(5) + element(6), 1.1)
        (wanted,) = came_back(core, 2.0)
        assert (wanted.bookmark, wanted.resume) == (b"B", [])
        core.received(WELCOME, 2.1)
        assert summary(events_of(core.received(element(5) + element(6) + element(7), 2.2))) == [7]
        assert core.tracker.duplicates == 2

    def test_a_bookmark_from_before_a_subscription_does_not_continue_it(self) -> None:
        core = streaming(new_core())
        core.received(message(heartbeat=v1.Heartbeat(1, bookmark=b"B")), 1.0)
        core.wishes.add(subscription_message(selector("sim/ETH-USDT", "trade"), name="late"), late=True)
        core.received(message(subscribed=v1.SubscribeResponse([v1.SubscribeResponseResult("late", True)])), 1.0)
        first, late = came_back(core, 2.0)
        assert (first.bookmark, late.bookmark) == (b"B", b"")

    def test_a_bookmark_of_an_earlier_program_is_used_at_once(self) -> None:
        core = new_core(bookmark=b"old")
        (_, subscribe) = requests_of(core.opened(0.0))
        assert subscribe.subscribe is not None
        assert subscribe.subscribe.subscriptions[0].bookmark == b"old"

    def test_it_gives_up_when_it_is_told_to(self) -> None:
        core = new_core(Reconnect(base_s=1.0, cap_s=8.0, give_up_s=10.0))
        now = 0.0
        while core.phase is not Phase.ENDED:
            core.lost("refused", now)
            now = core.wake_at or now
            core.tick(now)
        assert isinstance(core.error, ServerUnavailable)
        assert now == 7.0  # 1 + 2 + 4; 8 more would be too late

    def test_many_topics_are_asked_for_in_requests_that_a_server_takes(self) -> None:
        names = [Topic("sim", f"S{number:040}", Kind.TRADE) for number in range(6_000)]
        core = StreamCore(
            Wishes(subscription_message(selector(f"sim/S{'0' * 37}{n}*", "trade")) for n in range(3)), SETTINGS, Random(1)
        )
        streaming(core)
        for name in names:
            core.tracker.cursor(name).move(7, 1)
        core.lost("cut", 1.0)
        sent = [output.data for output in core.opened(9.0) if isinstance(output, Send)]
        assert max(map(len, sent)) < 256 * 1024


class TestSilence:
    def test_three_heartbeats_missed_are_the_end_of_a_connection(self) -> None:
        core = streaming(new_core(), 100.0)
        core.received(element(1), 107.0)
        assert core.wake_at == 122.0
        assert core.tick(121.9) == []
        (lost,) = changes_of(core.tick(122.0))
        assert isinstance(lost, Lost)
        assert lost.reason == "here has been silent for 15.0 s"

    def test_a_server_that_says_no_interval_may_be_silent(self) -> None:
        core = new_core()
        core.opened(0.0)
        core.received(message(welcome=v1.Welcome("me", "1", "a", 0)), 0.0)
        assert core.wake_at is None

    def test_a_welcome_that_does_not_come_is_waited_for_only_so_long(self) -> None:
        core = new_core()
        core.opened(50.0)
        assert core.wake_at == 53.0
        (lost,) = changes_of(core.tick(53.0))
        assert isinstance(lost, Lost)
        assert lost.reason == "no answer from here within 3 s"

    def test_time_in_which_nothing_was_read_proves_nothing(self) -> None:
        core = streaming(new_core(), 0.0)
        core.resumed(100.0)
        assert core.tick(100.0) == []
        assert core.wake_at == 115.0


class TestMoving:
    def draining(self, deadline_s: float, retry_s: float) -> bytes:
        return message(draining=v1.Draining("restart", round(deadline_s * 1000), b"D", round(retry_s * 1000)))

    def moving(self, core: StreamCore, now: float = 20.0) -> StreamCore:
        """Its share of the spread has passed."""
        streaming(core, 0.0)
        core.received(self.draining(10, 2), now)
        assert core.wake_at == now + 2
        core.tick(now + 2)
        assert core.phase is Phase.MOVING
        return core

    def test_it_makes_the_next_stream_before_it_leaves_the_old_one(self) -> None:
        core = streaming(new_core(), 0.0)
        outputs = core.received(self.draining(10, 2), 20.0)
        assert outputs == [Deliver([], b"D"), Notice(Moving("restart", 2.0))]
        assert summary(events_of(core.received(element(1), 21.0))) == [1]
        core.tick(22.0)
        assert core.phase is Phase.MOVING
        requests, overlap = core.overlap()
        hello, subscribe = map(v1.StreamMarketDataRequest.parse, requests)
        assert hello.hello is not None
        assert subscribe.subscribe is not None
        assert subscribe.subscribe.subscriptions[0].bookmark == b"D"
        assert summary(events_of(core.received(element(2) + element(3), 22.1))) == [2, 3]  # the old one goes on
        for told in (WELCOME, subscribed(), element(1) + element(2) + element(3) + element(4)):
            overlap.take(told)
        assert overlap.ready
        outputs = core.moved(overlap, 22.2)
        assert [type(change) for change in changes_of(outputs)] == [Connected, Subscribed]
        assert summary(events_of(outputs)) == [4]
        assert (core.phase, core.tracker.duplicates, core.tracker.gaps_made) == (Phase.STREAMING, 3, 0)
        assert summary(events_of(core.received(element(5), 22.3))) == [5]

    def test_what_the_next_server_does_not_remember_is_told(self) -> None:
        core = self.moving(new_core())
        core.received(element(1), 22.0)
        _, overlap = core.overlap()
        for told in (WELCOME, subscribed(), element(9, flags=1, epoch=8), element(10, epoch=8)):
            overlap.take(told)
        assert summary(events_of(core.moved(overlap, 23.0))) == [(GapCause.NEW_EPOCH, 2, 0), 9, 10]

    @pytest.mark.parametrize(
        ("told", "why"),
        [
            ([WELCOME], ""),
            ([subscribed()], ""),
            ([WELCOME, subscribed(accepted=False, field="selector.symbol", error="not yet")], "selector.symbol: not yet"),
            ([WELCOME, message(draining=v1.Draining("also"))], "the server there is going away too"),
            ([message(goodbye=v1.Goodbye(v1.GoodbyeReason.DRAINED))], "the server there is going away too"),
        ],
    )
    def test_a_server_that_does_not_take_it_is_not_moved_to(self, told: list[bytes], why: str) -> None:
        _, overlap = self.moving(new_core()).overlap()
        for one in told:
            overlap.take(one)
        assert (overlap.ready, overlap.refused) == (False, why)
        assert overlap.settled == bool(why)

    def test_nor_is_one_that_was_asked_for_what_is_not_wanted_any_more(self) -> None:
        core = self.moving(new_core())
        _, overlap = core.overlap()
        core.wishes.add(subscription_message(selector("sim/ETH-USDT", "trade")), late=True)
        overlap.take(WELCOME)
        overlap.take(subscribed())
        assert (overlap.ready, overlap.settled) == (False, True)

    def test_attempts_are_made_at_the_usual_pauses_as_long_as_there_is_time(self) -> None:
        core = self.moving(new_core())
        assert [core.stayed(now) for now in (22.0, 23.0, 25.0)] == [1.0, 2.0, 4.0]
        assert core.stayed(29.0) is None  # 8 more would be behind the deadline
        assert core.phase is Phase.STREAMING
        assert summary(events_of(core.received(element(1), 29.1))) == [1]
        core.lost("drained", 30.0, "OK")
        assert core.phase is Phase.BACKING_OFF
        assert core.stayed(30.0) is None

    def test_the_end_of_the_old_stream_is_not_the_end_of_the_move(self) -> None:
        core = self.moving(new_core(client_id="me"))
        _, overlap = core.overlap()
        replaced = message(goodbye=v1.Goodbye(v1.GoodbyeReason.REPLACED, "another stream has it", False))
        assert core.received(replaced, 22.0) == []  # that other one is its own
        assert core.lost("", 22.0, "ABORTED") == []
        assert (core.phase, core.wake_at, core.error) == (Phase.BACKING_OFF, 22.0, None)
        overlap.take(WELCOME)
        overlap.take(subscribed())
        core.moved(overlap, 22.1)
        assert core.phase is Phase.STREAMING
        core.received(replaced, 23.0)
        assert type(core.error) is Replaced

    def test_an_old_stream_that_falls_silent_is_lost_as_ever(self) -> None:
        core = self.moving(new_core())
        assert core.wake_at == 35.0
        (lost,) = changes_of(core.tick(35.0))
        assert isinstance(lost, Lost)

    def test_it_moves_before_the_deadline_whatever_the_spread(self) -> None:
        core = streaming(new_core(), 0.0)
        core.received(self.draining(3, 60), 20.0)
        assert core.wake_at == 22.5

    def test_asked_twice_it_moves_once(self) -> None:
        core = self.moving(new_core())
        assert core.received(self.draining(10, 0), 22.5) == [Deliver([], b"D")]
        assert core.phase is Phase.MOVING

    def test_servers_that_all_drain_at_once_are_not_run_round(self) -> None:
        core = streaming(new_core(), 0.0)
        pauses = []
        for now in (0.0, 100.0, 200.0):
            core.received(self.draining(10, 0), now)
            assert core.wake_at is not None
            pauses.append(core.wake_at - now)
            core.tick(core.wake_at)
            _, overlap = core.overlap()
            overlap.take(WELCOME)
            overlap.take(subscribed())
            core.moved(overlap, now + 100.0)
        assert pauses == [1, 2, 4]


class TestEnds:
    def goodbye(self, reason: str, *, reconnect: bool, retry_ms: int = 0) -> bytes:
        return message(goodbye=v1.Goodbye(v1.GoodbyeReason.from_string(reason), "why", reconnect, retry_ms, b"G"))

    @pytest.mark.parametrize(
        ("reason", "error"),
        [
            ("REPLACED", Replaced),
            ("CREDENTIALS_EXPIRED", CredentialsRefused),
            ("OPERATOR", Disconnected),
            ("PROTOCOL", ProtocolRefused),
            ("UNSPECIFIED", StreamEnded),
        ],
    )
    def test_a_goodbye_for_good_is_an_error_of_its_kind(self, reason: str, error: type[StreamEnded]) -> None:
        core = streaming(new_core())
        core.received(self.goodbye(reason, reconnect=False), 1.0)
        assert core.phase is Phase.ENDED
        assert type(core.error) is error
        assert str(core.error) == f"{reason}: why"
        assert core.bookmark == b"G"

    @pytest.mark.parametrize("reason", ["DRAINED", "SLOW_CONSUMER", "OPERATOR"])
    def test_another_is_a_pause_of_the_length_that_it_says(self, reason: str) -> None:
        core = streaming(new_core(), 0.0)
        outputs = core.received(self.goodbye(reason, reconnect=True, retry_ms=30_000), 10.0)
        assert core.phase is Phase.BACKING_OFF
        assert core.wake_at == 40.0
        assert outputs[0] == Deliver([], b"G")

    @pytest.mark.parametrize("status", ["UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN", "OK", "RESOURCE_EXHAUSTED"])
    def test_statuses_that_pass(self, status: str) -> None:
        core = streaming(new_core())
        core.lost("gone", 1.0, status)
        assert core.phase is Phase.BACKING_OFF

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            ("INVALID_ARGUMENT", SubscriptionRefused),
            ("UNAUTHENTICATED", CredentialsRefused),
            ("PERMISSION_DENIED", CredentialsRefused),
            ("ABORTED", Replaced),
            ("UNIMPLEMENTED", StreamEnded),
        ],
    )
    def test_statuses_that_do_not(self, status: str, error: type[Exception]) -> None:
        core = streaming(new_core())
        core.lost("no", 1.0, status)
        assert type(core.error) is error

    def test_a_goodbye_is_not_overruled_by_the_status_behind_it(self) -> None:
        core = streaming(new_core())
        core.received(self.goodbye("SLOW_CONSUMER", reconnect=True), 1.0)
        wake_at = core.wake_at
        assert core.lost("slow", 1.0, "RESOURCE_EXHAUSTED") == []
        assert core.wake_at == wake_at

    def test_what_cannot_be_read_breaks_the_connection_and_nothing_else(self) -> None:
        core = streaming(new_core())
        (lost,) = changes_of(core.received(b"\x0a\x7f", 1.0))
        assert isinstance(lost, Lost)
        assert "cannot be read" in lost.reason


class TestRefusals:
    def test_at_first_it_is_an_error(self) -> None:
        core = new_core()
        core.opened(0.0)
        core.received(WELCOME, 0.0)
        core.received(subscribed(accepted=False, field="selector.symbol", error="no such"), 0.0)
        assert isinstance(core.error, SubscriptionRefused)
        assert str(core.error) == "selector.symbol: no such"

    def test_after_coming_back_it_is_tried_again_for_a_while(self) -> None:
        core = streaming(new_core(), 0.0)
        refusal = subscribed(accepted=False, field="selector.symbol", error="not yet")
        now, refused = 10.0, 0
        while core.phase is not Phase.ENDED:
            core.lost("cut", now)
            core.tick(core.wake_at or now)
            now = (core.wake_at or now) + 10.0
            core.opened(now)
            core.received(WELCOME, now)
            refused += any(isinstance(change, Refused) for change in changes_of(core.received(refusal, now)))
        assert refused > 2
        assert isinstance(core.error, SubscriptionRefused)

    def test_one_that_is_added_later_does_not_end_the_others(self) -> None:
        core = streaming(new_core())
        name = core.wishes.add(subscription_message(selector("sim/NIX", "trade")), late=True)
        result = v1.SubscribeResponseResult(name, False, "selector.symbol", "no such")
        core.received(message(subscribed=v1.SubscribeResponse([result])), 0.0)
        assert core.phase is Phase.STREAMING
        assert len(core.wishes) == 1


class TestContinuity:
    def gap(self, cause: GapCause, at: int, epoch: int = 7, *numbers: int) -> bytes:
        return element(at, Gap(cause, epoch, *numbers), flags=Flag.LOCAL, epoch=7)

    def read(self, core: StreamCore, *elements: bytes) -> list[Any]:
        return summary(events_of(core.received(b"".join(elements), 1.0)))

    def test_a_hole_of_which_nobody_speaks_is_a_gap(self) -> None:
        core = streaming(new_core())
        assert self.read(core, element(1), element(2), element(5)) == [1, 2, (0, 3, 4), 5]
        assert core.tracker.gaps_made == 1

    def test_a_gap_of_the_venue_takes_its_place_in_the_sequence(self) -> None:
        core = streaming(new_core())
        assert self.read(core, element(1), element(2, Gap(GapCause.VENUE, 7)), element(3)) == [1, (1, 0, 0), 3]

    def test_a_gap_that_was_told_covers_its_hole_and_no_other(self) -> None:
        core = streaming(new_core())
        told = self.gap(GapCause.SLOW_CONSUMER, 1, 7, 2, 4, 3)
        assert self.read(core, element(1), told, element(5)) == [1, (2, 2, 4), 5]
        told = self.gap(GapCause.SLOW_CONSUMER, 5, 7, 6, 7, 2)
        assert self.read(core, told, element(10)) == [(2, 6, 7), (0, 8, 9), 10]

    def test_a_conflated_event_stands_for_what_was_merged(self) -> None:
        core = streaming(new_core())
        assert self.read(core, element(1), element(5, first=2), element(6)) == [1, 5, 6]
        assert self.read(core, element(9, first=8)) == [(0, 7, 7), 9]

    def test_local_statuses_take_no_sequence(self) -> None:
        core = streaming(new_core())
        status = element(1, TopicStatus(State.LIVE), flags=Flag.LOCAL)
        assert self.read(core, status, element(1), status, element(2)) == [1, 1, 1, 2]

    def test_an_image_again_is_nothing_new(self) -> None:
        core = streaming(new_core())
        assert self.read(core, element(3, flags=1), element(4), element(4, flags=1), element(5)) == [3, 4, 5]

    def test_coming_back_to_a_server_without_a_ring(self) -> None:
        core = streaming(new_core())
        self.read(core, element(3, flags=1), element(4))
        came_back(core, 2.0)
        core.received(WELCOME, 3.0)
        too_old = self.gap(GapCause.RESUME_TOO_OLD, 9)
        assert self.read(core, too_old, element(9, flags=1), element(10)) == [(3, 5, 9), 9, 10]

    def test_nothing_was_missed_if_nothing_happened(self) -> None:
        core = streaming(new_core())
        self.read(core, element(3, flags=1), element(4))
        came_back(core, 2.0)
        core.received(WELCOME, 3.0)
        assert self.read(core, self.gap(GapCause.RESUME_TOO_OLD, 4), element(4, flags=1), element(5)) == [5]

    def test_a_server_that_leaves_a_hole_after_coming_back(self) -> None:
        core = streaming(new_core())
        self.read(core, element(3, flags=1), element(4))
        came_back(core, 2.0)
        core.received(WELCOME, 3.0)
        assert self.read(core, element(9, flags=1), element(10)) == [(3, 5, 9), 9, 10]

    def test_a_new_epoch_is_told_once_by_whomever(self) -> None:
        core = streaming(new_core())
        self.read(core, element(4))
        assert self.read(core, element(2, epoch=8, flags=1), element(3, epoch=8)) == [(4, 5, 0), 2, 3]
        told = element(3, Gap(GapCause.NEW_EPOCH, 8, 4), flags=Flag.LOCAL, epoch=9)
        assert self.read(core, told, element(1, epoch=9)) == [(4, 4, 0), 1]

    def test_a_server_that_is_behind_sends_what_is_known_already(self) -> None:
        core = streaming(new_core())
        self.read(core, element(4), element(5), element(6))
        came_back(core, 2.0)
        core.received(WELCOME, 3.0)
        assert self.read(core, element(5), element(6), element(7)) == [7]

    def test_a_topic_that_was_left_and_taken_up_again_begins_anew(self) -> None:
        core = streaming(new_core())
        self.read(core, element(4))
        core.wishes.remove("1")
        core.received(message(unsubscribed=v1.UnsubscribeResponse(["1"])), 1.0)
        core.wishes.add(subscription_message(selector("sim/BTC-USDT", "trade")), late=True)
        assert self.read(core, element(9, flags=1), element(10)) == [9, 10]
