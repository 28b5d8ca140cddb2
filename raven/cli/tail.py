"""`raven tail`: print events as they come, across broken connections and restarts of the server.

Exit codes: 0 after --limit events, or when whoever reads the output has gone; 1 the server is not there at the start, will not
give it, or does not want this client back; 2 a wrong use of the command line; 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Callable

import click

import raven.client
from raven.cli.remote import Server, kind_option, server_option, topic_of, venue_option
from raven.cli.render import event_json, event_line, worth_a_line
from raven.client import Change, Connected, Lost, Moving, Refused, StreamEvent, Subscribed

__all__ = ["tail"]


@click.command()
@click.argument("symbol", default="*")
@venue_option
@kind_option("trade,quote")
@click.option("--variant", default="", help="Interval of candles (1m), depth of book tops (20); '*' = any.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
@click.option("--images/--no-images", default=True, help="Begin with the latest state of each topic.")
@server_option
def tail(
    symbol: str, venue: str, kinds: str, variant: str, as_json: bool, limit: int | None, images: bool, server: Server
) -> None:
    """Print events as they come.

    SYMBOL is a symbol, a prefix that ends in "*", venue/symbol, or a topic as it is printed; without it, all. When the
    connection is lost, it is made again, and what was missed comes, or a GAP says what will not.

    \b
    raven tail
    raven tail BTC-USDT --kind trade
    raven tail binance-spot/BTC-USDT/trade
    raven tail 'BTC-*' --venue binance-spot --kind trade,quote,book
    raven tail --server md.example.com:50051 --tls --ca ca.pem

    Exit codes: 0 after --limit events, 1 an error, 2 a wrong use, 130 interrupted.
    """
    show = event_json if as_json else event_line
    shown = _everything if as_json else worth_a_line

    where = topic_of(symbol, venue)
    raven.client.selector(where, kinds, variant)  # what cannot be is told without a server

    async def main() -> None:
        async with server.connect() as client:
            await _print(client.stream(where, kinds=kinds, variant=variant, images=images, on_change=_say), show, shown, limit)

    raven.client.run(main)


async def _print(
    events: raven.client.EventStream,
    show: Callable[[StreamEvent], str],
    shown: Callable[[StreamEvent], bool],
    limit: int | None,
) -> None:
    left = limit
    async for event in events:
        if not shown(event):
            continue
        click.echo(show(event))
        if left is not None:
            left -= 1
            if not left:
                return


def _everything(_: StreamEvent) -> bool:
    return True


def _say(change: Change) -> None:
    """What becomes of the connection, for people; a pattern that matches nothing would look like a market that sleeps."""
    if isinstance(change, Subscribed) and not any(result.topics for result in change.results):
        _note("nothing matches yet, waiting for it (`raven topics` lists what there is)")
    elif isinstance(change, Lost):
        _note(f"{change.reason}; trying again in {change.retry_s:.1f} s")
    elif isinstance(change, Connected) and change.streams > 1:
        _note("connected again")
    elif isinstance(change, Moving):
        _note("the server is going away" + (f": {change.reason}" if change.reason else ""))
    elif isinstance(change, Refused):
        _note(f"refused for now: {change.text}")


def _note(text: str) -> None:
    click.echo(f"raven: {text}", err=True)
