"""Levels as venues have them, in pairs, to columns as events have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raven.speedups import compiled

__all__ = ["Columns", "Levels", "columns"]

Levels = Sequence[tuple[float, float]]
Columns = tuple[tuple[float, ...], tuple[float, ...]]

NO_LEVELS: Columns = ((), ())


def split_columns(levels: Levels) -> Columns:
    """`columns` in Python; `raven.speedups` has the same, compiled."""
    prices, sizes = zip(*levels, strict=True) if levels else NO_LEVELS
    return prices, sizes


columns: Callable[[Levels], Columns] = split_columns if compiled is None else compiled.columns
"""Prices and sizes of levels, in their order; each level is a pair of them. Raises ValueError where one is something else.

>>> columns([(10.0, 1.0), (9.0, 2.0)])
((10.0, 9.0), (1.0, 2.0))
"""
