"""InfluxDB as a history: how many points a second our way to it writes, and how many influxd itself takes of prebuilt lines.

`measure(events)` needs influxd and nginx, as the tests do (`tests/store/influx/servers.py`), and prints three rates:

    prebuilt    lines that were made before, 5,000 a request, gzip, one connection, straight to influxd's own /write
    made        our lines alone: blocks into points, compressed, into the spool; nothing is sent. It gives way to other threads
                every 24 events, so this is what it takes beside clients, not flat out
    written     blocks to points in the database by the whole way: lines, spool, influxdb-client, nginx, influxd
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import httpx
import trio

from raven.client.decode import Decoder
from raven.store.blocks import Block
from raven.store.config import HistoryConfig
from raven.store.influx import InfluxHistory, open_influx_history
from raven.store.influx.points import PointWriter

# The servers are those of the tests. Last, so that nothing of theirs can hide another module.
sys.path.append(str(Path(__file__).parents[1]))

from tests.store.influx.samples import START_NS, trades_block
from tests.store.influx.servers import InfluxServer, influx_server, missing

__all__ = ["Rates", "measure"]

LINES = 5_000
BLOCK_EVENTS = 1_000
STEP_NS = 20_000


@attrs.frozen
class Rates:
    """Points, or events, a second. `prebuilt` and `made` count trades; `written` counts trades, whose blocks go with them."""

    prebuilt: float
    made: float
    written: float


def measure(events: int = 200_000) -> Rates | None:
    """Measure and print; None, and a reason printed, where a part is not installed."""
    reason = missing()
    if reason:
        print(f"InfluxDB: not measured: {reason}")
        return None
    blocks = list(_blocks(events))
    with tempfile.TemporaryDirectory() as directory, influx_server(Path(directory)) as server:
        rates = Rates(
            _prebuilt(server, blocks, events), _made(server, blocks, events), trio.run(_written, server, blocks, events)
        )
    print(f"influxd 1.6.7, prebuilt lines, {LINES} a request: {rates.prebuilt:,.0f} points/s")
    print(f"lines made and spooled: {rates.made:,.0f} events/s; the whole way into influxd: {rates.written:,.0f} events/s")
    return rates


def _blocks(events: int) -> Iterator[Block]:
    for first in range(0, events, BLOCK_EVENTS):
        yield trades_block(min(BLOCK_EVENTS, events - first), START_NS + first * STEP_NS, first + 1, STEP_NS)


def _prebuilt(server: InfluxServer, blocks: Sequence[Block], events: int) -> float:
    server.create("prebuilt")
    decoder, points = Decoder(), PointWriter()
    lines = [points.line(event) for block in blocks for event in decoder.decode(block.elements).events]
    bodies = [gzip.compress("\n".join(lines[at : at + LINES]).encode(), 1) for at in range(0, len(lines), LINES)]
    with httpx.Client(base_url=f"http://127.0.0.1:{server.http}", timeout=30, trust_env=False) as client:
        began = time.perf_counter()
        for body in bodies:
            answer = client.post("/write", params={"db": "prebuilt"}, content=body, headers={"Content-Encoding": "gzip"})
            answer.raise_for_status()
        return events / (time.perf_counter() - began)


def _config(server: InfluxServer, database: str) -> HistoryConfig:
    server.create(database)
    return HistoryConfig(backend="influxdb", influxdb=(server.config(database, timeout_s=30.0),))


def _made(server: InfluxServer, blocks: Sequence[Block], events: int) -> float:
    history = InfluxHistory(_config(server, "made"), server.directory / "made")
    began = time.perf_counter()
    for block in blocks:
        history.write([block], [])
    took = time.perf_counter() - began
    history.close()
    return events / took


async def _written(server: InfluxServer, blocks: Sequence[Block], events: int) -> float:
    config = _config(server, "written")
    async with open_influx_history(config, server.directory / "written") as history:
        began = time.perf_counter()
        for at in range(0, len(blocks), 10):
            await trio.to_thread.run_sync(history.write, blocks[at : at + 10], [])
        await history.flush()
        took = time.perf_counter() - began
    count = server.count("trades", "price", "written")
    if count != events:
        raise AssertionError(f"{count} points of {events} are in the database")
    return events / took


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:]))
