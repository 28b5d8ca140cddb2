"""A plain grpcio.aio server: a queue per call, and `context.write` of the generated message for each event."""

from __future__ import annotations

import asyncio
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from _board import Board, run_phases
from _meter import pin, tell
from _trades import BURST, encode_trade, shape_of
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet

SERVICE, METHOD = "raven.v1.MarketDataService", "WatchMarketData"


@cache
def contract() -> descriptor_pool.DescriptorPool:
    """A pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(files("raven.codec.generated").joinpath("raven.binpb").read_bytes()).file:
        pool.Add(file)
    return pool


def generated(name: str) -> Any:
    """protobuf's class of one of our messages."""
    return message_factory.GetMessageClass(contract().FindMessageTypeByName(f"raven.v1.{name}"))


class PlainService:
    """Everyone gets everything."""

    def __init__(self) -> None:
        self._response = generated("WatchMarketDataResponse")
        self._queues: set[asyncio.Queue[Any]] = set()
        self._next = 0
        method = grpc.unary_stream_rpc_method_handler(
            self.watch_market_data,
            request_deserializer=generated("WatchMarketDataRequest").FromString,
            response_serializer=self._response.SerializeToString,
        )
        self.handler = grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def watch_market_data(self, _request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """One call."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._queues.add(queue)
        try:
            await context.send_initial_metadata(())
            while True:
                await context.write(await queue.get())
        finally:
            self._queues.discard(queue)

    async def publish(self) -> int:
        """One burst."""
        for number in range(self._next, self._next + BURST):
            message = self._response.FromString(encode_trade(number, 1))
            for queue in self._queues:
                queue.put_nowait(message)
        self._next += BURST
        await asyncio.sleep(0)
        return BURST * len(self._queues)


async def serve(board: Board) -> None:
    """Until the board says END."""
    server, service = grpc.aio.server(), PlainService()
    server.add_generic_rpc_handlers((service.handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell("ready", port=port, shape=shape_of().facts)
    await run_phases(board, asyncio.sleep, service.publish)
    await server.stop(None)


def main() -> None:
    """Serve until the board says END."""
    pin(int(sys.argv[2]))
    asyncio.run(serve(Board(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
