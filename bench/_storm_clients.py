"""The crowd: raw connections, one a client, that are cut all at once and come back, each behind its bookmark.

The first line of its standard input is what it is to do, as JSON: core, port, clients, topics (names), topics_each. Every
second client has everything by a wildcard, the others so many topics by name, a subscription each. "ready" is told when all
are subscribed. Then one command a line: storm, finish. It ends with its standard input.
"""

from __future__ import annotations

import gc
import heapq
import json
import select
import socket
import sys
import time
from collections.abc import Mapping
from random import Random
from struct import Struct
from typing import Any

import _handshakes
from _meter import pin, tell
from _programs import allow_files
from _storm_record import Findings, Record, TopicReader
from _trades import VENUE

__all__ = ["StormClient", "percentiles"]

READ_BYTES = 256 * 1024
CONNECT_S = 280.0
BOOKMARK_S = 60.0
IN_FLIGHT_MAX = 50
"""Connections that are made at once before the storm."""
RETRY_S = 0.25
"""One that was sent away comes back so much later."""
RECOVER_S = 60.0
SPARE_FILES = 200
_HEAD = Struct(">HBBBI").unpack_from  # RFC 9113, 4.1: length in 24 bits, type, flags, stream
_RESET = Struct("ii").pack(1, 0)  # SO_LINGER: closed at once, and the peer is told by a reset
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
ACK, END_STREAM = 1, 1
SETTINGS_ACK = bytes((0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0))


class StormClient:
    """One client over all of its streams. Just enough HTTP/2 for windows that never close."""

    def __init__(self, number: int, selectors: list[tuple[str, str]]) -> None:
        self.client_id = f"storm-{number}"
        self.selectors = selectors
        self.record = Record()
        self.bookmark = b""
        self.socket: socket.socket | None = None
        self.dropped_ns = self.began_ns = self.whole_ns = 0
        self.ended = ""
        self.request = b""
        self._reset()

    def _reset(self) -> None:
        self._rest, self._message = b"", bytearray()
        self._statuses, self._topics = 0, -1
        self.whole_ns = 0
        self.ended = ""

    def prepare(self) -> None:
        """The beginning of the next stream, made beforehand: real clients have a processor of their own."""
        self.request = bytes.fromhex(
            _handshakes.raven(self.selectors, client_id=self.client_id, bookmark=self.bookmark).request
        )

    def drop(self) -> None:
        """Cut the connection, as a machine that dies does."""
        if self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.socket.close()
            self.socket = None

    def connect(self, port: int) -> socket.socket:
        """Begin a new connection and stream."""
        self._reset()
        self.record.begin()
        self.began_ns = time.monotonic_ns()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        return self.socket

    def greet(self) -> None:
        """The connection stands."""
        assert self.socket is not None
        try:
            if self.socket.send(self.request) < len(self.request):
                self.ended = "the socket did not take the request"
        except OSError as error:
            self.ended = str(error)

    def receive(self, buffer: memoryview, reader: TopicReader) -> None:
        """What has come."""
        assert self.socket is not None
        try:
            size = self.socket.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.ended = str(error)
            return
        if not size:
            self.ended = self.ended or "the server closed the connection"
            return
        data = self._rest + buffer[:size] if self._rest else bytes(buffer[:size])
        at = 0
        while at + 9 <= len(data):
            high, low, kind, flags, _ = _HEAD(data, at)
            end = at + 9 + (high << 8 | low)
            if end > len(data):
                break
            self._take(kind, flags, data[at + 9 : end], reader)
            at = end
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, payload: bytes, reader: TopicReader) -> None:
        if kind == DATA:
            self._message += payload
            self._cut(reader)
        elif kind == SETTINGS and not flags & ACK:
            self._answer(SETTINGS_ACK)
        elif kind == PING and not flags & ACK:
            self._answer(bytes((0, 0, 8, PING, ACK, 0, 0, 0, 0)) + payload)
        elif kind in (RST_STREAM, GOAWAY) or (kind == HEADERS and flags & END_STREAM):
            self.ended = self.ended or {RST_STREAM: "reset", GOAWAY: "GOAWAY"}.get(kind, "trailers")

    def _answer(self, frame: bytes) -> None:
        assert self.socket is not None
        try:
            self.socket.send(frame)
        except OSError as error:
            self.ended = str(error)

    def _cut(self, reader: TopicReader) -> None:
        """The whole messages of what has come."""
        kept = self._message
        while len(kept) >= 5 and len(kept) >= (end := 5 + int.from_bytes(kept[1:5], "big")):
            told = reader.read(bytes(kept[5:end]))
            del kept[:end]
            self.record.put(told)
            self.bookmark = told.bookmark or self.bookmark
            self.ended = self.ended or told.goodbye
            if told.answer is not None:
                self._topics = told.answer.topics
                if not told.answer.accepted:
                    self.ended = "a subscription was refused"
            if not self.whole_ns:
                self._statuses += sum(element.mark == "status" for element in told.elements)
                if 0 <= self._topics <= self._statuses:
                    self.whole_ns = time.monotonic_ns()


