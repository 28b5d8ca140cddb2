"""`raven replay`: a server that serves the past as if it happened now.

Exit codes: 0 over, or ended by a signal; 1 nothing is kept of what was asked for, a port is taken; 2 a wrong use.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
import trio

from raven.cli.backup import data_dir_option
from raven.cli.config import load
from raven.cli.main import config_option
from raven.cli.remote import kind_option, topic_of, venue_option
from raven.cli.serve import PORT, raise_files_limit
from raven.cli.serve import data_dir as configured_dir
from raven.cli.times import TIME_HELP, parse_time
from raven.client.selectors import selector as parse_selector
from raven.errors import StoreError
from raven.model.topic import Kind, Selector
from raven.ops.garbage import spare_what_stays
from raven.ops.logs import configure_logging
from raven.replay_app import Progress, ReplayApp, ReplayOptions
from raven.store.opening import HISTORY_DIR
from raven.store.sqlite.past import ReadOnlyHistory

__all__ = ["replay"]

PORT_DEFAULT = 50052
PROGRESS_S = 0.5


def _speed(_: click.Context, __: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value} is not valid: 0 (flat out) or more")
    return value


@click.command()
@click.argument("symbol", default="*")
@venue_option
@kind_option("")
@click.option("--variant", default="*", help="Interval of candles (1m), depth of book tops (20); else any.")
@click.option("--from", "start", metavar="TIME", help=f"Begin here: {TIME_HELP}. [default: with the first event]")
@click.option("--to", "end", default="now", show_default=True, metavar="TIME", help="End before this.")
@click.option(
    "--speed", type=float, default=1.0, show_default=True, metavar="X", callback=_speed,
    help="1 = as it was, 10 = ten times that, 0 = as fast as the slowest client takes it.",
)  # fmt: skip
@click.option("--suffix", default="-replay", show_default=True, help="Behind the names of venues: sim-replay/BTC-USDT/trade.")
@click.option(
    "--clients", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Begin when N have subscribed."
)
@click.option("--loop", is_flag=True, help="Begin again at the end.")
@click.option("--exit", "leave", is_flag=True, help="End when everything was told; else when the last client has left.")
@click.option("--host", help="The address to listen on.  [server] host, SERVER_HOST")
@click.option("--port", type=PORT, default=PORT_DEFAULT, show_default=True, help="Of gRPC.")
@click.option("--health-port", type=PORT, help="Of the health endpoint; else there is none.")
@data_dir_option
@config_option
@click.pass_context
def replay(
    ctx: click.Context,
    symbol: str,
    venue: str,
    kinds: str,
    variant: str,
    start: str | None,
    end: str,
    speed: float,
    suffix: str,
    clients: int,
    loop: bool,
    leave: bool,
    host: str | None,
    port: int,
    health_port: int | None,
    data_dir: Path | None,
) -> None:
    """Serve the past as if it were live, to any client.

    What a server has kept is played from its data directory, also while it runs: nothing there is written. SYMBOL is a symbol,
    a prefix that ends in "*", venue/symbol, or a topic as it is printed; without it, all. Times and numbers are those of the
    past; venues have a suffix, so that nobody mistakes it.

    \b
    raven replay --from '1h ago' --speed 10
    raven replay BTC-USDT --kind trade,book --from 2026-11-23T10:00 --to 2026-11-23T11:00
    raven tail --server localhost:50052
    """
    loaded = load(ctx, {"server.host": host, "server.port": port})
    configure_logging(loaded.value.log, sys.stderr)
    raise_files_limit()
    now_ns = time.time_ns()
    wanted = _selector(topic_of(symbol, venue), kinds, variant)
    with closing(ReadOnlyHistory((data_dir or configured_dir(loaded)) / HISTORY_DIR)) as history:
        start_ns, end_ns = _range(start, end, now_ns, history)
        options = ReplayOptions((wanted,), start_ns, end_ns, speed, suffix, clients, loop, leave, health_port)
        trio.run(_run, ReplayApp(loaded.value, history, options), options)


def _selector(where: str, kinds: str, variant: str) -> Selector:
    found = parse_selector(where, kinds, variant)
    return Selector(found.venue, found.symbol, frozenset(Kind(int(kind)) for kind in found.kinds), found.variant)


def _range(start: str | None, end: str, now_ns: int, history: ReadOnlyHistory) -> tuple[int, int]:
    """The range as it was asked for, as far as there is anything."""
    end_ns = parse_time(end, now_ns, "--to")
    start_ns = parse_time(start, now_ns, "--from") if start is not None else 0
    if end_ns < start_ns:
        raise click.BadParameter(f"{end!r} is before --from {start!r}", param_hint="'--to'")
    if history.bounds is None:
        raise StoreError("nothing is kept yet: the history is empty")
    first_ns, last_ns = history.bounds
    if end_ns <= first_ns or start_ns > last_ns:
        raise StoreError(f"nothing is kept of that time: there is {_clock(first_ns)} to {_clock(last_ns)}")
    return max(start_ns, first_ns), min(end_ns, last_ns + 1)


async def _run(app: ReplayApp, options: ReplayOptions) -> None:
    async with trio.open_nursery() as nursery:
        address = await nursery.start(_run_app, nursery, app)
        nursery.start_soon(spare_what_stays)
        click.echo(_banner(address, app, options))
        if sys.stderr.isatty():
            nursery.start_soon(_show_progress, app, options)


async def _run_app(nursery: trio.Nursery, app: ReplayApp, *, task_status: trio.TaskStatus[str]) -> None:
    await app.run(task_status=task_status)
    nursery.cancel_scope.cancel()
    click.echo(_result(app.progress()))


def _banner(address: str, app: ReplayApp, options: ReplayOptions) -> str:
    """What is played, how fast, and where."""
    speed = f"{options.speed:g} times as fast" if options.speed not in (0, 1) else "as fast as it was"
    lines = [
        ("gRPC", address),
        ("from", _clock(options.start_ns)),
        ("to", _clock(options.end_ns - 1)),
        ("speed", speed if options.speed else "flat out: as fast as the slowest client takes it"),
        ("topics", f"{len(app.topics)}, of {', '.join(sorted({topic.venue for topic in app.topics}))}"),
    ]
    if options.clients:
        lines.append(
            ("begins", f"when {'a client has' if options.clients == 1 else f'{options.clients} clients have'} subscribed")
        )
    rows = "\n".join(f"  {click.style(f'{name:<8}', bold=True)} {value}" for name, value in lines)
    return f"\nRaven is replaying.\n\n{rows}\n\nIn another shell: raven tail --server {address}\n\nCtrl-C ends it.\n"


async def _show_progress(app: ReplayApp, options: ReplayOptions) -> None:
    """One line on a terminal that is written over."""
    before, before_s = 0, trio.current_time()
    while True:
        await trio.sleep(PROGRESS_S)
        now, now_s = app.progress(), trio.current_time()
        rate = (now.events - before) / (now_s - before_s)
        before, before_s = now.events, now_s
        click.echo(f"\r{_progress_line(now, options, rate)}\x1b[K", err=True, nl=False)


def _progress_line(progress: Progress, options: ReplayOptions, rate: float) -> str:
    if not progress.at_ns:
        return progress.phase
    part = (progress.at_ns - options.start_ns) / max(options.end_ns - options.start_ns, 1)
    told = f"{_clock(progress.at_ns)}  {part:4.0%}  {progress.events:,} events  {rate:,.0f}/s"
    return f"{told}  {progress.clients} clients" + ("  over, until they have left" if progress.phase == "over" else "")


def _result(progress: Progress) -> str:
    to_the_end = progress.phase == "over" or not progress.at_ns
    lines = [f"{progress.events:,} events were told" + ("" if to_the_end else f", up to {_clock(progress.at_ns)}")]
    if progress.skipped.get("no book"):
        lines.append(f"  {progress.skipped['no book']:,} changes of books were not, because the whole book was not kept")
    if progress.skipped.get("unknown"):
        lines.append(f"  {progress.skipped['unknown']:,} were not: a newer Raven wrote them")
    if not progress.complete:
        lines.append("  the history has holes, which were told as gaps")
    return "\n".join(lines)


def _clock(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // 10**6 / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
