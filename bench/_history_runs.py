"""Runs of the history's benchmark: processes started, told what to do, and what they say, checked for losses."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import _handshakes
from _history_read import history_request
from _history_trades import START_NS, TradeStream, make_topics
from _paced import Paced
from _peers import OWN_WINDOW, Server
from _programs import LOAD_CORE, SERVER_CORE, Program, open_program, python, resident_bytes
from _runs import new_board, open_readers
from _trades import BURST, VENUE

from raven.store.opening import HISTORY_DIR

__all__ = [
    "HISTORY_DIR",
    "Influx",
    "Memory",
    "data_directory",
    "file_system_of",
    "interleaved",
    "open_influx",
    "open_server",
    "read_history",
    "read_raw",
    "run_latency",
    "work",
]

WARM_UP_S = 1.0
NICE = 10
SAMPLE_S = 0.02
SETTLE_S = 60.0
RUN_S_MAX = 240.0
"""A run that takes longer is stuck."""
MIB = 1024 * 1024
IN_MEMORY = ("tmpfs", "ramfs")


def file_system_of(path: Path, mounts: str) -> str:
    """The kind of the file system that a path is on, by /proc/mounts."""
    found = [line.split()[1:3] for line in mounts.splitlines()]
    over = [(len(at), kind) for at, kind in found if path.is_relative_to(at)]
    return max(over, default=(0, "unknown"))[1]


@contextmanager
def data_directory(disk: Path) -> Iterator[Path]:
    """A new one, on a disk.

    Raises:
        SystemExit: that is memory.
    """
    kind = file_system_of(disk.resolve(), Path("/proc/mounts").read_text())
    if kind in IN_MEMORY:
        raise SystemExit(f"--disk: {disk} is {kind}: name a directory on a disk")
    with tempfile.TemporaryDirectory(dir=disk) as directory:
        yield Path(directory)


def work(disk: Path, what: str, *, directory: Path | None = None, **task: Any) -> dict[str, Any]:
    """One of `_history_write.WORK`, on the server's core, in a directory of its own or in one that stays."""
    place_of = data_directory(disk) if directory is None else nullcontext(directory)
    with place_of as place, open_program(python("_history_write"), SERVER_CORE) as program:
        program.tell(what=what, core=SERVER_CORE, directory=str(place), **task)
        return program.hear("done", timeout_s=RUN_S_MAX)


# ---- a server


@contextmanager
def open_server(directory: Path, backend: str, *options: object) -> Iterator[tuple[Program, dict[str, Any]]]:
    """Raven with that history, and what it says of itself."""
    with open_program(python("_history_serve", SERVER_CORE, directory, backend, *options), SERVER_CORE) as program:
        yield program, program.hear("ready")


@contextmanager
def open_paced(directory: Path, clients: int, backend: str, *options: object) -> Iterator[Paced]:
    """A venue, the server, and readers that measure when each trade reaches them."""
    with ExitStack() as stack:
        board = stack.enter_context(new_board())
        venue = stack.enter_context(open_program(python("_venue_trades", "ws"), LOAD_CORE))
        source = venue.hear("ready")["port"]
        program, ready = stack.enter_context(open_server(directory, backend, "--source", source, *options))
        greetings = [_handshakes.raven([(VENUE, "*")])]
        readers = stack.enter_context(open_readers(board, ready["port"], clients, greetings, ready["shape"], stamps=True))
        yield Paced(Server(program, ready["port"], greetings, OWN_WINDOW), venue, readers, clients)


# ---- InfluxDB


@dataclass(frozen=True)
class Influx:
    """influxd behind nginx, with a database that is written to."""

    program: Program
    endpoint: Mapping[str, Any]

    @property
    def options(self) -> list[str]:
        """Of the server's program."""
        return ["--influxdb", json.dumps(self.endpoint)]


@contextmanager
def open_influx(disk: Path, core: int = LOAD_CORE, nice: int = NICE) -> Iterator[Influx | str]:
    """One with an empty database; or why there is none."""
    with (
        data_directory(disk) as directory,
        open_program(python("_history_influxd", core, directory, "--nice", nice), core) as program,
    ):
        if reason := program.hear("ready")["missing"]:
            yield str(reason)
            return
        try:
            yield Influx(program, program.ask("create", database="bench")["endpoint"])
        finally:
            program.ask("stop")  # it ends influxd and nginx, which a kill of it alone would not


# ---- latencies


