"""TLS, against a server that is not ours: grpcio."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from raven.client import ServerUnavailable
from raven.codec.generated.raven import v1
from tests.client.shells import SHELLS

TLS = Path(__file__).parents[1] / "feed" / "tls"
METHOD = "/raven.v1.MarketDataService/ListTopics"


class Topics(grpc.GenericRpcHandler):
    """ListTopics with one topic, named after the caller's authorization."""

    def service(self, call: Any) -> Any:
        if call.method != METHOD:
            return None
        name = dict(call.invocation_metadata).get("authorization", "")
        entry = v1.ListTopicsResponseEntry(v1.Topic("sim", name, v1.Kind.TRADE))
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: bytes(v1.ListTopicsResponse([entry] * 2_000)))


@pytest.fixture
def port() -> Iterator[int]:
    """Of a gRPC server with TLS."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Topics()])
    key, certificate = ((TLS / name).read_bytes() for name in ("key.pem", "cert.pem"))
    number = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    yield number
    server.stop(None).wait()


@pytest.mark.parametrize("name", SHELLS)
async def test_questions_over_tls_with_metadata(name: str, port: int) -> None:
    context = ssl.create_default_context(cafile=str(TLS / "cert.pem"))

    async def program(connect: Any) -> list[str]:
        async with connect(f"localhost:{port}", tls=context, metadata={"Authorization": "me"}) as client:
            return [entry.topic.symbol for entry in [*await client.topics(), *await client.topics()]]

    assert await SHELLS[name](program) == ["me"] * 4_000


@pytest.mark.parametrize("name", SHELLS)
async def test_a_server_that_nobody_vouches_for_is_refused(name: str, port: int) -> None:
    async def program(connect: Any) -> None:
        async with connect(f"localhost:{port}", tls=True):
            pass

    with pytest.raises(ServerUnavailable, match="TLS: self-signed certificate"):
        await SHELLS[name](program)


@pytest.mark.parametrize("name", SHELLS)
async def test_a_server_that_wants_tls_is_not_spoken_to_without(name: str, port: int) -> None:
    async def program(connect: Any) -> None:
        async with connect(f"localhost:{port}") as client:
            await client.topics()

    with pytest.raises(ServerUnavailable):
        await SHELLS[name](program)
