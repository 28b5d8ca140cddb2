"""From the elements of one topic to blocks of it: pure, and quick, because every event that there is goes through here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal

from raven.model.topic import Topic
from raven.store.blocks import Block
from raven.store.elements import split, stamps

__all__ = ["BLOCK_BYTES_MAX", "BLOCK_EVENTS_MAX", "block_behind", "cut"]

BLOCK_EVENTS_MAX = 512
"""Events of one block: what one block costs to make is what clients may have to wait for it (0.2 ms)."""

BLOCK_BYTES_MAX = 64 * 1024
"""Bytes of one block, unless a single event is longer: what a reader has in memory at a time, for every topic that it reads."""

_EPOCH_SIZE = 9
LITTLE_ENDIAN = sys.byteorder == "little"
_STRIDE = 32  # of a head: sequence 3, venue_ts_ns 4, received_ts_ns 5, each behind its tag, 27 bytes; and what follows
_SHORT, _MEDIUM = 2 + 0x80, 3 + 0x4000  # elements of less are so short that their length takes one byte, or two

_Stamps = tuple[list[int], list[int], list[int]]


def cut(topic: Topic, epoch: int, elements: Sequence[bytes]) -> Iterator[Block]:
    """Blocks of at most BLOCK_EVENTS_MAX and BLOCK_BYTES_MAX; where sequences are missing a new one begins.

    Args:
        elements: of one topic in one epoch, in the order of their sequences; at least one.

    Raises:
        ValueError: they are no elements that the encoder wrote.
    """
    for first in range(0, len(elements), BLOCK_EVENTS_MAX):
        yield from _cut_chunk(topic, epoch, elements[first : first + BLOCK_EVENTS_MAX])


def block_behind(block: Block, sequence: int) -> Block | None:
    """What of a block comes after an event of its epoch; None when nothing does.

    Raises:
        ValueError: the block's elements are none.
    """
    if sequence < block.first_sequence:
        return block
    if sequence >= block.last_sequence:
        return None
    elements = list(split(block.elements))[sequence + 1 - block.first_sequence :]
    return _block(block.topic, block.epoch, elements, _stamps_of(elements))


def _cut_chunk(topic: Topic, epoch: int, elements: Sequence[bytes]) -> Iterator[Block]:
    read = _stamps_of(elements)
    sizes = list(accumulate(map(len, elements)))
    sequences = read[0]
    if sizes[-1] <= BLOCK_BYTES_MAX and sequences[-1] - sequences[0] == len(elements) - 1:  # what nearly all are
        yield _block(topic, epoch, elements, read)
        return
    start = 0
    for end in range(1, len(elements) + 1):
        if end == len(elements) or sequences[end] != sequences[end - 1] + 1 or _size(sizes, start, end + 1) > BLOCK_BYTES_MAX:
            part = slice(start, end)
            yield _block(topic, epoch, elements[part], (read[0][part], read[1][part], read[2][part]))
            start = end


def _size(sizes: list[int], start: int, end: int) -> int:
    return sizes[end - 1] - (sizes[start - 1] if start else 0)


def _block(topic: Topic, epoch: int, elements: Sequence[bytes], read: _Stamps) -> Block:
    sequences, received, venue = read
    return Block(
        topic, epoch, sequences[0], sequences[-1], min(received), max(received), min(venue), max(venue), b"".join(elements)
    )


def _stamps_of(elements: Sequence[bytes]) -> _Stamps:
    """Sequences, received_ts_ns and venue_ts_ns of elements of one topic.

    They are looked for where those of the first one stand, all at once, which is five times as quick as `stamps`; what is of
    another form than the first is read with that.
    """
    longest, shortest = max(map(len, elements)), min(map(len, elements))
    if LITTLE_ENDIAN and (longest < _SHORT or (shortest >= _SHORT and longest < _MEDIUM)):
        place = _place_of_sequence(elements[0])
        if shortest >= place + _STRIDE:
            end = place + _STRIDE
            heads = b"".join([element[place:end] for element in elements])
            count = len(elements)
            if _tags(heads) == b"\x19" * count + b"\x21" * count + b"\x29" * count:
                return _column(heads, 1, "Q"), _column(heads, 19, "q"), _column(heads, 10, "q")
    sequences: list[int] = []
    received: list[int] = []
    venue: list[int] = []
    for element in elements:
        sequence, received_ns, venue_ns = stamps(element)
        sequences.append(sequence)
        received.append(received_ns)
        venue.append(venue_ns)
    return sequences, received, venue


def _tags(heads: bytes) -> bytes:
    """The tags of the three fields of every head, one field after the other."""
    return heads[0::_STRIDE] + heads[9::_STRIDE] + heads[18::_STRIDE]


def _column(heads: bytes, offset: int, code: Literal["q", "Q"]) -> list[int]:
    """One number of every head. No tuples, no struct: a million of them would keep the garbage collector busy."""
    end = len(heads) - _STRIDE + offset + 8
    return memoryview(heads)[offset:end].cast(code)[:: _STRIDE // 8].tolist()


def _place_of_sequence(element: bytes) -> int:
    """Where the sequence's tag stands: behind the element's tag and length, the topic and the epoch."""
    name = 2 if element[1] < 0x80 else 3
    length = element[name + 1]
    if length < 0x80:
        return name + 2 + length + _EPOCH_SIZE
    return name + 3 + (length & 0x7F) + (element[name + 2] << 7) + _EPOCH_SIZE
