"""What every store of latest values must do: memory, SQLite, and a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raven.store.latest.address import parse_redis_url
from raven.store.latest.memory import MemoryLatest
from raven.store.latest.redis import RedisLatest
from raven.store.latest.sqlite import SqliteLatest
from raven.store.latest.values import LatestStore
from tests.store.latest.redis_servers import Process, redis_server
from tests.store.latest.samples import BOOK, CANDLE, ELSEWHERE, EPOCH, NOW_S, QUOTE, client, value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LatestStore]:
    made = make(request, tmp_path)
    yield made
    made.close()


def make(request: pytest.FixtureRequest, directory: Path) -> LatestStore:
    if request.param == "memory":
        return MemoryLatest()
    if request.param == "sqlite":
        return SqliteLatest(directory, lambda: NOW_S)
    redis: Process = request.getfixturevalue("server")
    redis.ask("FLUSHALL")
    return RedisLatest(parse_redis_url(f"redis://127.0.0.1:{redis.port}"), 2.0)


def test_values_come_back_by_venue_in_the_order_of_topics(store: LatestStore) -> None:
    values = [value(CANDLE), value(BOOK), value(QUOTE), value(ELSEWHERE)]
    store.put(values)
    assert store.load(["sim"]) == [value(QUOTE), value(BOOK), value(CANDLE)]
    assert store.load(["sim", "other-venue", "nobody"]) == [value(ELSEWHERE), value(QUOTE), value(BOOK), value(CANDLE)]
    assert store.load([]) == []


def test_nothing_is_a_valid_thing_to_put(store: LatestStore) -> None:
    store.put([])
    store.put_clients([])
    store.remove([])
    assert store.load(["sim"]) == []
    assert store.load_clients(NOW_S) == []


def test_a_later_sequence_wins_and_a_later_epoch_wins_over_any_sequence(store: LatestStore) -> None:
    store.put([value(sequence=5), value(BOOK, 5)])
    store.put([value(sequence=6, bid=2.0), value(BOOK, 1, EPOCH + 1, bid=3.0)])
    assert store.load(["sim"]) == [value(sequence=6, bid=2.0), value(BOOK, 1, EPOCH + 1, bid=3.0)]


def test_an_older_value_never_overwrites_a_newer_one_and_the_rest_of_its_batch_is_kept(store: LatestStore) -> None:
    store.put([value(sequence=10), value(BOOK, 10)])
    store.put([value(sequence=9, bid=2.0), value(BOOK, 99, EPOCH - 1, bid=2.0), value(CANDLE, 1)])
    assert store.load(["sim"]) == [value(sequence=10), value(BOOK, 10), value(CANDLE, 1)]


def test_within_one_batch_the_latest_wins_wherever_it_stands(store: LatestStore) -> None:
    store.put([value(sequence=2), value(sequence=3, bid=3.0), value(sequence=1)])
    assert store.load(["sim"]) == [value(sequence=3, bid=3.0)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 2**53), st.integers(1, 2**62)), min_size=1, max_size=8))
def test_whatever_comes_in_whatever_order_the_greatest_place_stays(store: LatestStore, places: list[tuple[int, int]]) -> None:
    store.remove([QUOTE])
    for epoch, sequence in places:
        store.put([value(sequence=sequence, epoch=epoch)])
    (kept,) = store.load(["sim"])
    assert (kept.epoch, kept.sequence) == max(places)


def test_removed_topics_are_gone_and_may_begin_anew_with_a_lower_place(store: LatestStore) -> None:
    store.put([value(sequence=10), value(BOOK, 10)])
    store.remove([QUOTE, CANDLE])
    assert store.load(["sim"]) == [value(BOOK, 10)]
    store.put([value(sequence=1)])
    assert store.load(["sim"]) == [value(sequence=1), value(BOOK, 10)]


def test_many_values_of_many_venues_and_sizes_in_one_batch(store: LatestStore) -> None:
    topics = [QUOTE._replace(venue=f"v{number % 7}", symbol=f"X{number}") for number in range(700)]
    values = [value(topic, number + 1) for number, topic in enumerate(topics)]
    store.put(values)
    assert store.load([f"v{number}" for number in range(7)]) == sorted(values, key=lambda one: one.topic)


def test_subscriptions_come_back_as_they_were_the_first_to_expire_in_front(store: LatestStore) -> None:
    late, soon = client("desk", "a", "b", expires_s=NOW_S + 100), client("dësk {2}|", "c", expires_s=NOW_S + 50)
    store.put_clients([late, soon])
    assert store.load_clients(NOW_S) == [soon, late]


def test_what_has_expired_is_forgotten(store: LatestStore) -> None:
    store.put_clients([client("old", "a", expires_s=NOW_S + 1), client("new", "a", expires_s=NOW_S + 2)])
    assert [one.client_id for one in store.load_clients(NOW_S + 1)] == ["new"]
    assert [one.client_id for one in store.load_clients(NOW_S)] == ["new"]


def test_subscriptions_that_are_older_than_what_is_there_change_nothing(store: LatestStore) -> None:
    store.put_clients([client("desk", "a", expires_s=NOW_S + 50)])
    store.put_clients([client("desk", "b", expires_s=NOW_S + 49), client("desk", expires_s=NOW_S + 49)])
    assert store.load_clients(NOW_S) == [client("desk", "a", expires_s=NOW_S + 50)]
    store.put_clients([client("desk", "b", expires_s=NOW_S + 50)])
    assert store.load_clients(NOW_S) == [client("desk", "b", expires_s=NOW_S + 50)]


def test_a_client_without_subscriptions_is_forgotten(store: LatestStore) -> None:
    store.put_clients([client("desk", "a"), client("other", "a")])
    store.put_clients([client("desk"), client("unheard-of")])
    assert [one.client_id for one in store.load_clients(NOW_S)] == ["other"]


def test_it_may_be_closed_at_any_time(store: LatestStore) -> None:
    store.close()
    store.put([value()])
    store.close()
    store.close()
    assert len(store.load(["sim"])) == 1 or store.name == "memory"
