"""How fast the source is by itself: a reader that only takes bytes, in a process of its own."""

from __future__ import annotations

import multiprocessing
import socket
import time
from multiprocessing.connection import Connection

from _meter import pin
from _venue import Venue

__all__ = ["drain"]

REQUEST = (
    b"GET /stream?streams=any HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def drain(venue: Venue, core: int) -> float:
    """Seconds that the whole flow takes."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_read, args=(theirs, venue.port, venue.flow_bytes, core))
    process.start()
    ours.recv()
    venue.go()
    seconds: float = ours.recv()
    process.join()
    return seconds


def _read(pipe: Connection, port: int, flow_bytes: int, core: int) -> None:
    pin(core)
    buffer = bytearray(64 * 1024)  # as much as Raven's reader takes at once
    with socket.create_connection(("127.0.0.1", port)) as venue:
        venue.sendall(REQUEST)
        venue.recv_into(buffer)  # the answer, and perhaps the primer
        pipe.send("ready")
        begun, taken = time.perf_counter(), 0
        while taken < flow_bytes:
            taken += venue.recv_into(buffer)
        pipe.send(time.perf_counter() - begun)
