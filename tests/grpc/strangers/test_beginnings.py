"""Bad input 1 and 2: what is no HTTP/2, and what never gets so far."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
import trio
from structlog.testing import capture_logs

from raven.grpc import ConnectionLimits, GrpcConfig
from tests.grpc.serving import Serving, serving
from tests.grpc.strangers.settling import gone
from tests.grpc.strangers.stranger import (
    ACK,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    SETTINGS,
    SETTINGS_TIMEOUT,
    TRADE,
    frame,
    stranger,
)

HANDSHAKE_S = 0.4
QUICKLY = GrpcConfig(limits=ConnectionLimits(handshake_s=HANDSHAKE_S))
TLS_HELLO = bytes.fromhex("16030100a0010000a00303") + bytes(150)


@pytest.fixture
async def raven() -> AsyncIterator[Serving]:
    async with serving([TRADE], config=QUICKLY) as served:
        yield served


@pytest.mark.parametrize(
    "hello",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", TLS_HELLO, b"\0", PREFACE[:20] + b"XXXX", PREFACE.lower()],
    ids=["http1", "tls", "nul", "almost", "lower"],
)
async def test_bad_input_01_what_is_no_http2_is_closed_promptly(raven: Serving, hello: bytes) -> None:
    with capture_logs() as logs:
        async with stranger(raven.port) as one:
            await one.send(hello)
            started = time.monotonic()
            await one.read_to_end()
            assert time.monotonic() - started < HANDSHAKE_S / 2
        await gone(raven)
    assert raven.metric("raven_connections_ended_total", reason="not_http2") == 1
    assert [entry["log_level"] for entry in logs] == ["debug"]


@pytest.mark.parametrize(
    "said", [b"", PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS)[:5]], ids=["nothing", "half", "no settings", "half a frame"]
)
async def test_bad_input_02_a_preface_that_is_never_finished_is_closed_in_time(raven: Serving, said: bytes) -> None:
    async with stranger(raven.port) as one:
        started = time.monotonic()
        await one.send(said)
        await one.read_to_end()
        assert HANDSHAKE_S * 0.9 < time.monotonic() - started < HANDSHAKE_S + 0.5
        assert one.goaway == (SETTINGS_TIMEOUT, "no SETTINGS within 0.4 s")
    await gone(raven)
    assert raven.metric("raven_connections_ended_total", reason="handshake_timeout") == 1


async def test_bad_input_02_a_preface_byte_by_byte_does_not_gain_time(raven: Serving) -> None:
    async with stranger(raven.port) as one, trio.open_nursery() as nursery:
        started = time.monotonic()

        async def drip() -> None:
            for byte in PREFACE + frame(SETTINGS):
                await one.send(bytes([byte]))
                await trio.sleep(HANDSHAKE_S / 10)

        nursery.start_soon(drip)
        await one.read_to_end()
        assert time.monotonic() - started < HANDSHAKE_S + 0.5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK)], ids=["ping", "ack"])
async def test_settings_must_come_first(raven: Serving, first: bytes) -> None:
    async with stranger(raven.port) as one:
        await one.send(PREFACE, first)
        await one.read_to_end()
        assert one.goaway == (PROTOCOL_ERROR, "SETTINGS must come first")


async def test_who_has_greeted_may_stay(raven: Serving) -> None:
    async with stranger(raven.port) as one:
        await one.greet()
        await trio.sleep(HANDSHAKE_S * 1.5)
        assert await one.is_heard()


async def test_a_greeting_in_pieces_is_a_greeting(raven: Serving) -> None:
    async with stranger(raven.port) as one:
        for byte in PREFACE + frame(SETTINGS):
            await one.send(bytes([byte]))
            await trio.sleep(0.001)
        assert await one.is_heard()


async def test_a_handshake_that_we_are_late_to_read_is_taken(raven: Serving) -> None:
    """A crowd that comes at once keeps the loop busy for longer than a handshake may take: that is not the client's doing."""
    async with stranger(raven.port) as one:
        await gone(raven, 1)  # it is there
        (protocol,) = raven.server._connections
        one.stream.socket._sock.send(PREFACE + frame(SETTINGS))  # type: ignore[attr-defined]  # and nobody else has a turn
        protocol._give_up_waiting()
        assert await one.is_heard()
        assert one.goaway is None


async def test_without_a_file_descriptor_a_handshake_ends_in_its_time(raven: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("raven.grpc.protocol.DefaultSelector", none_left)
    async with stranger(raven.port) as one:
        await one.read_to_end()
        assert one.goaway == (SETTINGS_TIMEOUT, "no SETTINGS within 0.4 s")
