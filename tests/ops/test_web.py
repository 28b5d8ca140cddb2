"""The HTTP endpoints on real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from prometheus_client import CollectorRegistry

from raven.instruments import Instruments
from raven.ops import web
from raven.ops.health import Component, Condition, FeedHealth, Phase, ServerHealth
from raven.ops.sockets import bind_socket
from raven.ops.web import CLOSE_S, App, health_app, metrics_app, serve_http

SERVING = ServerHealth(version="1.2.3", uptime_s=5.0, phase=Phase.SERVING, clients=2)


@asynccontextmanager
async def served(app: App) -> AsyncIterator[httpx.AsyncClient]:
    sock = bind_socket("127.0.0.1", 0, "test", "health.port")
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_http, app, sock)
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            yield client
        nursery.cancel_scope.cancel()


async def test_health_follows_the_state_of_the_server() -> None:
    state = ServerHealth(version="1.2.3", uptime_s=5.0, phase=Phase.STARTING)
    async with served(health_app(lambda: state)) as client:
        seen = []
        for phase in Phase:
            state = ServerHealth(version="1.2.3", uptime_s=5.0, phase=phase)
            paths = ("/health", "/health/live", "/health/ready")
            seen.append([(await client.get(path)).status_code for path in paths])
    assert seen == [[503, 200, 503], [200, 200, 200], [503, 200, 503]]


async def test_health_names_components_and_feeds() -> None:
    state = ServerHealth(
        *("1.2.3", 5.0, Phase.SERVING),
        components=(Component("broker"), Component("grpc", Condition.DEGRADED, "slow")),
        feeds=(FeedHealth("sim", "backoff", "connection refused", Condition.DEGRADED),),
    )
    async with served(health_app(lambda: state)) as client:
        answer = await client.get("/health")
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert body["status"] == "degraded"
    assert body["components"] == {
        "broker": {"state": "healthy", "reason": ""},
        "grpc": {"state": "degraded", "reason": "slow"},
    }
    assert body["feeds"] == {"sim": {"state": "backoff", "reason": "connection refused", "status": "degraded"}}


async def test_head_has_no_body_and_other_methods_are_refused() -> None:
    async with served(health_app(lambda: SERVING)) as client:
        head = await client.head("/health")
        post = await client.post("/health", content=b"x" * 100_000)
        missing = await client.get("/healthz")
    assert (head.status_code, head.content) == (200, b"")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")
    assert missing.status_code == 404
    assert json.loads(missing.content)["paths"] == ["/health", "/health/live", "/health/ready"]


async def test_metrics_in_the_format_that_the_scraper_asks_for() -> None:
    registry = CollectorRegistry()
    Instruments(registry).error("feed", "bad_frame", 3)
    line = 'errors_total{component="feed",kind="bad_frame"} 3.0'
    async with served(metrics_app(registry)) as client:
        plain = await client.get("/metrics")
        openmetrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        odd = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=odd"})
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert line in plain.text.splitlines()
    assert "# EOF" not in plain.text
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert line in openmetrics.text.splitlines()
    assert openmetrics.text.endswith("# EOF\n")
    assert odd.status_code == 200


async def test_the_end_does_not_wait_for_idle_or_half_sent_requests() -> None:
    for request in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        sock = bind_socket("127.0.0.1", 0, "test", "health.port")
        with socket.create_connection(sock.getsockname()) as client:
            client.sendall(request)
            with trio.fail_after(3 * CLOSE_S):
                async with trio.open_nursery() as nursery:
                    await nursery.start(serve_http, health_app(lambda: SERVING), sock)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    nursery.cancel_scope.cancel()


async def test_the_port_is_free_after_the_end() -> None:
    async with served(health_app(lambda: SERVING)) as client:
        port = client.base_url.port
        assert port is not None
    bind_socket("127.0.0.1", port, "test", "health.port").close()


async def test_the_end_does_not_wait_for_a_client_that_asks_and_never_reads() -> None:
    big = ServerHealth("1", 0.0, Phase.SERVING, components=tuple(Component(f"c{n}", text="x" * 100) for n in range(1000)))
    sock = bind_socket("127.0.0.1", 0, "test", "health.port")
    with socket.create_connection(sock.getsockname()) as client:
        client.setblocking(False)
        with trio.fail_after(5 * CLOSE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_http, health_app(lambda: big), sock)
                client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()


async def test_connections_above_the_limit_are_closed_and_room_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(web, "KEEP_ALIVE_S", 0.2)
    async with served(health_app(lambda: SERVING)) as client:
        address = ("127.0.0.1", client.base_url.port or 0)
        async with await trio.open_tcp_stream(*address) as first:
            await trio.testing.wait_all_tasks_blocked(0.01)
            async with await trio.open_tcp_stream(*address) as second:
                assert await second.receive_some() == b""
            assert await first.receive_some() == b""  # it was idle for too long
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await client.get("/health")).status_code == 200


async def test_what_http2_cannot_take_ends_one_connection_and_not_the_server() -> None:
    async with served(health_app(lambda: SERVING)) as client:
        stream = await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0)
        async with stream:
            h2 = H2Connection(H2Configuration(client_side=True))
            h2.initiate_connection()
            request = [(":method", "POST"), (":path", "/x"), (":scheme", "http"), (":authority", "localhost")]
            h2.send_headers(1, request)  # and no end: the answer comes before the body does
            await stream.send_all(h2.data_to_send())
            answered = False
            with trio.fail_after(5):
                while not answered:
                    events = h2.receive_data(await stream.receive_some(4096))
                    answered = any(isinstance(event, StreamEnded) for event in events)
            h2.clear_outbound_data_buffer()
            await stream.send_all(bytes.fromhex("000001 00 01 00000001") + b"x")  # one byte of DATA on stream 1
            with trio.fail_after(5):
                while await stream.receive_some(4096):
                    pass
        assert (await client.get("/health")).status_code == 200
