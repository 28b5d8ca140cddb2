"""Listening sockets, opened before anything else is started, so that a taken port ends the start with one line."""

from __future__ import annotations

import errno
import socket

from raven.errors import StartupError

__all__ = ["BACKLOG", "bind_socket", "bound_address"]

BACKLOG = 1024  # connections that may wait to be accepted: a fleet of clients that comes back at once


def bind_socket(host: str, port: int, what: str, config_key: str) -> socket.socket:
    """A non-blocking TCP socket that listens on `host`:`port`.

    It listens already: two sockets can be bound to one port as long as neither does, and the second one would fail later.
    A name that resolves to several addresses gets one of them, IPv4 first.

    Args:
        port: 0 = any free one; `bound_address` tells which.
        what: who will be served there, for the error ("health").
        config_key: the key of the port ("health.port"), for the error.

    Raises:
        StartupError: the port is taken or not allowed, or the host is none of this machine's.
    """
    family, address = _resolve(host, port, what, config_key)
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle on
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        if family == socket.AF_INET6 and host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartupError(_refusal(error, host, port, what, config_key)) from error
    return sock


def bound_address(sock: socket.socket) -> str:
    """`host:port` of a bound socket, as it stands in a URL."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(host: str, port: int, what: str, config_key: str) -> tuple[int, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartupError(f"host {host!r} ({what}) is not known: {_set(config_key, 'host')}") from error
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return family, address  # type: ignore[return-value]  # the other shapes are of families that AI_PASSIVE does not return


def _refusal(error: OSError, host: str, port: int, what: str, config_key: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} ({what}) is taken: {_set(config_key, 'port')}, or stop what listens there"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} ({what}) is not allowed to this user: {_set(config_key, 'port')} above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host {host!r} ({what}) is no address of this machine: {_set(config_key, 'host')}"
    return f"port {port} on {host!r} ({what}) cannot be opened: {error.strerror}: {_set(config_key, 'port')}"


def _set(config_key: str, name: str) -> str:
    """The key and the variable that change it: "[health] port or HEALTH_PORT"."""
    section = config_key.partition(".")[0]
    variable = f"{section}_{name}".upper()
    known = variable in ("SERVER_HOST", "SERVER_PORT", "HEALTH_PORT", "METRICS_PORT")
    return f"set [{section}] {name} or {variable if known else f'RAVEN_{variable}'}"
