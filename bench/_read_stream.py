"""One client of one stream: how fast a program gets events out of raven.client, grpcio.aio, or a bare socket.

The first line of its standard input is what it is to do, as JSON: core, how, port, and either first and last (trades that are
warming up, and the count at which it is over; then bookmark) or board (read for ever, and tell there how many came). It tells
"read" with events, wall_s and cpu_s, and with a board "ready" when it is subscribed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from base64 import b64decode
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import trio
from _board import Board
from _counters import GrpcCounter, Shape
from _meter import Meter, pin, tell
from _trades import BURST, VENUE

from raven.client import BatchStream, Client, Event, EventStream, Subscribed, connect
from raven.client.streams import RecordStream

__all__ = ["READERS", "BoardMeter", "count_batches", "count_events"]

READ_BYTES = 256 * 1024
TOPICS = f"{VENUE}/*"


class BoardMeter:
    """In the place of a Meter: tells a board how many came, and never has enough."""

    facts: Mapping[str, Any] = {}

    def __init__(self, board: Board) -> None:
        self._board = board
        self.mark = BURST

    def reach(self, count: int) -> bool:
        """The count is at `mark` or beyond: a whole number of bursts, so that the last one is told."""
        self._board.received = count
        self.mark = (count // BURST + 1) * BURST
        return False


AnyMeter = Meter | BoardMeter
Task = Mapping[str, Any]


# ---- raven.client


async def count_events(stream: EventStream, meter: AnyMeter) -> int:
    """Read trades one by one; the sequence of the last."""
    count = 0
    async for event in stream:
        if event.__class__ is Event:
            count += 1
            if count >= meter.mark and meter.reach(count):
                return event.sequence
    raise RuntimeError(f"the stream ended behind {count} trades")


async def count_batches(stream: BatchStream, meter: AnyMeter) -> int:
    """The same, as they come together."""
    count = 0
    async for batch in stream:
        count += len(batch.events)
        if count >= meter.mark and meter.reach(count):
            return batch.events[-1].sequence
    raise RuntimeError(f"the stream ended behind {count} trades")


async def count_records(stream: RecordStream, meter: AnyMeter) -> int:
    """The same, as Arrow record batches."""
    count = 0
    async for batch in stream:
        count += batch.num_rows
        if count >= meter.mark and meter.reach(count):
            return int(batch.column("sequence")[-1].as_py())
    raise RuntimeError(f"the stream ended behind {count} trades")


def _told(change: object) -> None:
    if isinstance(change, Subscribed):
        tell("ready")


async def read_events(client: Client, task: Task, meter: AnyMeter) -> int:
    """`async for event in client.stream(...)`."""
    stream = client.stream(TOPICS, kinds="trade", images=False, bookmark=b64decode(task["bookmark"]), on_change=_told)
    return await count_events(stream, meter)


async def read_batches(client: Client, task: Task, meter: AnyMeter) -> int:
    """`async for batch in client.batches(...)`."""
    return await count_batches(client.batches(TOPICS, kinds="trade", bookmark=b64decode(task["bookmark"])), meter)


async def read_records(client: Client, task: Task, meter: AnyMeter) -> int:
    """`async for batch in client.record_batches(...)`."""
    return await count_records(client.record_batches(TOPICS, kinds="trade", bookmark=b64decode(task["bookmark"])), meter)


Reading = Callable[[Client, Task, AnyMeter], Awaitable[int]]


def _on(run: Callable[[Callable[[], Coroutine[Any, Any, int]]], int], read: Reading) -> Callable[[Task, AnyMeter], int]:
    def reader(task: Task, meter: AnyMeter) -> int:
        async def main() -> int:
            async with connect(f"127.0.0.1:{task['port']}") as client:
                return await read(client, task, meter)

        return run(main)

    return reader


def _asyncio(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    return asyncio.run(main())


def _uvloop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    import uvloop  # its absence is told by the benchmark

    return int(uvloop.run(main()))


def _trio(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    return trio.run(main)


# ---- others


def read_grpcio(task: Task, meter: AnyMeter) -> int:
    """The generated messages of protobuf, through grpcio.aio."""
    return asyncio.run(_read_grpcio(task, meter))


async def _read_grpcio(task: Task, meter: AnyMeter) -> int:
    import grpc  # type: ignore[import-untyped]
    from _serve_grpcio import METHOD, SERVICE, generated

    count = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{task['port']}") as channel:
        method = channel.unary_stream(
            f"/{SERVICE}/{METHOD}",
            request_serializer=generated("WatchMarketDataRequest").SerializeToString,
            response_deserializer=generated("WatchMarketDataResponse").FromString,
        )
        call = method(generated("WatchMarketDataRequest")())
        await call.initial_metadata()
        tell("ready")
        async for message in call:
            count += len(message.events)
            if count >= meter.mark and meter.reach(count):
                return int(message.events[-1].sequence)
    raise RuntimeError(f"the stream ended behind {count} trades")


def read_raw(task: Task, meter: AnyMeter) -> int:
    """A bare socket, of which events are counted and not read: what the server can give."""
    count = 0
    shape = Shape(task["shape"]["size"], task["shape"]["stamp"], bytes.fromhex(task["shape"]["head"]))
    with socket.create_connection(("127.0.0.1", task["port"])) as connection:
        connection.sendall(bytes.fromhex(task["request"]))
        counter = GrpcCounter(shape, connection.sendall)
        while data := connection.recv(READ_BYTES):
            count += counter.feed(memoryview(data))
            if count >= meter.mark and meter.reach(count):
                return count + 1
    raise RuntimeError(f"the stream ended behind {count} trades")


READERS: Mapping[str, Callable[[Task, AnyMeter], int]] = {
    "aio": _on(_asyncio, read_events),
    "uvloop": _on(_uvloop, read_events),
    "trio": _on(_trio, read_events),
    "batches": _on(_asyncio, read_batches),
    "records": _on(_asyncio, read_records),
    "grpcio": read_grpcio,
    "raw": read_raw,
}


def main() -> None:
    """Read as the task says."""
    task = json.loads(sys.stdin.readline())
    pin(task["core"])
    meter: AnyMeter = BoardMeter(Board(Path(task["board"]))) if "board" in task else Meter(task["first"], task["last"])
    sequence = READERS[task["how"]](task, meter)
    tell("read", sequence=sequence, **meter.facts)


if __name__ == "__main__":
    main()
