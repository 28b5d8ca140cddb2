"""The books that the emulator itself keeps, in the venue's own texts, so that what it answers is exact; pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec
from msgspec import Struct, field

__all__ = ["EmulatedBook", "Stage"]

Level = tuple[str, str]


class _Delta(Struct):
    last_id: int = field(name="u")
    bids: list[Level] = field(name="b")
    asks: list[Level] = field(name="a")
    event_time: int = field(name="E", default=0)
    transaction_time: int = field(name="T", default=0)


class _Snapshot(Struct):
    last_id: int = field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]
    event_time: int = field(name="E", default=0)
    transaction_time: int = field(name="T", default=0)


_decode_delta = msgspec.json.Decoder(_Delta).decode
_decode_snapshot = msgspec.json.Decoder(_Snapshot).decode


class Stage(Enum):
    """Where the timeline is, as seen from a symbol's recorded snapshot."""

    AHEAD = "ahead"  # the snapshot is still to come
    REACHED = "reached"  # the timeline waits at it
    PASSED = "passed"


class EmulatedBook:
    """One symbol's book along the timeline."""

    def __init__(self) -> None:
        self.stage = Stage.AHEAD
        self.last_id = 0
        self._times = 0, 0  # of what it holds; only USD-M says them
        self._early: list[_Delta] = []
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}
        self._recorded: _Snapshot | None = None

    def on_delta(self, payload: str) -> None:
        """A depth update of the timeline; those before the snapshot wait for it."""
        delta = _decode_delta(payload)
        if self._recorded is None:
            self._early.append(delta)
        else:
            self._apply(delta)

    def on_snapshot(self, payload: str) -> None:
        """The recorded snapshot is reached. A later one of the same symbol changes nothing."""
        if self._recorded is not None:
            return
        self._recorded = _decode_snapshot(payload)
        self.stage = Stage.REACHED
        self.last_id = self._recorded.last_id
        self._times = _times_of(self._recorded)
        _set(self._bids, self._recorded.bids)
        _set(self._asks, self._recorded.asks)
        for delta in self._early:
            self._apply(delta)
        self._early.clear()

    def pass_barrier(self) -> None:
        """The timeline goes on from the snapshot."""
        self.stage = Stage.PASSED

    def reply(self, limit: int) -> bytes:
        """The body of a depth answer: the recorded snapshot while the timeline waits at it, then the book as it is now."""
        if self.stage is Stage.REACHED and self._recorded is not None:
            recorded = self._recorded
            return _body(recorded.last_id, _times_of(recorded), recorded.bids[:limit], recorded.asks[:limit])
        return _body(self.last_id, self._times, self.bids()[:limit], self.asks()[:limit])

    def bids(self) -> list[Level]:
        """From the highest price down."""
        return sorted(self._bids.items(), key=_price, reverse=True)

    def asks(self) -> list[Level]:
        """From the lowest price up."""
        return sorted(self._asks.items(), key=_price)

    def _apply(self, delta: _Delta) -> None:
        if delta.last_id > self.last_id:
            self.last_id = delta.last_id
            self._times = _times_of(delta)
            _set(self._bids, delta.bids)
            _set(self._asks, delta.asks)


def _price(level: Level) -> float:
    return float(level[0])


def _set(side: dict[str, str], levels: Iterable[Level]) -> None:
    for price, size in levels:
        if float(size):
            side[price] = size
        else:
            side.pop(price, None)


def _times_of(message: _Delta | _Snapshot) -> tuple[int, int]:
    return message.event_time, message.transaction_time


def _body(last_id: int, times: tuple[int, int], bids: list[Level], asks: list[Level]) -> bytes:
    event_time, transaction_time = times
    told = {"E": event_time, "T": transaction_time} if transaction_time else {}
    return msgspec.json.encode({"lastUpdateId": last_id, **told, "bids": bids, "asks": asks})
