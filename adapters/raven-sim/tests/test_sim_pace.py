from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raven_sim.pace import next_due

interval = st.integers(1, 10**12)


def test_on_time_keeps_the_grid() -> None:
    assert next_due(1000, 100, 1000) == (1100, 0)


def test_a_little_late_keeps_the_grid() -> None:
    assert next_due(1000, 100, 1099) == (1100, 0)


def test_a_whole_interval_late_skips_it() -> None:
    assert next_due(1000, 100, 1100) == (1200, 1)


def test_a_little_early_keeps_the_grid() -> None:
    assert next_due(1000, 100, 950) == (1100, 0)


def test_clock_set_back_begins_a_new_grid() -> None:
    assert next_due(3_600_000_000_000, 100, 7) == (107, 0)


def test_clock_set_forward_is_skipped() -> None:
    assert next_due(0, 200, 3_600_000) == (3_600_200, 18_000)


@given(due=st.integers(0, 2**62), every=interval, now=st.integers(0, 2**62))
@settings(max_examples=200)
def test_next_is_after_now_and_never_stalls(due: int, every: int, now: int) -> None:
    later, skipped = next_due(due, every, now)
    assert 0 < later - now <= 2 * every
    assert skipped >= 0
    if now >= due:
        assert later - due == (skipped + 1) * every  # nothing is counted that is not on the grid


@given(every=st.integers(10, 10**9), late=st.lists(st.floats(0, 0.99), min_size=1, max_size=50))
@settings(max_examples=50)
def test_lateness_below_an_interval_costs_no_rate(every: int, late: list[float]) -> None:
    due = 0
    for part in late:
        due, skipped = next_due(due, every, due + int(part * every))
        assert skipped == 0
    assert due == every * len(late)
