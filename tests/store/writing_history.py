"""A server's history without the server: events through a broker and a recorder into a data directory, until it is killed.

`python -m tests.store.writing_history DIRECTORY` begins an epoch, and prints a line "topic sequence" for each commit that has
returned: so much must be there, whatever happens next.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import trio

from raven.adapter import Established, Event
from raven.adapter.batch import Batch, Carry
from raven.broker import Broker, BrokerLimits
from raven.model.events import BookDelta, BookSnapshot, Trade
from raven.model.topic import Kind, Topic
from raven.store.recorder import Recorder
from raven.store.sqlite import SqliteHistory

TOPICS = [Topic("sim", symbol, Kind.TRADE) for symbol in ("BTC-USDT", "ETH-USDT", "SOL-USDT")]
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)
EVENTS = 400  # between two commits
STEP_NS = 3600 * 10**9  # an hour goes by between two commits: days begin, too


async def write(directory: Path) -> None:
    """Until killed."""
    broker = Broker(BrokerLimits())
    broker.publish(Batch("sim", [Carry([*TOPICS, BOOK]), Established(TOPICS)]))
    history = SqliteHistory(directory)
    recorder = Recorder(history, broker.directory, commit_s=60, image_s=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        at = time.time_ns()
        broker.publish(Batch("sim", [Event(BOOK, BookSnapshot([1.0], [1.0], [900.0], [1.0]), at)]))
        while True:
            at += STEP_NS
            for number in range(EVENTS // 4):
                trades = [Event(topic, Trade(100.0, 1.0, 1, str(at + number)), at + number) for topic in TOPICS]
                change = Event(BOOK, BookDelta([1.0 + number], [at / 1e18], [], []), at + number)
                broker.publish(Batch("sim", [*trades, change]))
            await recorder.flush()
            state = broker.directory.find(TOPICS[0])
            assert state is not None
            print(state.epoch, state.sequence, flush=True)


if __name__ == "__main__":
    trio.run(write, Path(sys.argv[1]))
