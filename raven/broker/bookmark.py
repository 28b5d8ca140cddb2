"""Bookmarks: how far a client had come in every feed, as bytes that mean nothing to it.

One byte of version, then per feed its name's length and name, the ring's epoch and the position of the event that comes next.
What a client sends back is checked against the ring: a forged one gives it nothing that it could not have for the asking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from struct import error as StructError  # noqa: N812  it is named like a function there

import attrs

from raven.broker.ring import Ring

__all__ = ["BOOKMARK_BYTES_MAX", "Resume", "format_bookmark", "parse_bookmark"]

BOOKMARK_BYTES_MAX = 4096
"""Some hundred feeds."""

_VERSION = 1
_PLACE = Struct(">QQ")


@attrs.frozen
class Resume:
    """Where a subscription continues.

    Args:
        places: by feed the epoch and the next position, of a bookmark.
        points: by topic (as a tuple: a client may name any) the epoch and the last sequence that the client has.
    """

    places: Mapping[str, tuple[int, int]] | None = None
    points: Mapping[tuple[str, str, int, str], tuple[int, int]] = attrs.field(factory=dict)


def format_bookmark(rings: Iterable[Ring]) -> bytes:
    """Behind everything that has been published."""
    parts = [bytes((_VERSION,))]
    for ring in rings:
        name = ring.feed.encode()
        parts += (bytes((len(name),)), name, _PLACE.pack(ring.epoch, ring.next))
    return b"".join(parts)


def parse_bookmark(bookmark: bytes) -> dict[str, tuple[int, int]]:
    """By feed the epoch and the next position; empty when it is none of ours, which is no error: it is just too old."""
    places: dict[str, tuple[int, int]] = {}
    if not bookmark or bookmark[0] != _VERSION or len(bookmark) > BOOKMARK_BYTES_MAX:
        return places
    at = 1
    while at < len(bookmark):
        end = at + 1 + bookmark[at]
        try:
            places[bookmark[at + 1 : end].decode()] = _PLACE.unpack_from(bookmark, end)
        except (UnicodeDecodeError, StructError):
            return {}
        at = end + _PLACE.size
    return places
