"""A server that is started on a disk that is full, or that may not be written, with real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trio

from tests.disks import fill, remount, small_tmpfs
from tests.e2e.processes import run_command
from tests.e2e.test_latest import DEAD_FEED, LIVE_FEED, House, check_old, images, killed, latest, metric, until_stored


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "disk", 4096) as mounted:
        yield mounted


async def until(house: House, name: str, value: float) -> None:
    """The metric is so."""
    with trio.fail_after(20):
        while await metric(house, name) != value:
            await trio.lowlevel.checkpoint()  # a server has no other way to tell


async def test_a_server_starts_on_a_full_disk_and_keeps_everything_when_there_is_room(tmp_path: Path, disk: Path) -> None:
    house = House(tmp_path, RAVEN_DATA_DIR=str(disk / "data"), RAVEN_HISTORY_COMMIT_S="0.1")
    async with house.server.running(house.config(LIVE_FEED), **house.env) as process:
        with grpc.insecure_channel(house.server.target) as channel:
            before = images(await until_stored(channel, house))
            await killed(process)
    ballast = fill(disk)
    async with house.server.running(house.config(DEAD_FEED), **house.env) as process:
        with grpc.insecure_channel(house.server.target) as channel:
            await until(house, "raven_history_failing", 1)
            await until(house, "raven_cache_up", 0)
            assert (await house.server.get("/health/ready")).status_code == 200
            states = (await house.server.get("/health")).json()["components"]
            assert (states["history"]["state"], states["cache"]["state"]) == ("degraded", "degraded")
            ballast.unlink()
            await until(house, "raven_history_failing", 0)
            await until(house, "raven_cache_up", 1)
            check_old(before, await latest(channel))
            assert "raven_history_lost_events_total{" not in (await house.server.get("/metrics")).text
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_data_directory_that_may_not_be_written_ends_the_start_with_one_line(disk: Path) -> None:
    data = disk / "data"
    remount(disk, "ro")
    ended = await run_command("serve", RAVEN_DATA_DIR=str(data), SERVER_PORT="0", HEALTH_PORT="0", METRICS_PORT="0")
    assert (ended.returncode, ended.stdout) == (1, b"")
    expected = f"raven: data.dir: {data} cannot be used: Read-only file system; valid: a directory that can be written"
    assert ended.stderr.decode() == f"{expected}\n"
