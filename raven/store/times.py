"""The times of a block's events, read all at once where its elements have one length. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from struct import error as struct_error

from raven.errors import StoreError
from raven.store.blocks import Block

__all__ = ["first_ns", "last_ns", "times_of"]

VENUE_TAG, RECEIVED_TAG = 0x21, 0x29
_SFIXED64 = Struct("<q").unpack_from


def first_ns(block: Block, venue_clock: bool) -> int:
    """The least time in a block."""
    return block.first_venue_ts_ns if venue_clock else block.first_ts_ns


def last_ns(block: Block, venue_clock: bool) -> int:
    """The greatest time in a block."""
    return block.last_venue_ts_ns if venue_clock else block.last_ts_ns


def times_of(block: Block, venue_clock: bool) -> tuple[Sequence[int], Sequence[int]]:
    """The times of a block's events in the order of their sequences, and where each begins; then where the last one ends.

    Raises:
        StoreError: it does not hold what it says.
    """
    try:
        times, offsets = _even_times(block, venue_clock) or _any_times(block.elements, venue_clock)
    except (IndexError, struct_error) as error:
        raise _damaged(block, str(error)) from error
    if len(times) != block.count or offsets[-1] != len(block.elements):
        raise _damaged(block, f"{len(times)} events instead of {block.count}")
    return times, offsets


def _damaged(block: Block, text: str) -> StoreError:
    return StoreError(f"the history of {block.topic} is damaged at {block.epoch}/{block.first_sequence}: {text}")


def _even_times(block: Block, venue_clock: bool) -> tuple[Sequence[int], Sequence[int]] | None:
    """Where all elements have one length and one layout, which trades and quotes mostly have; else None."""
    data, count = block.elements, block.count
    size, rest = divmod(len(data), count)
    if rest:
        return None
    start = 2
    while data[start - 1] > 127:
        start += 1
    stamp = start + data[start + 1] + 20  # behind topic, epoch and sequence
    if data[stamp] == VENUE_TAG and not venue_clock:
        stamp += 9
    if data[start + 1] > 127 or data[stamp] not in (VENUE_TAG, RECEIVED_TAG) or stamp + 9 > size:
        return None
    for position in (*range(start), stamp):  # tag and length, and the tag of the time, of all elements
        if data[position::size].count(data[position]) != count:
            return None
    return _column(stamp + 1, size, count).unpack(data), range(0, len(data) + 1, size)


@lru_cache(maxsize=64)
def _column(at: int, size: int, count: int) -> Struct:
    """The time in each of `count` elements of `size` bytes."""
    return Struct("<" + f"{at}xq{size - at - 8}x" * count)


def _any_times(data: bytes, venue_clock: bool) -> tuple[list[int], list[int]]:
    # One longer function: it runs for every event of books.
    times: list[int] = []
    offsets = [0]
    at, end = 0, len(data)
    while at < end:
        size, start = data[at + 1], at + 2
        if size > 127:
            size, shift = size & 127, 7
            while True:
                part = data[start]
                size |= (part & 127) << shift
                start, shift = start + 1, shift + 7
                if part < 128:
                    break
        at = start + size
        name = data[start + 1]
        stamp = start + (name + 20 if name < 128 else 21 + (name & 127) + (data[start + 2] << 7))
        tag = data[stamp]
        if tag == VENUE_TAG and not venue_clock and data[stamp + 9] == RECEIVED_TAG:
            stamp += 9
        times.append(_SFIXED64(data, stamp + 1)[0] if tag in (VENUE_TAG, RECEIVED_TAG) else 0)
        offsets.append(at)
    return times, offsets
