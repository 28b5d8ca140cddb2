"""Receiving WebSocket messages: CPU and wall time per message in microseconds, for both readers of `raven.feed.transport`.

    python bench/ws_receive.py [--messages 100000] [--repeat 5]

The server is another process on the loopback interface, which writes frames that it made beforehand as fast as they are taken.
Medians; the ratio is by CPU time, because the server shares the machine.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import multiprocessing
import socket
import statistics
import struct
import time
from multiprocessing.connection import Connection

import trio

from raven.feed.transport import DEFAULT_READER, Reader, open_websocket

READERS: tuple[Reader, ...] = ("websockets", "trio-websocket")
SIZES = (120, 2048)
CHUNK_MESSAGES = 64
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def text_frame(size: int) -> bytes:
    payload = b'{"e":"trade","p":"64000.12","x":"' + b"x" * (size - 35) + b'"}'
    assert len(payload) == size
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


def serve(pipe: Connection, size: int) -> None:
    """Serve one client after another: shake hands, then write until it goes away."""
    chunk = text_frame(size) * CHUNK_MESSAGES
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            with client:
                shake_hands(client)
                try:
                    while True:
                        client.sendall(chunk)
                except OSError:
                    continue


def shake_hands(client: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(4096)
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


async def receive(url: str, reader: Reader, messages_max: int) -> tuple[float, float, float]:
    """CPU and wall time per message in microseconds, and messages per call of `receive_bulk`."""
    async with open_websocket(url, reader=reader) as socket:
        await socket.receive_bulk()
        messages = reads = 0
        cpu, wall = time.process_time(), time.perf_counter()
        while messages < messages_max:
            frames, _ = await socket.receive_bulk()
            messages += len(frames)
            reads += 1
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return 1e6 * cpu / messages, 1e6 * wall / messages, messages / reads


def measure(reader: Reader, size: int, messages: int) -> tuple[float, float, float]:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, size), daemon=True)
    server.start()
    try:
        return trio.run(receive, f"ws://127.0.0.1:{ours.recv()}", reader, messages)
    finally:
        server.terminate()
        server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(f"{'bytes':>6} {'reader':<16} {'cpu us/msg':>10} {'wall us/msg':>11} {'msg/read':>9}")
    for size in SIZES:
        cpu: dict[Reader, float] = {}
        for reader in READERS:
            runs = [measure(reader, size, options.messages) for _ in range(options.repeat)]
            cpu[reader], wall, bulk = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{size:>6} {reader:<16} {cpu[reader]:>10.2f} {wall:>11.2f} {bulk:>9.1f}")
        print(f"{size:>6} trio-websocket / websockets = {cpu['trio-websocket'] / cpu['websockets']:.1f}")
    print(f"default reader: {DEFAULT_READER}")


if __name__ == "__main__":
    main()
