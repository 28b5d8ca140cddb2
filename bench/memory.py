"""Memory of an idle client stream: what the server's process grows by per client, against a plain grpclib server.

    nox -s bench -- memory [--rounds 5] [--quick]

1,000 connections with one StreamMarketData call each, subscribed to ten of a hundred topics; of the plain server, one open
server-streaming call each. RSS before the first and after the last of them. One more run with fewer clients under tracemalloc
says where it goes. Exits with 1 where a median misses its goal. See bench/README.md.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import _handshakes
from _board import END
from _handshakes import Greeting
from _peers import Setup, open_server
from _programs import get_ready, resident_bytes
from _runs import new_board, open_readers
from _trades import make_topics
from _verdict import Goal, Verdicts, describe_machine, parser_of, ratios

CLIENTS, TRACED_CLIENTS, QUICK_CLIENTS = 1000, 300, 100
TOPICS, TOPICS_EACH = 100, 10
SETTLE_S = 1.0
KIB = 1024
COLUMNS = {"raven": "raven", "grpclib": "grpclib", "raven again": "raven"}


def greetings_of(peer: str, clients: int) -> Sequence[Greeting]:
    """Of Raven's readers, each with ten topics of its own choice; the same ones each time."""
    if peer != "raven":
        return [_handshakes.grpc()]
    random, topics = Random(11), make_topics(TOPICS)
    return [_handshakes.raven(_handshakes.selectors_of(random.sample(topics, TOPICS_EACH))) for _ in range(clients)]


def grown_bytes(peer: str, clients: int, settle_s: float) -> float:
    """What the server's process grew by per client, after so long without anything new."""
    with new_board() as board, open_server(peer, Setup(board=board, clients=clients, topics=TOPICS)) as server:
        time.sleep(settle_s)
        before = resident_bytes(server.program.process.pid)
        with open_readers(board, server.port, clients, greetings_of(peer, clients), dict(server.shape)):
            time.sleep(settle_s)
            grown = resident_bytes(server.program.process.pid) - before
        board[0].phase = END
    return max(1.0, grown / clients)  # few clients may fit into what was free already, and a ratio needs something


def traced(clients: int) -> list[tuple[str, float, float]]:
    """Where it goes: a file of Python code, bytes and blocks a client that its lines allocated."""
    with (
        new_board() as board,
        open_server("raven", Setup(board=board, clients=clients, topics=TOPICS, options=["--trace"])) as server,
        open_readers(board, server.port, clients, greetings_of("raven", clients), dict(server.shape)),
    ):
        board[0].phase = END
        report: dict[str, Any] = server.program.hear("report")
    return [(name, size / clients, blocks / clients) for name, size, blocks in report["memory"]]


def main() -> int:
    """Measure, print, and write memory.json."""
    options = parser_of(__doc__, rounds=5, seconds=0).parse_args()
    clients, traced_clients, settle_s, columns = CLIENTS, TRACED_CLIENTS, SETTLE_S, dict(COLUMNS)
    if options.quick:
        options.rounds, clients, traced_clients, settle_s = 1, QUICK_CLIENTS, QUICK_CLIENTS, 0.0
        columns.popitem()  # noise is of no interest
    get_ready()
    print(f"memory: {describe_machine()}; {clients} idle streams of {TOPICS_EACH} topics each")
    runs: dict[str, list[float]] = {name: [] for name in columns}
    for number in range(1, options.rounds + 1):
        for name, peer in columns.items():
            runs[name].append(grown_bytes(peer, clients, settle_s) / KIB)
        print(f"  round {number}:  " + "  ".join(f"{name} {values[-1]:.1f} KiB" for name, values in runs.items()), flush=True)
    verdicts = Verdicts()
    verdicts.judge("raven, a stream", runs["raven"], Goal(48, at_least=False, unit=" KiB"), " KiB")
    verdicts.judge("grpclib, a stream", runs["grpclib"], unit=" KiB")
    if "raven again" in runs:
        verdicts.judge("A/A, raven again to raven", ratios(runs["raven again"], runs["raven"]))
    verdicts.judge("raven to grpclib", ratios(runs["raven"], runs["grpclib"]), Goal(1.25, at_least=False))
    where = traced(traced_clients)
    print_where(where, statistics.median(runs["raven"]), traced_clients)
    return verdicts.write(options.results, "memory", {"KiB": runs, "where": where})


def print_where(where: Sequence[tuple[str, float, float]], whole_kib: float, clients: int) -> None:
    """The table of tracemalloc; what it does not see is C code's own and the allocator's slack."""
    print(f"\n  where it goes, a client of {clients} under tracemalloc: the largest files")
    for name, size, blocks in where:
        print(f"    {name:<52} {size / KIB:>7.2f} KiB {blocks:>7.1f} blocks")
    seen = sum(size for _, size, _ in where) / KIB
    print(f"    {'these together, of the RSS above':<52} {seen:>7.2f} of {whole_kib:.2f} KiB\n")


if __name__ == "__main__":
    sys.exit(main())