class Crowd:
    """All clients of a run."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        random, names, each = Random(7), task["topics"], task["topics_each"]
        everything = [(VENUE, "*")]
        self._port = task["port"]
        self._clients = [
            StormClient(
                number, everything if number % 2 or not each else [(VENUE, name) for name in random.sample(names, each)]
            )
            for number in range(task["clients"])
        ]
        self._names = names
        self._by_file: dict[int, StormClient] = {}
        self._epoll = select.epoll()
        self._reader = TopicReader()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._random = random
        self._command_waits = False
        self._gone: list[StormClient] = []

    # ---- sockets

    def _begin(self, client: StormClient) -> None:
        file = client.connect(self._port).fileno()
        self._by_file[file] = client
        self._epoll.register(file, select.EPOLLOUT)

    def _drop(self, client: StormClient) -> None:
        if client.socket is not None:
            del self._by_file[client.socket.fileno()]
            client.drop()

    def _look(self, wait_s: float) -> None:
        """What is there."""
        for file, events in self._epoll.poll(max(wait_s, 0.0), 1024):
            client = self._by_file.get(file)
            if client is None:
                self._command_waits = True
                continue
            if events & select.EPOLLOUT:
                client.greet()
                self._epoll.modify(file, select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                client.receive(self._buffer, self._reader)
            if client.ended:
                self._drop(client)
                self._gone.append(client)

    def connect(self) -> None:
        """All of them, until they are subscribed."""
        deadline, waiting = time.monotonic() + CONNECT_S, list[StormClient]()
        for client in self._clients:
            client.prepare()
            self._begin(client)
            waiting.append(client)
            while len(waiting) > IN_FLIGHT_MAX or (client is self._clients[-1] and waiting):
                self._look(0.1)
                waiting = [one for one in waiting if not one.whole_ns]
                if self._gone or time.monotonic() > deadline:
                    raise RuntimeError(f"{len(waiting)} are not subscribed: {[one.ended for one in self._gone[:3]]}")

    def run(self) -> None:
        """Read until standard input ends."""
        self._epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            self._look(1.0)
            if self._command_waits:
                line = sys.stdin.readline()
                if not line:
                    return
                command = json.loads(line)
                tell("answer", **getattr(self, command.pop("word"))(**command))
                self._command_waits = False

    # ---- commands

    def await_bookmarks(self) -> dict[str, object]:
        """Until each client has one."""
        deadline = time.monotonic() + BOOKMARK_S
        while (without := sum(not client.bookmark for client in self._clients)) and time.monotonic() < deadline:
            self._look(0.1)
        return {"without": without, "gone": [client.ended for client in self._gone[:3]]}

    def storm(self, spread_s: float) -> dict[str, object]:
        """Cut all of them at once; each comes back some time within `spread_s`. Until all are whole."""
        for client in self._clients:
            client.prepare()
            self._look(0.0)
        cpu_s, begun = time.process_time(), time.monotonic_ns()
        due: list[tuple[int, int]] = []
        for number, client in enumerate(self._clients):
            self._drop(client)
            client.dropped_ns = time.monotonic_ns()
            client.whole_ns = 0
            heapq.heappush(due, (client.dropped_ns + round(self._random.uniform(0.0, spread_s) * 1e9), number))
        refused = self._come_back(due, begun + round((spread_s + RECOVER_S) * 1e9))
        whole = [client for client in self._clients if client.whole_ns]
        last_ns = max((client.whole_ns for client in whole), default=begun)
        return {
            "recovered": len(whole),
            "refused": len(refused),
            "reasons": sorted(set(refused))[:5],
            "from_drop_s": percentiles([(client.whole_ns - client.dropped_ns) / 1e9 for client in whole]),
            "from_attempt_s": percentiles([(client.whole_ns - client.began_ns) / 1e9 for client in whole]),
            "wall_s": (last_ns - begun) / 1e9,
            "cpu_s": time.process_time() - cpu_s,
        }

    def _come_back(self, due: list[tuple[int, int]], deadline_ns: int) -> list[str]:
        """Begin again those whose time has come, until all are whole; why some were sent away."""
        refused: list[str] = []
        numbers = {client: number for number, client in enumerate(self._clients)}
        waiting = len(self._clients)
        while waiting and (now := time.monotonic_ns()) < deadline_ns:
            while due and due[0][0] <= now:
                self._begin(self._clients[heapq.heappop(due)[1]])
                now = time.monotonic_ns()
                self._look(0.0)
            self._look(min((due[0][0] - now) / 1e9, 0.05) if due else 0.05)
            for client in self._gone:
                refused.append(client.ended)
                heapq.heappush(due, (time.monotonic_ns() + round(RETRY_S * 1e9), numbers[client]))
            self._gone.clear()
            if not due:
                waiting = sum(not client.whole_ns for client in self._clients)
        return refused

    def finish(self, sequences: dict[str, int], wait_s: float) -> dict[str, object]:
        """Read what is under way, then look whether each client has everything once."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            self._look(0.1)
        findings = Findings()
        for client in self._clients:
            wanted = self._names if client.selectors[0][1] == "*" else [symbol for _, symbol in client.selectors]
            client.record.check({symbol: sequences[symbol] for symbol in wanted}, findings)
        return {**vars(findings), "gone": [client.ended for client in self._gone]}


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and max; zeros of nothing."""
    ordered = sorted(values) or [0.0]
    return {name: ordered[min(int(part * len(ordered)), len(ordered) - 1)] for name, part in PARTS.items()}


PARTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def main() -> None:
    """Read the task and obey."""
    task = json.loads(sys.stdin.readline())
    pin(task["core"])
    allow_files(task["clients"] + SPARE_FILES)
    gc.disable()  # there are no cycles, and millions of objects
    crowd = Crowd(task)
    crowd.connect()
    tell("ready")
    crowd.run()


if __name__ == "__main__":
    main()
