"""Elements of the field `events`, as they are published and stored: cut apart, and read as far as stores need it.

An element is a tag (0x0A), the length as a varint, and a MarketEvent. The encoder writes fields in the order of their numbers
(raven/codec/encoder.py), so what stores need stands in front: topic 1, epoch 2, sequence 3, venue_ts_ns 4, received_ts_ns 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

__all__ = ["split", "stamps"]

EVENTS_TAG = 0x0A
_HEAD = Struct("<BQBQ").unpack_from  # epoch 2, sequence 3
_VENUE_THEN_RECEIVED = Struct("<BqBq").unpack_from
_SFIXED64 = Struct("<q").unpack_from
_EPOCH, _SEQUENCE, _VENUE_TS, _RECEIVED_TS = 0x11, 0x19, 0x21, 0x29


def split(elements: bytes) -> Iterator[bytes]:
    """Each element by itself, tag and length with it.

    Raises:
        ValueError: these are no elements.
    """
    position, end = 0, len(elements)
    while position < end:
        following = _end(elements, position)
        yield elements[position:following]
        position = following
    if position != end:
        raise ValueError(f"an element ends {position - end} bytes behind its block")


def _end(elements: bytes, position: int) -> int:
    if elements[position] != EVENTS_TAG:
        raise ValueError(f"no element begins at byte {position}")
    position += 1
    size = elements[position]
    if size < 0x80:
        return position + 1 + size
    second = elements[position + 1]
    if second < 0x80:
        return position + 2 + (size & 0x7F) + (second << 7)
    size, shift = (size & 0x7F) | (second & 0x7F) << 7, 14
    position += 2
    while True:
        part = elements[position]
        size |= (part & 0x7F) << shift
        position += 1
        if part < 0x80:
            return position + size
        shift += 7


def stamps(element: bytes) -> tuple[int, int, int]:
    """(sequence, received_ts_ns, venue_ts_ns) of an element. Where the venue gave no time, that of receipt stands for it.

    Raises:
        ValueError: it is no element that the encoder wrote.
    """
    position = 2  # behind the tag and the length's first byte
    while element[position - 1] >= 0x80:
        position += 1
    name = element[position + 1]
    position += 2 + name if name < 0x80 else 3 + (name & 0x7F) + (element[position + 2] << 7)
    epoch, _, third, sequence = _HEAD(element, position)
    if (epoch, third) != (_EPOCH, _SEQUENCE):
        raise ValueError("an element without epoch and sequence")
    position += 18
    tag = element[position]
    if tag == _VENUE_TS:
        _, venue_ns, received, received_ns = _VENUE_THEN_RECEIVED(element, position)
        return sequence, received_ns if received == _RECEIVED_TS else venue_ns, venue_ns
    received_ns = _SFIXED64(element, position + 1)[0] if tag == _RECEIVED_TS else 0
    return sequence, received_ns, received_ns
