"""TLS on the gRPC port: what its files must be, who gets in, and that everything else is as without it."""

from __future__ import annotations

import asyncio.sslproto
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trio

from raven.adapter import Established, Event
from raven.codec.generated.raven import v1
from raven.errors import StartupError
from raven.grpc import ConnectionLimits, GrpcConfig
from raven.grpc.tls import load_tls
from raven.model.events import Trade
from tests.grpc.serving import Peer, Serving, serving, subscription
from tests.grpc.strangers.settling import counted, gone
from tests.grpc.strangers.stranger import (
    ACK,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    SETTINGS,
    STREAM,
    TRADE,
    Stranger,
    frame,
    stranger,
)

pytestmark = pytest.mark.usefixtures("twins")

FILES = Path(__file__).parents[2] / "data" / "tls"
CERT, KEY = FILES / "cert.pem", FILES / "key.pem"
HANDSHAKE_S = 0.5


@asynccontextmanager
async def serving_tls(limits: ConnectionLimits | None = None) -> AsyncIterator[Serving]:
    config = GrpcConfig(limits=limits or ConnectionLimits(handshake_s=HANDSHAKE_S), tls=load_tls(CERT, KEY))
    async with serving([TRADE], config=config) as raven:
        yield raven


def client_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=CERT)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@asynccontextmanager
async def tls_guest(raven: Serving, context: ssl.SSLContext | None = None) -> AsyncIterator[Stranger]:
    plain = await trio.open_tcp_stream("127.0.0.1", raven.port)
    stream = trio.SSLStream(plain, context or client_context("h2"), server_hostname="localhost", https_compatible=True)
    async with plain:
        await stream.do_handshake()
        yield Stranger(stream)


async def test_grpcio_streams_over_tls() -> None:
    async with serving_tls() as raven:
        credentials = grpc.ssl_channel_credentials(CERT.read_bytes())
        channel = grpc.secure_channel(f"localhost:{raven.port}", credentials)
        client = Peer(channel)
        call = client.watch(subscription("sim/BTC-USDT", v1.Kind.TRADE))
        raven.publish(Established([TRADE]))
        await call.receive_events(1)
        for number in range(300):
            raven.publish(*[Event(TRADE, Trade(1.0, 1.0, 1, "x" * 50), number, number)] * 20)
        events = await call.receive_events(6_000)
        assert [event.sequence for event in events] == list(range(events[0].sequence, events[0].sequence + len(events)))
        assert len((await client.unary("ListTopics", v1.ListTopicsRequest(), v1.ListTopicsResponse)).topics) == 1
        call.cancel()
        await trio.to_thread.run_sync(channel.close)


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)], ids=["no ALPN", "http/1.1"])
async def test_a_client_that_offers_no_h2_is_closed(protocols: tuple[str, ...]) -> None:
    async with serving_tls() as raven:
        async with tls_guest(raven, client_context(*protocols)) as one:
            await one.greet()
            await one.read_to_end()
            assert one.frames == []
        await gone(raven)
        assert raven.metric("raven_connections_ended_total", reason="tls") == 1


async def test_tls_1_1_is_refused() -> None:
    context = client_context("h2")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving_tls() as raven:
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            async with tls_guest(raven, context):
                pass
        await counted(raven, "tls", 1)


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], ids=["nothing", "half a hello", "plain"]
)
async def test_a_handshake_that_is_never_finished_is_closed_in_time(said: bytes) -> None:
    async with serving_tls() as raven, stranger(raven.port) as one:
        started = trio.current_time()
        await one.send(said)
        await one.read_to_end()
        assert trio.current_time() - started < HANDSHAKE_S + 0.5
        await counted(raven, "tls", 1)
        assert raven.server.connections == 0


async def test_handshakes_that_are_under_way_count_for_the_limit() -> None:
    async with serving_tls(ConnectionLimits(connections_max=2)) as raven, stranger(raven.port), stranger(raven.port):
        await counted(raven, "limit", 0)
        async with stranger(raven.port) as third:
            await third.read_to_end()
            assert third.goaway is None  # nobody has said a word of HTTP/2 yet
        await counted(raven, "limit", 1)
        assert raven.metric("raven_connections_ended_total", reason="limit") == 1


async def test_the_handshake_of_http2_has_its_limit_too() -> None:
    async with serving_tls() as raven, tls_guest(raven) as one:
        await one.read_to_end()
        assert one.goaway == (4, "no SETTINGS within 0.5 s")


async def test_a_flood_over_tls_hears_its_goaway() -> None:
    async with serving_tls() as raven:
        async with tls_guest(raven) as one:
            await one.greet()
            await one.read_until(SETTINGS, flags=ACK)
            await one.flood(frame(PING, 0, 0, bytes(8)) * 100 for _ in range(1_000))
            assert one.goaway == (ENHANCE_YOUR_CALM, "too many PINGs")
        await gone(raven)


async def test_a_client_over_tls_keeps_little_memory() -> None:
    """asyncio's buffer for what is read is 256 KiB by default, for each connection."""
    assert asyncio.sslproto.SSLProtocol.max_size == 16 * 1024
    async with serving_tls() as raven, tls_guest(raven) as one:
        await one.greet()
        await one.send(one.call(1, STREAM))
        await one.read_until(HEADERS, 1)
        (protocol,) = raven.server._connections
        assert len(protocol._transport._ssl_protocol._ssl_buffer) == 16 * 1024


# ------------------------------------------------------------------------------------------------------------ the files


def refusal(cert_file: Path, key_file: Path) -> str:
    with pytest.raises(StartupError) as caught:
        load_tls(cert_file, key_file)
    return str(caught.value)


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    missing = tmp_path / "no.pem"
    assert refusal(missing, KEY) == f"[server.tls] cert_file: '{missing}' cannot be read: No such file or directory"
    assert refusal(CERT, missing) == f"[server.tls] key_file: '{missing}' cannot be read: No such file or directory"
    assert refusal(tmp_path, KEY) == f"[server.tls] cert_file: '{tmp_path}' cannot be read: Is a directory"


def test_a_key_of_another_certificate_is_said_to_be_that() -> None:
    other = FILES / "other_key.pem"
    assert refusal(CERT, other) == f"[server.tls] key_file: '{other}' is not the key of the certificate in cert_file '{CERT}'"


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("hello")
    assert "cert_file" in refusal(text, KEY)
    assert "holds no certificate in PEM" in refusal(text, KEY)
    assert "key_file" in refusal(CERT, text)
    assert "holds no private key in PEM" in refusal(CERT, text)
    assert "holds no certificate in PEM" in refusal(KEY, CERT)  # the wrong way round


def test_a_key_with_a_passphrase_does_not_make_the_server_ask(tmp_path: Path) -> None:
    assert "has a passphrase: a server has nobody to ask for it" in refusal(CERT, FILES / "key_with_passphrase.pem")


def test_what_is_offered() -> None:
    context = load_tls(CERT, KEY)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_the_socket_is_closed_when_the_server_ends() -> None:
    async with serving_tls() as raven:
        port = raven.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
