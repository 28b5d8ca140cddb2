"""The floor: a bare loop of `socket.send` over the bytes that Raven would write. It reads nothing and knows no window."""

from __future__ import annotations

import argparse
import asyncio
import json
import select
import socket
import time
from pathlib import Path

from _board import Board, run_phases
from _meter import pin, tell
from _trades import BURST, encode_trade, shape_of

from raven.codec.encoder import sent_ts

__all__ = ["frame"]

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

HEADERS_FRAME = bytes((0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88))  # :status 200, by its index in HPACK's static table


def frame(elements: bytes) -> bytes:
    """One DATA frame with one gRPC message, as Raven writes a burst."""
    message = elements + sent_ts(time.time_ns())
    length = len(message) + 5
    head = length.to_bytes(3, "big") + bytes((0, 0, 0, 0, 0, 1))
    return head + b"\0" + len(message).to_bytes(4, "big") + message


class BareServer:
    """Whoever connects is a client from then on."""

    def __init__(self, ahead: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._trades = BURST * ahead
        self._burst = frame(b"".join(encode_trade(number, 1) for number in range(self._trades)))

    async def sleep(self, seconds: float) -> None:
        """Take who comes meanwhile."""
        if not select.select([self._listener], [], [], seconds)[0]:
            return
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(HEADERS_FRAME)
        self._clients.append(client)

    async def publish(self) -> int:
        """What is there, always the same."""
        for client in self._clients:
            client.send(self._burst)
        return self._trades * len(self._clients)

    def relay(self, venue: socket.socket) -> None:
        """Pass on what the venue sends, for good: per read one write to each client."""
        venue.sendall(UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += venue.recv(1)
        rest = b""
        while True:
            if self._listener in select.select([self._listener, venue], [], [])[0]:
                asyncio.run(self.sleep(0))
                continue
            data = rest + venue.recv(65536)
            *frames, rest = cut(data)
            if frames:
                burst = frame(b"".join(relayed(payload) for payload in frames))
                for client in self._clients:
                    client.send(burst)


def cut(data: bytes) -> list[bytes]:
    """The payloads of whole short WebSocket messages, and last what is left over."""
    payloads, position = [], 0
    while len(data) - position >= 2 and len(data) - position - 2 >= data[position + 1]:
        end = position + 2 + data[position + 1]
        payloads.append(data[position + 2 : end])
        position = end
    return [*payloads, data[position:]]


def relayed(payload: bytes) -> bytes:
    """The venue's trade as an element of ours."""
    told = json.loads(payload)
    return encode_trade(told["n"], told["T"])


def main() -> None:
    """Serve until the board says END, or, with a venue, for good."""
    parser = argparse.ArgumentParser()
    parser.add_argument("board", type=Path)
    parser.add_argument("core", type=int)
    parser.add_argument("--ahead", type=int, default=1)
    parser.add_argument("--source", type=int)
    options = parser.parse_args()
    pin(options.core)
    server = BareServer(options.ahead)
    tell("ready", port=server.port, shape=shape_of().facts)
    if options.source:
        server.relay(socket.create_connection(("127.0.0.1", options.source)))
    else:
        asyncio.run(run_phases(Board(options.board), server.sleep, server.publish))


if __name__ == "__main__":
    main()
