"""Rows of `blocks`, as pure functions: when a row takes another block, what it is then, packing and unpacking."""

from __future__ import annotations

import zlib

import attrs

from raven.store.blocks import Block

__all__ = ["ROW_BYTES_FULL", "ROW_SPAN_NS_MAX", "Lags", "continues", "is_full", "joined", "lags_of", "pack", "unpack"]

ROW_BYTES_FULL = 8 * 1024
"""Bytes of events that are enough for a row. Some 80 trades: what a row costs beside them is little then."""

ROW_SPAN_NS_MAX = 3600 * 10**9
"""The time between a row's first and last event: a topic that is nearly still does not stretch what a range has to look at."""

ZLIB_LEVEL = 1  # a trade: 25 bytes and 0.7 us; level 6: 23 bytes and 2.4 us (docs/stores.md)


@attrs.frozen
class Lags:
    """What relates the rows of a topic to time, so that an index on their first time finds them all. Bounds, rounded outward.

    Args:
        span_ns: no row lasts longer.
        min_ns, max_ns: of `received_ts_ns` - `venue_ts_ns` of the events.
    """

    span_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0


def continues(row: Block, block: Block) -> bool:
    """Whether a row that is not full takes a block."""
    return (
        row.epoch == block.epoch
        and row.last_sequence + 1 == block.first_sequence
        and max(row.last_ts_ns, block.last_ts_ns) - min(row.first_ts_ns, block.first_ts_ns) <= ROW_SPAN_NS_MAX
    )


def is_full(row: Block) -> bool:
    """Whether a row is not to grow any more."""
    return len(row.elements) >= ROW_BYTES_FULL or row.last_ts_ns - row.first_ts_ns >= ROW_SPAN_NS_MAX


def joined(row: Block, block: Block) -> Block:
    """The row with the block behind it."""
    return Block(
        row.topic,
        row.epoch,
        row.first_sequence,
        block.last_sequence,
        min(row.first_ts_ns, block.first_ts_ns),
        max(row.last_ts_ns, block.last_ts_ns),
        min(row.first_venue_ts_ns, block.first_venue_ts_ns),
        max(row.last_venue_ts_ns, block.last_venue_ts_ns),
        row.elements + block.elements,
    )


def lags_of(known: Lags | None, row: Block) -> Lags:
    """The bounds with one more row. They are rounded to powers of two, so that they hardly ever change."""
    span = row.last_ts_ns - row.first_ts_ns
    low, high = row.first_ts_ns - row.last_venue_ts_ns, row.last_ts_ns - row.first_venue_ts_ns
    if known is None:
        return Lags(_up(span), -_up(-low), _up(high))
    if span <= known.span_ns and low >= known.min_ns and high <= known.max_ns:
        return known
    return Lags(max(_up(span), known.span_ns), min(-_up(-low), known.min_ns), max(_up(high), known.max_ns))


def _up(value: int) -> int:
    """The next power of two, at most what a column holds; of a negative number, 0 does."""
    return 0 if value <= 0 else 1 << min((value - 1).bit_length(), 62)


def pack(elements: bytes) -> bytes:
    """As they stand in the file."""
    return zlib.compress(elements, ZLIB_LEVEL)


def unpack(packed: bytes) -> bytes:
    """The elements.

    Raises:
        zlib.error: the row is damaged.
    """
    return zlib.decompress(packed)
