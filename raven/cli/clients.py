"""`raven clients`, `raven disconnect` and `raven drain`: what an operator does about the clients of a running server."""

from __future__ import annotations

import json
import time

import click

from raven.cli.remote import Server, ask, server_option
from raven.cli.render import plain
from raven.cli.style import table
from raven.client import Client
from raven.codec.generated.raven import v1

__all__ = ["clients", "disconnect", "drain"]

HEADER = ("CLIENT", "PEER", "CONNECTED", "TOPICS", "EVENTS", "MISSED", "QUEUED")


@click.command()
@server_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a client.")
def clients(server: Server, as_json: bool) -> None:
    """List the clients of a running server: what they got, what they missed, what waits for them."""
    found = ask(server, Client.clients)
    if as_json:
        for client in found:
            click.echo(json.dumps(plain(client)))
        return
    rows = [tuple(click.style(title, bold=True) for title in HEADER)]
    rows += [_row(client, time.time_ns()) for client in found]
    click.echo(table(rows))


def _row(client: v1.ListClientsResponseClient, now_ns: int) -> tuple[str, ...]:
    return (
        client.client_id,
        client.peer,
        f"{max(0, now_ns - client.connected_since_ts_ns) / 1e9:.0f} s",
        str(client.topics),
        f"{client.events_sent:,}",
        click.style(f"{client.events_missed:,}", fg="yellow" if client.events_missed else None),
        f"{client.bytes_queued:,} B",
    )


@click.command()
@server_option
@click.argument("client_id")
@click.option("--reason", default="", help="What the client is told.")
def disconnect(server: Server, client_id: str, reason: str) -> None:
    """End the stream of CLIENT_ID. It may come back at once: this keeps nobody out."""
    ask(server, lambda client: client.disconnect_client(client_id, reason))
    click.echo(f"{client_id} was disconnected")


@click.command()
@server_option
@click.option(
    "--within", "deadline_s", type=click.FloatRange(0), default=0.0, help="Seconds for clients to leave.  [server] drain_s"
)
def drain(server: Server, deadline_s: float) -> None:
    """Have the server ask its clients to go, wait for them, and end, as SIGTERM does."""
    count = ask(server, lambda client: client.drain(deadline_s))
    click.echo(f"draining: {count} client{'' if count == 1 else 's'} asked to leave")
