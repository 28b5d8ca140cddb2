"""`raven tail`: print events as they come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import click

import raven.client
from raven.cli.remote import kind_option, server_option, topic_of, venue_option
from raven.cli.render import event_json, event_line, worth_a_line
from raven.codec.generated.raven import v1

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
    symbol: str, venue: str, kinds: str, variant: str, as_json: bool, limit: int | None, images: bool, server: str
) -> None:
    """Print events as they come.

    SYMBOL is a symbol, a prefix that ends in "*", or venue/symbol; without it, all.

    \b
    raven tail
    raven tail BTC-USDT --kind trade
    raven tail 'BTC-*' --venue binance-spot --kind trade,quote,book
    """
    show = event_json if as_json else event_line
    shown = (lambda _event: True) if as_json else worth_a_line

    async def main() -> None:
        left = limit
        async with raven.client.connect(server) as client:
            where = topic_of(symbol, venue)
            events = client.stream(where, kinds=kinds, variant=variant, images=images, on_subscribed=_say_what_matches)
            async with aclosing(events):
                async for event in events:
                    if not shown(event):
                        continue
                    click.echo(show(event))
                    if left is not None:
                        left -= 1
                        if not left:
                            return

    raven.client.run(main)


def _say_what_matches(results: Sequence[v1.SubscribeResponseResult]) -> None:
    """A pattern may match nothing yet; without a word that would look like a market that sleeps."""
    if not any(result.topics for result in results):
        click.echo("raven: nothing matches yet, waiting for it (`raven topics` lists what there is)", err=True)
