"""The breaker: when it opens, how long, and what closes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.store.influx.breaker import Breaker, BreakerLimits, BreakerState

LIMITS = BreakerLimits(failures_max=3, retry_s=0.1, open_s=1.0, open_s_max=30.0)
CLOSED = Breaker(LIMITS)


def opened(at_s: float = 0.0) -> Breaker:
    return CLOSED.failed(at_s).failed(at_s).failed(at_s)


def test_few_failures_wait_a_little_and_a_success_forgets_them() -> None:
    breaker = CLOSED.failed(5.0)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.wait_s(5.0) == pytest.approx(0.1)
    assert breaker.failed(5.1).wait_s(5.1) == pytest.approx(0.2)
    assert breaker.wait_s(5.2) == 0
    assert breaker.succeeded() == CLOSED
    assert CLOSED.succeeded() is CLOSED


def test_many_open_it() -> None:
    breaker = opened(5.0)
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait_s(5.0) == pytest.approx(1.0)
    assert breaker.trying(5.5) is breaker
    assert breaker.trying(6.0).state is BreakerState.HALF_OPEN


def test_one_try_closes_it_or_opens_it_for_longer() -> None:
    half = opened().trying(1.0)
    assert half.succeeded() == CLOSED
    again = half.failed(1.0)
    assert again.state is BreakerState.OPEN
    assert again.wait_s(1.0) == pytest.approx(2.0)
    assert again.trying(3.0).failed(3.0).wait_s(3.0) == pytest.approx(4.0)


def test_what_trying_again_does_not_mend_opens_it_at_once() -> None:
    assert CLOSED.failed(0.0, at_once=True).state is BreakerState.OPEN


def test_a_pause_that_is_asked_for_is_kept_within_bounds() -> None:
    assert CLOSED.failed(0.0, pause_s=7.0).wait_s(0.0) == 7.0
    assert opened().trying(1.0).failed(1.0, pause_s=7.0).wait_s(1.0) == 7.0
    assert CLOSED.failed(0.0, pause_s=1e9).wait_s(0.0) == 30.0


def test_spread_makes_it_earlier() -> None:
    assert CLOSED.failed(0.0, at_once=True, spread=0.5).wait_s(0.0) == 0.5


@given(st.lists(st.sampled_from(["fail", "ok", "at_once"]), max_size=60))
def test_a_pause_ends_and_never_grows_beyond_the_longest(steps: list[str]) -> None:
    breaker, now_s = CLOSED, 0.0
    for step in steps:
        wait_s = breaker.wait_s(now_s)
        assert 0 <= wait_s <= LIMITS.open_s_max + 1e-9
        now_s += wait_s
        breaker = breaker.trying(now_s)
        assert breaker.state is not BreakerState.OPEN
        breaker = breaker.succeeded() if step == "ok" else breaker.failed(now_s, at_once=step == "at_once")
        assert (breaker.state is BreakerState.CLOSED) == (breaker.openings == 0)
