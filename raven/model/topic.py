"""Venue, symbol, kind and variant: the names of topics, and sets of topics.

The character sets are those of raven.proto. A topic is written `venue/symbol/kind` or `venue/symbol/kind/variant`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import attrs

from raven.errors import InvalidName, nearest

__all__ = [
    "DEFAULT_VARIANTS",
    "Kind",
    "Selector",
    "Topic",
    "check_symbol",
    "check_variant",
    "check_venue",
    "parse_kind",
    "parse_topic",
]

VENUE_RULE = "1 to 32 of a-z, 0-9 and '-', not '-' first"
SYMBOL_RULE = "1 to 64 of A-Z, 0-9 and '._:-', a letter or digit first"
VARIANT_RULE = "at most 16 of A-Z, a-z and 0-9"

_VENUE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9._:-]{0,63}", re.ASCII)
_SYMBOL_PREFIX = re.compile(r"[A-Z0-9][A-Z0-9._:-]{0,62}\*", re.ASCII)
_VARIANT = re.compile(r"[A-Za-z0-9]{0,16}", re.ASCII)


class Kind(IntEnum):
    """What a topic carries. The numbers are those of raven.v1.Kind."""

    TRADE = 1
    QUOTE = 2
    BOOK = 3
    BOOK_TOP = 4
    CANDLE = 5
    TICKER = 6
    FUNDING = 7
    MARK_PRICE = 8
    OPEN_INTEREST = 9
    LIQUIDATION = 10
    INSTRUMENT = 11
    GREEKS = 12
    BAR = 13

    @property
    def label(self) -> str:
        """As it is written in configuration, on the command line and in metrics: "book_top"."""
        return self.name.lower()


KINDS = {kind.label: kind for kind in Kind}


class Topic(NamedTuple):
    """One stream of events. A tuple, because it is the key of the broker's busiest dictionary."""

    venue: str
    symbol: str
    kind: Kind
    variant: str = ""

    def __str__(self) -> str:
        text = f"{self.venue}/{self.symbol}/{self.kind.label}"
        return f"{text}/{self.variant}" if self.variant else text


def check_venue(venue: str, field: str = "venue") -> str:
    """`venue` itself, or InvalidName."""
    if not _VENUE.fullmatch(venue):
        raise InvalidName(field, venue, VENUE_RULE)
    return venue


def check_symbol(symbol: str, field: str = "symbol") -> str:
    """`symbol` itself, or InvalidName."""
    if not _SYMBOL.fullmatch(symbol):
        raise InvalidName(field, symbol, SYMBOL_RULE)
    return symbol


def check_variant(variant: str, field: str = "variant") -> str:
    """`variant` itself, or InvalidName."""
    if not _VARIANT.fullmatch(variant):
        raise InvalidName(field, variant, VARIANT_RULE)
    return variant


def parse_kind(text: str, field: str = "kind") -> Kind:
    """The kind that `text` names ("book_top", in any case).

    Raises:
        InvalidName: it names none.
    """
    kind = KINDS.get(text.lower())
    if kind is None:
        raise InvalidName(field, text, nearest(text.lower(), KINDS))
    return kind


def parse_topic(text: str, field: str = "topic") -> Topic:
    """The topic that `str(topic)` wrote.

    Raises:
        InvalidName: not of that form, or a part is outside its character set.
    """
    parts = text.split("/")
    if len(parts) not in (3, 4):
        raise InvalidName(field, text, "venue/symbol/kind or venue/symbol/kind/variant")
    venue, symbol, kind, variant = (*parts, "")[:4]
    return Topic(check_venue(venue), check_symbol(symbol), parse_kind(kind), check_variant(variant))


DEFAULT_VARIANTS: Mapping[Kind, str] = {Kind.CANDLE: "1m", Kind.BOOK_TOP: "20"}
"""What an empty variant in a selector stands for; kinds that are not here have no variants."""


@attrs.frozen
class Selector:
    """A set of topics.

    Args:
        venue: a venue, or "*".
        symbol: a symbol, a prefix that ends in "*", or "*".
        kinds: the kinds; empty means any.
        variant: a variant, "*", or empty for the default of each kind. Kinds that have no variants are matched by any.
    """

    venue: str
    symbol: str
    kinds: frozenset[Kind] = frozenset()
    variant: str = ""

    @property
    def exact(self) -> bool:
        """Whether venue and symbol are names, not patterns."""
        return self.venue != "*" and not self.symbol.endswith("*")

    def matches(self, topic: Topic) -> bool:
        """Whether `topic` belongs to the set."""
        return (
            (self.venue in ("*", topic.venue))
            and (not self.kinds or topic.kind in self.kinds)
            and (topic.symbol.startswith(self.symbol[:-1]) if self.symbol.endswith("*") else topic.symbol == self.symbol)
            and (self.variant == "*" or topic.variant in ("", self.variant or DEFAULT_VARIANTS.get(topic.kind, "")))
        )

    def __str__(self) -> str:
        kinds = ",".join(kind.label for kind in sorted(self.kinds)) or "*"
        return f"{self.venue}/{self.symbol}/{kinds}" + (f"/{self.variant}" if self.variant else "")


def check_selector_names(venue: str, symbol: str, variant: str) -> None:
    """Hold the three texts of a selector against their patterns.

    Raises:
        InvalidName: naming the field ("venue", "symbol" or "variant").
    """
    if venue != "*" and not _VENUE.fullmatch(venue):
        raise InvalidName("venue", venue, f"'*', or {VENUE_RULE}")
    if symbol != "*" and not _SYMBOL.fullmatch(symbol) and not _SYMBOL_PREFIX.fullmatch(symbol):
        raise InvalidName("symbol", symbol, f"'*', a prefix that ends in '*', or {SYMBOL_RULE}")
    if variant != "*" and not _VARIANT.fullmatch(variant):
        raise InvalidName("variant", variant, f"'*', or {VARIANT_RULE}")
