"""Ratios, goals and the fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.parts import fanout_verdicts, verdict


def test_the_fit_finds_what_a_delivery_and_an_event_cost() -> None:
    clients = [1, 10, 100, 1000]
    c, e = fanout_verdicts.fit_cost(clients, [0.8 + 9.0 / number for number in clients])
    assert (c, e) == (pytest.approx(0.8), pytest.approx(9.0))


def test_a_dear_first_point_does_not_bend_the_cost_of_a_delivery() -> None:
    clients = [1, 10, 100, 1000]
    costs = [0.8 + 9.0 / number for number in clients]
    c, _ = fanout_verdicts.fit_cost(clients, [costs[0] * 1.2, *costs[1:]])
    assert c == pytest.approx(0.8, rel=0.03)


@pytest.mark.parametrize(
    ("goal", "values", "met"),
    [
        (verdict.Goal(2), [1.0, 2.0, 9.0], True),
        (verdict.Goal(2), [1.0, 1.9, 9.0], False),
        (verdict.Goal(2, at_least=False), [1.0, 2.0, 9.0], True),
        (verdict.Goal(2, at_least=False), [1.0, 2.1, 9.0], False),
        (None, [1.0], True),
    ],
)
def test_the_median_is_held_against_the_goal(goal: object, values: list[float], met: bool, tmp_path: Path) -> None:
    verdicts = verdict.Verdicts()
    verdicts.judge("it", values, goal)
    verdicts.absent("another", "not installed")
    assert verdicts.write(tmp_path, "name", {"runs": values}) == (0 if met else 1)
    told = json.loads((tmp_path / "name.json").read_text())
    assert [line["what"] for line in told["verdicts"]] == ["it", "another"]
    assert told["runs"] == {"runs": values}
