"""Raven as its users run it: processes, ports, files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import trio

from tests.ports import free_port

START_S = 30.0
END_S = 20.0


def raven_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raven.cli.main", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would configure Raven."""
    ours = ("RAVEN_", "SERVER_", "HEALTH_", "METRICS_", "RUST_", "REDIS_", "INFLUXDB_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}


@asynccontextmanager
async def process(
    command: Sequence[str], ready: Callable[[str], bool] = lambda _line: True, *, cwd: Path | None = None, **env: str
) -> AsyncIterator[trio.Process]:
    """A process, from the line of its output that shows that it is ready until the block is left: then SIGTERM, and it goes."""
    started = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd, env=environment(**env)
    )
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        try:
            with trio.fail_after(START_S):
                await nursery.start(_read_lines, started, lines, ready)
            yield started
            if started.returncode is None:
                started.send_signal(signal.SIGTERM)
            with trio.fail_after(END_S):
                await started.wait()
        except BaseException:
            print("".join(lines))  # what the process said, beside the failure
            raise
        finally:
            if started.returncode is None:
                started.kill()
            with trio.CancelScope(shield=True):
                await started.wait()
            nursery.cancel_scope.cancel()


async def _read_lines(
    started: trio.Process,
    lines: list[str],
    ready: Callable[[str], bool],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    assert started.stdout is not None
    rest, told = "", False
    async for chunk in started.stdout:
        *whole, rest = (rest + chunk.decode(errors="replace")).split("\n")
        for line in whole:
            lines.append(line + "\n")
            if not told and ready(line):
                told = True
                task_status.started()
    if not told:
        raise AssertionError("the process ended before it was ready:\n" + "".join(lines))


class Server:
    """Ports of a `raven serve` process."""

    def __init__(self) -> None:
        self.port, self.health_port, self.metrics_port = free_port(), free_port(), free_port()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> dict[str, str]:
        """As the environment has them."""
        return {"SERVER_PORT": str(self.port), "HEALTH_PORT": str(self.health_port), "METRICS_PORT": str(self.metrics_port)}

    @asynccontextmanager
    async def running(self, config: Path | None = None, **env: str) -> AsyncIterator[trio.Process]:
        arguments = ["--config", str(config)] if config else []
        cwd = config.parent if config else None
        command = raven_command("serve", *arguments)
        with TemporaryDirectory() as data:
            env = {**self.ports, "RAVEN_DATA_DIR": data, **env}
            async with process(command, lambda line: "Ctrl-C ends it" in line, cwd=cwd, **env) as started:
                yield started

    async def get(self, path: str) -> httpx.Response:
        port = self.metrics_port if path == "/metrics" else self.health_port
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{port}{path}")


async def run_command(*arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """One `raven` command to its end."""
    with trio.fail_after(START_S):
        return await trio.run_process(
            raven_command(*arguments), capture_stdout=True, capture_stderr=True, check=False, env=environment(**env)
        )
