"""Where a package's golden data is found."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from raven.errors import AdapterNotFound, AdapterRefused
from raven.testing import KIT_GROUP, ConformanceKit, Frame, Scenario, adapters_of, check_adapter_package, find_kit
from tests.testing.toy import BTC, KIT, ToyAdapter

MODULE = "toy_package_of_test_kit"


@pytest.fixture(autouse=True)
def module() -> Iterator[Any]:
    made: Any = types.ModuleType(MODULE)
    made.KIT, made.kit, made.broken, made.other = KIT, lambda: KIT, lambda: 1 / 0, object()
    made.ToyAdapter = ToyAdapter
    sys.modules[MODULE] = made
    yield made
    del sys.modules[MODULE]


def point(target: str, name: str = "toy", group: str = KIT_GROUP) -> EntryPoint:
    return EntryPoint(name, f"{MODULE}:{target}", group)


@pytest.mark.parametrize("target", ["KIT", "kit"])
def test_a_kit_or_a_function_that_returns_one(target: str) -> None:
    assert find_kit("toy", [point("other", "else"), point("other", group="raven.adapters"), point(target)]) is KIT


def test_none_is_offered() -> None:
    assert find_kit("toy", [point("KIT", "else")]) is None


@pytest.mark.parametrize(
    ("points", "text"),
    [
        ([point("missing")], "fails: AttributeError"),
        ([point("broken")], "fails: ZeroDivisionError"),
        ([point("other")], "is no raven.testing.ConformanceKit"),
        ([point("KIT"), point("kit")], "more than one is offered"),
    ],
)
def test_a_kit_that_cannot_be_used_is_refused_by_name(points: list[EntryPoint], text: str) -> None:
    with pytest.raises(AdapterRefused, match=rf"^the conformance kit of adapter 'toy' cannot be used: .*{text}"):
        find_kit("toy", points)


def test_an_editable_install_may_list_it_twice() -> None:
    assert find_kit("toy", [point("KIT"), point("KIT")]) is KIT


def test_checking_by_name() -> None:
    points = [point("KIT"), point("ToyAdapter", group="raven.adapters")]
    report = check_adapter_package("toy", points)
    assert (report.adapter, report.title, report.package, report.passed) == ("toy", "Toy", "unknown 0", True)
    with pytest.raises(AdapterNotFound, match="no installed package offers the adapter 'tay': did you mean 'toy'"):
        check_adapter_package("tay", points)


def test_names_and_packages() -> None:
    assert adapters_of("sim") == ("sim",)
    assert adapters_of("raven-sim") == adapters_of("raven_sim") == adapters_of("Raven-Sim") == ("sim",)
    with pytest.raises(AdapterNotFound, match="did you mean"):
        adapters_of("raven-simm")


def test_when_a_scenario_begins() -> None:
    assert Scenario([BTC], frames=[Frame(5_000_000_000, b"x")]).begins_ns == 4_000_000_000
    assert Scenario([BTC], start_ns=3).begins_ns == 3
    assert Scenario([BTC]).begins_ns == 1_700_000_000_000_000_000
    assert ConformanceKit([Scenario([BTC])]).scenarios[0].all_topics == (BTC,)
