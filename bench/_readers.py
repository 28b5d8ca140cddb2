"""The load: many raw connections read by one thread, the same program for Raven and for every peer. Only the standard library.

Started as a program. The first line of its standard input is what it is to do, as JSON (see `main`); "ready" is told when every
connection is subscribed. Then one command a line: drain, stall, latencies. It ends with its standard input.

While it counts it writes the sum into the board, which is the credit of whoever makes the events.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
from collections import Counter as Counts
from contextlib import suppress
from pathlib import Path
from typing import Any

from _board import Board
from _counters import Counter, FixedCounter, GrpcCounter, Shape
from _meter import pin, tell

__all__ = ["Readers", "quantiles"]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
BUFFER_BYTES = 256 * 1024
RECORD_BYTES_MAX = 16 * 1024  # RFC 8446, 5.1
CONNECT_S = 60.0
IN_FLIGHT_MAX = 50  # connections that are made at once; a server's backlog is finite
QUIET_S = 5.0
"""Nothing came for so long: nothing more will, and something is missing."""
GATHER_S = 100e-6
"""Pause between two looks when events are only counted: one thread reads for a hundred clients, and must not be what limits."""
SETTLED_S = 0.001
"""Latencies are worked out when nothing came for so long, so that this does not delay what follows."""


class TlsSocket:
    """TLS over a connected socket, which is read in large pieces: `ssl.SSLSocket` asks the system twice for each record."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._encrypted = memoryview(bytearray(BUFFER_BYTES))
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(self._outgoing.read())
                self._incoming.write(plain.recv(BUFFER_BYTES))
            else:
                plain.sendall(self._outgoing.read())
                break

    def fileno(self) -> int:
        """Of the socket below."""
        return self._plain.fileno()

    def setblocking(self, flag: bool) -> None:
        """From then on."""
        self._plain.setblocking(flag)

    def sendall(self, data: bytes) -> None:
        """Encrypted."""
        self._tls.write(data)
        self._plain.sendall(self._outgoing.read())

    send = sendall

    def recv_into(self, buffer: memoryview) -> int:
        """All that is there and fits; 0 at the end. Raises SSLWantReadError where there is nothing yet."""
        size, came = 0, -1
        with suppress(BlockingIOError):  # what came before may not have fitted
            came = self._plain.recv_into(self._encrypted)
            self._incoming.write(self._encrypted[:came])
        while len(buffer) - size >= RECORD_BYTES_MAX:
            try:
                size += self._tls.read(len(buffer) - size, buffer[size:])
            except ssl.SSLWantReadError:
                break
        if not size and came:
            raise ssl.SSLWantReadError
        return size


