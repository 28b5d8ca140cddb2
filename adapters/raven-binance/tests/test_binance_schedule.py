"""What comes later: one wakeup for many things, a budget, and pauses that grow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raven.adapter import Count, Fetch, Output, Reply, Wakeup
from raven_binance.rest import RestQueue
from raven_binance.schedule import SECOND_NS, Pace, Schedule, growing_pause_s

HOUR_NS = 3600 * SECOND_NS
NOW = 1_700_000_000 * SECOND_NS


def marks(name: str) -> object:
    def action(_: int) -> list[Output]:
        return [Count(name)]

    return action


def put(schedule: Schedule, key: str, after_s: float, now_ns: int = NOW) -> None:
    schedule.put(key, now_ns, round(after_s * SECOND_NS), marks(key))  # type: ignore[arg-type]


def run_due(schedule: Schedule, now_ns: int) -> list[Output]:
    return [output for action in schedule.due(now_ns) for output in action(now_ns)]


def test_the_pending_wakeup_is_always_the_earliest() -> None:
    schedule = Schedule()
    put(schedule, "late", 10)
    assert schedule.wakeup(NOW) == [Wakeup(10 * SECOND_NS)]
    put(schedule, "later", 20)
    assert schedule.wakeup(NOW) == []
    put(schedule, "soon", 1)
    assert schedule.wakeup(NOW) == [Wakeup(SECOND_NS)]
    assert run_due(schedule, NOW + SECOND_NS) == [Count("soon")]
    assert schedule.wakeup(NOW + SECOND_NS) == [Wakeup(9 * SECOND_NS)]
    assert run_due(schedule, NOW + 30 * SECOND_NS) == [Count("late"), Count("later")]
    assert schedule.wakeup(NOW + 30 * SECOND_NS) == []


def test_a_wakeup_for_something_that_was_dropped_does_nothing() -> None:
    schedule = Schedule()
    put(schedule, "a", 1)
    put(schedule, "b", 5)
    schedule.wakeup(NOW)
    schedule.drop("a")
    schedule.drop("unknown")
    assert run_due(schedule, NOW + SECOND_NS) == []
    assert schedule.wakeup(NOW + SECOND_NS) == [Wakeup(4 * SECOND_NS)]


def test_a_clock_that_goes_back_puts_nothing_off_by_more_than_its_own_time() -> None:
    schedule = Schedule()
    put(schedule, "a", 10)
    schedule.wakeup(NOW)
    assert run_due(schedule, NOW - HOUR_NS) == []
    assert schedule.wakeup(NOW - HOUR_NS) == [Wakeup(10 * SECOND_NS)]
    assert run_due(schedule, NOW - HOUR_NS + 10 * SECOND_NS) == [Count("a")]


def test_pauses_grow_and_have_a_limit() -> None:
    assert [growing_pause_s(tries) for tries in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_budget_lets_a_burst_through_and_then_so_much_a_second() -> None:
    pace = Pace(burst=100, per_s=50)
    assert [pace.wait_ns(50, NOW) for _ in range(4)] == [0, 0, SECOND_NS, 2 * SECOND_NS]
    assert pace.wait_ns(50, NOW + 4 * SECOND_NS) == 0


def test_a_budget_is_the_same_after_the_clock_went_back() -> None:
    pace = Pace(burst=100, per_s=50)
    pace.wait_ns(50, NOW)
    assert [pace.wait_ns(50, NOW - HOUR_NS) for _ in range(2)] == [0, SECOND_NS]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([5, 20, 50, 250])), min_size=1, max_size=50))
def test_a_budget_is_never_overspent(steps: list[tuple[int, int]]) -> None:
    pace, now, spent = Pace(burst=1000, per_s=50), NOW, []
    for seconds, weight in steps:
        now += seconds * SECOND_NS
        spent.append((now + pace.wait_ns(weight, now), weight))
    for begin, _ in spent:
        within = sum(weight for when, weight in spent if begin <= when < begin + 60 * SECOND_NS)
        assert within <= 1000 + 60 * 50


FETCH = Fetch("http://venue/depth", "depth:BTCUSDT")
OTHER = Fetch("http://venue/other", "depth:ETHUSDT")


def failed(status: int, now_ns: int, retry_after_s: float | None = None) -> Reply:
    return Reply(status, b"", now_ns, retry_after_s=retry_after_s)


def test_a_purpose_is_asked_for_once() -> None:
    schedule = Schedule()
    rest = RestQueue(schedule, 50, 1_000)
    assert rest.ask(FETCH, 50, NOW) == [FETCH]
    assert rest.ask(FETCH, 50, NOW) == []
    rest.done(FETCH.purpose)
    assert rest.ask(FETCH, 50, NOW) == [FETCH]


def test_a_failure_is_asked_again_after_a_pause_that_grows() -> None:
    schedule = Schedule()
    rest = RestQueue(schedule, 50, 1_000)
    rest.ask(FETCH, 50, NOW)
    now = NOW
    for pause_s in (1, 2, 4):
        assert rest.failed(FETCH.purpose, failed(500, now)) == []
        assert schedule.wakeup(now) == [Wakeup(pause_s * SECOND_NS)]
        now += pause_s * SECOND_NS
        assert run_due(schedule, now) == [FETCH]


def test_too_many_requests_holds_back_everything_for_as_long_as_the_venue_says() -> None:
    schedule = Schedule()
    rest = RestQueue(schedule, 50, 1_000)
    rest.ask(FETCH, 50, NOW)
    assert rest.failed(FETCH.purpose, failed(429, NOW, retry_after_s=30)) == []
    assert rest.ask(OTHER, 50, NOW + SECOND_NS) == []
    assert schedule.wakeup(NOW + SECOND_NS) == [Wakeup(29 * SECOND_NS)]
    assert run_due(schedule, NOW + 30 * SECOND_NS) == [FETCH, OTHER]


def test_a_failure_that_is_no_ban_holds_back_nothing_else() -> None:
    rest = RestQueue(Schedule(), 50, 1_000)
    rest.ask(FETCH, 50, NOW)
    rest.failed(FETCH.purpose, failed(503, NOW))
    assert rest.ask(OTHER, 50, NOW) == [OTHER]


def test_a_hold_is_not_made_longer_by_a_clock_that_goes_back() -> None:
    schedule = Schedule()
    rest = RestQueue(schedule, 50, 1_000)
    rest.ask(FETCH, 50, NOW)
    rest.failed(FETCH.purpose, failed(418, NOW, retry_after_s=120))
    assert rest.ask(OTHER, 50, NOW - HOUR_NS) == []
    assert schedule.wakeup(NOW - HOUR_NS) == [Wakeup(120 * SECOND_NS)]


def test_what_is_not_wanted_any_more_is_not_asked_again() -> None:
    schedule = Schedule()
    rest = RestQueue(schedule, 50, 1_000)
    rest.ask(FETCH, 50, NOW)
    rest.failed(FETCH.purpose, failed(0, NOW))
    rest.done(FETCH.purpose)
    assert run_due(schedule, NOW + HOUR_NS) == []
    assert rest.failed(FETCH.purpose, failed(0, NOW)) == []
    assert rest.again(FETCH.purpose, NOW, 1) == []
