"""Ten lines with Raven's own client: `python first.py [host:port]`, until Ctrl-C."""

import sys

import raven.client


async def main():
    async with raven.client.connect(*sys.argv[1:2]) as client:
        async for event in client.stream("sim/BTC-USDT", kinds="trade"):
            if event.trade:
                print(event.sequence, event.trade.price, event.trade.size, flush=True)


try:
    raven.client.run(main)
except KeyboardInterrupt:
    print("stopped")
