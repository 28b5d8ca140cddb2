"""What the processes of one run share: a few numbers in a mapped file, so that a server written in anything can take part.

The benchmark asks for a phase by raising `phase`; the program that makes the events publishes for `duration_ns`, never more
than `window` deliveries ahead of what the readers have counted, then leaves its counts and sets `done`.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from struct import Struct

__all__ = ["END", "SLOTS", "Board", "run_phases"]

SLOTS = ("phase", "done", "duration_ns", "window", "received", "begun_ns", "deliveries")
SIZE = 4096
END = 2**63
"""The phase that ends the program."""

IDLE_S = 0.001

_SLOT = Struct("<Q")


class Board:
    """The shared numbers; each slot of SLOTS is an attribute. One process writes a slot, any may read it."""

    phase: int
    done: int
    duration_ns: int
    window: int
    received: int
    begun_ns: int
    deliveries: int

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self.__dict__["memory"] = mmap.mmap(file.fileno(), SIZE)

    @staticmethod
    def make(path: Path) -> Board:
        """A new one, all zero."""
        path.write_bytes(bytes(SIZE))
        return Board(path)

    def __getattr__(self, name: str) -> int:
        value: int = _SLOT.unpack_from(self.__dict__["memory"], 8 * SLOTS.index(name))[0]
        return value

    def __setattr__(self, name: str, value: int) -> None:
        _SLOT.pack_into(self.__dict__["memory"], 8 * SLOTS.index(name), value)


async def run_phases(board: Board, sleep: Callable[[float], Awaitable[object]], publish: Callable[[], Awaitable[int]]) -> None:
    """Do what the board asks for until it says END.

    Args:
        sleep: of whatever loop this runs on.
        publish: makes one burst or more; returns how many deliveries that is.
    """
    done, parent = 0, os.getppid()
    while True:
        while board.phase == done:
            await sleep(IDLE_S)
            if os.getppid() != parent:  # the benchmark was killed
                return
        done = board.phase
        if done == END:
            return
        await _run_phase(board, sleep, publish)
        board.done = done


async def _run_phase(board: Board, sleep: Callable[[float], Awaitable[object]], publish: Callable[[], Awaitable[int]]) -> None:
    received, unpack, memory = 8 * SLOTS.index("received"), _SLOT.unpack_from, board.__dict__["memory"]
    window, deliveries = board.window, 0
    board.begun_ns = begun = time.monotonic_ns()
    base, until = board.received, begun + board.duration_ns
    while time.monotonic_ns() < until:
        if deliveries - (unpack(memory, received)[0] - base) > window:
            await sleep(IDLE_S / 10)
        else:
            deliveries += await publish()
    board.deliveries = deliveries
