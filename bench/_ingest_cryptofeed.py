"""cryptofeed's side of `ingest.py`: its Binance feed as it comes, with callbacks that only count. Runs in its own environment.

python _ingest_cryptofeed.py WORKLOAD PORT EVENTS WARMUP CORE
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from _meter import Meter, pin, tell
from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, WebsocketEndpoint
from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.exchanges import Binance

CHANNELS = {"trades": TRADES, "depth": L2_BOOK}


def local_binance(port: int) -> type[Binance]:
    """Its Binance with other addresses. It refuses ws://, so the address is set afterwards: there is no TLS on either side."""

    class LocalBinance(Binance):
        websocket_endpoints = [WebsocketEndpoint(f"wss://127.0.0.1:{port}")]  # noqa: RUF012
        rest_endpoints = [RestEndpoint(f"http://127.0.0.1:{port}", routes=Binance.rest_endpoints[0].routes)]  # noqa: RUF012

        def connect(self):
            connections = super().connect()
            for connection, _, _ in connections:
                connection.address = connection.address.replace("wss://", "ws://", 1)
            return connections

    return LocalBinance


def main() -> None:
    workload, (port, events, warmup, core) = sys.argv[1], map(int, sys.argv[2:6])
    pin(core)
    meter = Meter(warmup, events)
    seen = -1  # the first call is the primer's

    async def count(event, _received_s):
        nonlocal seen
        seen += 1
        if not seen:
            tell("ready")
        elif seen == meter.mark and meter.reach(seen):
            finish(event, meter)

    channel = CHANNELS[workload]
    handler = FeedHandler(config={"log": {"disabled": True}})
    handler.add_feed(local_binance(port)(symbols=["BTC-USDT"], channels=[channel], callbacks={channel: count}))
    handler.run()


def finish(event, meter: Meter) -> None:
    """Tell what it took and be gone: its orderly end belongs to nothing that is measured."""
    facts = {}
    if hasattr(event, "book"):
        bids, asks = event.book.bids, event.book.asks
        facts = {"best": (float(bids.index(0)[0]), float(asks.index(0)[0])), "levels": len(bids) + len(asks)}
    tell("done", program=f"cryptofeed {version('cryptofeed')}", **meter.facts, **facts)
    os._exit(0)


if __name__ == "__main__":
    main()
