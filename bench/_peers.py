"""The servers that are measured: how each is started, and what a reader says to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import _handshakes
from _board import Board
from _handshakes import Greeting
from _programs import LOAD_CORE, SERVER_CORE, Program, open_program, python
from _trades import encode_trade, make_topics, shape_of

__all__ = ["PEERS", "PeerMissing", "Server", "Setup", "mixed_greetings", "open_server"]

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / ".nox" / "bench-go"
GO_PATH = "/usr/share/gocode"
START_S = 10.0

OWN_WINDOW = 16
"""Bursts: enough that a server that makes the events itself never waits for its readers."""
MESSAGE_SERVER_WINDOW = 3
"""Bursts: one on its way to the readers, one that the server writes, one that waits for it. So Redis joins as many bursts to a
write as Raven does, one or two; with fewer it idles at times, and with four it joins two or three."""


class PeerMissing(Exception):
    """It is not installed; says what would bring it."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run asks of its server.

    Args:
        board: as `_board.Board` and its path.
        clients: how many will come.
        ahead: so many bursts are there before the server has written the first of them; 1 = each is written by itself.
        topics: Raven alone; the peers have one.
        mixed: half of the clients choose topics, instead of a wildcard for all.
        tls: the directory of certificate and key; None = plain.
        source: port of a venue that the server takes its events from; None = it makes them itself.
        options: more arguments of Raven's program.
    """

    board: tuple[Board, Path]
    clients: int
    ahead: int = 1
    topics: int = 1
    mixed: bool = False
    tls: Path | None = None
    source: int | None = None
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Args:
        greetings: its readers' beginnings.
        window_bursts: how far whoever makes the events may be ahead of the readers.
        shape: of an event.
    """

    program: Program
    port: int
    greetings: Sequence[Greeting]
    window_bursts: int
    shape: Mapping[str, Any] = field(default_factory=lambda: shape_of().facts)


def open_server(name: str, setup: Setup) -> AbstractContextManager[Server]:
    """A running server, until left.

    Raises:
        PeerMissing: it cannot be had here.
    """
    return PEERS[name](setup)


# ---- servers that make the events themselves


@contextmanager
def _own(command: Sequence[str], greetings: Sequence[Greeting], ahead: int) -> Iterator[Server]:
    with open_program([*command, "--ahead", str(ahead)], SERVER_CORE) as program:
        yield Server(program, program.hear("ready")["port"], greetings, OWN_WINDOW * ahead)


def _raven(setup: Setup) -> AbstractContextManager[Server]:
    options = [*setup.options, "--topics", str(setup.topics)]
    if setup.source is not None:
        options += ["--source", str(setup.source)]
    if setup.tls is not None:
        options += ["--tls", str(setup.tls)]
    greetings = mixed_greetings(setup.topics, setup.clients) if setup.mixed else [_handshakes.raven([("bench", "*")])]
    return _own(python("_serve_raven", setup.board[1], SERVER_CORE, *options), greetings, setup.ahead)


def mixed_greetings(topics: int, clients: int) -> list[Greeting]:
    """Every second client has everything by a wildcard, the others 10 to 100 topics by name. The same ones each time."""
    random, names = Random(7), make_topics(topics)
    chosen = (random.sample(names, random.randint(10, min(100, topics))) for _ in range(clients))
    return [
        _handshakes.raven([("bench", "*")] if number % 2 else _handshakes.selectors_of(some))
        for number, some in enumerate(chosen)
    ]


def _plain(name: str, *options: str) -> Callable[[Setup], AbstractContextManager[Server]]:
    def start(setup: Setup) -> AbstractContextManager[Server]:
        source = [] if setup.source is None else ["--source", setup.source]
        return _own(python(name, setup.board[1], SERVER_CORE, *options, *source), [_handshakes.grpc()], setup.ahead)

    return start


def _go(setup: Setup) -> AbstractContextManager[Server]:
    if shutil.which("go") is None or not Path(GO_PATH, "src/google.golang.org/grpc").is_dir():
        raise PeerMissing("apt-get install golang-go golang-google-grpc-dev")
    source, program = HERE / "grpc_go_server.go", BUILT / "serve"
    if not program.is_file() or program.stat().st_mtime < source.stat().st_mtime:
        BUILT.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOPATH": GO_PATH}
        subprocess.run(["go", "build", "-o", program, source], check=True, env=environment)
    return _own([str(program), str(setup.board[1]), encode_trade(0, 1).hex()], [_handshakes.grpc()], setup.ahead)


# ---- message servers


@contextmanager
def _message_server(name: str, program: str, arguments: Callable[[int], list[str]], setup: Setup) -> Iterator[Server]:
    path = shutil.which(program)
    if path is None:
        raise PeerMissing(f"apt-get install {program}")
    port = _free_port()
    greeting = getattr(_handshakes, name)(shape_of())
    with open_program([path, *arguments(port)], SERVER_CORE) as server:
        _wait_for(port)
        with open_program(python("_publisher", setup.board[1], LOAD_CORE, name, port, setup.clients), LOAD_CORE) as maker:
            maker.hear("ready")
            yield Server(server, port, [greeting], MESSAGE_SERVER_WINDOW * setup.ahead)


def _redis(setup: Setup) -> AbstractContextManager[Server]:
    def arguments(port: int) -> list[str]:
        never_full = ["--client-output-buffer-limit", "pubsub", "0", "0", "0"]
        return ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *never_full]

    return _message_server("redis", "redis-server", arguments, setup)


def _nats(setup: Setup) -> AbstractContextManager[Server]:
    return _message_server("nats", "nats-server", lambda port: ["-a", "127.0.0.1", "-p", str(port)], setup)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


PEERS: Mapping[str, Callable[[Setup], AbstractContextManager[Server]]] = {
    "raven": _raven,
    "bare": _plain("_serve_bare"),
    "grpcio": _plain("_serve_grpcio"),
    "grpclib": _plain("_serve_grpclib"),
    "grpclib-encoded": _plain("_serve_grpclib", "--encoded"),
    "redis": _redis,
    "nats": _nats,
    "go": _go,
}
