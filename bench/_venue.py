"""A venue for benchmarks: REST and WebSocket on one port of this machine, and frames flat out, made beforehand.

It waits for nobody but the kernel: one `sendall` over bytes that are there. A connection gets the workload's primer when it has
subscribed (by message, or by the path), and the flow when `Venue.go` is called.
"""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from _meter import pin
from _workloads import Workload, make_workload

__all__ = ["Venue", "open_venue"]

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
SLICE_BYTES = 1 << 20
LISTING = {
    "timezone": "UTC",
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01000000"},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001000"},
            ],
        }
    ],
}


class Venue:
    """The venue's process, from outside."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.port, self.flow_bytes, self.best, self.levels = pipe.recv()

    def go(self) -> None:
        """Let the present connection have the flow."""
        self._pipe.send("go")


@contextmanager
def open_venue(name: str, events: int, recording: Path, core: int) -> Iterator[Venue]:
    """A venue with so many frames of a workload, on one core, until left."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, name, events, recording, core), daemon=True
    )
    process.start()
    try:
        yield Venue(ours)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, name: str, events: int, recording: Path, core: int) -> None:
    pin(core)
    workload = make_workload(name, events, recording)
    go = threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, workload, go), daemon=True).start()
        pipe.send((listener.getsockname()[1], len(workload.flow), workload.best, workload.levels))
        while pipe.recv():
            go.release()


def _accept(listener: socket.socket, workload: Workload, go: threading.Semaphore) -> None:
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(client, workload, go), daemon=True).start()


def _talk(client: socket.socket, workload: Workload, go: threading.Semaphore) -> None:
    with client:
        try:
            while head := _read_head(client):
                if b"upgrade: websocket" in head.lower():
                    return _stream(client, head, workload, go)
                _answer(client, head, workload)
        except OSError:
            return None  # the client is gone, which is its right


def _read_head(client: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = client.recv(4096)
        if not data:
            return b""
        head += data
    return head


def _answer(client: socket.socket, head: bytes, workload: Workload) -> None:
    body = workload.snapshot if b"/depth" in head.split(b"\r\n")[0] else json.dumps(LISTING).encode()
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def _stream(client: socket.socket, head: bytes, workload: Workload, go: threading.Semaphore) -> None:
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    client.sendall(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    if b"streams=" not in head.split(b"\r\n")[0]:
        answer = json.dumps({"result": None, "id": json.loads(_read_message(client))["id"]}).encode()
        client.sendall(bytes((0x81, len(answer))) + answer)
    client.sendall(workload.primer)
    go.acquire()
    flow = memoryview(workload.flow)
    for start in range(0, len(flow), SLICE_BYTES):
        client.sendall(flow[start : start + SLICE_BYTES])
    while client.recv(65536):
        pass


def _read_message(client: socket.socket) -> bytes:
    """The next message of a client, which masks it (RFC 6455, 5.3)."""
    _, length = _read_exactly(client, 2)
    size = length & 0x7F
    if size == 126:
        size = int.from_bytes(_read_exactly(client, 2))
    mask = _read_exactly(client, 4)
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(_read_exactly(client, size)))


def _read_exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data
