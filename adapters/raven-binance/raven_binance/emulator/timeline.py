"""What the emulator plays, and where it stands in it; pure.

A symbol's recorded snapshot is a barrier: the timeline waits there for the depth request that it answers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import attrs

from raven.adapter import EmulatorOptions
from raven.errors import StartupError
from raven_binance.emulator.books import EmulatedBook, Stage
from raven_binance.emulator.frames import Record, load_frames
from raven_binance.emulator.profile import SPOT_PROFILE, Profile
from raven_binance.emulator.rules import SymbolRules, rules_of

__all__ = ["Source", "Timeline", "open_source"]

SECOND_NS = 1_000_000_000


@attrs.frozen
class Source:
    """Where frames come from.

    Args:
        records: in order; without end when they are generated.
        symbols: that occur in them.
        streams: the names of all their streams.
        with_snapshot: the symbols that have a snapshot among them; the others have no book.
    """

    records: Iterable[Record]
    symbols: tuple[SymbolRules, ...]
    streams: frozenset[str]
    with_snapshot: frozenset[str]


def open_source(options: EmulatorOptions, profile: Profile = SPOT_PROFILE) -> Source:
    """The source that was asked for.

    Raises:
        StartupError: the frames cannot be read, or were to be repeated.
    """
    if options.frames is None:
        streams = frozenset(f"{rules.symbol.lower()}@{topic}" for rules in profile.symbols for topic in profile.topics)
        symbols = frozenset(rules.symbol for rules in profile.symbols)
        return Source(profile.generate(options.seed, _this_second_ns()), profile.symbols, streams, symbols)
    if options.loop:
        raise StartupError(
            "recorded frames cannot be played in a loop: their ids would begin again, and a client would drop them; "
            "leave --loop out, or leave --frames out for a generated market without end"
        )
    return recorded_source(load_frames(options.frames), profile)


def _this_second_ns() -> int:
    """Candles begin on whole seconds."""
    return time.time_ns() // SECOND_NS * SECOND_NS


def recorded_source(records: Sequence[Record], profile: Profile = SPOT_PROFILE) -> Source:
    """The source that plays these records."""
    symbols = dict.fromkeys(record.symbol for record in records)
    streams = frozenset(record.stream for record in records if not record.is_snapshot)
    with_snapshot = frozenset(record.symbol for record in records if record.is_snapshot)
    return Source(records, tuple(rules_of(symbol, profile.symbols) for symbol in symbols), streams, with_snapshot)


class Timeline:
    """The emulated market up to now."""

    def __init__(self, source: Source) -> None:
        self.symbols: Mapping[str, SymbolRules] = {rules.symbol: rules for rules in source.symbols}
        self.books: Mapping[str, EmulatedBook] = {symbol: EmulatedBook() for symbol in sorted(source.with_snapshot)}

    def advance(self, record: Record) -> bool:
        """Take in the next record. Whether it is a barrier."""
        book = self.books.get(record.symbol)
        if record.is_snapshot and book is not None:
            first = book.stage is Stage.AHEAD
            book.on_snapshot(record.payload)
            return first
        if book is not None and record.topic.startswith("depth@"):
            book.on_delta(record.payload)
        return False
