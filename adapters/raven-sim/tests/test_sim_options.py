from __future__ import annotations

from typing import Any

import pytest

from raven.errors import ConfigError
from raven.structure import structure
from raven_sim import SimOptions


def refused(**table: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        structure(SimOptions, table, "feeds[0].options")
    return str(caught.value)


def test_defaults() -> None:
    assert structure(SimOptions, {}) == SimOptions(seed=1, rate=5, burst=1)


@pytest.mark.parametrize("rate", [1, 0.25, 100_000, 100_000.0, 5e-324])
def test_rate_is_whole_or_not(rate: float) -> None:
    options = structure(SimOptions, {"rate": rate})
    assert options.rate == rate
    assert type(options.rate) is type(rate)


@pytest.mark.parametrize("rate", [0, -1, 100_001, 100_000.5, float("nan"), float("inf")])
def test_rate_out_of_range(rate: float) -> None:
    assert refused(rate=rate) == (f"feeds[0].options.rate: {rate!r} is not valid: events/s per topic: above 0, at most 100000")


@pytest.mark.parametrize("burst", [0, -5, 10_001])
def test_burst_out_of_range(burst: int) -> None:
    assert refused(burst=burst) == (
        f"feeds[0].options.burst: {burst} is not valid: events per wake-up: a whole number from 1 to 10000"
    )


def test_wrong_types_name_the_key() -> None:
    assert refused(burst=1.5).startswith("feeds[0].options.burst: 1.5 is not valid")
    assert refused(seed="x").startswith("feeds[0].options.seed: 'x' is not valid")
    assert refused(rate=True).startswith("feeds[0].options.rate: True is not valid")


def test_unknown_key_names_the_nearest() -> None:
    assert "did you mean 'rate'?" in refused(rates=5)


@pytest.mark.parametrize(
    ("rate", "burst", "topics", "interval_ns"),
    [(5, 1, 1, 200_000_000), (5, 1, 4, 50_000_000), (1000, 100, 10, 10_000_000), (0.5, 1, 1, 2_000_000_000)],
)
def test_interval_is_burst_over_total_rate(rate: float, burst: int, topics: int, interval_ns: int) -> None:
    assert SimOptions(rate=rate, burst=burst).interval_ns(topics) == interval_ns


def test_interval_stays_within_what_a_clock_has() -> None:
    assert SimOptions(rate=5e-324).interval_ns(1) == 10**18
    assert SimOptions(rate=100_000).interval_ns(10**9) == 1
