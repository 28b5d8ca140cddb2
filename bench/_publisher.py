"""Makes the events for a message server that does not make them itself: Redis or NATS. Runs on the load's core.

A burst is one write of ten PUBLISH commands, as a feed that pipelines would do it; what the server says is read and forgotten.

    python _publisher.py BOARD CORE redis|nats PORT CLIENTS
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from _board import Board, run_phases
from _handshakes import CHANNEL
from _meter import pin, tell
from _trades import BURST, encode_trade, shape_of

__all__ = ["Publisher", "command"]


def command(server: str, element: bytes) -> bytes:
    """What publishes one event."""
    if server == "nats":
        return f"PUB {CHANNEL} {len(element)}\r\n".encode() + element + b"\r\n"
    return f"*3\r\n$7\r\nPUBLISH\r\n${len(CHANNEL)}\r\n{CHANNEL}\r\n${len(element)}\r\n".encode() + element + b"\r\n"


class Publisher:
    """A connection that publishes."""

    def __init__(self, server: str, port: int, clients: int) -> None:
        self._server = server
        self._clients = clients
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server == "nats":
            self._socket.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        self._burst = b"".join(command(server, encode_trade(number, 1)) for number in range(BURST))

    async def publish(self) -> int:
        """One burst, always the same one."""
        self._socket.sendall(self._burst)
        with suppress(BlockingIOError):
            while self._socket.recv(65536, socket.MSG_DONTWAIT):
                pass
        return BURST * self._clients


async def sleep(seconds: float) -> None:
    """Nothing else runs here."""
    time.sleep(seconds)  # noqa: ASYNC251  there is nothing else on this loop


def main() -> None:
    """Publish until the board says END."""
    board, core, server, port, clients = sys.argv[1:]
    pin(int(core))
    publisher = Publisher(server, int(port), int(clients))
    tell("ready", shape=shape_of().facts)
    asyncio.run(run_phases(Board(Path(board)), sleep, publisher.publish))


if __name__ == "__main__":
    main()
