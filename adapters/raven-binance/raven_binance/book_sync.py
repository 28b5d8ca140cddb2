"""The rule by which a Binance book is joined from a REST snapshot and a stream of deltas; pure, one object per symbol.

Each delta covers the update ids (previous, last]: on spot `previous` is its `U` - 1, on USD-M its `pu`. Then one rule holds for
both (spot: `web-socket-streams.md`, "How to manage a local order book correctly"):

- without a snapshot deltas are held; a hole among them starts the holding over, because only a later snapshot can help;
- of the held ones those with `last` <= the snapshot's id are dropped; the first that stays must have `previous` <= that id;
- after that each delta's `previous` must equal the `last` before it, else the book is in doubt and a new snapshot is needed.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

__all__ = ["DELTAS_HELD_MAX", "SNAPSHOT_TRIES_MAX", "BookSync", "Delta", "Snapshot"]

DELTAS_HELD_MAX = 3_000  # five minutes at ten a second; beyond, the oldest goes: a snapshot that is still to come is newer
SNAPSHOT_TRIES_MAX = 5  # snapshots that were too old, one after the other

T = TypeVar("T")


class Delta(Enum):
    """What is to be done with a delta."""

    APPLY = "apply"  # it continues the book: pass it on
    HELD = "held"  # it waits for the snapshot
    REPEATED = "repeated"  # the book has it already
    BROKEN = "broken"  # something before it is missing: the book is in doubt, fetch a snapshot; it is held itself


_APPLY = Delta.APPLY  # the busy path


class Snapshot(Enum):
    """What is to be done with a snapshot."""

    JOINED = "joined"  # publish it, then what `held` has
    TOO_OLD = "too old"  # fetch another after a pause
    GIVE_UP = "give up"  # too old once too often: the book stays in doubt
    UNWANTED = "unwanted"  # the book is whole


class BookSync(Generic[T]):
    """Where one symbol's book stands.

    Args:
        held_max: how many deltas are held.
        tries_max: how many snapshots in a row may be too old.
    """

    __slots__ = ("_gave_up", "_held", "_joined", "_tries", "_tries_max", "last_id", "live")

    def __init__(self, held_max: int = DELTAS_HELD_MAX, tries_max: int = SNAPSHOT_TRIES_MAX) -> None:
        self._held: deque[tuple[int, int, T]] = deque(maxlen=held_max)
        self._tries_max = tries_max
        self._tries = 0
        self._gave_up = False
        self._joined = False  # the first delta after a snapshot may begin before the snapshot's id
        self.live = False
        self.last_id = 0
        """The id up to which the book, or else what is held, goes; 0 when there is nothing."""

    def on_delta(self, previous: int, last: int, item: T) -> Delta:
        """A delta over (previous, last] arrived; `item` is what `on_snapshot` gives back when it had to be held."""
        if self.live and previous == self.last_id:
            self.last_id = last
            return _APPLY
        if not self.live:
            return self._hold(previous, last, item)
        if self._joined and previous < self.last_id < last:
            self.last_id = last
            self._joined = False
            return _APPLY
        if last <= self.last_id:
            return Delta.REPEATED
        self.restart()
        self._hold(previous, last, item)
        return Delta.BROKEN

    def on_snapshot(self, last_id: int) -> tuple[Snapshot, list[T]]:
        """A snapshot as of `last_id` arrived. With JOINED, the held deltas that go on from it, in order."""
        if self.live or self._gave_up:
            return Snapshot.UNWANTED, []
        kept = [held for held in self._held if held[1] > last_id]
        if kept and kept[0][0] > last_id:
            return self._too_old(), []
        self.last_id = kept[-1][1] if kept else last_id
        self._joined = not kept
        self.live = True
        self._tries = 0
        self._held.clear()
        return Snapshot.JOINED, [item for _, _, item in kept]

    def restart(self) -> None:
        """Begin again without a book: the connection, a checksum or the operator says so."""
        self._held.clear()
        self.live = self._gave_up = self._joined = False
        self._tries = 0
        self.last_id = 0

    def _hold(self, previous: int, last: int, item: T) -> Delta:
        if self._gave_up:
            return Delta.HELD
        if last <= self.last_id:
            return Delta.REPEATED
        if self._held and previous != self.last_id:
            self._held.clear()
        self._held.append((previous, last, item))
        self.last_id = last
        return Delta.HELD

    def _too_old(self) -> Snapshot:
        self._tries += 1
        if self._tries < self._tries_max:
            return Snapshot.TOO_OLD
        self._held.clear()
        self.last_id = 0
        self._gave_up = True
        return Snapshot.GIVE_UP
