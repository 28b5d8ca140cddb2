"""Ports for servers that are told which one to take.

They stand outside the range from which systems choose the ports of clients, and each process that runs tests has a part of its
own: so a port that was free is free still when its server starts.
"""

from __future__ import annotations

import os
import random
import socket

__all__ = ["free_port"]

FIRST, PORTS, PROCESSES = 20_000, 1_500, 8
_before: set[int] = set()


def free_port() -> int:
    """One that nobody listens on, and that was not given out before while there are others."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
    ports = [port for port in range(FIRST + worker * PORTS, FIRST + (worker + 1) * PORTS) if port not in _before]
    random.SystemRandom().shuffle(ports)
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _before.add(port)
        return port
    raise OSError("no port is free")
