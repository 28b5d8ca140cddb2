"""Real Redis servers for tests: one, one behind sentinels, a cluster. Each stands while its context is open."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.connection import Connection
from redis.exceptions import RedisError

from tests.ports import free_port

START_S = 10.0
TLS = Path(__file__).parents[2] / "data" / "tls"


@attrs.define
class Process:
    """A server of which the tests say when it dies."""

    command: Sequence[str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, *command: str) -> Any:
        """The answer as the server gives it: bytes, numbers, lists."""
        connection = Connection(host="127.0.0.1", port=self.port, socket_timeout=2, protocol=2)
        try:
            connection.connect()
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()


def until(condition: Callable[[], bool], within_s: float = START_S) -> None:
    """Ask again and again: a server tells nobody when it is ready."""
    ends = time.monotonic() + within_s
    while True:
        try:
            if condition():
                return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < ends, "a Redis server did not come to the state that was waited for"
        time.sleep(0.02)


def replicated(primary: Process) -> bool:
    """Whether every replica has all that the primary was given: Redis promises it to nobody, and a test that kills needs it."""
    text = primary.ask("INFO", "replication").decode()
    states = dict(line.split(":", 1) for line in text.split() if ":" in line)
    offset = f"offset={states['master_repl_offset']},"
    return "slave0" in states and all(offset in text for name, text in states.items() if re.fullmatch(r"slave\d+", name))


def program(name: str) -> str:
    """Where a program is; without it the test is skipped, and with CI=true fails."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: redis-server, redis-sentinel, redis-tools)")
    return found


@contextmanager
def started(process: Process) -> Iterator[Process]:
    process.start()
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[Process]:
    """One server; with TLS options its port is for TLS."""
    port = free_port()
    listen = ("--port", "0", "--tls-port", str(port)) if "--tls-cert-file" in options else ("--port", str(port))
    fixed = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory))
    with started(Process((program("redis-server"), *listen, *fixed, *options), port)) as server:
        if listen[0] == "--port" and len(listen) == 2:
            until(lambda: bool(server.ask("PING")))
        yield server


@attrs.frozen
class Sentinels:
    servers: Sequence[Process]
    sentinels: Sequence[Process]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{sentinel.port}' for sentinel in self.sentinels)}/shelf"

    @property
    def primary(self) -> Process:
        """Whom the sentinels name."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shelf")
        return next(server for server in self.servers if server.port == int(port))


@contextmanager
def sentinels(directory: Path) -> Iterator[Sentinels]:
    """A primary, two replicas, three sentinels."""
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(directory))
        follow = ("--replicaof", f"127.0.0.1 {primary.port}", "--repl-diskless-sync-delay", "0")
        servers = [primary, *(stack.enter_context(redis_server(directory, *follow)) for _ in range(2))]
        watchers = [stack.enter_context(started(_sentinel(directory, primary.port))) for _ in range(3)]
        until(lambda: all(_knows(sentinel) for sentinel in watchers))
        yield Sentinels(servers, watchers)


def _sentinel(directory: Path, primary: int) -> Process:
    port = free_port()
    file = directory / f"sentinel-{port}.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor shelf 127.0.0.1 {primary} 2\n"
        "sentinel down-after-milliseconds shelf 500\nsentinel failover-timeout shelf 3000\n"
    )
    return Process((program("redis-sentinel"), str(file)), port)


def _knows(sentinel: Process) -> bool:
    """Whether it has found the replicas and the other sentinels."""
    answer = sentinel.ask("SENTINEL", "MASTER", "shelf")
    state = dict(zip(answer[::2], answer[1::2], strict=True))
    return state[b"num-slaves"] == state[b"num-other-sentinels"] == b"2"


@attrs.frozen
class Cluster:
    servers: Sequence[Process]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])

    def owner(self, key: str) -> Process:
        """The primary of a key, as a server that lives says."""
        alive = next(server for server in self.servers if server.process)
        slot = alive.ask("CLUSTER", "KEYSLOT", key)
        port = next(primary[1] for first, last, primary, *_ in alive.ask("CLUSTER", "SLOTS") if first <= slot <= last)
        return next(server for server in self.servers if server.port == port)


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """Three primaries with a replica each."""
    with ExitStack() as stack:
        servers = []
        for number in range(6):
            options = ("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{number}.conf")
            quick = ("--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0")
            ports = ("--cluster-port", str(free_port()), "--repl-diskless-sync-delay", "0")
            servers.append(stack.enter_context(redis_server(directory, *options, *quick, *ports)))
        nodes = [f"127.0.0.1:{server.port}" for server in servers]
        create = [program("redis-cli"), "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(create, check=True, capture_output=True, timeout=30)
        until(lambda: all(b"cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in servers))
        yield Cluster(servers)