def run_latency(
    disk: Path,
    backend: str,
    clients: int,
    rate: float,
    seconds: float,
    *,
    influx: Influx | None = None,
    outage: bool = False,
    probe: bool = False,
) -> dict[str, Any]:
    """Latencies in us at a pace, with what the server says afterwards.

    Args:
        outage: influxd is killed a quarter on its way, and is back at the half.
        probe: measure how long each turn of each task holds the loop, which costs a little.

    Raises:
        RuntimeError: something was lost: between venue and reader, or to the history.
    """
    options = [*(influx.options if influx else ()), *(["--probe"] if probe else ())]
    with data_directory(disk) as directory, open_paced(directory, clients, backend, *options) as paced:
        warm_s = min(WARM_UP_S, seconds)
        paced.run(rate, warm_s, BURST)
        before = paced.server.program.ask("report")
        cpu_s = paced.server.program.cpu_s
        with _outage(influx, seconds) if influx and outage else nullcontext():
            found = paced.run(rate, seconds, BURST)
        cpu = (paced.server.program.cpu_s - cpu_s) / seconds
        report = paced.server.program.ask("report")
        published = round(rate * warm_s / BURST) * BURST + round(rate * seconds / BURST) * BURST
        _check(report, published)
        told = {**found, "cpu": cpu, "report": report, "lag_before_ms": before["lag_max_ms"]}
        if influx:
            told |= _check_points(_settled(paced.server.program), influx, published)
        return told


@contextmanager
def _outage(influx: Influx, seconds: float) -> Iterator[None]:
    """In a thread, while the latencies are measured; it is over, and influxd back, when left."""

    def run() -> None:
        for word in ("kill", "start"):
            over.wait(seconds / 4)
            influx.program.ask(word)

    over = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _check(report: Mapping[str, Any], published: int) -> None:
    """Raises RuntimeError: a client was ended as slow, or the history has not everything."""
    if report["slow"]:
        raise RuntimeError(f"{report['slow']} clients were ended as slow")
    if "lost" in report and (report["lost"] or report["events"] < published):
        raise RuntimeError(f"the history has {report['events']} events of {published} trades and more; lost: {report['lost']}")


def _settled(server: Program) -> Mapping[str, Any]:
    """What the server says of its databases when nothing waits for them any more, or it takes too long."""
    deadline = time.monotonic() + SETTLE_S
    while (told := server.ask("endpoints"))["waits"] and time.monotonic() < deadline:
        time.sleep(SAMPLE_S)
    return told


def _check_points(written: Mapping[str, Any], influx: Influx, published: int) -> dict[str, Any]:
    """Raises RuntimeError: a trade is not in the database."""
    count = influx.program.ask("count", database="bench")["count"]
    if count != published:
        raise RuntimeError(f"{count} points of {published} trades are in the database: {dict(written)}")
    return {"points": count, "endpoint": dict(written)}


# ---- reading


@dataclass
class Memory:
    """What a process has in RAM, sampled while something else is waited for; MiB above what it had at first."""

    process_id: int
    samples: list[float] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sampled until left."""
        idle, over = resident_bytes(self.process_id), threading.Event()

        def look() -> None:
            while not over.wait(SAMPLE_S):
                self.samples.append((resident_bytes(self.process_id) - idle) / MIB)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @property
    def highest(self) -> float:
        """MiB above idle."""
        return max(self.samples, default=0.0)

    @property
    def growth(self) -> float:
        """MiB between the second quarter and the last one, as medians: near 0 where it is flat."""
        quarter = len(self.samples) // 4
        if not quarter:
            return 0.0
        return statistics.median(self.samples[-quarter:]) - statistics.median(self.samples[quarter : 2 * quarter])


def read_history(directory: Path, made: Mapping[str, Any], rounds: int) -> list[dict[str, Any]]:
    """GetHistoricalData over everything that was made, to a raw reader; again from one server.

    Raises:
        RuntimeError: something is missing.
    """
    request = history_request(VENUE, "*", START_NS, made["last_ns"] + 1)
    with open_server(directory, "sqlite") as (server, ready):
        return [_read_once(server, ready["port"], request, made["events"]) for _ in range(rounds)]


def _read_once(server: Program, port: int, request: bytes, expected: int) -> dict[str, Any]:
    memory, cpu_s = Memory(server.process.pid), server.cpu_s
    with memory.watched():
        found = read_raw(port, request)
    if found["events"] != expected or not found["complete"]:
        raise RuntimeError(f"{expected} events were due and {found['events']} came: {found}")
    server_cpu_s = server.cpu_s - cpu_s
    return {**found, "server_cpu_s": server_cpu_s, "rss_mib": memory.highest, "growth_mib": memory.growth}


def read_raw(port: int, request: bytes, shape: Mapping[str, Any] | None = None, enough: int = 0) -> dict[str, Any]:
    """What a reader on the load's core counts."""
    with open_program(python("_history_read"), LOAD_CORE) as program:
        facts = shape or stream_shape()
        program.tell(core=LOAD_CORE, port=port, request=request.hex(), shape=facts, enough=enough)
        return program.hear("read", timeout_s=RUN_S_MAX)


def stream_shape() -> dict[str, Any]:
    """Of the trades that `_history_trades` makes."""
    element = TradeStream(make_topics(1)[0], 1.0).block(1).elements
    return {"size": len(element), "stamp": 0, "head": element[:2].hex()}


def interleaved(columns: Sequence[str], rounds: int, run: Callable[[str], dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Every column once a round, so that what the machine does meanwhile falls on all of them."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in columns}
    for number in range(1, rounds + 1):
        print(f"    round {number}, p99 us:", end="", flush=True)
        for name in columns:
            runs[name].append(run(name))
            print(f"  {name} {runs[name][-1]['p99']:,.0f}", end="", flush=True)
        print()
    return runs
