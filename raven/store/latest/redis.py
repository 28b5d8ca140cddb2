"""Latest values in Redis: one server, behind sentinels, or a cluster; for several Ravens that share them.

Keys, all under `rv:` (docs/operations.md says what an ACL user needs):

    rv:{<venue>}:topics             set of the topics below, as venue/symbol/kind[/variant]
    rv:{<venue>}:latest:<topic>     hash of place (epoch and sequence), status, image; expires when nobody writes it for KEEP_S
    rv:{clients}:subscriptions      hash of client_id to expiry, "|", subscriptions as JSON

What stands in braces is what Redis hashes, so that a venue is in one slot of a cluster and one script may compare and write.
The latest place wins, whoever wrote it: a script compares within Redis, so no server overwrites what another knows better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from raven.errors import StoreError
from raven.model.topic import Topic
from raven.store.latest.address import Deployment, RedisAddress
from raven.store.latest.packing import pack_subscriptions, unpack_client, unpack_topic, unpack_value
from raven.store.latest.values import KEEP_S, ClientSubscriptions, LatestValue

__all__ = ["CLIENTS_KEY", "RedisLatest", "topic_key", "topics_key"]

T = TypeVar("T")

CLIENTS_KEY = "rv:{clients}:subscriptions"

SCRIPT_VALUES_MAX, SCRIPT_BYTES_MAX = 256, 1024 * 1024
"""What one call of a script is given, in values and about in bytes: nobody else is served by Redis meanwhile."""

LOADED_TOGETHER = 64
"""Values that are asked for at once."""

# KEYS: the set, then a key for each value; ARGV: how long they stay in ms, then topic, place, status and image of each. Places
# are digits of a fixed width, so their order as texts is that as numbers, which Lua could not hold.
_PUT = """
for i = 2, #KEYS do
  local at = 4 * i - 6
  local place = redis.call('HGET', KEYS[i], 'place')
  if not place or ARGV[at + 1] >= place then
    redis.call('HSET', KEYS[i], 'place', ARGV[at + 1], 'status', ARGV[at + 2], 'image', ARGV[at + 3])
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
    redis.call('SADD', KEYS[1], ARGV[at])
  end
end
"""
# KEYS: the hash; ARGV: client_id, expiry and subscriptions of each; no subscriptions = remove.
_PUT_CLIENTS = """
for i = 1, #ARGV, 3 do
  local kept = redis.call('HGET', KEYS[1], ARGV[i])
  if not kept or ARGV[i + 1] >= string.sub(kept, 1, #ARGV[i + 1]) then
    if ARGV[i + 2] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. '|' .. ARGV[i + 2])
    end
  end
end
"""


def topics_key(venue: str) -> str:
    """Where the topics of a venue are listed."""
    return f"rv:{{{venue}}}:topics"


def topic_key(topic: Topic | str) -> str:
    """Where a topic's value is."""
    text = str(topic)
    return f"rv:{{{text.partition('/')[0]}}}:latest:{text}"


