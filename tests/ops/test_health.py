"""The aggregate and its documents."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.ops.health import (
    Component,
    Condition,
    FeedHealth,
    Phase,
    ServerHealth,
    aggregate,
    health_document,
    live_document,
    ready_document,
)

OK, DEGRADED, FAILED = Condition
conditions = st.lists(st.sampled_from(Condition), max_size=4)


def parts(of: list[Condition]) -> list[Component]:
    return [Component(f"c{index}", condition) for index, condition in enumerate(of)]


def feeds(of: list[Condition]) -> list[FeedHealth]:
    return [FeedHealth(f"f{index}", "x", condition=condition) for index, condition in enumerate(of)]


@pytest.mark.parametrize(
    ("components", "of_feeds", "overall"),
    [
        ([], [], OK),
        ([OK, DEGRADED], [OK], DEGRADED),
        ([OK, FAILED], [OK], FAILED),
        ([OK], [OK, DEGRADED], DEGRADED),
        ([OK], [OK, FAILED], DEGRADED),
        ([OK], [DEGRADED, FAILED], DEGRADED),
        ([OK], [FAILED, FAILED], FAILED),
        ([DEGRADED], [FAILED], FAILED),
    ],
)
def test_the_whole_from_its_parts(components: list[Condition], of_feeds: list[Condition], overall: Condition) -> None:
    assert aggregate(parts(components), feeds(of_feeds)) is overall


@given(conditions, conditions)
def test_the_whole_is_well_only_when_all_is(components: list[Condition], of_feeds: list[Condition]) -> None:
    well = all(condition is OK for condition in (*components, *of_feeds))
    assert (aggregate(parts(components), feeds(of_feeds)) is OK) is well


def server(phase: Phase = Phase.SERVING, *components: Component) -> ServerHealth:
    return ServerHealth("1.0", 12.34567, phase, 3, components, (FeedHealth("sim", "live"),))


def test_a_healthy_server() -> None:
    status, document = health_document(server())
    assert status == 200
    assert document == {
        "status": "healthy",
        "version": "1.0",
        "uptime_s": 12.346,
        "ready": True,
        "draining": False,
        "clients": 3,
        "components": {},
        "feeds": {"sim": {"state": "live", "reason": "", "status": "healthy"}},
    }
    json.dumps(document)


@pytest.mark.parametrize(
    ("health", "live", "ready", "whole", "word"),
    [
        (server(Phase.STARTING), 200, 503, 503, "starting"),
        (server(Phase.SERVING), 200, 200, 200, "healthy"),
        (server(Phase.DRAINING), 200, 503, 503, "draining"),
        (server(Phase.SERVING, Component("store", DEGRADED)), 200, 200, 200, "degraded"),
        (server(Phase.SERVING, Component("store", FAILED)), 200, 503, 503, "failed"),
        (server(Phase.DRAINING, Component("store", FAILED)), 200, 503, 503, "failed"),
    ],
)
def test_codes(health: ServerHealth, live: int, ready: int, whole: int, word: str) -> None:
    assert (live_document(health)[0], ready_document(health)[0], health_document(health)[0]) == (live, ready, whole)
    assert health_document(health)[1]["status"] == word


def test_not_ready_says_why() -> None:
    health = server(Phase.DRAINING, Component("store", FAILED, "disk full"))
    assert ready_document(health) == (503, {"status": "not ready", "reasons": ["draining", "store: disk full"]})
    assert ready_document(server()) == (200, {"status": "ready", "reasons": []})


def test_feeds_do_not_take_readiness_away() -> None:
    down = attrs.evolve(server(), feeds=(FeedHealth("sim", "failed", "adapter", FAILED),))
    assert ready_document(down)[0] == 200
    assert health_document(down)[0] == 503
