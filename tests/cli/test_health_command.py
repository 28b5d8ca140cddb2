"""`raven health` against the real endpoint."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from raven.cli import health, main
from raven.config import Config, HealthConfig, ServerConfig
from raven.ops.health import Component, Condition, FeedHealth, Phase, ServerHealth
from raven.ops.sockets import bind_socket
from raven.ops.web import health_app, metrics_app, serve_http


@asynccontextmanager
async def served(phase: Phase, condition: Condition = Condition.OK) -> AsyncIterator[int]:
    feed = FeedHealth("sim", "backing_off", "connection refused", condition)
    state = ServerHealth("1.0", 5.0, phase, 2, (Component("broker"),), (feed,))
    sock = bind_socket("127.0.0.1", 0, "test", "health.port")
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, health_app(lambda: state), sock)
        yield port
        nursery.cancel_scope.cancel()


async def command(*arguments: str) -> int:
    return await trio.to_thread.run_sync(main.run, ["health", *arguments])


@pytest.mark.parametrize(
    ("phase", "condition", "code", "first", "row"),
    [
        (Phase.SERVING, Condition.OK, 0, "✓ healthy", "✓  feed sim"),
        (Phase.SERVING, Condition.DEGRADED, 0, "✓ degraded", "✓  feed sim"),
        (Phase.SERVING, Condition.FAILED, 1, "✗ failed", "✗  feed sim"),
        (Phase.DRAINING, Condition.OK, 1, "✗ draining", "✓  feed sim"),
    ],
)
async def test_each_component_and_the_exit_code(
    phase: Phase, condition: Condition, code: int, first: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(phase, condition) as port:
        assert await command("--url", f"127.0.0.1:{port}") == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{first}  version 1.0, uptime_s 5.0, clients 2")
    assert lines[1].split() == ["✓", "broker", "healthy"]
    assert lines[2].startswith(row)
    assert lines[2].endswith("backing_off  connection refused")


async def test_json_and_the_address_from_the_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(Phase.SERVING) as port:
        monkeypatch.setenv("HEALTH_PORT", str(port))
        monkeypatch.setenv("SERVER_HOST", "0.0.0.0")
        assert await command("--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "healthy"


async def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    sock = bind_socket("127.0.0.1", 0, "test", "health.port")
    port = sock.getsockname()[1]
    sock.close()
    assert await command("--url", f"http://127.0.0.1:{port}") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"raven: no answer from http://127.0.0.1:{port}/health: ")
    assert err.count("\n") == 1


async def test_somebody_else_there(capsys: pytest.CaptureFixture[str]) -> None:
    from prometheus_client import CollectorRegistry

    sock = bind_socket("127.0.0.1", 0, "test", "health.port")
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, metrics_app(CollectorRegistry())), sock)
        assert await command("--url", f"http://127.0.0.1:{port}/metrics") == 1
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().err.endswith("answered 200 with something that is no JSON: is this Raven?\n")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("localhost:1", "http://localhost:1/health"),
        ("http://x/", "http://x/health"),
        ("http://x/health/ready", "http://x/health/ready"),
    ],
)
def test_an_address_is_completed(given: str, asked: str) -> None:
    assert health._completed(given) == asked


@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "http://127.0.0.1:8080/health"), ("::", "http://[::1]:8080/health"), ("h", "http://h:8080/health")],
)
def test_a_server_that_listens_everywhere_is_asked_here(host: str, asked: str) -> None:
    assert health._address(Config(server=ServerConfig(host=host), health=HealthConfig())) == asked
