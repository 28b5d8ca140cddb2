"""What commands that ask a running server share: which server and how, which topics."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any, TypeVar, cast

import attrs
import click

import raven.client
from raven.client import Client, Reconnect
from raven.model.topic import KINDS

__all__ = ["Server", "ask", "kind_option", "server_option", "topic_of", "venue_option"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@attrs.frozen
class Server:
    """The server that a command asks.

    Attributes:
        target: "host:port".
        tls: how to make sure that it is the one; False = plain.
    """

    target: str
    tls: ssl.SSLContext | bool = False

    def connect(self, reconnect: Reconnect | None = None) -> AbstractAsyncContextManager[Client]:
        """A client of it, and how it comes back; None = as the library does without a word."""
        return raven.client.connect(self.target, tls=self.tls, reconnect=reconnect)


def ask(server: Server, question: Callable[[Client], Coroutine[Any, Any, T]], reconnect: Reconnect | None = None) -> T:
    """What `server` answers."""

    async def main() -> T:
        async with server.connect(reconnect) as client:
            return await question(client)

    return raven.client.run(main)


_server = click.option(
    "--server",
    envvar="RAVEN_SERVER",
    default="localhost:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="The server to ask; also RAVEN_SERVER.",
)
_tls = click.option("--tls", is_flag=True, help="Ask over TLS, as [server.tls] of the server wants it.")
_ca = click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Who signed the server's certificate, in PEM; else whom the system trusts. Implies --tls.",
)


def server_option(command: F) -> F:
    """`--server`, `--tls` and `--ca`, which the command gets as one `server: Server`."""

    @wraps(command)
    def with_server(*args: Any, server: str, tls: bool, ca: str | None, **options: Any) -> Any:
        return command(*args, server=Server(server, _context(ca) if ca else tls), **options)

    return cast(F, _server(_tls(_ca(with_server))))


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        said = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise click.BadParameter(f"{ca!r}: {said}", param_hint="'--ca'") from error


venue_option = click.option("--venue", default="*", metavar="VENUE", help="One venue; else all.")


def kind_option(default: str) -> Callable[[F], F]:
    """`--kind trade,quote`; an empty default means all kinds."""
    shown = default or "all"
    return click.option(
        "--kind", "kinds", default=default, metavar="KIND,...", help=f"Of {', '.join(KINDS)}. [default: {shown}]"
    )


def topic_of(symbol: str, venue: str) -> str:
    """What the client library takes, from what the command line has: SYMBOL may name its venue, or be a whole topic."""
    return symbol if "/" in symbol else f"{venue}/{symbol}"
