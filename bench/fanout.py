"""Fan-out: deliveries a second to raw readers from one server process on one core, against servers that do the same.

    nox -s bench -- fanout [--rounds 5] [--seconds 3] [--only raven redis ...] [--quick] [--profile]

Each round runs every column once, each in processes of its own, and Raven once more: the second run against the first (A/A)
says how much of a ratio is noise. Ratios are made within a round, their median is held against the goal. Exits with 1 where a
median misses its goal. See bench/README.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from _board import END
from _fanout_verdicts import Runs, judge, print_rates
from _handshakes import CHANNEL
from _peers import PeerMissing, Setup, open_server
from _programs import get_ready
from _runs import Phase, new_board, open_readers, run_phase
from _trades import BURST, shape_of
from _verdict import Verdicts, add_only, describe_machine, is_chosen, parser_of

WARM_UP_PART = 0.2
QUICK_S = 0.5
AHEAD = 16  # bursts


@dataclass(frozen=True)
class Column:
    """One thing that is measured."""

    peer: str
    clients: int = 100
    ahead: int = 1
    topics: int = 1
    mixed: bool = False
    tls: bool = False
    history: bool = False


COLUMNS: Mapping[str, Column] = {  # in the order of a round: each stands near a run of Raven that it is compared with
    "raven": Column("raven"),
    "redis": Column("redis"),
    "raven, history on": Column("raven", history=True),
    "raven, TLS": Column("raven", tls=True),
    "raven 2": Column("raven"),
    "raven, 1,000 topics mixed": Column("raven", topics=1000, mixed=True),
    "bare loop of send": Column("bare"),
    "raven 3": Column("raven"),
    "raven, 1,000 topics by wildcard": Column("raven", topics=1000),
    "nats": Column("nats"),
    "grpc-go": Column("go"),
    "raven 4": Column("raven"),
    "grpcio.aio": Column("grpcio"),
    "grpclib": Column("grpclib"),
    "grpclib, encoded once": Column("grpclib-encoded"),
    "raven, 10 clients": Column("raven", clients=10),
    "raven, 1 client": Column("raven", clients=1),
    "raven 5": Column("raven"),
    "raven, 1,000 clients": Column("raven", clients=1000),
    "raven, source ahead": Column("raven", ahead=AHEAD),
    "redis, source ahead": Column("redis", ahead=AHEAD),
    "bare loop of send, source ahead": Column("bare", ahead=AHEAD),
    "nats, source ahead": Column("nats", ahead=AHEAD),
}


def run_column(column: Column, seconds: float, home: Path, options: Sequence[str] = ()) -> Phase:
    """One server, its readers, warming up, and the phase that is measured.

    Args:
        home: where the certificate is, and where a history may be.

    Raises:
        PeerMissing: this column cannot be had here.
    """
    with new_board() as board, tempfile.TemporaryDirectory(dir=home) as data:
        setup = Setup(
            board=board,
            clients=column.clients,
            ahead=column.ahead,
            topics=column.topics,
            mixed=column.mixed,
            tls=home if column.tls else None,
            options=[*options, "--data-dir", data] if column.history else options,
        )
        with (
            open_server(column.peer, setup) as server,
            open_readers(board, server.port, column.clients, server.greetings, dict(server.shape), tls=column.tls) as readers,
        ):
            run_phase(server, readers, seconds * WARM_UP_PART, column.clients)
            phase = run_phase(server, readers, seconds, column.clients)
            board[0].phase = END
            if column.peer == "raven":
                phase.report.update(server.program.hear("report"))
                kept, lost = phase.report["history"]
                if column.history != (kept > 0) or lost:
                    raise RuntimeError(f"the history has {kept} events, and lost {lost}")
            if options:  # which is how it is profiled
                server.program.hear("profiled")
        return phase


def measure(columns: Mapping[str, Column], options: argparse.Namespace) -> tuple[Runs, dict[str, str]]:
    """The phases of all rounds by column, and what could not be had."""
    runs: Runs = {name: [] for name in columns}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as home:
        make_certificate(Path(home))
        for number in range(1, options.rounds + 1):
            print(f"  round {number}:", end="", flush=True)
            for name, column in columns.items():
                if name not in missing:
                    try:
                        runs[name].append(run_column(column, options.seconds, Path(home)))
                        print(f"  {name} {runs[name][-1].rate:,.0f}/s", end="", flush=True)
                    except PeerMissing as error:
                        missing[name] = str(error)
            print()
    return {name: of_column for name, of_column in runs.items() if of_column}, missing


def make_certificate(home: Path) -> None:
    """A key and a certificate that signs itself, by the openssl command; without it there is none."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    where = ["-keyout", str(home / "key.pem"), "-out", str(home / "cert.pem"), "-subj", f"/CN={CHANNEL}"]
    subprocess.run([*new, *where], check=True, capture_output=True)


def chosen_columns(only: Sequence[str]) -> dict[str, Column]:
    """Those whose names or, but for Raven, peers are in `only`; all where it is empty."""
    return {name: column for name, column in COLUMNS.items() if is_chosen(name, column.peer, only)}


def profile(options: argparse.Namespace) -> int:
    """Raven alone, under cProfile, whose table goes to standard output."""
    with tempfile.NamedTemporaryFile("r") as table:
        phase = run_column(COLUMNS["raven"], options.seconds, Path(table.name).parent, ["--profile", table.name])
        print(f"  under the profiler: {phase.rate:,.0f} deliveries/s")
        print(table.read())
    return 0


def main() -> int:
    """Measure, print, and write fanout.json."""
    parser = parser_of(__doc__, rounds=5, seconds=3.0)
    add_only(parser, COLUMNS)
    parser.add_argument("--profile", action="store_true", help="Raven alone, under cProfile")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, QUICK_S
    get_ready()
    print(
        f"fan-out: {describe_machine()}; trades of {shape_of().size} bytes in bursts of {BURST}; 100 readers unless it says so"
    )
    if options.profile:
        return profile(options)
    columns = chosen_columns(options.only)
    runs, missing = measure(columns, options)
    print_rates(runs)
    verdicts = Verdicts()
    judge(runs, missing, verdicts, list(columns))
    facts = {name: [asdict(phase) for phase in phases] for name, phases in runs.items()}
    return verdicts.write(options.results, "fanout", facts)


if __name__ == "__main__":
    sys.exit(main())
