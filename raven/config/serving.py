"""What the configuration says to the parts that serve: the same in every program that has them."""

from __future__ import annotations

import ssl

from raven.broker import BrokerLimits, OutboxLimits
from raven.broker.ring import RingLimits
from raven.config.tables import Config
from raven.grpc import ConnectionLimits, GrpcConfig
from raven.grpc.tls import load_tls

__all__ = ["broker_limits", "grpc_config"]


def broker_limits(config: Config) -> BrokerLimits:
    """What clients may ask for, and how much is kept for those that come back."""
    server = config.server
    outbox = OutboxLimits(server.outbox_events_max, server.outbox_bytes_max, server.control_bytes_max)
    ring = RingLimits(config.resume.events_max, config.resume.bytes_max, config.resume.age_s)
    return BrokerLimits(
        outbox,
        ring,
        clients_max=2 * server.connections_max,  # who comes back stands beside its dead stream until that is found out
        subscriptions_max=server.subscriptions_max,
        topics_max=server.topics_max,
    )


def grpc_config(config: Config) -> GrpcConfig:
    """What the gRPC server is to be. Reflection is on unless it is switched off: "auto" asks for a loopback bind or no
    authentication, and there is none.

    Raises:
        StartupError: a file of TLS cannot be used.
    """
    server = config.server
    limits = ConnectionLimits(
        server.connections_max, server.streams_max, server.handshake_s, server.keepalive_s, server.keepalive_timeout_s
    )
    return GrpcConfig(
        server.heartbeat_s,
        server.stall_s,
        server.streams_per_s,
        reflection=server.reflection != "off",
        limits=limits,
        tls=_tls(config),
    )


def _tls(config: Config) -> ssl.SSLContext | None:
    files = config.server.tls
    return load_tls(files.cert_file, files.key_file) if files.cert_file and files.key_file else None