class RedisLatest:
    """Keeps them in the Redis at `address`. Connects when it is first needed, and anew after every error.

    Args:
        timeout_s: of connecting, and of each answer. Nothing is tried twice: who calls knows when to call again.
    """

    name = "redis"
    shared = True

    def __init__(self, address: RedisAddress, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._client: Any = None  # redis-py types what it returns for both its ways of being called

    def put(self, values: Sequence[LatestValue]) -> None:
        """Keep them, as many as one script is given all or nothing."""
        self._send(_put_command(chunk) for chunk in _chunks(values))

    def remove(self, topics: Sequence[Topic]) -> None:
        """Forget them."""
        self._send(("DEL", topic_key(topic)) for topic in topics)
        self._send(("SREM", topics_key(topic.venue), str(topic)) for topic in topics)

    def load(self, venues: Collection[str]) -> list[LatestValue]:
        """All values of some venues."""
        values = [value for venue in sorted(set(venues)) for value in self._load(venue)]
        return sorted(values, key=lambda value: value.topic)

    def put_clients(self, clients: Sequence[ClientSubscriptions]) -> None:
        """Keep them."""
        self._send(_put_clients_command(chunk) for chunk in _runs(clients, SCRIPT_VALUES_MAX))

    def load_clients(self, now_s: float) -> list[ClientSubscriptions]:
        """All that have not expired."""
        with self._answering() as client:
            kept: dict[bytes, bytes] = client.hgetall(CLIENTS_KEY)
        found = {name: _unpack_client(name, packed) for name, packed in kept.items()}
        over = [name for name, one in found.items() if one is None or one.expires_s <= now_s]
        self._send(("HDEL", CLIENTS_KEY, *names) for names in _runs(over, SCRIPT_VALUES_MAX))
        fresh = (one for one in found.values() if one is not None and one.expires_s > now_s)
        return sorted(fresh, key=lambda one: one.expires_s)

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(RedisError, OSError):
                client.close()

    # ---- asking Redis

    def _load(self, venue: str) -> Iterator[LatestValue]:
        with self._answering() as client:
            names = sorted(client.smembers(topics_key(venue)))
        for some in _runs(names, LOADED_TOGETHER):
            yield from self._load_some(venue, [name.decode(errors="replace") for name in some])

    def _load_some(self, venue: str, names: Sequence[str]) -> Iterator[LatestValue]:
        answers = self._send(("HMGET", topic_key(name), "place", "status", "image") for name in names)
        gone = [name for name, (place, _, _) in zip(names, answers, strict=True) if place is None]
        if gone:
            self._send([("SREM", topics_key(venue), *gone)])
        for name, (place, status, image) in zip(names, answers, strict=True):
            if place is not None and (value := unpack_value(unpack_topic(name), *_unpack_place(place), status, image)):
                yield value

    def _send(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Send them together, and what each answered."""
        with self._answering() as client:
            together = client.pipeline(transaction=False)
            for command in commands:
                together.execute_command(*command)
            answers: list[Any] = together.execute()
            return answers

    @contextmanager
    def _answering(self) -> Iterator[Any]:
        """Raises StoreError; then whatever is connected is closed, and the next call looks for who is in charge by then."""
        try:
            if self._client is None:
                self._client = _connect(self._address, self._timeout_s)
            yield self._client
        except (RedisError, RedisClusterException, OSError) as error:
            self.close()
            raise StoreError(f"{self._address}: {type(error).__name__}: {error}") from error


def _connect(address: RedisAddress, timeout_s: float) -> Any:
    """A client. Only a cluster's connects at once."""
    common = _connection(address, timeout_s)
    own: dict[str, Any] = {"username": address.username or None, "password": address.password or None}
    if address.deployment is Deployment.CLUSTER:
        nodes = [ClusterNode(host, port) for host, port in address.nodes]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **common, **own)
    if address.deployment is Deployment.SENTINEL:
        options = address.options
        theirs = {"username": options.get("sentinel_username"), "password": options.get("sentinel_password")}
        sentinel: Any = Sentinel(address.nodes, sentinel_kwargs={**common, **theirs})  # type: ignore[no-untyped-call]
        return sentinel.master_for(address.service, db=address.db, **common, **own)
    ((host, port),) = address.nodes
    return Redis(host, port, db=address.db, **common, **own)


def _connection(address: RedisAddress, timeout_s: float) -> dict[str, Any]:
    """What holds for every connection. RESP2: what the server may send by itself in RESP3 would need a thread that reads it."""
    tls = {
        "ssl": True,
        "ssl_ca_certs": address.options.get("ca_file"),
        "ssl_certfile": address.options.get("cert_file"),
        "ssl_keyfile": address.options.get("key_file"),
    }
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "raven",
        **(tls if address.tls else {}),
    }


def _chunks(values: Iterable[LatestValue]) -> Iterator[list[LatestValue]]:
    """Values of one venue each, as many as one script is given."""
    for _, of_venue in groupby(sorted(values, key=lambda value: value.topic), lambda value: value.topic.venue):
        chunk: list[LatestValue] = []
        size = 0
        for value in of_venue:
            if chunk and (len(chunk) == SCRIPT_VALUES_MAX or size + value.size > SCRIPT_BYTES_MAX):
                yield chunk
                chunk, size = [], 0
            chunk.append(value)
            size += value.size
        yield chunk


def _runs(items: Sequence[T], length: int) -> Iterator[Sequence[T]]:
    return (items[first : first + length] for first in range(0, len(items), length))


def _put_command(chunk: Sequence[LatestValue]) -> tuple[Any, ...]:
    keys = [topics_key(chunk[0].topic.venue), *(topic_key(value.topic) for value in chunk)]
    parts = (part for value in chunk for part in (str(value.topic), _place(value), value.status, value.image))
    return ("EVAL", _PUT, len(keys), *keys, KEEP_S * 1000, *parts)


def _put_clients_command(chunk: Sequence[ClientSubscriptions]) -> tuple[Any, ...]:
    return ("EVAL", _PUT_CLIENTS, 1, CLIENTS_KEY, *(part for client in chunk for part in _client_parts(client)))


def _place(value: LatestValue) -> str:
    return f"{value.epoch:020d}-{value.sequence:020d}"


def _unpack_place(place: bytes) -> tuple[int | None, int | None]:
    epoch, _, sequence = place.partition(b"-")
    return (int(epoch), int(sequence)) if epoch.isdigit() and sequence.isdigit() else (None, None)


def _client_parts(client: ClientSubscriptions) -> tuple[str, str, bytes]:
    packed = pack_subscriptions(client.subscriptions) if client.subscriptions else b""
    return client.client_id, f"{round(client.expires_s * 1000):020d}", packed


def _unpack_client(name: bytes, packed: bytes) -> ClientSubscriptions | None:
    expires, _, subscriptions = packed.partition(b"|")
    expires_s = int(expires) / 1000 if expires.isdigit() else 0.0
    return unpack_client(name.decode(errors="replace"), subscriptions, expires_s)
