"""Faults 13 and 31, and the limit on connections: clients that are not there, and more than there may be."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator

import pytest
import trio
from structlog.testing import capture_logs

from raven.grpc import ConnectionLimits, GrpcConfig
from tests.grpc.serving import Serving, serving
from tests.grpc.strangers.settling import gone, until
from tests.grpc.strangers.stranger import (
    ACK,
    DATA,
    EMPTY_MESSAGE,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    STREAM,
    TRADE,
    frame,
    guest,
    setting,
    stranger,
)

KEEPALIVE_S, TIMEOUT_S = 0.3, 0.3
WATCHFUL = GrpcConfig(limits=ConnectionLimits(connections_max=3, keepalive_s=KEEPALIVE_S, keepalive_timeout_s=TIMEOUT_S))


@pytest.fixture
async def raven() -> AsyncIterator[Serving]:
    async with serving([TRADE], config=WATCHFUL) as served:
        yield served


async def test_fault_13_a_client_that_has_vanished_is_noticed(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM))
        await one.read_until(HEADERS, 1)
        started = trio.current_time()
        await one.read_until(PING)  # it stays silent
        assert trio.current_time() - started > KEEPALIVE_S * 0.9
        await one.read_to_end()
        assert trio.current_time() - started < 2 * (KEEPALIVE_S + TIMEOUT_S)
        await gone(raven)
    assert raven.metric("raven_connections_ended_total", reason="keepalive") == 1
    assert len(raven.broker.clients) == 0


async def test_fault_13_a_silent_client_that_is_there_stays(raven: Serving) -> None:
    async with guest(raven.port) as one, trio.open_nursery() as nursery:

        async def answer() -> None:
            answered = 0
            while await one.read():
                asked = [f for f in one.frames if f.type == PING and not f.flags & ACK]
                for found in asked[answered:]:
                    await one.send(frame(PING, ACK, 0, found.payload))
                answered = len(asked)

        nursery.start_soon(answer)
        await trio.sleep(3 * (KEEPALIVE_S + TIMEOUT_S))
        assert raven.server.connections == 1
        assert raven.server.budgets_lowest()["ping"] > 0.9
        nursery.cancel_scope.cancel()


async def test_fault_13_half_a_frame_now_and_then_is_no_sign_of_life(raven: Serving) -> None:
    async with guest(raven.port) as one, trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in frame(DATA, 0, 1, bytes(1_000)):
                await one.send(bytes([byte]))
                await trio.sleep(KEEPALIVE_S / 5)

        nursery.start_soon(drip)
        await one.read_to_end()
        nursery.cancel_scope.cancel()
    await gone(raven)
    assert raven.metric("raven_connections_ended_total", reason="keepalive") == 1


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
async def test_fault_13_the_kernel_watches_too(raven: Serving) -> None:
    async with guest(raven.port):
        (protocol,) = raven.server._connections
        sock = protocol._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 600
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_more_connections_than_there_may_be_are_closed_and_counted(raven: Serving) -> None:
    async with guest(raven.port), guest(raven.port), guest(raven.port) as one:
        with capture_logs() as logs:
            for _ in range(5):
                async with stranger(raven.port) as other:
                    await other.read_to_end()
                    assert other.frames == []
        assert raven.metric("raven_connections_ended_total", reason="limit") == 5
        warnings = [entry for entry in logs if entry["log_level"] == "warning"]
        assert [entry["text"] for entry in warnings] == ["3 connections are open: [server] connections_max"]
        assert raven.server.connections == 3
        await one.stream.aclose()
        await gone(raven, 2)
        async with guest(raven.port) as other:
            assert await other.is_heard()


async def test_bad_input_11_a_window_that_never_opens_ends_the_stream() -> None:
    config = GrpcConfig(heartbeat_s=0.1, stall_s=0.4)
    async with serving([TRADE], config=config) as raven, guest(raven.port, setting(4, 0)) as one:
        await one.send(one.call(1, STREAM))
        await one.read_until(HEADERS, 1)
        with trio.fail_after(5):
            await raven.broker.clients.wait_no_clients()
        assert raven.server.connections == 1


async def test_bad_input_11_so_does_one_of_a_single_answer() -> None:
    async with serving([TRADE], config=GrpcConfig(stall_s=0.4)) as raven, guest(raven.port, setting(4, 0)) as one:
        await one.send(one.call(1), frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 1)
        await one.read_until(3, 1)
        assert one.resets() == {1: 11}
        assert await one.is_heard()
        (protocol,) = raven.server._connections
        await until(lambda: not protocol.processor.streams)
        await one.send(frame(SETTINGS, 0, 0, setting(4, 65_535)), one.call(3), frame(DATA, END_STREAM, 3, EMPTY_MESSAGE))
        await one.read_until(DATA, 3)


# ----------------------------------------------------------------------------------------------- fault 31: file descriptors

LITTLE = """
import resource, sys, socket
import trio
from structlog.testing import capture_logs
sys.path.insert(0, sys.argv[1])
from tests.grpc.serving import serving
from tests.grpc.strangers.stranger import TRADE, guest

SPARE = 12

async def main():
    async with serving([TRADE]) as raven:
        async with guest(raven.port):
            pass
        used = len(__import__("os").listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + SPARE, used + SPARE))
        with capture_logs() as logs:
            held = []
            try:
                while True:
                    sock = socket.socket()
                    held.append(sock)
                    sock.connect(("127.0.0.1", raven.port))
            except OSError:
                pass
            started, turns = trio.current_time(), 0
            while trio.current_time() - started < 0.9:
                await trio.sleep(0.01)
            before = raven.metric("errors_total", component="accept", kind="emfile")
            print("refusals", int(before))
            for sock in held:
                sock.close()
            async with guest(raven.port) as one:
                print("served again", await one.is_heard())
        print("logged", [entry["event"] for entry in logs if entry["log_level"] == "error"])

trio.run(main)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")
async def test_fault_31_without_file_descriptors_it_waits_and_says_so_once() -> None:
    with trio.fail_after(30):
        done = await trio.run_process(
            [sys.executable, "-c", LITTLE, "."], capture_stdout=True, capture_stderr=True, check=False
        )
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr.decode()
    refusals = int(next(line for line in lines if line.startswith("refusals")).split()[1])
    assert 3 <= refusals <= 8  # pauses of 10 ms that double, up to one second: 7 in 0.9 s
    assert "served again True" in lines
    assert "logged ['no connection can be accepted']" in lines
