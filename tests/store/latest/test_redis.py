"""Redis as it is run: passwords, TLS, limits on time, sentinels and a cluster whose primary dies."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from raven.errors import StoreError
from raven.store.latest.address import parse_redis_url
from raven.store.latest.redis import CLIENTS_KEY, RedisLatest, topic_key, topics_key
from raven.store.latest.values import KEEP_S, LatestStore
from tests.store.latest.redis_servers import (
    TLS,
    Cluster,
    Process,
    Sentinels,
    cluster,
    redis_server,
    replicated,
    sentinels,
    until,
)
from tests.store.latest.samples import BOOK, ELSEWHERE, NOW_S, QUOTE, client, value

T = TypeVar("T")
FAILOVER_S = 15

ACL = "+@read +@write +@scripting +@connection"


def opened(url: str, timeout_s: float = 2.0) -> RedisLatest:
    return RedisLatest(parse_redis_url(url), timeout_s)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    acl = f"raven on >p@ss ~rv:* {ACL}".split()
    with redis_server(tmp_path_factory.mktemp("redis"), "--user", *acl) as running:
        yield running


@pytest.fixture
def store(server: Process) -> Iterator[RedisLatest]:
    server.ask("FLUSHALL")
    made = opened(f"redis://raven:p%40ss@127.0.0.1:{server.port}")  # every test goes with the rights of the documented user
    yield made
    made.close()


def test_the_documented_rights_are_enough_and_the_keys_are_as_documented(server: Process, store: RedisLatest) -> None:
    store.put([value(), value(ELSEWHERE)])
    store.put_clients([client("desk", "a")])
    assert store.load(["sim"]) == [value()]
    assert len(store.load_clients(NOW_S)) == 1
    assert {key.decode() for key in server.ask("KEYS", "*")} == {
        topics_key("sim"),
        topic_key(QUOTE),
        topics_key("other-venue"),
        topic_key(ELSEWHERE),
        CLIENTS_KEY,
    }
    assert topic_key(QUOTE) == "rv:{sim}:latest:sim/BTC-USDT/quote"
    assert KEEP_S * 1000 - 60_000 < server.ask("PTTL", topic_key(QUOTE)) <= KEEP_S * 1000


def test_a_wrong_password_is_an_error_that_keeps_it(server: Process) -> None:
    store = opened(f"redis://raven:hunter2@127.0.0.1:{server.port}")
    with pytest.raises(StoreError, match="AuthenticationError") as caught:
        store.put([value()])
    assert "hunter2" not in str(caught.value)


def test_a_value_that_has_expired_leaves_the_list_of_topics(server: Process, store: RedisLatest) -> None:
    store.put([value(), value(BOOK)])
    server.ask("DEL", topic_key(QUOTE))
    assert store.load(["sim"]) == [value(BOOK)]
    assert server.ask("SMEMBERS", topics_key("sim")) == [str(BOOK).encode()]


def test_what_somebody_else_wrote_there_is_left_out(server: Process, store: RedisLatest) -> None:
    store.put([value(), value(BOOK)])
    store.put_clients([client("desk", "a")])
    server.ask("HSET", topic_key(BOOK), "place", "nonsense")
    server.ask("SADD", topics_key("sim"), "no topic")
    server.ask("HSET", topic_key("sim/no topic"), "place", "1-1")
    server.ask("HSET", CLIENTS_KEY, "broken", "99999999999999|{", "blank", "")
    with capture_logs():
        assert store.load(["sim"]) == [value()]
        assert store.load_clients(NOW_S) == [client("desk", "a")]


def test_a_server_that_restarts_is_found_by_the_next_call_but_one(tmp_path: Path) -> None:
    with redis_server(tmp_path) as running:
        store = opened(f"redis://127.0.0.1:{running.port}")
        store.put([value()])
        running.kill()
        with pytest.raises(StoreError):
            store.put([value(sequence=6)])
        running.start()
        until(lambda: bool(running.ask("PING")))
        store.put([value(sequence=7)])
        assert store.load(["sim"]) == [value(sequence=7)]
        store.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}", "redis+cluster://127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/shelf"])
def test_a_server_that_says_nothing_holds_nobody_for_long_and_starts_no_thread(url: str) -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = opened(url.format(silent.getsockname()[1]), 0.1)
        began = time.monotonic()
        with pytest.raises(StoreError):
            store.put([value()])
        assert time.monotonic() - began < 2.0
    assert threading.active_count() == threads
    store.close()


def test_a_full_server_is_an_error(server: Process, store: RedisLatest) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreError, match="maxmemory"):
            store.put([value()])
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")
    store.put([value()])


def test_tls(tmp_path: Path) -> None:
    files = ("--tls-cert-file", str(TLS / "cert.pem"), "--tls-key-file", str(TLS / "key.pem"), "--tls-auth-clients", "no")
    with redis_server(tmp_path, *files) as running:
        store = opened(f"rediss://localhost:{running.port}?ca_file={TLS / 'cert.pem'}")
        until(lambda: puts(store))
        assert store.load(["sim"]) == [value()]
        store.close()
        stranger = opened(f"rediss://localhost:{running.port}")
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.put([value()])


def puts(store: LatestStore) -> bool:
    """Whether the store takes a value."""
    try:
        store.put([value()])
    except StoreError:
        return False
    return True


@pytest.fixture(scope="module")
def behind_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with sentinels(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def test_behind_sentinels_a_primary_may_die(behind_sentinels: Sentinels) -> None:
    store = opened(behind_sentinels.url)
    check_primary_dies(store, lambda: behind_sentinels.primary)


def test_in_a_cluster_a_primary_may_die(clustered: Cluster) -> None:
    for server in clustered.servers:
        server.ask("ACL", "SETUSER", "raven", "on", ">pw", "~rv:*", *ACL.split(), "+cluster|slots")
    store = opened(clustered.url.replace("://", "://raven:pw@"))
    store.put([value(ELSEWHERE)])
    check_primary_dies(store, lambda: clustered.owner(topic_key(QUOTE)))
    assert again(lambda: store.load(["other-venue", "sim"])) == [value(ELSEWHERE), value()]


def check_primary_dies(store: RedisLatest, primary: Callable[[], Process]) -> None:
    """Nothing is asked of the store's caller but to call again."""
    store.put([value(), value(BOOK)])
    store.put_clients([client("desk", "a")])
    assert store.load(["sim"]) == [value(), value(BOOK)]
    dying = primary()
    until(lambda: replicated(dying))
    dying.kill()
    with pytest.raises(StoreError):
        store.put([value()])
    until(lambda: puts(store), within_s=FAILOVER_S)
    # of a cluster each server learns by itself that it is whole again, so the next one asked may still say that it is not
    again(lambda: store.put([value()]))
    again(lambda: store.remove([BOOK]))
    assert again(lambda: store.load(["sim"])) == [value()]
    assert again(lambda: store.load_clients(NOW_S)) == [client("desk", "a")]
    store.close()


def again(call: Callable[[], T]) -> T:
    """What a call gives as soon as the servers take it."""
    results: list[T] = []

    def taken() -> bool:
        with suppress(StoreError):
            results.append(call())
        return bool(results)

    until(taken, within_s=FAILOVER_S)
    return results[0]
