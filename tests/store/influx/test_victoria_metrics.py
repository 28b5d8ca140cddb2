"""VictoriaMetrics takes what we write, by the same library and path. It keeps numbers only, and has no InfluxQL."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from raven.errors import StoreError
from raven.model.topic import Topic
from raven.store.blocks import Block, TimeRange
from raven.store.config import HistoryConfig, InfluxConfig
from raven.store.influx import open_influx_history
from tests.ports import free_port
from tests.store.influx.samples import PAYLOADS, TRADES, block_of, event, trades_block
from tests.store.influx.servers import STARTS_S

VICTORIA_METRICS = shutil.which("victoria-metrics")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server, as long as the test."""
    if VICTORIA_METRICS is None:
        pytest.skip("not installed: victoria-metrics 1.112 (Debian trixie)")
    url = f"http://127.0.0.1:{free_port()}"
    command = [VICTORIA_METRICS, f"-httpListenAddr={url.removeprefix('http://')}", f"-storageDataPath={tmp_path / 'vm'}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"{url}/health")
            yield url
        finally:
            process.kill()


def wait_for(url: str) -> None:
    end_s = time.monotonic() + STARTS_S
    while time.monotonic() < end_s:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.01)  # a process that starts gives no other sign
    raise TimeoutError(url)


def prices(url: str) -> list[float]:
    """Of all trades, as soon as they are visible."""
    end_s = time.monotonic() + STARTS_S
    found: list[float] = []
    while len(found) < 502 and time.monotonic() < end_s:
        httpx.get(f"{url}/internal/force_flush", trust_env=False).raise_for_status()
        text = httpx.get(f"{url}/api/v1/export", params={"match[]": "trades_price"}, trust_env=False).text
        found = [price for line in text.splitlines() for price in json.loads(line)["values"]]
    return found


def test_everything_is_taken_and_no_two_points_collapse(url: str, tmp_path: Path) -> None:
    now_ns = time.time_ns() - 60 * 1_000_000_000
    topics = [Topic("sim", "BTC-USDT", kind, variant) for kind, variant, _ in PAYLOADS]
    every = [
        block_of(topic, [event(topic, payload, now_ns)], number)
        for number, (topic, (_, _, payload)) in enumerate(zip(topics, PAYLOADS, strict=True), 1)
    ]
    trio.run(write, url, tmp_path, [*every, trades_block(500, now_ns, first=100, step_ns=0)])
    assert len(prices(url)) == 502
    names = httpx.get(f"{url}/api/v1/label/__name__/values", trust_env=False).json()["data"]
    assert {"quotes_bid_price", "candles_close", "book_top_ask_depth", "status_state_code", "funding_rate"} <= set(names)


async def write(url: str, directory: Path, blocks: list[Block]) -> None:
    config = HistoryConfig(backend="influxdb", influxdb=(InfluxConfig(url, name="vm"),))
    with trio.fail_after(20):
        async with open_influx_history(config, directory) as history:
            await trio.to_thread.run_sync(history.write, blocks, [])
            await history.flush()
            [endpoint] = history.endpoints()
            assert (endpoint.spool_points, endpoint.points_rejected, endpoint.reason) == (0, 0, "")
            with pytest.raises(StoreError, match="history endpoint vm: "):
                await trio.to_thread.run_sync(lambda: list(history.blocks(TRADES, TimeRange(0, 2**62))))
