"""`raven serve`: start the server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import trio

from raven.app import Addresses, App
from raven.cli.config import load
from raven.cli.main import config_option
from raven.cli.style import table
from raven.config import LoadedConfig, ResolvedFeed, resolve_feeds
from raven.errors import AdapterRefused
from raven.ops.garbage import spare_what_stays
from raven.ops.logs import configure_logging

try:
    import resource
except ImportError:  # Windows, where there is no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["serve"]

DATA_DIR_NAME = "raven-data"

PORT = click.IntRange(0, 65535)


@click.command()
@config_option
@click.option("--host", help="The address to listen on.  [server] host, SERVER_HOST")
@click.option("--port", type=PORT, help="Of gRPC.  [server] port, SERVER_PORT")
@click.option("--health-port", type=PORT, help="Of the health endpoint.  [health] port, HEALTH_PORT")
@click.option("--metrics-port", type=PORT, help="Of the Prometheus endpoint.  [metrics] port, METRICS_PORT")
@click.option("--log", "level", metavar="LEVEL", help='"debug", or by logger: "info,raven.feed=debug".  [log] level, RAVEN_LOG')
@click.pass_context
def serve(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    health_port: int | None,
    metrics_port: int | None,
    level: str | None,
) -> None:
    """Start the server. Without a configuration it serves a simulated venue on this machine.

    Ctrl-C or SIGTERM lets clients leave and then ends it; a second one ends it at once.
    """
    flags = {
        "server.host": host,
        "server.port": port,
        "health.port": health_port,
        "metrics.port": metrics_port,
        "log.level": level,
    }
    loaded = load(ctx, flags)
    configure_logging(loaded.value.log, sys.stderr)
    raise_files_limit()
    feeds = resolve_feeds(loaded.value, loaded.provenance)
    _check_usable(feeds)
    trio.run(_run, loaded, feeds)


def _check_usable(feeds: Sequence[ResolvedFeed]) -> None:
    """Raises AdapterRefused where no feed has an adapter that can be used; the others are named before it."""
    refused = list(dict.fromkeys(feed.refused for feed in feeds))
    if refused and "" not in refused:
        for text in refused[:-1]:
            click.echo(f"raven: {text}", err=True)
        raise AdapterRefused(refused[-1])


def raise_files_limit() -> None:
    """As many open files as this process may have: every client is one, and systems begin with as few as 1,024."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS names a hard limit that it does not allow
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(loaded: LoadedConfig, feeds: tuple[ResolvedFeed, ...]) -> None:
    async with trio.open_nursery() as beside:
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(App(loaded.value, feeds, data_dir(loaded)).run)
            click.echo(_banner(loaded, feeds, addresses))
            beside.start_soon(spare_what_stays)
        beside.cancel_scope.cancel()


def data_dir(loaded: LoadedConfig) -> Path:
    """Where what outlives the server stands: as configured, or beside the configuration file, or here."""
    return loaded.value.data.dir or (loaded.path.parent if loaded.path else Path()) / DATA_DIR_NAME


def _carried(feed: ResolvedFeed) -> str:
    """Its symbols, or that there will be nothing of it; why was logged when it was parked."""
    symbols = dict.fromkeys(topic.symbol for topic in feed.spec.topics)
    return f"parked: the adapter {feed.entry.name!r} cannot be used" if feed.refused else ", ".join(symbols)


def _banner(loaded: LoadedConfig, feeds: tuple[ResolvedFeed, ...], addresses: Addresses) -> str:
    """Where everything is, and what to type next."""
    carried = [f"{feed.spec.name} ({_carried(feed)})" for feed in feeds]
    elsewhere = "" if addresses.grpc.endswith(":50051") else f" --server {addresses.grpc}"
    lines = [
        ("gRPC", addresses.grpc),
        ("health", f"http://{addresses.health}/health"),
        ("metrics", f"http://{addresses.metrics}/metrics"),
        ("feeds", "; ".join(carried) or "none"),
        ("data", f"{data_dir(loaded)} (history: {loaded.value.history.backend})"),
        ("config", str(loaded.path or "defaults and environment")),
    ]
    rows = "\n".join(f"  {click.style(f'{name:<8}', bold=True)} {value}" for name, value in lines)
    program = "raven" if shutil.which("raven") else os.path.relpath(sys.argv[0])
    commands = [(f"{program} tail{elsewhere}", "events as they come"), (f"{program} topics{elsewhere}", "what there is")]
    following = table([(f"  {command}", click.style(what, dim=True)) for command, what in commands])
    return f"\nRaven is serving.\n\n{rows}\n\nNext, in another shell:\n\n{following}\n\nCtrl-C ends it.\n"
