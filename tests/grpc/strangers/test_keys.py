"""The keys of [server] that strangers are held to reach the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from raven.app import App
from raven.config import Config, ServerConfig, TlsConfig
from raven.errors import StartupError
from raven.grpc import ConnectionLimits

FILES = Path(__file__).parents[2] / "data" / "tls"


async def test_keys_reach_the_server() -> None:
    server = ServerConfig(
        connections_max=7, streams_max=6, handshake_s=5.5, keepalive_s=4.5, keepalive_timeout_s=3.5, stall_s=2.5
    )
    config = App(Config(server), ()).grpc._config
    assert config.limits == ConnectionLimits(7, 6, 5.5, 4.5, 3.5)
    assert (config.stall_s, config.tls) == (2.5, None)


async def test_the_defaults_are_those_of_the_guide() -> None:
    config = App(Config(), ()).grpc._config
    assert config.limits == ConnectionLimits() == ConnectionLimits(10_000, 100, 5.0, 20.0, 10.0)


async def test_a_certificate_that_cannot_be_used_ends_the_start() -> None:
    tls = TlsConfig(FILES / "cert.pem", FILES / "key.pem")
    assert App(Config(ServerConfig(tls=tls)), ()).grpc._config.tls is not None
    with pytest.raises(StartupError, match="is not the key of the certificate"):
        App(Config(ServerConfig(tls=TlsConfig(FILES / "cert.pem", FILES / "other_key.pem"))), ())
