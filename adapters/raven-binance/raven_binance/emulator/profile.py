"""What one emulated market has that another has not: its addresses, what it lists, what it generates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from raven_binance.emulator.contracts import generate_contracts
from raven_binance.emulator.frames import Record
from raven_binance.emulator.generator import generate
from raven_binance.emulator.rules import CONTRACTS, SYMBOLS, SymbolRules, contract_info, exchange_info

__all__ = ["SPOT_PROFILE", "USDM_PROFILE", "Profile"]

PUBLIC_TOPICS = ("trade", "bookTicker", "depth")
SPOT_TOPICS = ("trade", "bookTicker", "depth@100ms")

Serves = Callable[[str], bool]


def _all(_: str) -> bool:
    return True


def _none(_: str) -> bool:
    return False


def _public(stream: str) -> bool:
    return stream.partition("@")[2].startswith(PUBLIC_TOPICS)


def _market(stream: str) -> bool:
    return not _public(stream)


@attrs.frozen
class Profile:
    """One market of the venue.

    Args:
        routes: the first part of an address's path, "" for none, and which streams come over it. Any stream may be subscribed
            over any; what does not come over it stays silent.
        rest_prefix: of the REST paths that all markets have.
        lists_by_symbol: whether `exchangeInfo` looks at what it is asked for.
        derivatives: whether it has open interest and funding.
        depth_limit_max: of a depth request.
        symbols: that are generated and known.
        topics: the streams of a generated symbol that are waited for at the start.
        generate: records without end, of a seed and a first time.
        exchange_info: the body of that answer.
    """

    routes: Mapping[str, Serves]
    rest_prefix: str
    lists_by_symbol: bool
    derivatives: bool
    depth_limit_max: int
    symbols: tuple[SymbolRules, ...]
    topics: tuple[str, ...]
    generate: Callable[[int, int], Iterator[Record]]
    exchange_info: Callable[[Iterable[SymbolRules], int], bytes]


SPOT_PROFILE = Profile({"": _all}, "/api/v3", True, False, 5000, SYMBOLS, SPOT_TOPICS, generate, exchange_info)

USDM_PROFILE = Profile(
    # Without a path there is what was public before the paths came.
    {"public": _public, "market": _market, "private": _none, "": _public},
    "/fapi/v1",
    False,
    True,
    1000,
    CONTRACTS,
    SPOT_TOPICS,
    generate_contracts,
    contract_info,
)
