"""`raven doctor`: what would keep the server from starting, one line each, with the fix."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import attrs
import click

from raven import __version__
from raven.adapter import find_adapters
from raven.adapter.registry import check_adapter
from raven.cli.config import load
from raven.cli.main import config_option
from raven.cli.style import FAIL, OK
from raven.config import Config, LoadedConfig, resolve_feeds
from raven.errors import RavenError
from raven.ops.sockets import bind_socket
from raven.speedups import missing

__all__ = ["doctor"]

PYTHONS = ((3, 11), (3, 13))


@attrs.frozen
class Finding:
    """One line: what was looked at, and the fix when it is not well."""

    what: str
    fix: str = ""


@click.command()
@config_option
@click.pass_context
def doctor(ctx: click.Context) -> int:
    """Look at everything that the server needs. Exits 1 when something is missing."""
    findings = []
    for finding in _findings(ctx):
        findings.append(finding)
        click.echo(f"{FAIL} {finding.what}: {finding.fix}" if finding.fix else f"{OK} {finding.what}")
    return int(any(finding.fix for finding in findings))


def _findings(ctx: click.Context) -> Iterator[Finding]:
    yield _python()
    yield _speedups()
    yield from _adapters()
    try:
        loaded = load(ctx)
    except RavenError as error:
        yield Finding("config", str(error))
        return
    yield Finding(f"config: {loaded.path or 'no file, the defaults'}")
    yield from _feeds(loaded)
    yield from _tls(loaded.value)
    yield from _ports(loaded.value)
    yield _data_dir(loaded)
    yield from _log_file(loaded.value)


def _python() -> Finding:
    low, high = PYTHONS
    found = f"Python {sys.version.split()[0]}, Raven {__version__}"
    fix = (
        ""
        if low <= sys.version_info[:2] <= high
        else "Raven runs on Python 3.11 to 3.13: make the environment with one of them"
    )
    return Finding(found, fix)


def _speedups() -> Finding:
    """No reason not to start: without them the same happens, slower."""
    return Finding("speedups: " + (f"none, Raven runs without them, slower: {missing}" if missing else "compiled"))


def _adapters() -> Iterator[Finding]:
    entries = find_adapters()
    if not entries:
        yield Finding("adapters", "none is installed: pip install raven-sim")
    for entry in entries.values():
        what = f"adapter {entry.name}: {entry.distribution} {entry.version}"
        try:
            check_adapter(entry)
        except RavenError as error:
            yield Finding(what, str(error))
        else:
            yield Finding(what)


def _feeds(loaded: LoadedConfig) -> Iterator[Finding]:
    try:
        feeds = resolve_feeds(loaded.value, loaded.provenance)
    except RavenError as error:
        yield Finding("feeds", str(error))
        return
    yield Finding("feeds: " + (", ".join(feed.spec.name for feed in feeds if not feed.refused) or "none"))
    yield from (Finding(f"feed {feed.spec.name}", feed.refused) for feed in feeds if feed.refused)


def _tls(config: Config) -> Iterator[Finding]:
    files = config.server.tls
    if files.cert_file and files.key_file:
        from raven.grpc.tls import load_tls

        what = f"TLS: {files.cert_file}"
        try:
            load_tls(files.cert_file, files.key_file)
        except RavenError as error:
            yield Finding(what, str(error))
        else:
            yield Finding(what)


def _ports(config: Config) -> Iterator[Finding]:
    wanted = (
        (config.server.host, config.server.port, "gRPC", "server.port"),
        (config.health_host, config.health.port, "health", "health.port"),
        (config.metrics_host, config.metrics.port, "metrics", "metrics.port"),
    )
    held = []  # open until all have been tried, so that two that share a port are found out
    for host, port, what, key in wanted:
        try:
            held.append(bind_socket(host, port, what, key))
        except RavenError as error:
            yield Finding(f"{what} on {host}:{port}", str(error))
        else:
            yield Finding(f"{what} on {host}:{port}")
    for sock in held:
        sock.close()


def _data_dir(loaded: LoadedConfig) -> Finding:
    """Nothing is made; where there is none yet, it is asked of where it would be made."""
    from raven.cli.serve import data_dir
    from raven.store import has_room

    path = data_dir(loaded).absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    try:
        room = has_room(there)
    except RavenError as error:
        return Finding(f"data directory {path}", str(error))
    return Finding(f"data directory {path}", "" if room else "its disk is full, and nothing is kept before there is room")


def _log_file(config: Config) -> Iterator[Finding]:
    path = config.log.file
    if path is not None:
        place = path if path.exists() else path.parent
        writable = os.access(place, os.W_OK) and not path.is_dir()
        yield Finding(f"log file {path}", "" if writable else f"{place} cannot be written: set [log] file or RAVEN_LOG_FILE")
