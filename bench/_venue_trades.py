"""A venue's worth of trades at a fixed pace, on the load's core: over a WebSocket that a server connects to, or published to a
message server. Each carries the time at which it was written (wall clock, ns), a burst the same for all of it.

    python _venue_trades.py ws
    python _venue_trades.py redis|nats PORT

Tells "ready" with its port. A command is a line {"rate": trades a second, "burst": ..., "seconds": ...}; the answer says how
many trades that were.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from _meter import tell
from _publisher import command
from _trades import encode_trade
from _venue import GUID

__all__ = ["pace", "text_frame"]


def text_frame(number: int, stamp_ns: int) -> bytes:
    """A trade as a venue tells it, in one WebSocket message."""
    payload = b'{"n":%d,"T":%d,"p":64000.12,"q":0.00125,"m":"buy"}' % (number, stamp_ns)
    assert len(payload) < 126
    return bytes((0x81, len(payload))) + payload


def pace(send: Callable[[bytes], object], make: Callable[[int, int], bytes], rate: float, burst: int, seconds: float) -> int:
    """Write bursts on a fixed schedule, whatever becomes of them; how many trades that were."""
    bursts, begun = round(rate * seconds / burst), time.monotonic()
    for number in range(bursts):
        time.sleep(max(0.0, begun + number * burst / rate - time.monotonic()))
        stamp_ns = time.time_ns()
        send(b"".join(make(number * burst + index, stamp_ns) for index in range(burst)))
    return bursts * burst


def accept() -> socket.socket:
    """The server's connection, as soon as it has shaken hands."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tell("ready", port=listener.getsockname()[1])
        server, _ = listener.accept()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += server.recv(4096)
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    proof = base64.b64encode(hashlib.sha1(key + GUID).digest())
    server.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    server.sendall(b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n")
    return server


def connect(name: str, port: int) -> tuple[socket.socket, Callable[[int, int], bytes]]:
    """A connection that publishes, and what it writes."""
    server = socket.create_connection(("127.0.0.1", port))
    if name == "nats":
        server.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    tell("ready")
    return server, lambda number, stamp_ns: command(name, encode_trade(number, stamp_ns))


def main() -> None:
    """Serve commands until standard input ends."""
    mode, *rest = sys.argv[1:]
    server, make = (accept(), text_frame) if mode == "ws" else connect(mode, int(rest[0]))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(data: bytes) -> None:
        server.sendall(data)
        if mode != "ws":
            forget(server)

    for line in sys.stdin:
        tell("answer", trades=pace(send, make, **json.loads(line)))


def forget(server: socket.socket) -> None:
    """What a message server answers."""
    with suppress(BlockingIOError):
        server.recv(65536, socket.MSG_DONTWAIT)


if __name__ == "__main__":
    main()
