"""`raven emulate`: a venue on this machine, from recorded or generated frames. The emulator itself is the adapter's."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Mapping
from pathlib import Path

import click
import trio

from raven.adapter import Adapter, Emulator, EmulatorOptions, find_adapters
from raven.adapter.registry import check_adapter
from raven.config.feeds import offered_kinds
from raven.errors import AdapterNotFound, RavenError, nearest

__all__ = ["emulate"]

PORT = click.IntRange(0, 65535)


def _speed(_: click.Context, __: click.Parameter, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value} is not valid: 0 (flat out) or more")
    return value


@click.command()
@click.argument("name")
@click.option(
    "--frames", type=click.Path(path_type=Path), help="Recorded frames, one a line; gzip by its name. Else generated."
)
@click.option(
    "--speed",
    type=float,
    default=1.0,
    show_default=True,
    callback=_speed,
    help="1 = as recorded, 10 = ten times that, 0 = flat out.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=PORT, default=0, help="Of the WebSocket; 0 = any free one.")
@click.option("--rest-port", type=PORT, default=0, help="Of the REST endpoint; 0 = any free one.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the generator.")
@click.option("--loop", is_flag=True, help="Begin again at the end of the frames.")
def emulate(name: str, frames: Path | None, speed: float, host: str, port: int, rest_port: int, seed: int, loop: bool) -> None:
    """Play the venue of the adapter NAME on this machine. Ctrl-C ends it."""
    adapter = _adapter(name)
    emulator = adapter.emulator()
    if emulator is None:
        raise RavenError(f"adapter {name!r} has no emulator")
    options = EmulatorOptions(frames, speed, host, port, rest_port, seed, loop)
    trio.run(_run, name, adapter, emulator, options)


def _adapter(name: str) -> Adapter:
    entries = find_adapters()
    if name not in entries:
        raise AdapterNotFound(f"no installed package offers the adapter {name!r}: {nearest(name, entries)}")
    return check_adapter(entries[name])


async def _run(name: str, adapter: Adapter, emulator: Emulator, options: EmulatorOptions) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            leads = await nursery.start(emulator.run, options)
            click.echo(_greeting(name, adapter, leads))
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


def _greeting(name: str, adapter: Adapter, leads: Mapping[str, str]) -> str:
    where = "\n".join(f"  {key:<10} {value}" for key, value in leads.items())
    return f"{name} is emulated at\n{where}\n\nFor raven.toml:\n\n{feed_block(name, adapter, leads)}\nCtrl-C ends it."


def feed_block(name: str, adapter: Adapter, options: Mapping[str, str]) -> str:
    """A [[feeds]] table that leads to the emulator, with all kinds that the adapter has."""
    kinds = [kind.label for kind in sorted(offered_kinds(adapter))]
    lines = [
        "[[feeds]]",
        f"name = {json.dumps(name)}",
        f"adapter = {json.dumps(name)}",
        f"symbols = {json.dumps([adapter.example_symbol])}",
        f"kinds = {json.dumps(kinds)}",
    ]
    if adapter.capabilities.intervals:
        lines.append(f"intervals = {json.dumps([adapter.capabilities.intervals[0]])}")
    lines += ["[feeds.options]", *(f"{key} = {json.dumps(value)}" for key, value in options.items())]
    return "\n".join(lines) + "\n"
