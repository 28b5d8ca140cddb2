"""Work of the event loop in slices, between which clients are served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["REST_TIMES", "SLICE_S", "take_slice"]

SLICE_S = 0.0003
"""A slice ends with the first piece that goes beyond this; a piece costs 0.1 ms at most, except the image of a giant book."""

REST_TIMES = 19
"""Between slices the loop is left alone for so many times what the last one took: a twentieth of it at most is used."""

T = TypeVar("T")


def take_slice(source: Iterator[T | None], clock_s: Callable[[], float]) -> tuple[list[T], bool]:
    """What comes out of `source` until the slice is over, and whether more may come. None = looked at, nothing came of it."""
    ends_s = clock_s() + SLICE_S
    taken: list[T] = []
    for item in source:
        if item is not None:
            taken.append(item)
        if clock_s() >= ends_s:
            return taken, True
    return taken, False
