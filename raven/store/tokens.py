"""Page tokens: how far a query was read, bound to that query. Pure.

A token is msgpack, a checksum before it, in base64: opaque to clients, and short enough for a header. It holds the place of the
last event that was sent, a digest of the query, and the end that "now" was when the query was first asked.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b

import attrs
import msgspec

from raven.errors import InvalidValue
from raven.model.topic import Kind, Selector, Topic

__all__ = ["BEGINNING", "NO_TOPIC", "Key", "Phase", "Place", "Token", "digest_of", "format_token", "parse_token"]

VERSION = 1
CHECK_BYTES, DIGEST_BYTES = 6, 12
TOKEN_LENGTH_MAX = 512

Key = tuple[int, Topic, int, int]
"""Where an event stands among all: time by the chosen clock, topic, epoch, sequence."""

NO_TOPIC = Topic("", "", Kind.TRADE)
"""Stands before every topic."""


class Phase(IntEnum):
    """Which part of an answer: images of the state at its start, events, gaps that reach beyond its end."""

    IMAGES = 0
    EVENTS = 1
    AFTER = 2


@attrs.frozen(order=True)
class Place:
    """Everything up to and with it was sent."""

    phase: Phase
    key: Key


BEGINNING = Place(Phase.IMAGES, (0, NO_TOPIC, 0, 0))


@attrs.frozen
class Token:
    """What a page token says.

    Args:
        end_ns: the end of the query, also where it was asked for up to now.
        complete: whether nothing was missing so far.
    """

    digest: bytes
    end_ns: int
    complete: bool
    place: Place


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    version: int
    digest: bytes
    end_ns: int
    complete: bool
    phase: Phase
    ts_ns: int
    venue: str
    symbol: str
    kind: Kind
    variant: str
    epoch: int
    sequence: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Wire)


def digest_of(selectors: Iterable[Selector], *numbers: int) -> bytes:
    """Of what makes a query: the selectors, in whatever order, and the numbers beside them."""
    texts = sorted({f"{one.venue}/{one.symbol}/{sorted(map(int, one.kinds))}/{one.variant}" for one in selectors})
    return blake2b(repr((texts, numbers)).encode(), digest_size=DIGEST_BYTES).digest()


def format_token(token: Token) -> str:
    """As the client gets it."""
    ts_ns, topic, epoch, sequence = token.place.key
    wire = _Wire(VERSION, token.digest, token.end_ns, token.complete, token.place.phase, ts_ns, *topic, epoch, sequence)
    body = _ENCODER.encode(wire)
    return base64.urlsafe_b64encode(_check(body) + body).rstrip(b"=").decode()


def parse_token(text: str, digest: bytes) -> Token:
    """What a token says.

    Args:
        digest: of the query that it came with.

    Raises:
        InvalidValue: it is none of ours, damaged, or of another query. The field is page_token.
    """
    try:
        wire = _parse(text)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidValue("page_token", text, "empty, or a next_page_token as it came, of this server") from None
    if wire.digest != digest:
        expected = "it belongs to a query with other selectors, range, clock or include_image, and is valid with those"
        raise InvalidValue("page_token", text, expected)
    key = (wire.ts_ns, Topic(wire.venue, wire.symbol, wire.kind, wire.variant), wire.epoch, wire.sequence)
    return Token(wire.digest, wire.end_ns, wire.complete, Place(wire.phase, key))


def _parse(text: str) -> _Wire:
    if len(text) > TOKEN_LENGTH_MAX:
        raise ValueError("too long")
    data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    check, body = data[:CHECK_BYTES], data[CHECK_BYTES:]
    if _check(body) != check:
        raise ValueError("damaged")
    wire = _DECODER.decode(body)
    if wire.version != VERSION:
        raise ValueError("of another version")
    return wire


def _check(body: bytes) -> bytes:
    return blake2b(body, digest_size=CHECK_BYTES, person=b"raven page token").digest()
