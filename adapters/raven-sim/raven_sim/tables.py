"""Chance, drawn beforehand: what every symbol's numbers are looked up in.

An event of the simulated venue must cost less than what it is a load for. So the random walk, the spread and the draws of a
seed are made once, and the nth event of a topic is a few list look-ups at n plus the topic's own phase. Of Random only
`random()` is used, whose numbers for a seed are the same in every Python.
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache
from itertools import accumulate
from random import Random
from statistics import NormalDist

import attrs

from raven_sim.listing import Listing

__all__ = [
    "BOOK_DEPTH",
    "DRAWS",
    "LADDER",
    "MOVE_MAX",
    "SPREAD_MAX",
    "WALK_MASK",
    "Tables",
    "ladder",
    "phase",
    "size_units",
    "tables",
]

BOOK_DEPTH = 50  # levels a side
SPREAD_MAX = 4  # ticks
STEP_MAX = 2  # ticks that the best bid moves between two events
MOVE_MAX = STEP_MAX + SPREAD_MAX - 1  # ticks that the best ask moves
WALK_RANGE = 400  # ticks that the best bid goes away from the middle
MARGIN = BOOK_DEPTH + SPREAD_MAX
LADDER = 2 * (WALK_RANGE + MARGIN) + 1  # prices of one symbol
WALK_STEPS = 2**15
WALK_MASK = WALK_STEPS - 1
DRAWS = 32_749  # a prime, so that walk and draws together come back after a billion events only
SIZES = 512  # sizes of one symbol; a power of two
SIZE_SIGMA = 1.2  # of the logarithm of a size

_STEPS = (-2, -1, -1, 0, 0, 0, 0, 1, 1, 2)
_SPREADS = (1, 1, 1, 1, 1, 2, 2, 2, 3, SPREAD_MAX)


@attrs.frozen(eq=False)
class Tables:
    """One seed's chance.

    Args:
        bids, asks: best bid and ask at each step, as places on a symbol's ladder; WALK_STEPS of each, and the last leads over
            to the first.
        draws: evenly distributed numbers below SIZES; DRAWS of them.
    """

    bids: list[int]
    asks: list[int]
    draws: list[int]


@lru_cache(maxsize=4)
def tables(seed: int) -> Tables:
    """The tables of a seed: 20 ms the first time."""
    random = Random(f"raven-sim {seed}").random  # a text, because Random(-1) is Random(1)
    bids = _there_and_back([_STEPS[int(random() * len(_STEPS))] for _ in range(WALK_STEPS // 2)])
    spreads = [_SPREADS[int(random() * len(_SPREADS))] for _ in range(64)]
    asks = [bid + spreads[step // 5 % 64] for step, bid in enumerate(bids)]
    return Tables(bids, asks, [int(random() * SIZES) for _ in range(DRAWS)])


def _there_and_back(steps: list[int]) -> list[int]:
    """The walk along `steps`, kept on the ladder, and the same way back, so that it can go on for ever without a jump."""
    low, high = MARGIN, MARGIN + 2 * WALK_RANGE
    walk = list(accumulate(steps[1:], lambda at, step: min(high, max(low, at + step)), initial=MARGIN + WALK_RANGE))
    return walk + walk[::-1]


def phase(seed: int, symbol: str, what: str) -> int:
    """Where in the tables something begins, 0 to 2**32 - 1; so no two symbols move alike."""
    return zlib.crc32(f"{seed}/{symbol}/{what}".encode())


def ladder(listing: Listing) -> list[float]:
    """The prices that a symbol can have, LADDER of them, one increment apart."""
    lowest = listing.ticks - LADDER // 2
    return listing.price.values(range(lowest, lowest + LADDER))


def size_units(listing: Listing) -> list[int]:
    """The sizes of a symbol in increments: SIZES quantiles of a lognormal distribution around its median."""
    return [max(1, round(listing.units * multiple)) for multiple in _multiples()]


@lru_cache(maxsize=1)
def _multiples() -> tuple[float, ...]:
    normal = NormalDist(0, SIZE_SIGMA)
    return tuple(math.exp(normal.inv_cdf((place + 0.5) / SIZES)) for place in range(SIZES))
