"""A plain grpclib server: a queue per call, and `stream.send_message` of the generated message for each event.

With --encoded the message is serialised once for all calls, which plain grpclib does not do.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import grpclib.server
from _board import Board, run_phases
from _meter import pin, tell
from _trades import BURST, encode_trade, make_burst, make_topics, shape_of
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase

from raven.codec.generated.raven import v1
from raven.model.events import Trade

PATH = "/raven.v1.MarketDataService/WatchMarketData"
EPOCH = 1_700_000_000_000


def make_message(number: int) -> v1.WatchMarketDataResponse:
    """The trade of that number, as its generated class."""
    event = make_burst(make_topics(1), number, 1, 1)[0]
    assert isinstance(event.payload, Trade)
    trade = v1.Trade(
        price=event.payload.price,
        size=event.payload.size,
        aggressor=v1.Side(event.payload.aggressor),
        trade_id=event.payload.trade_id,
    )
    topic = v1.Topic(event.topic.venue, event.topic.symbol, v1.Kind(event.topic.kind))
    stamped = v1.MarketEvent(
        topic,
        epoch=EPOCH,
        sequence=number + 1,
        venue_ts_ns=event.venue_ts_ns,
        received_ts_ns=event.received_ts_ns,
        trade=trade,
    )
    return v1.WatchMarketDataResponse([stamped])


class PlainCodec(CodecBase):
    """Generated messages, and bytes for those who serialised them before."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002  the interface
        """Serialise it."""
        return message if isinstance(message, bytes) else bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Parse it."""
        return message_type.FromString(data)


class PlainService:
    """Everyone gets everything."""

    def __init__(self, *, encoded: bool) -> None:
        self._queues: set[asyncio.Queue[Any]] = set()
        self._encoded = encoded
        self._next = 0

    def __mapping__(self) -> dict[str, Handler]:
        return {
            PATH: Handler(
                self.watch_market_data, Cardinality.UNARY_STREAM, v1.WatchMarketDataRequest, v1.WatchMarketDataResponse
            )
        }

    async def watch_market_data(self, stream: Any) -> None:
        """One call."""
        await stream.recv_message()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._queues.add(queue)
        try:
            await stream.send_initial_metadata()
            while True:
                await stream.send_message(await queue.get())
        finally:
            self._queues.discard(queue)

    async def publish(self) -> int:
        """One burst."""
        for number in range(self._next, self._next + BURST):
            message = encode_trade(number, 1) if self._encoded else make_message(number)
            for queue in self._queues:
                queue.put_nowait(message)
        self._next += BURST
        await asyncio.sleep(0)
        return BURST * len(self._queues)


async def serve(board: Board, service: PlainService) -> None:
    """Until the board says END."""
    server = grpclib.server.Server([service], codec=PlainCodec())
    await server.start("127.0.0.1", 0, backlog=1024)
    assert isinstance(server._server, asyncio.Server)
    tell("ready", port=server._server.sockets[0].getsockname()[1], shape=shape_of().facts)
    await run_phases(board, asyncio.sleep, service.publish)


def main() -> None:
    """Parse the command line and go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("board", type=Path)
    parser.add_argument("core", type=int)
    parser.add_argument("--ahead", type=int, default=1, help="of no effect: it joins nothing")
    parser.add_argument("--encoded", action="store_true")
    options = parser.parse_args()
    pin(options.core)
    asyncio.run(serve(Board(options.board), PlainService(encoded=options.encoded)))


if __name__ == "__main__":
    main()
