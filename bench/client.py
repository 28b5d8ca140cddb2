"""One stream flat out: events a second that a program gets out of the client library, against a grpcio.aio client.

    nox -s bench -- client [--rounds 5] [--events 400000] [--only aio records ...] [--quick]

Each round runs every column once, each in a process of its own on one core, its server on the other. Ratios are made within a
round. Exits with 1 where a median misses its goal. See bench/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import _handshakes
from _board import END, Board
from _peers import Setup, open_server
from _programs import LOAD_CORE, SERVER_CORE, Program, get_ready, open_program, python
from _runs import new_board
from _trades import BURST, VENUE, shape_of
from _verdict import Goal, Verdicts, add_only, describe_machine, is_chosen, parser_of, ratios

__all__ = ["COLUMNS", "Column", "judge"]

EVENTS, QUICK_EVENTS = 400_000, 20_000
WARM_UP_PART = 0.2
QUICK_LIVE_S = 0.3
LOOK_S = 0.001
AHEAD = 16  # bursts
GRACE_S = 60.0
THOUSAND = 1e3
GOAL, RECORDS_GOAL, RATIO_GOAL = Goal(100, unit=" k/s"), Goal(500, unit=" k/s"), Goal(5)
KEPT, MESSAGES, LIVE = "kept", "messages", "live"


@dataclass(frozen=True)
class Column:
    """One thing that is measured.

    Args:
        how: it reads, see `_read_stream.READERS`.
        source: kept = Raven's ring, which the client catches up with; messages = prepared messages of one trade each; live =
            trades that the server makes meanwhile.
        peer: the server of a live one.
        goal: for its events a second, in thousands.
        needs: a module that it cannot do without.
        part: of the events; a quick reader takes more of them, a slow one fewer.
    """

    how: str
    source: str = KEPT
    peer: str = "raven"
    goal: Goal | None = None
    needs: str = ""
    part: float = 1.0


COLUMNS: Mapping[str, Column] = {
    "aio": Column("aio", goal=GOAL),
    "trio": Column("trio", goal=GOAL),
    "uvloop": Column("uvloop", needs="uvloop"),
    "batches": Column("batches", goal=GOAL),
    "records": Column("records", goal=RECORDS_GOAL, needs="pyarrow"),
    "bare socket": Column("raw"),
    "grpcio.aio": Column("grpcio", MESSAGES, needs="grpc", part=0.25),
    "aio, live": Column("aio", LIVE, "raven"),
    "grpcio.aio, live": Column("grpcio", LIVE, "grpcio", needs="grpc"),
    "aio again": Column("aio"),
}
OURS = ("aio", "trio", "batches", "records")
Run = dict[str, float]
Runs = dict[str, list[Run]]


@contextmanager
def open_source(name: str, events: int) -> Iterator[tuple[Program, dict[str, Any]]]:
    """A server that has all events before anybody reads, and what it told."""
    program = {KEPT: "_serve_kept", MESSAGES: "_serve_messages"}[name]
    with open_program(python(program, SERVER_CORE, events), SERVER_CORE) as server:
        yield server, server.hear("ready")


def run_ready(column: Column, server: Program, told: Mapping[str, Any], events: int) -> Run:
    """A client that reads what is there.

    Raises:
        RuntimeError: something else came.
    """
    last = int(events * column.part)
    with open_program(python("_read_stream"), LOAD_CORE) as reader:
        greeting = _handshakes.raven([(VENUE, "*")], bookmark=b64decode(told.get("bookmark", "")))
        task = {"core": LOAD_CORE, "how": column.how, "request": greeting.request, **told}
        cpu_s = server.cpu_s
        reader.tell(**task, first=int(last * WARM_UP_PART), last=last)
        found = reader.hear("read")
        used_s = server.cpu_s - cpu_s
    if column.source == KEPT and not last < found["sequence"] <= events + 1:
        raise RuntimeError(f"{column.how}: {last} trades came, and the last has the sequence {found['sequence']}")
    return {
        "rate": found["events"] / found["wall_s"],
        "cpu_us": 1e6 * found["cpu_s"] / found["events"],
        "reader": found["cpu_s"] / found["wall_s"],
        "server": used_s / (found["wall_s"] / (1 - WARM_UP_PART)),
    }


def run_live(column: Column, seconds: float) -> Run:
    """A client that reads what its server makes meanwhile: warming up, then what is measured.

    Raises:
        RuntimeError: something did not come.
    """
    with new_board() as board:
        setup = Setup(board=board, clients=1, ahead=AHEAD)
        with open_server(column.peer, setup) as server, open_program(python("_read_stream"), LOAD_CORE) as reader:
            reader.tell(core=LOAD_CORE, how=column.how, port=server.port, bookmark="", board=str(board[1]))
            reader.hear("ready")
            board[0].window = server.window_bursts * BURST
            run_phase(board[0], server.program, reader, seconds * WARM_UP_PART)
            found = run_phase(board[0], server.program, reader, seconds)
            board[0].phase = END
            return found


def run_phase(board: Board, server: Program, reader: Program, seconds: float) -> Run:
    """Have trades made for so long, and wait until the last was read."""
    before, server_s, reader_s = board.received, server.cpu_s, reader.cpu_s
    board.duration_ns = round(seconds * 1e9)
    board.phase = phase = board.phase + 1
    deadline = time.monotonic() + seconds + GRACE_S
    while board.done != phase or board.received - before < board.deliveries:
        time.sleep(LOOK_S)
        if time.monotonic() > deadline or server.process.poll() is not None or reader.process.poll() is not None:
            raise RuntimeError(f"{board.received - before} of {board.deliveries} trades were read")
    wall_s, events = (time.monotonic_ns() - board.begun_ns) / 1e9, board.deliveries
    reader_s = reader.cpu_s - reader_s
    return {
        "rate": events / wall_s,
        "cpu_us": 1e6 * reader_s / events,
        "reader": reader_s / wall_s,
        "server": (server.cpu_s - server_s) / wall_s,
    }


def why_missing(column: Column) -> str:
    """What would bring a column that cannot be had here."""
    return "" if not column.needs or importlib.util.find_spec(column.needs) else f"pip install {column.needs}"


def measure(columns: Mapping[str, Column], options: argparse.Namespace) -> Runs:
    """The runs of all rounds by column."""
    runs: Runs = {name: [] for name in columns}
    for number in range(1, options.rounds + 1):
        print(f"  round {number}, thousand events/s:", end="", flush=True)
        with ExitStack() as stack:
            names = dict.fromkeys(column.source for column in columns.values() if column.source != LIVE)
            sources = {name: stack.enter_context(open_source(name, options.events)) for name in names}
            for name, column in columns.items():
                if column.source == LIVE:
                    runs[name].append(run_live(column, options.seconds))
                else:
                    runs[name].append(run_ready(column, *sources[column.source], options.events))
                print(f"  {name} {runs[name][-1]['rate'] / THOUSAND:,.1f}", end="", flush=True)
        print()
    return runs


def print_runs(runs: Runs) -> None:
    """A line per column."""
    print(f"\n  {'':<20} {'events/s':>10} {'lowest':>10} {'highest':>10} {'client CPU us':>14} {'client':>7} {'server':>7}")
    for name, found in runs.items():
        rates = [run["rate"] for run in found]
        cpu_us, reader, server = (statistics.median(run[key] for run in found) for key in ("cpu_us", "reader", "server"))
        print(f"  {name:<20} {statistics.median(rates):>10,.0f} {min(rates):>10,.0f} {max(rates):>10,.0f} {cpu_us:>14.2f} "
              f"{reader:>7.0%} {server:>7.0%}")  # fmt: skip
    print()


def judge(runs: Runs, missing: Mapping[str, str], verdicts: Verdicts) -> None:
    """Events a second of ours against their goals; theirs, the ratios within a round, and the A/A pairs beside them."""
    rates = {name: [run["rate"] for run in found] for name, found in runs.items()}
    for name, of_column in rates.items():
        verdicts.judge(f"{name}, thousand events/s", [rate / THOUSAND for rate in of_column], COLUMNS[name].goal, " k/s")
    for name, why in missing.items():
        verdicts.absent(f"{name}, thousand events/s", why)
    if {"aio", "aio again"} <= rates.keys():
        verdicts.judge("A/A, aio again to aio", ratios(rates["aio again"], rates["aio"]))
    for ours, theirs in [*((name, "grpcio.aio") for name in OURS), ("aio, live", "grpcio.aio, live")]:
        if {ours, theirs} <= rates.keys():
            verdicts.judge(f"{ours} to {theirs}", ratios(rates[ours], rates[theirs]), RATIO_GOAL)


def main() -> int:
    """Measure, print, and write client.json."""
    parser = parser_of(__doc__, rounds=5, seconds=2.0)
    parser.add_argument("--events", type=int, default=EVENTS, help="that each column reads, but for live ones")
    add_only(parser, COLUMNS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.events, options.seconds = 1, QUICK_EVENTS, QUICK_LIVE_S
    get_ready()
    print(f"client: {describe_machine()}; trades of {shape_of().size} bytes, {options.events:,} of them")
    chosen = {name: column for name, column in COLUMNS.items() if is_chosen(name, "raven", options.only)}
    missing = {name: why for name, column in chosen.items() if (why := why_missing(column))}
    runs = measure({name: column for name, column in chosen.items() if name not in missing}, options)
    print_runs(runs)
    verdicts = Verdicts()
    judge(runs, missing, verdicts)
    return verdicts.write(options.results, "client", runs)


if __name__ == "__main__":
    sys.exit(main())
