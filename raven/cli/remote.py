"""What commands that ask a running server share: which server, which topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from raven.model.topic import KINDS

__all__ = ["kind_option", "server_option", "topic_of", "venue_option"]

F = TypeVar("F", bound=Callable[..., Any])

server_option = click.option(
    "--server",
    envvar="RAVEN_SERVER",
    default="localhost:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="The server to ask; also RAVEN_SERVER.",
)
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
