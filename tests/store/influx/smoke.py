"""An InfluxDB of whoever runs this: every kind of event is written into it and read back, and it is said whether that held.

    INFLUXDB_URL=http://127.0.0.1:8086 INFLUXDB_TOKEN=... INFLUXDB_ORG=... INFLUXDB_BUCKET=... \\
        python -m tests.store.influx.smoke

The points have the venue "raven-smoke" and the time of the run.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from raven.config import load_config
from raven.errors import RavenError
from raven.model.topic import Topic
from raven.store.blocks import Block, TimeRange
from raven.store.config import HistoryConfig
from raven.store.influx import open_influx_history
from tests.store.influx.samples import PAYLOADS, block_of, event, image_of, trades

__all__ = ["smoke"]

VENUE = "raven-smoke"


def _blocks(now_ns: int) -> list[Block]:
    """A block of each sample in a topic of its own, and one of a thousand trades in one nanosecond."""
    blocks = []
    for number, (kind, variant, payload) in enumerate(PAYLOADS):
        topic = Topic(VENUE, f"S{number}", kind, variant)
        blocks.append(block_of(topic, [event(topic, payload, now_ns, now_ns - 5)], epoch=now_ns // 1_000_000))
    many = blocks[0].topic._replace(symbol="MANY")
    return [*blocks, block_of(many, trades(1_000, now_ns, 0, many), epoch=now_ns // 1_000_000)]


async def smoke(config: HistoryConfig, directory: Path) -> list[str]:
    """What did not hold; empty when all is well."""
    now_ns = time.time_ns()
    blocks = _blocks(now_ns)
    image = image_of(blocks[0].topic, PAYLOADS[0][2], 1, now_ns)
    within = TimeRange(now_ns - 1_000_000_000, now_ns + 1_000_000_000)
    async with open_influx_history(config, directory) as history:
        await trio.to_thread.run_sync(history.write, blocks, [image])
        with trio.move_on_after(30):
            await history.flush()
        [endpoint] = history.endpoints()
        if endpoint.waits or endpoint.points_rejected:
            return [f"not everything was taken: {attrs.asdict(endpoint)}"]

        def read() -> list[str]:
            wrong = [] if {block.topic for block in blocks} <= set(history.topics(within)) else ["topics are missing"]
            for block in blocks:
                found = b"".join(each.elements for each in history.blocks(block.topic, within))
                wrong += [] if found == block.elements else [f"{block.topic}: what is read is not what was written"]
            again = history.image(image.topic, now_ns + 1)
            return wrong if again == image else [*wrong, "the image that is read is not the one that was written"]

        return await trio.to_thread.run_sync(read)


def main(environ: Mapping[str, str]) -> int:
    """The exit code."""
    config = load_config(None, environ, directory=Path("/nonexistent")).value.history
    if len(config.influxdb) != 1:
        print("INFLUXDB_URL is not set")
        return 2
    with tempfile.TemporaryDirectory() as directory:
        try:
            wrong = trio.run(smoke, config, Path(directory))
        except* RavenError as group:
            wrong = [str(error) for error in group.exceptions]
    print("\n".join(wrong) or f"{config.influxdb[0].url}: every kind of event was written and read back")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
