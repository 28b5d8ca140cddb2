"""The tail of a file: events of topics that have not enough of them for a row yet.

A row for each topic at each commit would cost more than the events in it, and to write a topic's last row anew at each commit
would write every event a hundred times over. So what comes of slow topics stands in memory until it is enough for a row, and
meanwhile, for the case that the server is killed, in the table `tail`: many topics in one entry, in the order of the commits,
with no index. What has become a row may stand there, too; sequences say so. When most of the tail is of that kind it is written
anew with what still grows.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from raven.model.topic import Topic
from raven.store.blocks import Block
from raven.store.sqlite.rows import pack, unpack

__all__ = ["GROWING_BYTES_MAX", "SELECT", "append", "clear", "unpacked", "wants_to_be_anew"]

SELECT = "SELECT blocks FROM tail ORDER BY id"

GROWING_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of events that stand in memory; beyond it they become rows, however short."""

_ENTRY_BLOCKS = 128  # one entry is encoded in one go, which holds the interpreter for 0.05 ms
_BYTES_MIN, _GROWING_SHARE = 1024 * 1024, 3

_Packed = list[tuple[int, int, int, int, int, int, int, int, bytes]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def wants_to_be_anew(tail_bytes: int, growing_bytes: int) -> bool:
    """Whether little enough of the tail is still needed.

    Args:
        tail_bytes: of the events in the tail.
        growing_bytes: of those among them that are in no row yet.
    """
    return tail_bytes > _BYTES_MIN and tail_bytes > _GROWING_SHARE * growing_bytes


def append(connection: sqlite3.Connection, blocks: Iterable[tuple[int, Block]]) -> int:
    """Blocks with the ids of their topics; the bytes of their events."""
    size, rest = 0, iter(blocks)
    while part := list(islice(rest, _ENTRY_BLOCKS)):
        packed = [_packed(number, block) for number, block in part]
        size += sum(len(block.elements) for _, block in part)
        connection.execute("INSERT INTO tail VALUES (NULL, ?)", (pack(_encode(packed)),))
    return size


def clear(connection: sqlite3.Connection) -> None:
    """Everything that is in it is somewhere else."""
    connection.execute("DELETE FROM tail")


def unpacked(entries: Iterable[tuple[bytes]], topics: Mapping[int, Topic]) -> Iterator[Block]:
    """All blocks, in the order in which they came. An entry that is damaged is left out.

    Args:
        entries: the rows that SELECT gives.
        topics: by their ids.
    """
    for (packed,) in entries:
        try:
            entry = _decode(unpack(packed))
        except (zlib.error, msgspec.MsgspecError):
            continue
        for number, *values in entry:
            if number in topics:
                yield Block(topics[number], *values)  # type: ignore[arg-type]  # the order is that of Block


def _packed(topic: int, block: Block) -> tuple[int, int, int, int, int, int, int, int, bytes]:
    return (
        topic, block.epoch, block.first_sequence, block.last_sequence, block.first_ts_ns, block.last_ts_ns,
        block.first_venue_ts_ns, block.last_venue_ts_ns, block.elements,
    )  # fmt: skip
