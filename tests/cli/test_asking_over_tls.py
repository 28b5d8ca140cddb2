"""`--tls` and `--ca` of the commands that ask a running server, and what is said when they do not fit the server."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
import trio

from raven.adapter import Established
from raven.grpc import GrpcConfig
from raven.grpc.tls import load_tls
from tests.e2e.processes import run_command
from tests.grpc.serving import serving
from tests.grpc.test_stream import TOPICS, TRADE, trades

TLS = Path(__file__).parents[1] / "data" / "tls"
CERTIFICATE = str(TLS / "cert.pem")


def secured() -> GrpcConfig:
    return GrpcConfig(tls=load_tls(TLS / "cert.pem", TLS / "key.pem"))


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (["tail", "sim/BTC-USDT/trade", "--limit", "1"], "(image)"),
        (["feeds"], "no feeds"),
    ],
)
async def test_a_server_with_tls_is_asked(command: list[str], printed: str) -> None:
    async with serving(TOPICS, config=secured()) as server:
        server.publish(Established([TRADE]), *trades(1, 3))
        done = await run_command(*command, "--server", f"localhost:{server.port}", "--tls", "--ca", CERTIFICATE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert printed in done.stdout.decode()


PREFACE_BYTES, HEAD_BYTES, DATA = 24, 9, 0  # RFC 9113, 3.4, 4.1 and 6.1


def frame_types(said: bytes) -> list[int]:
    """Of the frames that are whole in what a client of HTTP/2 has said."""
    found, at = [], PREFACE_BYTES
    while (end := at + HEAD_BYTES + int.from_bytes(said[at : at + 3], "big")) <= len(said):
        found.append(said[at + 3])
        at = end
    return found


async def test_a_server_that_resets_without_a_word_may_want_tls(nursery: trio.Nursery) -> None:
    """It closes with bytes of ours unread, which the system makes a reset of: so do servers with TLS, by chance."""

    async def reset(stream: trio.SocketStream) -> None:
        said = b""
        while DATA not in frame_types(said):  # the request is whole, and its client waits for the answer
            said += await stream.receive_some()
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    listeners = await nursery.start(trio.serve_tcp, reset, 0)
    port = listeners[0].socket.getsockname()[1]
    done = await run_command("topics", "--server", f"127.0.0.1:{port}")
    assert "the connection was closed without a word: does the server want TLS?" in " ".join(done.stderr.decode().split())
    assert done.returncode == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("tls", "options", "said"),
    [
        (False, ["--tls"], "TLS: what answers there speaks none (WRONG_VERSION_NUMBER)"),
        (True, ["--tls"], "TLS: self-signed certificate: trust who signed it"),
        (True, [], "the connection was closed without a word: does the server want TLS?"),
        (True, ["--tls", "--ca", __file__], f"Invalid value for '--ca': '{__file__}': holds no certificate in PEM"),
    ],
)
async def test_what_does_not_fit_is_named(tls: bool, options: list[str], said: str) -> None:
    async with serving(TOPICS, config=secured() if tls else None) as server:
        done = await run_command("topics", "--server", f"localhost:{server.port}", *options)
    assert said in " ".join(done.stderr.decode().split()), done.stderr.decode()
    assert done.returncode == (2 if "--ca" in options else 1)
    assert b"Traceback" not in done.stderr
