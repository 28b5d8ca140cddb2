"""A HistoryStore in memory, and blocks to put into one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import attrs

from raven.codec.encoder import TopicEncoder
from raven.model.events import Event, Flag, Payload, Trade
from raven.model.topic import Kind, Topic
from raven.store.blocks import Block, Image, TimeRange
from raven.store.elements import stamps

BTC = Topic("sim", "BTC-USDT", Kind.TRADE)
ETH = Topic("sim", "ETH-USDT", Kind.TRADE)
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)

DAY_NS = 86_400 * 10**9


@attrs.define
class MemoryHistory:
    """Keeps blocks as they come."""

    kept: dict[Topic, list[Block]] = attrs.field(factory=lambda: defaultdict(list))
    images: list[Image] = attrs.field(factory=list)
    lost: list[tuple[int, int]] = attrs.field(factory=list)
    blocks_read: int = 0

    def write(self, blocks: Sequence[Block], images: Sequence[Image] = ()) -> None:
        for block in blocks:
            self.kept[block.topic].append(block)
            self.kept[block.topic].sort(key=lambda block: (block.epoch, block.first_sequence))
        self.images += images

    def topics(self, within: TimeRange) -> list[Topic]:
        return sorted(topic for topic, blocks in self.kept.items() if any(touches(block, within) for block in blocks))

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        for block in list(self.kept.get(topic, ())):
            if touches(block, within):
                self.blocks_read += 1
                yield block

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        found = [image for image in self.images if image.topic == topic and image.ts_ns < before_ns]
        return max(found, key=lambda image: (image.ts_ns, image.epoch, image.sequence), default=None)

    def holes(self, within: TimeRange) -> Sequence[tuple[int, int]]:
        return [(start, end) for start, end in self.lost if start < within.end_ns and end > within.start_ns]

    def close(self) -> None:
        """Nothing to give back."""


def touches(block: Block, within: TimeRange) -> bool:
    first, last = block.first_ts_ns, block.last_ts_ns
    if within.venue_clock:
        first, last = block.first_venue_ts_ns, block.last_venue_ts_ns
    return first < within.end_ns and last >= within.start_ns


def block_of(topic: Topic, epoch: int, first_sequence: int, elements: Sequence[bytes]) -> Block:
    """Elements of consecutive events as a block."""
    times = [stamps(element) for element in elements]
    received, venue = [time[1] for time in times], [time[2] for time in times]
    last = first_sequence + len(elements) - 1
    return Block(topic, epoch, first_sequence, last, min(received), max(received), min(venue), max(venue), b"".join(elements))


def trades(
    topic: Topic, epoch: int, first_sequence: int, times: Sequence[tuple[int, int | None]], trade_id: str = "77"
) -> Block:
    """A block of trades, at (received_ts_ns, venue_ts_ns)."""
    encoder = TopicEncoder(topic, epoch)
    elements = [
        encoder.encode(Event(topic, Trade(1.5, 2.0, 1, trade_id), received, venue), first_sequence + index)
        for index, (received, venue) in enumerate(times)
    ]
    return block_of(topic, epoch, first_sequence, elements)


def events(topic: Topic, epoch: int, first_sequence: int, items: Sequence[tuple[int, Payload]]) -> Block:
    """A block of any payloads, at received_ts_ns."""
    encoder = TopicEncoder(topic, epoch)
    elements = [
        encoder.encode(Event(topic, payload, received), first_sequence + index)
        for index, (received, payload) in enumerate(items)
    ]
    return block_of(topic, epoch, first_sequence, elements)


def image(topic: Topic, epoch: int, sequence: int, ts_ns: int, payload: Payload) -> Image:
    element = TopicEncoder(topic, epoch).encode_general(Event(topic, payload, ts_ns), sequence, flags=Flag.IMAGE)
    return Image(topic, epoch, sequence, ts_ns, element)
