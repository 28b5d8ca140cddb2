"""`--tls` and `--ca` of the commands that ask a running server, and what is said when they do not fit the server."""

from __future__ import annotations

from pathlib import Path

import pytest

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
