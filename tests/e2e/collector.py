"""A client in a process of its own: writes the messages of one stream to a file, as they came.

    python collector.py TARGET FILE EVENTS VENUE

It reads as fast as it can and looks at nothing but how many trades, quotes and books have come; it ends after EVENTS of them.
grpcio, so that nothing of ours stands between the wire and the file but the request.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc

from raven.codec.generated.raven import v1

METHOD = "/raven.v1.MarketDataService/StreamMarketData"
PATIENCE_S = 90


def varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and, where it has a length, body of each field, by tags and lengths alone."""
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        body = b""
        if tag & 7 == 0:
            _, position = varint(data, position)
        elif tag & 7 == 1:
            position += 8
        else:
            size, position = varint(data, position)
            body = data[position : position + size]
            position += size
        yield tag >> 3, body


def count_data(message: bytes) -> int:
    """Events of a message (field 1) that carry a trade, a quote, a book snapshot or a delta (fields 10 to 13)."""
    events = (body for number, body in fields(message) if number == 1)
    return sum(any(10 <= number <= 13 for number, _ in fields(event)) for event in events)


def collect(target: str, file: Path, events: int, venue: str) -> None:
    kinds = [v1.Kind.TRADE, v1.Kind.QUOTE, v1.Kind.BOOK]
    selector = v1.TopicSelector(venue=venue, symbol="*", kinds=kinds)
    # one that is late is to be seen, not covered by conflation
    every = v1.Subscription(selector=selector, slow_consumer_policy=v1.SlowConsumerPolicy.DISCONNECT)
    subscribe = v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest(subscriptions=[every]))
    requests: queue.SimpleQueue[v1.StreamMarketDataRequest | None] = queue.SimpleQueue()
    requests.put(subscribe)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options=options) as channel, file.open("wb") as out:
        call = channel.stream_stream(METHOD, request_serializer=bytes)(iter(requests.get, None), timeout=PATIENCE_S)
        seen = 0
        for message in call:
            out.write(len(message).to_bytes(4, "big") + message)
            if b"\x1a" in message[:1]:  # the answer to the subscription: whoever started us may go on
                print("subscribed", flush=True)
            seen += count_data(message)
            if seen >= events:
                break
        requests.put(None)
        call.cancel()
    print("done", seen, flush=True)


def read_messages(file: Path) -> list[v1.StreamMarketDataResponse]:
    """What `collect` wrote."""
    data, position, messages = file.read_bytes(), 0, []
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        messages.append(v1.StreamMarketDataResponse.parse(data[position + 4 : position + 4 + size]))
        position += 4 + size
    return messages


if __name__ == "__main__":
    collect(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
