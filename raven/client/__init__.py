"""The client library.

import raven.client

async def main():
    async with raven.client.connect("localhost:50051") as client:
        async for event in client.stream("sim/BTC-USDT", kinds="trade,quote"):
            print(event)

raven.client.run(main)
"""

from raven.client.aio import Client, connect, run
from raven.client.selectors import parse_target, selector

__all__ = ["Client", "connect", "parse_target", "run", "selector"]
