"""`raven topics`, `raven latest`, `raven instruments`: what a running server has."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

import raven.client
from raven.cli.remote import Server, kind_option, server_option, topic_of, venue_option
from raven.cli.render import event_json, event_line, plain, status_text, time_text, topic_text, worth_a_line
from raven.cli.style import table
from raven.client import StreamEvent
from raven.codec.generated.raven import v1

__all__ = ["instruments", "latest", "topics"]

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.command()
@click.argument("symbol", default="*")
@venue_option
@kind_option("")
@json_option
@server_option
def topics(symbol: str, venue: str, kinds: str, as_json: bool, server: Server) -> None:
    """List the topics of a running server, with their status."""

    async def ask() -> list[v1.ListTopicsResponseEntry]:
        async with server.connect() as client:
            return await client.topics(topic_of(symbol, venue), kinds=kinds)

    entries = raven.client.run(ask)
    if as_json:
        for entry in entries:
            click.echo(json.dumps(_topic_document(entry)))
    else:
        rows = [_topic_row(entry) for entry in entries]
        _print(rows, ("TOPIC", "STATUS", "SINCE", "SEQUENCE", "SUBSCRIBERS"), "no such topics")


@click.command()
@click.argument("symbol", default="*")
@venue_option
@kind_option("")
@click.option("--variant", default="*", help="Interval of candles (1m), depth of book tops (20); '*' = any.")
@json_option
@server_option
def latest(symbol: str, venue: str, kinds: str, variant: str, as_json: bool, server: Server) -> None:
    """Print the latest value of topics, with their status."""

    async def ask() -> list[StreamEvent]:
        async with server.connect() as client:
            return await client.latest(topic_of(symbol, venue), kinds=kinds, variant=variant)

    show = event_json if as_json else event_line
    events = raven.client.run(ask)
    if not events:
        click.echo("no such topics", err=True)
    for event in events:
        if as_json or worth_a_line(event):
            click.echo(show(event))


@click.command()
@click.argument("symbol", default="*")
@venue_option
@json_option
@server_option
def instruments(symbol: str, venue: str, as_json: bool, server: Server) -> None:
    """List what can be traded, with its exact increments."""
    where = topic_of(symbol, venue).partition("/")

    async def ask() -> list[v1.Instrument]:
        async with server.connect() as client:
            return await client.instruments(where[0], where[2])

    found = raven.client.run(ask)
    if as_json:
        for instrument in found:
            click.echo(json.dumps(plain(instrument)))
    else:
        header = ("VENUE", "SYMBOL", "VENUE SYMBOL", "TYPE", "STATUS", "PRICE STEP", "SIZE STEP", "SIZE UNIT")
        _print([_instrument_row(instrument) for instrument in found], header, "no such instruments")


def _print(rows: Sequence[Sequence[str]], header: Sequence[str], nothing: str) -> None:
    click.echo(table(rows, header) if rows else nothing)


def _topic_row(entry: v1.ListTopicsResponseEntry) -> tuple[str, ...]:
    status = entry.status or v1.TopicStatus()
    since = time_text(status.since_ts_ns)[:8]
    return topic_text(entry.topic), status_text(status), since, str(entry.sequence), str(entry.subscribers)


def _topic_document(entry: v1.ListTopicsResponseEntry) -> dict[str, object]:
    status = entry.status or v1.TopicStatus()
    return {
        "topic": topic_text(entry.topic),
        "state": (status.state.name or "").lower(),
        "cause": (status.cause.name or "").lower(),
        "text": status.text,
        "since_ts_ns": status.since_ts_ns,
        "epoch": entry.epoch,
        "sequence": entry.sequence,
        "subscribers": entry.subscribers,
    }


def _instrument_row(instrument: v1.Instrument) -> tuple[str, ...]:
    return (
        instrument.venue,
        instrument.symbol,
        instrument.venue_symbol,
        (instrument.type.name or "").lower(),
        (instrument.status.name or "").lower(),
        instrument.price_increment or "-",
        instrument.size_increment or "-",
        (instrument.size_unit.name or "").lower(),
    )
