"""What it costs a client to read events: the same messages by Raven's decoder, as Arrow record batches, and by betterproto2.

    python bench/client_decode.py [--events 100000] [--topics 10]

Prints events a second of processor time of each, best of some rounds. There is no
network: this is what a stream costs beside its socket.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from raven.client.core import EventReader
from raven.client.tracking import Tracker
from raven.codec.encoder import TopicEncoder, sent_ts
from raven.codec.generated.raven import v1
from raven.model.events import Event, Quote, Side, Trade
from raven.model.topic import Kind, Topic

EVENTS_A_MESSAGE = 1_000
ROUNDS = 5
MESSAGES_A_READ = 3
"""So many fit into what one read of the socket brings; they become one record batch of each kind."""


def messages(events: int, topics: int) -> list[bytes]:
    """Trades and quotes, one in four a quote, of `topics` topics in turn, as a server sends them."""
    names = [Topic("sim", f"S{number}-USDT", kind) for number in range(topics) for kind in (Kind.TRADE,) * 3 + (Kind.QUOTE,)]
    unique = list(dict.fromkeys(names))
    encoders = {topic: TopicEncoder(topic, 1_700_000_000_000) for topic in unique}
    sequences = dict.fromkeys(unique, 0)
    elements: list[bytes] = []
    for number in range(events):
        topic = names[number % len(names)]
        sequences[topic] += 1
        stamp = 1_700_000_000_000_000_000 + number
        payload = (
            Trade(64000.5, 0.25, Side.BUY, str(4_000_000_000 + number))
            if topic.kind is Kind.TRADE
            else Quote(64000.1, 2.0, 64000.2, 1.5)
        )
        elements.append(encoders[topic].encode(Event(topic, payload, stamp, stamp), sequences[topic]))
    return [b"".join(elements[at : at + EVENTS_A_MESSAGE]) + sent_ts(1) for at in range(0, events, EVENTS_A_MESSAGE)]


def by_raven(data: Sequence[bytes]) -> int:
    """As `client.stream` reads them: decoded, and held against the sequence of their topic."""
    reader, tracker = EventReader(), Tracker()
    return sum(len(reader.read(message, tracker)[0]) for message in data)


def by_arrow(data: Sequence[bytes]) -> int:
    """As `client.record_batches` reads them."""
    from raven.client.arrow import RecordBuffer, RecordReader

    reader, tracker = RecordReader(), Tracker()
    buffer = RecordBuffer(reader, len(data) * EVENTS_A_MESSAGE)
    rows = 0
    for at in range(0, len(data), MESSAGES_A_READ):
        for message in data[at : at + MESSAGES_A_READ]:
            buffer.put(reader.read(message, tracker)[0])
        while (item := buffer.take()) is not None:
            rows += item.num_rows
    return rows


def by_betterproto(data: Sequence[bytes]) -> int:
    """By the generated code."""
    return sum(len(v1.StreamMarketDataResponse.parse(message).events) for message in data)


def measure(name: str, read: Callable[[Sequence[bytes]], int], data: Sequence[bytes], events: int) -> None:
    """Print the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        started = time.process_time()
        count = read(data)
        best = max(best, count / (time.process_time() - started))
        assert count == events, f"{name} has read {count} of {events} events"
    print(f"{name:<14} {best:>12,.0f} events/s")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--topics", type=int, default=10)
    arguments = parser.parse_args()
    data = messages(arguments.events, arguments.topics)
    size = sum(map(len, data)) / arguments.events
    print(f"{arguments.events:,} events of {size:.0f} bytes in messages of {EVENTS_A_MESSAGE:,}, {arguments.topics} symbols")
    measure("raven.client", by_raven, data, arguments.events)
    try:
        measure("arrow", by_arrow, data, arguments.events)
    except ImportError as error:
        print(f"arrow          not measured: {error}")
    few = data[: max(len(data) // 20, 1)]
    measure("betterproto2", by_betterproto, few, min(len(few) * EVENTS_A_MESSAGE, arguments.events))


if __name__ == "__main__":
    main()
