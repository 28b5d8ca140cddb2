"""The way of events into the embedded history, without a server: how fast, how large, and the history that is read afterwards.

The first line of standard input is what to do, as JSON: "what" and its arguments (see the functions of WORK). Tells "done".
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
from _history_trades import TradeStream, blocks_in_turn, make_payloads, make_topics
from _meter import pin, tell
from _trades import VENUE

from raven.adapter.batch import Batch, Carry
from raven.adapter.outputs import Established
from raven.broker import Broker, BrokerLimits
from raven.broker.ring import RingLimits
from raven.model.events import Event
from raven.store.blocks import Block
from raven.store.recorder import Recorder
from raven.store.sqlite import SqliteHistory

__all__ = ["disk_bytes", "groups"]

BATCH_EVENTS = 40_000
"""Of one commit, as the recorder hands them over when it is behind (4 MiB)."""
BLOCK_EVENTS = 512
RATE = 10_000.0
IMAGE_S = 300
DAY_S = 86_400.0
PUBLISHED_AT_ONCE = 1_000


def groups(blocks: Iterable[Block], events: int) -> Iterator[list[Block]]:
    """Blocks by so many events."""
    taken: list[Block] = []
    count = 0
    for block in blocks:
        taken.append(block)
        count += block.count
        if count >= events:
            yield taken
            taken, count = [], 0
    if taken:
        yield taken


def disk_bytes(directory: Path) -> int:
    """Of all files."""
    return sum(path.stat().st_size for path in directory.iterdir())


def _block_events(topics: int) -> int:
    return max(1, min(BLOCK_EVENTS, BATCH_EVENTS // topics))


def write_blocks(directory: str, topics: int, events: int) -> dict[str, Any]:
    """Blocks that are there already, until they are committed."""
    batches = list(groups(blocks_in_turn(topics, events, _block_events(topics), RATE), BATCH_EVENTS))
    count = sum(block.count for batch in batches for block in batch)
    history = SqliteHistory(Path(directory))
    began, cpu_s = time.perf_counter(), time.process_time()
    for batch in batches:
        history.write(batch, ())
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    history.close()
    return {"events": count, "wall_s": wall_s, "cpu_s": cpu_s, "bytes": disk_bytes(Path(directory))}


def write_ring(directory: str, topics: int, events: int) -> dict[str, Any]:
    """Events that are in a ring already, until the recorder has them committed."""
    return trio.run(_write_ring, Path(directory), topics, events)


async def _write_ring(directory: Path, topics: int, events: int) -> dict[str, Any]:
    broker = _filled_broker(topics, events)
    history = SqliteHistory(directory)
    recorder = Recorder(history, broker.directory, commit_s=60.0)
    async with trio.open_nursery() as nursery:
        began, cpu_s = time.perf_counter(), time.process_time()
        await nursery.start(recorder.run)
        await recorder.flush()
        while recorder.statistics().behind:
            await recorder.flush()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        nursery.cancel_scope.cancel()
    told = recorder.statistics()
    history.close()
    lost = sum(told.lost.values())
    return {"events": told.events, "wall_s": wall_s, "cpu_s": cpu_s, "lost": lost, "bytes": disk_bytes(directory)}


def _filled_broker(topics: int, events: int) -> Broker:
    ring = RingLimits(events + 4 * topics, 1 << 40, DAY_S)
    broker = Broker(BrokerLimits(ring=ring))
    names, payloads = make_topics(topics), make_payloads()
    broker.publish(Batch(VENUE, [Carry(names), Established(names)]))
    now_ns = time.time_ns()
    for first in range(0, events, PUBLISHED_AT_ONCE):
        numbers = range(first, min(first + PUBLISHED_AT_ONCE, events))
        made = [Event(names[n % topics], payloads[n % len(payloads)], now_ns + n, now_ns + n - 1_000_000) for n in numbers]
        broker.publish(Batch(VENUE, list(made)))
    return broker


def write_paced(directory: str, rates: Sequence[float], seconds: int) -> dict[str, Any]:
    """What a live server leaves on the disk: a commit a second, with a block of each topic of which something came."""
    streams = [
        TradeStream(topic, rate, seed=n) for n, (topic, rate) in enumerate(zip(make_topics(len(rates)), rates, strict=True))
    ]
    start_ns, history, events = int(streams[0]._now_ns), SqliteHistory(Path(directory)), 0
    for second in range(1, seconds + 1):
        found = [block for stream in streams if (block := stream.block_until(start_ns + second * 10**9))]
        blocks = [part for block in found for part in _parts(block)]
        images = [stream.image() for stream in streams if stream.sequence] if second % IMAGE_S == 1 else []
        history.write(blocks, images)
        events += sum(block.count for block in blocks)
    history.close()
    return {"events": events, "bytes": disk_bytes(Path(directory))}


def _parts(block: Block) -> Iterator[Block]:
    """As the recorder cuts it."""
    from raven.store.cutting import cut
    from raven.store.elements import split

    if block.count <= BLOCK_EVENTS:
        yield block
    else:
        yield from cut(block.topic, block.epoch, list(split(block.elements)))


def make_history(directory: str, topics: int, events: int, rate: float) -> dict[str, Any]:
    """What is read afterwards: as many events over as many topics, in the blocks of a commit a second."""
    history = SqliteHistory(Path(directory))
    began = time.perf_counter()
    a_second = max(1, int(rate / topics))
    count, last_ns = 0, 0
    for batch in groups(blocks_in_turn(topics, events, min(BLOCK_EVENTS, a_second), rate), BATCH_EVENTS):
        history.write(batch, ())
        count += sum(block.count for block in batch)
        last_ns = max(last_ns, *(block.last_ts_ns for block in batch))
    history.close()
    return {"events": count, "last_ns": last_ns, "wall_s": time.perf_counter() - began, "bytes": disk_bytes(Path(directory))}


WORK: Mapping[str, Callable[..., dict[str, Any]]] = {
    "blocks": write_blocks,
    "ring": write_ring,
    "paced": write_paced,
    "make": make_history,
}


def main() -> None:
    """Do what the first line says."""
    task = json.loads(sys.stdin.readline())
    pin(task.pop("core"))
    tell("done", **WORK[task.pop("what")](**task), rss_max=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main()
