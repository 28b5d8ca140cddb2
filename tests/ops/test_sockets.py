"""Listening sockets, and the one line that each failure gives."""

from __future__ import annotations

import socket

import pytest

from raven.errors import StartupError
from raven.ops.sockets import bind_socket, bound_address


def test_port_zero_gets_a_free_port_that_can_be_reached() -> None:
    with bind_socket("127.0.0.1", 0, "health", "health.port") as sock:
        host, port = sock.getsockname()
        assert bound_address(sock) == f"127.0.0.1:{port}"
        assert not sock.getblocking()
        socket.create_connection((host, port)).close()


def test_a_taken_port_names_what_to_do() -> None:
    with bind_socket("127.0.0.1", 0, "first", "server.port") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(StartupError) as caught:
            bind_socket("127.0.0.1", port, "health", "health.port")
    assert str(caught.value) == f"port {port} (health) is taken: set [health] port or HEALTH_PORT, or stop what listens there"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            "no.such.host.invalid",
            "host 'no.such.host.invalid' (metrics) is not known: set [metrics] host or RAVEN_METRICS_HOST",
        ),
        ("203.0.113.1", "host '203.0.113.1' (metrics) is no address of this machine: set [metrics] host or RAVEN_METRICS_HOST"),
        ("x" * 70, "is not known: set [metrics] host"),
    ],
)
def test_a_bad_host_names_the_key(host: str, message: str) -> None:
    with pytest.raises(StartupError) as caught:
        bind_socket(host, 0, "metrics", "metrics.port")
    assert message in str(caught.value)


def test_a_name_of_both_families_listens_on_ipv4() -> None:
    with bind_socket("localhost", 0, "gRPC", "server.port") as sock:
        assert sock.family == socket.AF_INET


def test_ipv6_everywhere_takes_ipv4_too() -> None:
    if not socket.has_dualstack_ipv6():
        with pytest.raises(StartupError):
            bind_socket("::", 0, "gRPC", "server.port")
        return
    with bind_socket("::", 0, "gRPC", "server.port") as sock:
        assert bound_address(sock).startswith("[::]:")
        socket.create_connection(("127.0.0.1", sock.getsockname()[1])).close()
