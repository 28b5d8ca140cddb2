"""`raven health`: ask a running server how it is."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import click
import httpx

from raven.cli.config import load
from raven.cli.main import config_option
from raven.cli.style import FAIL, OK, table
from raven.config import Config
from raven.errors import RavenError

__all__ = ["health"]

TIMEOUT_S = 5.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where a client reaches a server that listens everywhere


@click.command()
@config_option
@click.option("--url", help="Of the health endpoint; else from [health].")
@click.option("--json", "as_json", is_flag=True, help="The document as the server gave it.")
@click.pass_context
def health(ctx: click.Context, url: str | None, as_json: bool) -> int:
    """Ask a running server how it is. Exits 0 when it is healthy or degraded, 1 when not."""
    url = _completed(url) if url else _address(load(ctx).value)
    status, document = _get(url)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=True))
    else:
        _print(document, status == httpx.codes.OK)
    return 0 if status == httpx.codes.OK else 1


def _address(config: Config) -> str:
    host = EVERYWHERE.get(config.health_host, config.health_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.health.port}/health"


def _completed(url: str) -> str:
    """A scheme and a path where `url` has none."""
    url = url if "://" in url else f"http://{url}"
    return url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/health"


def _get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        answer = httpx.get(url, timeout=TIMEOUT_S, trust_env=False)  # a proxy would not find this machine
        document = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RavenError(
            f"no answer from {url}: {error or type(error).__name__}: is the server running? see [health] port"
        ) from error
    except ValueError as error:
        raise RavenError(f"{url} answered {answer.status_code} with something that is no JSON: is this Raven?") from error
    if not isinstance(document, dict):
        raise RavenError(f"{url} answered {answer.status_code} with something that is no health document: is this Raven?")
    return answer.status_code, document


def _print(document: dict[str, Any], good: bool) -> None:
    facts = ", ".join(f"{name} {document[name]}" for name in ("version", "uptime_s", "clients") if name in document)
    click.echo(f"{OK if good else FAIL} {document.get('status', '?')}  {click.style(facts, dim=True)}")
    parts = [(name, part, part.get("state")) for name, part in document.get("components", {}).items()]
    feeds = [(f"feed {name}", part, part.get("status")) for name, part in document.get("feeds", {}).items()]
    if parts or feeds:
        click.echo(table([_row(name, part, condition) for name, part, condition in (*parts, *feeds)]))


def _row(name: str, part: dict[str, str], condition: str | None) -> tuple[str, ...]:
    colour = {"healthy": "green", "degraded": "yellow"}.get(condition or "", "red")
    sign = FAIL if colour == "red" else click.style("✓", fg=colour)
    return sign, name, click.style(part.get("state", "?"), fg=colour), part.get("reason", "")
