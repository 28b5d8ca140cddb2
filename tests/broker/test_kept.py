"""Subscriptions that outlive their client: bounded in number and in time."""

from __future__ import annotations

from raven.broker import Subscription
from raven.broker.kept import KeptSubscriptions
from raven.model.topic import Selector


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def one(name: str) -> Subscription:
    return Subscription(name, Selector("sim", "*"))


def test_what_is_put_is_there_once_and_in_order() -> None:
    kept = KeptSubscriptions(10, 60, Clock())
    kept.put("a", [one("1"), one("2")])
    assert [subscription.id for subscription in kept.get("a")] == ["1", "2"]
    assert [subscription.id for subscription in kept.take("a")] == ["1", "2"]
    assert kept.take("a") == []


def test_putting_none_forgets() -> None:
    kept = KeptSubscriptions(10, 60, Clock())
    kept.put("a", [one("1")])
    kept.put("a", [])
    assert list(kept) == []


def test_the_oldest_goes_when_there_are_too_many() -> None:
    kept = KeptSubscriptions(2, 60, Clock())
    for name in "abc":
        kept.put(name, [one("1")])
    assert list(kept) == ["b", "c"]
    kept.put("b", [one("2")])
    kept.put("d", [one("1")])
    assert list(kept) == ["b", "d"]


def test_it_is_kept_for_so_long_from_the_last_change() -> None:
    clock = Clock()
    kept = KeptSubscriptions(10, 60, clock)
    kept.put("a", [one("1")])
    clock.now = 59
    kept.put("b", [one("1")])
    clock.now = 60
    assert list(kept) == ["b"]
    clock.now = 119
    assert kept.get("b") == []


def test_what_an_earlier_server_kept_is_kept_for_the_rest_of_its_time() -> None:
    clock = Clock()
    kept = KeptSubscriptions(2, 60, clock)
    kept.restore("soon", [one("1")], 5.0)
    kept.restore("late", [one("2")], 500.0)
    kept.restore("over", [one("3")], 0.0)
    kept.restore("none", [], 50.0)
    assert kept.remaining() == [("soon", {"1": one("1")}, 5.0), ("late", {"2": one("2")}, 60.0)]
    clock.now = 5.0
    assert kept.get("soon") == []
    assert kept.remaining() == [("late", {"2": one("2")}, 55.0)]
