"""Asks the venue which of a feed's symbols it lists, and how; pure.

The venue refuses a whole `exchangeInfo?symbols=[...]` for one symbol that it does not know (HTTP 400, code -1121), so a refused
list is asked again in halves until the symbol stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import attrs
import msgspec

from raven.adapter import Fetch, Output, Reply
from raven.errors import FrameError
from raven.model.instrument import Instrument
from raven_binance.catalogue import ListedSymbol, parse_exchange_info
from raven_binance.market import Market
from raven_binance.rest import RestQueue
from raven_binance.wire import parse_error

__all__ = ["PURPOSE", "Listing", "ListingReply"]

PURPOSE = "instruments:"
EVERYTHING = "*"
SYMBOLS_PER_REQUEST_MAX = 100  # keeps the address below 2 KiB
UNKNOWN_SYMBOL = -1121


@attrs.frozen
class ListingReply:
    """What an answer told.

    Args:
        outputs: further requests.
        listed: the symbols that it confirms, by the venue's spelling.
        unlisted: the asked symbols that the venue does not have, each with the reason.
        changed: instruments that are new or not as they were.
        unusable: how many entries have no canonical symbol.
    """

    outputs: Sequence[Output] = ()
    listed: Mapping[str, Instrument] = attrs.field(factory=dict)
    unlisted: Mapping[str, str] = attrs.field(factory=dict)
    changed: Sequence[Instrument] = ()
    unusable: int = 0


class Listing:
    """The instruments that one session has heard of.

    Args:
        venue: the feed's name.
    """

    def __init__(self, venue: str, market: Market, rest_url: str, rest: RestQueue) -> None:
        self._venue = venue
        self._market = market
        self._url = rest_url + market.exchange_info_path
        self._rest = rest
        self._known: dict[str, Instrument] = {}
        self._everything = False
        self._asked: dict[str, None] = {}  # symbols that wait for the list of all, where only that can be had
        self._of_interest: set[str] = set()

    def ask(self, symbols: Sequence[str], now_ns: int) -> list[Output]:
        """Ask for these symbols in the venue's spelling."""
        self._of_interest.update(symbols)
        if not self._market.lists_by_symbol:
            self._asked.update(dict.fromkeys(symbols))
            return self._fetch(EVERYTHING, "", now_ns) if symbols else []
        return [
            output
            for part in _parts(tuple(symbols), SYMBOLS_PER_REQUEST_MAX)
            for output in self._fetch(",".join(part), "?symbols=" + quote(msgspec.json.encode(part).decode()), now_ns)
        ]

    def ask_all(self, now_ns: int) -> list[Output]:
        """Ask for everything that the venue lists, and be interested in all of it: some megabytes."""
        self._everything = True
        return self._fetch(EVERYTHING, "", now_ns)

    def on_reply(self, request: Fetch, reply: Reply) -> ListingReply:
        """The answer to one of these requests."""
        asked = request.purpose.removeprefix(PURPOSE)
        symbols = tuple(self._asked) if asked == EVERYTHING else tuple(asked.split(","))
        if reply.status == 400 and asked != EVERYTHING and parse_error(reply.body).code == UNKNOWN_SYMBOL:
            return self._refused(request, symbols, reply)
        try:
            entries = parse_exchange_info(reply.body) if reply.ok else None
        except FrameError:
            entries = None
        if entries is None:
            return ListingReply(self._rest.failed(request.purpose, reply))
        self._rest.done(request.purpose)
        if asked == EVERYTHING:
            self._asked.clear()
        wanted = entries if self._everything else [entry for entry in entries if entry.symbol in self._of_interest]
        return self._listed(symbols, wanted)

    def _fetch(self, asked: str, query: str, now_ns: int) -> list[Output]:
        return self._rest.ask(Fetch(self._url + query, PURPOSE + asked), self._market.exchange_info_weight, now_ns)

    def _refused(self, request: Fetch, symbols: tuple[str, ...], reply: Reply) -> ListingReply:
        self._rest.done(request.purpose)
        if len(symbols) == 1:
            return ListingReply(unlisted={symbols[0]: f"the venue lists no {symbols[0]}: {parse_error(reply.body).msg}"})
        middle, now_ns = len(symbols) // 2, reply.received_ts_ns
        return ListingReply([*self.ask(symbols[:middle], now_ns), *self.ask(symbols[middle:], now_ns)])

    def _listed(self, symbols: tuple[str, ...], entries: Sequence[ListedSymbol]) -> ListingReply:
        made = {entry.symbol: self._market.instrument(self._venue, entry) for entry in entries}
        listed = {symbol: instrument for symbol, instrument in made.items() if instrument is not None}
        changed = [instrument for symbol, instrument in listed.items() if self._known.get(symbol) != instrument]
        self._known.update(listed)
        missing = {symbol: f"the venue lists no {symbol}" for symbol in symbols if symbol not in made}
        return ListingReply((), listed, missing, changed, len(made) - len(listed))


def _parts(symbols: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]