class Reader:
    """One connection."""

    def __init__(self, port: int, greeting: dict[str, Any], shape: Shape, tls: ssl.SSLContext | None, receive: int) -> None:
        plain = socket.socket()
        if receive:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        plain.connect(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if tls is None else TlsSocket(plain, tls)
        self._messages = greeting["messages"]
        self.counter: Counter
        if greeting["grpc"]:
            self.counter = GrpcCounter(shape, self.socket.send)
        else:
            stamp = greeting["before"] + shape.stamp
            self.counter = FixedCounter(greeting["size"], stamp, bytes.fromhex(greeting["answer"]))
        self.socket.sendall(bytes.fromhex(greeting["request"]))
        self.socket.setblocking(False)

    @property
    def subscribed(self) -> bool:
        """Whether events come from now on."""
        return self.counter.started and self.counter.messages >= self._messages


class Readers:
    """All connections of a run."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._task = task
        self._board = Board(Path(task["board"]))
        self._shape = Shape(task["shape"]["size"], task["shape"]["stamp"], bytes.fromhex(task["shape"]["head"]))
        self._readers: dict[int, Reader] = {}
        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._total = 0
        self._last_ns = 0
        self._cpu_s = 0.0
        self._arrived: list[tuple[Counter, int, bytes]] = []  # not looked into yet
        self._latencies = Counts[int]()  # deliveries by us

    def connect(self) -> None:
        """All of them, until they are subscribed."""
        tls = _client_tls() if self._task["tls"] else None
        greetings, waiting = self._task["greetings"], set[int]()
        deadline = time.monotonic() + CONNECT_S
        for number in range(self._task["clients"]):
            receive = 0 if number else self._task["first_receive_bytes"]
            reader = Reader(self._task["port"], greetings[number % len(greetings)], self._shape, tls, receive)
            self._readers[reader.socket.fileno()] = reader
            self._epoll.register(reader.socket, select.EPOLLIN)
            waiting.add(reader.socket.fileno())
            self._wait(waiting, IN_FLIGHT_MAX, deadline)
        self._wait(waiting, 0, deadline)

    def _wait(self, waiting: set[int], left: int, deadline: float) -> None:
        while len(waiting) > left:
            self._read(0.1)
            waiting.difference_update([number for number in waiting if self._readers[number].subscribed])
            if time.monotonic() > deadline or self._ended():
                raise RuntimeError(f"{len(waiting)} of {len(self._readers)} are not subscribed: {self._ended()[:3]}")

    def run(self) -> None:
        """Read until standard input ends."""
        self._epoll.register(sys.stdin, select.EPOLLIN)
        stamped = self._task["stamps"]
        while True:
            if stamped:
                self._read_stamped(SETTLED_S if self._arrived else 1.0)
            else:
                self._read(1.0)
                time.sleep(GATHER_S)
            if self._command_waits:
                line = sys.stdin.readline()
                if not line:
                    return
                command = json.loads(line)
                tell("answer", **getattr(self, command.pop("word"))(**command))
                self._command_waits = False

    _command_waits = False

    def _read(self, wait_s: float) -> None:
        """What is there, counted."""
        buffer, readers, stdin = self._buffer, self._readers, sys.stdin.fileno()
        counted = 0
        for number, _ in self._epoll.poll(wait_s, 1024):
            if number == stdin:
                self._command_waits = True
                continue
            reader = readers[number]
            size = self._receive(reader, buffer)
            if size:
                counted += reader.counter.feed(buffer[:size])
        if counted:
            self._last_ns = time.monotonic_ns()
            self._total += counted
            self._board.received = self._total

    def _receive(self, reader: Reader, buffer: memoryview) -> int:
        try:
            size = reader.socket.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            size, reader.counter.ended = 0, str(error)
        if not size:
            reader.counter.ended = reader.counter.ended or "the server closed the connection"
            self._epoll.unregister(reader.socket)
        return size

    def _read_stamped(self, wait_s: float) -> None:
        """What is there, with the time at which it was read; looked into when nothing more comes."""
        ready = self._epoll.poll(wait_s, 1024)
        for number, _ in ready:
            if number == sys.stdin.fileno():
                self._command_waits = True
                continue
            reader = self._readers[number]
            size = self._receive(reader, self._buffer)
            if size:
                self._arrived.append((reader.counter, time.time_ns(), bytes(self._buffer[:size])))
        if not ready:
            self._look_into()

    def _look_into(self) -> None:
        for counter, read_ns, data in self._arrived:
            counter.stamps = []
            self._total += counter.feed(memoryview(data))
            self._latencies.update([(read_ns - sent_ns) // 1000 for sent_ns in counter.stamps])
            self._last_ns = read_ns
        self._arrived.clear()
        self._board.received = self._total

    # ---- commands

    def drain(self, expected: int) -> dict[str, object]:
        """Go on until so many deliveries came since the last drain, or nothing more comes."""
        before = self._drained
        quiet_at = time.monotonic() + QUIET_S
        while self._total - before < expected and time.monotonic() < quiet_at:
            total = self._total
            self._read(0.1)
            time.sleep(GATHER_S)
            if self._total > total:
                quiet_at = time.monotonic() + QUIET_S
        self._drained = self._total
        cpu_s, self._cpu_s = self._cpu_s, time.process_time()
        return {
            "deliveries": self._total - before,
            "last_ns": self._last_ns,
            "messages": sum(reader.counter.messages for reader in self._readers.values()),
            "cpu_s": self._cpu_s - cpu_s,
            "ended": self._ended(),
        }

    _drained = 0

    def stall(self) -> dict[str, object]:
        """The first one reads no more."""
        self._epoll.unregister(next(iter(self._readers.values())).socket)
        return {}

    def latencies(self, expected: int) -> dict[str, object]:
        """Of all events and connections since the last time, in us, as soon as there are so many or nothing more comes."""
        quiet_at = time.monotonic() + QUIET_S
        while self._latencies.total() < expected and time.monotonic() < quiet_at:
            self._read_stamped(SETTLED_S)
            if self._arrived:
                quiet_at = time.monotonic() + QUIET_S
        found, self._latencies = self._latencies, Counts()
        return {"count": found.total(), "ended": self._ended(), **quantiles(found)}

    def _ended(self) -> list[str]:
        return [reader.counter.ended for reader in self._readers.values() if reader.counter.ended]


def quantiles(latencies: Counts[int]) -> dict[str, int]:
    """Of values that came so and so often; none of nothing."""
    found: dict[str, int] = {}
    left = {name: part * latencies.total() for name, part in QUANTILES.items()}
    seen = 0
    for value in sorted(latencies):
        seen += latencies[value]
        found.update({name: value for name, rank in left.items() if name not in found and seen >= rank})
    return found


def _client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # made for this run; nobody vouches for it
    context.set_alpn_protocols(["h2"])
    return context


def main() -> None:
    """Read the task: core, board, port, clients, greetings, shape, stamps, tls, first_receive_bytes."""
    task = json.loads(sys.stdin.readline())
    pin(task["core"])
    readers = Readers(task)
    readers.connect()
    tell("ready")
    readers.run()


if __name__ == "__main__":
    main()
