"""`raven history`: what a server has kept, for people and as files.

Exit codes: 0 done, also where something is missing, which is said; 1 the server is not there, or its history cannot be
read; 2 a wrong use of the command line; 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import raven.client
from raven.cli.export import FORMATS, Sink, open_sink
from raven.cli.remote import Server, ask, server_option, topic_of, venue_option
from raven.cli.times import TIME_HELP, parse_time
from raven.client import Client, GapEvent, Reconnect
from raven.client.history import CLOCKS, HistoryStream
from raven.model.topic import KINDS, Kind

__all__ = ["history"]

GIVE_UP_S = 10.0
"""A store that cannot be read, or a server that went away, is waited for so long; somebody sits before this."""


@click.command()
@click.argument("symbol", default="*")
@venue_option
@click.option("--kinds", "--kind", default="trade", show_default=True, metavar="KIND,...", help=f"Of {', '.join(KINDS)}.")
@click.option("--variant", default="", help="Interval of candles (1m), depth of book tops (20); '*' = any.")
@click.option("--from", "start", default="1h ago", show_default=True, metavar="TIME", help=f"Begin here: {TIME_HELP}.")
@click.option("--to", "end", default="now", show_default=True, metavar="TIME", help="End before this.")
@click.option(
    "--clock", type=click.Choice(list(CLOCKS)), default="received", help="Whose time: when Raven got it, or the venue's."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How it is written.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Where to; else standard output."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N events.")
@click.option("--speed", type=click.FloatRange(min=0), default=0.0, metavar="X", help="1 = at the pace at which it happened.")
@click.option("--images/--no-images", default=False, help="Begin with the state of each topic at --from.")
@server_option
def history(
    symbol: str,
    venue: str,
    kinds: str,
    variant: str,
    start: str,
    end: str,
    clock: str,
    form: str,
    output: Path | None,
    limit: int | None,
    speed: float,
    images: bool,
    server: Server,
) -> None:
    """Print, or write to a file, what a server has kept.

    SYMBOL is a symbol, a prefix that ends in "*", venue/symbol, or a topic as it is printed; without it, all.

    \b
    raven history BTC-USDT --venue binance-spot --from '2h ago'
    raven history binance-spot/BTC-USDT/book --from 2026-11-23T10:00 --to 2026-11-23T11:00 --images --format json
    raven history 'BTC-*' --kinds trade,quote --from yesterday --to today --format parquet --output btc.parquet

    Exit codes: 0 done, 1 an error, 2 a wrong use, 130 interrupted.
    """
    now_ns = time.time_ns()
    start_ns, end_ns = parse_time(start, now_ns, "--from"), parse_time(end, now_ns, "--to")
    if end_ns < start_ns:
        raise click.BadParameter(f"{end!r} is before --from {start!r}", param_hint="'--to'")
    where = topic_of(symbol, venue)
    selector = raven.client.selector(where, kinds, variant)  # what cannot be is told without a server
    options: dict[str, Any] = {"kinds": kinds, "variant": variant, "start": start_ns, "limit": limit or 0}
    options |= {"end": None if end == "now" else end_ns, "include_image": images, "speed": speed, "clock": clock}
    bar_wanted = sys.stderr.isatty() and not (output is None and sys.stdout.isatty())

    async def read(client: Client) -> None:
        with (
            open_sink(form, output, [Kind(int(kind)) for kind in selector.kinds]) as sink,
            _progress(bar_wanted, start_ns, end_ns, clock) as progress,
        ):
            await _copy(client.history(where, **options), sink, progress)

    ask(server, read, None if speed else Reconnect(give_up_s=GIVE_UP_S))


async def _copy(stream: HistoryStream, sink: Sink, progress: _Progress) -> None:
    count = gaps = 0
    async for batch in stream.batches:
        sink.put(batch.events)
        progress.reached(batch.events[-1])
        missing = sum(isinstance(event, GapEvent) for event in batch.events)
        count, gaps = count + len(batch.events) - missing, gaps + missing
    if not stream.complete:
        _note("not everything is there" + (f": {gaps} gaps, where the events are" if gaps else ""))
    elif not count:
        _note("nothing was kept of that in this time (`raven topics` lists what there is)")


class _Progress:
    """How much of the range is done, on standard error."""

    def __init__(self, bar: Any, start_ns: int, clock: str) -> None:
        self._bar = bar
        self._start_ns = start_ns
        self._venue = clock == "venue"

    def reached(self, event: raven.client.StreamEvent) -> None:
        """Up to this one."""
        if self._bar is not None:
            ts_ns = (self._venue and event.venue_ts_ns) or event.received_ts_ns
            self._bar.update(max((ts_ns - self._start_ns) // 10**6 - self._bar.pos, 0))


@contextmanager
def _progress(wanted: bool, start_ns: int, end_ns: int, clock: str) -> Iterator[_Progress]:
    if not wanted:
        yield _Progress(None, start_ns, clock)
        return
    length = max((end_ns - start_ns) // 10**6, 1)
    with click.progressbar(length=length, label="history", file=sys.stderr, show_eta=True) as bar:
        yield _Progress(bar, start_ns, clock)
        bar.update(length - bar.pos)


def _note(text: str) -> None:
    click.echo(f"raven: {text}", err=True)
