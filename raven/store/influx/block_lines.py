"""Blocks and images as points, and back: the events themselves, whole, in the bytes that were sent. Pure.

A block is one point of `raven_blocks`: what a reader needs to find it as integer fields, its bytes (zlib, base64) as string
fields of at most 64 KiB, which is what InfluxDB documents as their limit. A block is cut where it is longer than
`PART_BYTES` or lasts longer than `SPAN_NS`, so that who looks for a time knows how far before it a block may begin.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from raven.errors import InvalidValue, StoreError
from raven.model.topic import Topic
from raven.store.blocks import Block, Image
from raven.store.elements import split, stamps
from raven.store.influx.lines import INTEGER_MAX, INTEGER_MIN, line_head
from raven.store.influx.points import point_time, topic_tags

__all__ = ["BLOCKS", "IMAGES", "SPAN_NS", "block_lines", "block_of", "image_line", "image_of", "parts", "without_head"]

BLOCKS, IMAGES = "raven_blocks", "raven_images"

PART_BYTES = 32 * 1024
"""Bytes of events in a point, unless one event alone is larger."""

SPAN_NS = 60 * 1_000_000_000
"""From the first to the last event of a point."""

STRING_MAX = 48_000
"""Characters of a string field."""

STRINGS_MAX = 64
"""String fields of a point: what does not fit is no event that a client could be sent."""

INFLATED_MAX = 8 * 1024 * 1024
"""Bytes that a point may hold: who may write into the database shall not fill our memory."""

COMPRESSION_LEVEL = 1

_BLOCK_FIELDS = (
    *("epoch", "first_sequence", "last_sequence"),
    *("first_ts_ns", "last_ts_ns", "first_venue_ts_ns", "last_venue_ts_ns"),
)


def parts(block: Block) -> Iterator[Block]:
    """The block, cut where it is too long for a point."""
    if len(block.elements) <= PART_BYTES and block.last_ts_ns - block.first_ts_ns <= SPAN_NS:
        yield block
        return
    lasting = block.last_ts_ns - block.first_ts_ns > SPAN_NS
    part: list[bytes] = []
    size = low = high = 0
    for element in split(block.elements):
        received = stamps(element)[1] if lasting else 0
        low, high = (min(low, received), max(high, received)) if part else (received, received)
        if part and (size + len(element) > PART_BYTES or high - low > SPAN_NS):
            yield _joined(block, part)
            part, size, low, high = [], 0, received, received
        part.append(element)
        size += len(element)
    if part:
        yield _joined(block, part)


def without_head(block: Block, last_sequence: int) -> Block:
    """What of a block comes after `last_sequence`, which is in it."""
    elements = list(split(block.elements))
    return _joined(block, elements[last_sequence - block.first_sequence + 1 :])


def _joined(block: Block, elements: list[bytes]) -> Block:
    sequences, received, venue = zip(*map(stamps, elements), strict=True)
    low, high, venue_low, venue_high = min(received), max(received), min(venue), max(venue)
    return Block(block.topic, block.epoch, sequences[0], sequences[-1], low, high, venue_low, venue_high, b"".join(elements))


def block_lines(block: Block) -> Iterator[tuple[str, Block]]:
    """The points of a block, each with the part of the block that it holds.

    Raises:
        InvalidValue: a number does not fit, or one event is too large.
        ValueError: its bytes are no elements.
    """
    head = line_head(BLOCKS, topic_tags(block.topic))
    for part in parts(block):
        time_ns = point_time(part.first_ts_ns, part.epoch, part.first_sequence)
        yield f"{head} {_integer_fields(part, _BLOCK_FIELDS)},{_data_fields(part.elements)} {time_ns}", part


def image_line(image: Image) -> str:
    """The point of an image.

    Raises:
        InvalidValue: a number does not fit, or it is too large.
    """
    head = line_head(IMAGES, topic_tags(image.topic))
    numbers = _integer_fields(image, ("epoch", "sequence", "ts_ns"))
    return f"{head} {numbers},{_data_fields(image.element)} {point_time(image.ts_ns, image.epoch, image.sequence)}"


def _integer_fields(source: Any, names: tuple[str, ...]) -> str:
    fields = []
    for name in names:
        value = getattr(source, name)
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise InvalidValue(name, value, "a whole number of 64 bits with a sign")
        fields.append(f"{name}={value}i")
    return ",".join(fields)


def _data_fields(data: bytes) -> str:
    text = b64encode(zlib.compress(data, COMPRESSION_LEVEL)).decode("ascii")
    pieces = [text[at : at + STRING_MAX] for at in range(0, len(text), STRING_MAX)]
    if len(pieces) > STRINGS_MAX:
        raise InvalidValue("data", len(data), f"what fits into {STRINGS_MAX} strings of {STRING_MAX} characters")
    return ",".join(f'{_data_name(number)}="{piece}"' for number, piece in enumerate(pieces, 1))


def _data_name(number: int) -> str:
    return "data" if number == 1 else f"data_{number}"


# ---- back


def block_of(topic: Topic, row: Mapping[str, Any]) -> Block:
    """The block of a point, from its fields by name.

    Raises:
        StoreError: it is none.
    """
    epoch, first, last, first_ts, last_ts, first_venue_ts, last_venue_ts = _numbers(row, _BLOCK_FIELDS)
    return Block(topic, epoch, first, last, first_ts, last_ts, first_venue_ts, last_venue_ts, _data_of(row))


def image_of(topic: Topic, row: Mapping[str, Any]) -> Image:
    """The image of a point.

    Raises:
        StoreError: it is none.
    """
    epoch, sequence, ts_ns = _numbers(row, ("epoch", "sequence", "ts_ns"))
    return Image(topic, epoch, sequence, ts_ns, _data_of(row))


def _numbers(row: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    numbers = [row.get(name) for name in names]
    if not all(type(number) is int for number in numbers):
        raise StoreError(f"a point of history has no whole numbers in {', '.join(names)}: {numbers}")
    return numbers  # type: ignore[return-value]


def _data_of(row: Mapping[str, Any]) -> bytes:
    text = "".join(_data_texts(row))
    inflating = zlib.decompressobj()
    try:
        data = inflating.decompress(b64decode(text, validate=True), INFLATED_MAX)
    except (ValueError, zlib.error) as error:
        raise StoreError(f"the bytes of a point of history cannot be read: {error}") from error
    if not inflating.eof:
        raise StoreError(f"the bytes of a point of history do not end within {INFLATED_MAX} bytes")
    return data


def _data_texts(row: Mapping[str, Any]) -> Iterator[str]:
    for number in range(1, STRINGS_MAX + 1):
        text = row.get(_data_name(number))
        if not text:
            return
        yield str(text)
