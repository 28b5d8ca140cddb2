"""`raven feeds`: list, start and stop the feeds of a running server."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from raven.cli.remote import Server, ask, server_option
from raven.cli.render import plain, time_text
from raven.cli.style import table
from raven.client import Client, selector
from raven.codec.generated.raven import v1

__all__ = ["feeds"]

HEADER = ("FEED", "STATE", "ADAPTER", "SYMBOLS", "EVENTS", "BAD FRAMES", "RECONNECTS", "LAST FRAME", "")
STATE_COLOURS = {"live": "green", "failed": "red", "stopped": "yellow"}

symbols_argument = click.argument("symbols", nargs=-1)
kinds_option = click.option("--kind", "kinds", default="", metavar="KIND,...", help="Which topics of the symbols.")
variant_option = click.option("--variant", default="", help="Interval of candles (1m).")


@click.group(invoke_without_command=True)
@server_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a feed.")
@click.pass_context
def feeds(ctx: click.Context, server: Server, as_json: bool) -> None:
    """List the feeds of a running server; with a command, start and stop them, or single topics, while it runs."""
    if ctx.invoked_subcommand is None:
        _print(ask(server, Client.feeds), as_json)
    ctx.obj = server


@feeds.command()
@click.argument("name")
@symbols_argument
@kinds_option
@variant_option
@click.pass_obj
def start(server: Server, name: str, symbols: Sequence[str], kinds: str, variant: str) -> None:
    """Start the feed NAME as it is configured, or add SYMBOLS with --kind to it. What runs already goes on untouched.

    \b
    raven feeds start binance-spot
    raven feeds start binance-spot SOL-USDT --kind trade,book
    """
    if symbols and not kinds:
        raise click.UsageError("SYMBOLS need --kind, as in --kind trade,quote")
    topics = [selector(f"{name}/{symbol}", kinds, variant) for symbol in symbols]
    _print([ask(server, lambda client: client.start_feed(name, topics))], as_json=False)


@feeds.command()
@click.argument("name")
@symbols_argument
@kinds_option
@variant_option
@click.pass_obj
def stop(server: Server, name: str, symbols: Sequence[str], kinds: str, variant: str) -> None:
    """Stop the feed NAME, or take only SYMBOLS from it (patterns like 'BTC-*' are fine; --kind narrows it)."""
    if kinds and not symbols:
        raise click.UsageError("--kind needs SYMBOLS; '*' means all")
    topics = [selector(f"{name}/{symbol}", kinds, variant or "*") for symbol in symbols]
    _print([ask(server, lambda client: client.stop_feed(name, topics))], as_json=False)


def _print(found: Sequence[v1.Feed], as_json: bool) -> None:
    if as_json:
        for feed in found:
            click.echo(json.dumps(plain(feed)))
    elif found:
        click.echo(table([_row(feed) for feed in found], HEADER))
    else:
        click.echo("no feeds")


def _row(feed: v1.Feed) -> tuple[str, ...]:
    state = (feed.state.name or "?").lower()
    return (
        feed.name,
        click.style(state, fg=STATE_COLOURS.get(state, "yellow")),
        f"{feed.adapter} {feed.adapter_version}",
        str(len({topic.symbol for topic in feed.topics})),
        str(feed.events),
        str(feed.decode_errors),
        str(feed.reconnects),
        time_text(feed.last_frame_ts_ns)[:8],
        feed.reason,
    )
