"""A raw reader: one call whose answer is events of one size, from a bare socket; they are counted and not read.

The first line of standard input is what to read, as JSON (see `main`). Tells "begun" when the first event came, and "read" with
events, messages, wall_s from the request to the last event, cpu_s, and the last bytes of the last message.
"""

from __future__ import annotations

import json
import socket
import sys
import time

from _counters import GrpcCounter, Shape, elements
from _handshakes import WINDOW, _call
from _meter import pin, tell

from raven.codec.generated.raven import v1

__all__ = ["HistoryCounter", "count_even", "history_request"]

READ_BYTES = 1024 * 1024
EVENTS_TAG, TOKEN_TAG, SENT_TAG = 0x0A, 0x12, 0x79
END_COMPLETE = b"\x18\x01\x20\x01"


def history_request(venue: str, symbol: str, start_ns: int, end_ns: int, replay_speed: float = 0.0) -> bytes:
    """GetHistoricalData of trades, as it goes over the wire."""
    selector = v1.TopicSelector(venue, symbol, [v1.Kind.TRADE])
    request = v1.GetHistoricalDataRequest(
        selectors=[selector], start_ts_ns=start_ns, end_ts_ns=end_ns, replay_speed=replay_speed
    )
    return _call("/raven.v1.MarketDataService/GetHistoricalData", [bytes(request)], WINDOW, end=True)


def count_even(message: bytes, head: bytes, size: int) -> int | None:
    """Events of a message that begins with elements of one size, behind which other fields stand; None if it does not."""
    count = len(message) // size
    while count and len(message) > count * size and message[count * size] not in (TOKEN_TAG, SENT_TAG):
        count -= 1
    span = count * size
    even = all(message[at:span:size].count(byte) == count for at, byte in enumerate(head))
    return count if even and message[span : span + 1] != bytes((EVENTS_TAG,)) else None


class HistoryCounter(GrpcCounter):
    """As its base, for messages with a page token behind their events."""

    last = b""

    def _count_message(self, message: bytes) -> int:
        self.messages += 1
        self.last = message[-len(END_COMPLETE) :]
        count = count_even(message, self._head, self._size)
        if count is None:
            return sum(len(element) == self._size and element.startswith(self._head) for element in elements(message))
        return count


def read(port: int, request: bytes, shape: Shape, enough: int = 0) -> dict[str, object]:
    """Until the call ends, or `enough` events came."""
    buffer, count, first_s = memoryview(bytearray(READ_BYTES)), 0, 0.0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        counter = HistoryCounter(shape, connection.sendall)
        began_s = last_s = time.perf_counter()
        cpu_s = time.process_time()
        connection.sendall(request)
        while not counter.ended and (not enough or count < enough) and (size := connection.recv_into(buffer)):
            counted = counter.feed(buffer[:size])
            if counted:
                last_s = time.perf_counter()
                if not count:
                    first_s = last_s - began_s
                    tell("begun")
                count += counted
    facts = {"events": count, "messages": counter.messages, "wall_s": last_s - began_s, "first_s": first_s}
    return {**facts, "cpu_s": time.process_time() - cpu_s, "ended": counter.ended, "complete": counter.last == END_COMPLETE}


def main() -> None:
    """Read the task: core, port, request (hex), shape, enough."""
    task = json.loads(sys.stdin.readline())
    pin(task["core"])
    shape = Shape(task["shape"]["size"], task["shape"]["stamp"], bytes.fromhex(task["shape"]["head"]))
    tell("read", **read(task["port"], bytes.fromhex(task["request"]), shape, task.get("enough", 0)))


if __name__ == "__main__":
    main()
