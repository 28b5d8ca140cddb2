"""`raven config`: check it, show it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType

import click

from raven.cli.main import config_option, root
from raven.cli.style import FAIL, OK, table
from raven.config import LoadedConfig, load_config, resolve_feeds
from raven.config.secrets import without_secrets

__all__ = ["config", "load"]


def load(ctx: click.Context, flags: Mapping[str, object] = MappingProxyType({})) -> LoadedConfig:
    """The configuration that a command runs with; its warnings go to stderr.

    Args:
        flags: config key to the value of a flag; None = not given.

    Raises:
        ConfigError: it cannot be loaded.
    """
    loaded = load_config(root(ctx).config, os.environ, flags)
    for warning in loaded.warnings:
        click.echo(f"{click.style('raven: warning:', fg='yellow')} {warning}", err=True, color=ctx.color)
    return loaded


@click.group()
def config() -> None:
    """Check and show the configuration."""


@config.command()
@config_option
@click.pass_context
def check(ctx: click.Context) -> int:
    """Check the configuration, its certificate, and that every feed of it has an adapter that can do it."""
    loaded = load(ctx)
    feeds = resolve_feeds(loaded.value, loaded.provenance)
    click.echo(f"{OK} {loaded.path or 'no file: defaults and environment'}")
    files = loaded.value.server.tls
    if files.cert_file and files.key_file:
        from raven.grpc.tls import load_tls

        load_tls(files.cert_file, files.key_file)
        click.echo(f"{OK} TLS: {files.cert_file}")
    for feed in feeds:
        if feed.refused:
            click.echo(f"{FAIL} feed {feed.spec.name}: {feed.refused}")
            continue
        tops = ", and book tops" if feed.book_top else ""
        by = f"{feed.entry.distribution} {feed.entry.version}"
        click.echo(f"{OK} feed {feed.spec.name}: {len(feed.spec.topics)} topics{tops} by {by}")
    return int(any(feed.refused for feed in feeds))


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object: key to value and origin.")
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show every key, its value, and where that came from. Secrets are hidden."""
    rows = [(row.key, without_secrets(row.key, row.value), row.origin) for row in load(ctx).rows()]
    if as_json:
        shown = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
        return
    click.echo(table([(key, _literal(value), _dim(origin)) for key, value, origin in rows], ("KEY", "VALUE", "FROM")))


def _literal(value: object) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=True, default=str)


def _dim(origin: str) -> str:
    return click.style(origin, dim=True) if origin.startswith("default") else origin
