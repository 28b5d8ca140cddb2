"""The emulated venue, the supervisor and the broker in one process over real sockets, and a client that keeps what it gets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import attrs
import httpx
import trio

from raven.adapter import Adapter, Connection, EmulatorOptions, FeedSpec, Session
from raven.adapter.batch import Batch
from raven.broker import Broker, BrokerLimits, Subscription
from raven.codec.generated.raven import v1
from raven.feed.limits import FeedLimits
from raven.feed.statistics import FeedStatistics
from raven.feed.transport import DEFAULT_READER, Reader
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Flag
from raven.model.topic import Kind, Selector, Topic
from raven.supervisor import ConfiguredFeed, Supervisor, SupervisorConfig
from raven_binance import BinanceSpotAdapter, BinanceUsdmAdapter
from raven_binance.emulator import SpotEmulator, UsdmEmulator
from raven_binance.emulator.contracts import ContractMarket
from raven_binance.emulator.faults import Fault
from raven_binance.emulator.generator import SpotMarket
from raven_binance.emulator.injection import Injector
from raven_binance.emulator.rules import CONTRACTS, SYMBOLS, SymbolRules
from tests.e2e.recording import Recorded, read_recording
from tests.validators import faults as found_in

DEADLINE_S = 20.0
SPEED = 15.0  # times the pace of the recording
KINDS = (Kind.TRADE, Kind.QUOTE, Kind.BOOK)
STRUCK, BESIDE, APART = "BTC-USDT", "ETH-USDT", "SOL-USDT"  # the faults' symbol, one on its connection, one on another feed
FEED, OTHER_FEED = "binance", "binance-apart"
RESTARTS = SupervisorConfig(backoff_base_s=0.05, backoff_cap_s=0.2, stable_s=0.2)
LIMITS = FeedLimits(retry_pause_s=0.05)
LOCAL_OR_IMAGE = int(Flag.LOCAL | Flag.IMAGE)
State, Cause = v1.TopicStatusState, v1.TopicStatusCause


@attrs.frozen
class Played:
    """A market that is played.

    Args:
        suffix: of canonical symbols; tests call them by what is before it.
        depth: the REST address of a whole book, without its symbol.
        kind: of the generated market, and `rules` of its symbols.
    """

    adapter: type[Adapter]
    emulator: Callable[[Injector], Any]
    suffix: str
    depth: str
    kind: type[SpotMarket]
    rules: tuple[SymbolRules, ...]


SPOT = Played(BinanceSpotAdapter, SpotEmulator, "", "/api/v3/depth?limit=5000", SpotMarket, SYMBOLS)
USDM = Played(
    BinanceUsdmAdapter,
    UsdmEmulator,
    "-PERP",
    "/fapi/v1/depth?limit=1000",
    ContractMarket,
    (*CONTRACTS[:2], attrs.evolve(CONTRACTS[1], symbol="SOLUSDT", base="SOL")),
)


class Record:
    """Every event that a client of everything was given, in order, with the time at which it was (Trio's clock).

    It is an `OutboxWriter` that takes whatever there is at once.
    """

    def __init__(self, broker: Broker, suffix: str = "") -> None:
        self._suffix = suffix
        self.events: list[tuple[float, v1.MarketEvent]] = []
        self.by_topic: dict[Topic, list[v1.MarketEvent]] = {}
        self._came = trio.Event()
        self._client = broker.clients.attach("record", "here", lambda ended: self.__setattr__("ended", ended))
        self.ended: object = None
        self.lane = self
        self.closed = False
        self._client.outbox.writer = self
        subscription = Subscription("all", Selector("*", "*", frozenset(KINDS)))
        assert broker.clients.subscribe(self._client, subscription).accepted
        broker.clients.put_images(self._client, subscription)
        self.flush()

    def flush(self) -> None:
        self._client.outbox.flush()

    def drain(self) -> bool:
        while (message := self._client.outbox.take(b"")) is not None:
            self.begin(message)
        return True

    def send(self, message: bytes, shared: dict[int, bytes]) -> bool:
        return self.begin(message)

    def begin(self, message: bytes) -> bool:
        now = trio.current_time()
        for event in v1.StreamMarketDataResponse.parse(message).events:
            assert event.topic is not None
            topic = Topic(event.topic.venue, event.topic.symbol, Kind(event.topic.kind), event.topic.variant)
            self.events.append((now, event))
            self.by_topic.setdefault(topic, []).append(event)
        self._came.set()
        return True

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds after something came."""
        with trio.move_on_after(DEADLINE_S):
            while not condition():
                self._came = trio.Event()
                await self._came.wait()
            return
        raise AssertionError(f"not within {DEADLINE_S:g} s: {what}\n{self.told()}")

    def of(self, symbol: str, kind: Kind) -> list[v1.MarketEvent]:
        """The sequenced events of one topic."""
        venue = OTHER_FEED if symbol == APART else FEED
        found = self.by_topic.get(Topic(venue, symbol + self._suffix, kind, ""), [])
        return [event for event in found if not event.flags & LOCAL_OR_IMAGE]

    def tale(self, symbol: str, kind: Kind) -> list[str]:
        """What a topic's clients were told beside data: "gap", "gap 3" with a count, "DOWN FEED_DOWN"."""
        return [told for told in map(_told, self.of(symbol, kind)) if told]

    def at(self, symbol: str, kind: Kind, told: str) -> float:
        """When that was first told."""
        return next(
            at
            for at, event in self.events
            if _told(event) == told and event.topic and Kind(event.topic.kind) is kind
            if event.topic.symbol == symbol + self._suffix
        )

    def text(self, symbol: str, kind: Kind, told: str) -> str:
        """The words of the first status that was so told."""
        return next(event.status.text for event in self.of(symbol, kind) if _told(event) == told and event.status)

    def last_status(self, topic: Topic) -> str:
        """Of any topic, of another feed too."""
        return next((told for told in map(_told, reversed(self.by_topic.get(topic, []))) if told), "")

    def told(self) -> str:
        """All of it, for people."""
        lines = [
            f"{at:.3f} {event.topic} {_told(event)} {event.status.text if event.status else chr(32)}"
            for at, event in self.events
            if _told(event)
        ]
        return "\n".join([*lines, *(f"{topic}: {len(events)} events" for topic, events in self.by_topic.items())])


def _told(event: v1.MarketEvent) -> str:
    if event.status is not None:
        cause = event.status.cause.name
        return event.status.state.name + (f" {cause}" if cause != "UNSPECIFIED" else "")
    if event.gap is not None:
        return f"gap {event.gap.missed}" if event.gap.missed else "gap"
    return ""


class Wrapped(Adapter):
    """An adapter with other connections or sessions."""

    api = 1

    def __init__(
        self,
        inner: Adapter,
        *,
        connection: Callable[[Connection], Connection] = lambda connection: connection,
        session: Callable[[Session], Session] = lambda session: session,
    ) -> None:
        self._inner, self._connection, self._session = inner, connection, session

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return [self._connection(one) for one in self._inner.connections(feed)]

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        return self._session(self._inner.session(feed, connection, memory))


def impatient(idle_timeout_s: float, played: Played = SPOT) -> Adapter:
    """The adapter with another idle timeout."""
    return Wrapped(played.adapter(), connection=lambda one: attrs.evolve(one, idle_timeout_s=idle_timeout_s))


@attrs.define
class Feeding:
    """What runs.

    Args:
        recorded: what the venue plays, by canonical symbol, read without the adapter.
    """

    record: Record
    injector: Injector
    supervisor: Supervisor
    recorded: dict[str, Recorded]
    depth_url: str

    @property
    def feed(self) -> FeedStatistics:
        """The feed that is struck."""
        return self.supervisor.statistics()[0]

    def count(self, what: str) -> int:
        """A counter of the struck feed's session or runner."""
        return self.feed.connections[0].counts.get(what, 0)

    def asked(self, part: str) -> list[float]:
        """When REST requests came whose path and query contain this."""
        return [request.at_s for request in self.injector.requests if part in request.target]

    async def until_played(self) -> None:
        """Wait until the recording is over and every book is at its end, and live."""
        await self.record.until(self._is_played, "the end of the recording")

    def _is_played(self) -> bool:
        return all(self._is_whole(symbol) for symbol in (BESIDE, APART)) and self._book_is_at_its_end(STRUCK)

    def _is_whole(self, symbol: str) -> bool:
        wanted = self.recorded[symbol]
        ends = (
            (Kind.TRADE, lambda e: e.trade and e.trade.trade_id == str(wanted.trades[-1][0])),
            (Kind.QUOTE, lambda e: e.quote and _numbers(e.quote) == tuple(map(float, wanted.quotes[-1][:4]))),
        )
        return self._book_is_at_its_end(symbol) and all(
            (events := self.record.of(symbol, kind)) and (self._cut(symbol) or any(map(is_end, events[-1:])))
            for kind, is_end in ends
        )

    def _cut(self, symbol: str) -> bool:
        return symbol == BESIDE and any("DOWN" in told for told in self.record.tale(symbol, Kind.TRADE))

    def _book_is_at_its_end(self, symbol: str) -> bool:
        events = self.record.of(symbol, Kind.BOOK)
        reached = [payload.venue_sequence for event in events[-3:] if (payload := event.book_delta or event.book_snapshot)]
        return bool(reached) and reached[-1] == self.recorded[symbol].deltas[-1][0] and self._state(symbol) == "LIVE"

    def _state(self, symbol: str) -> str:
        return next((told for told in reversed(self.record.tale(symbol, Kind.BOOK)) if not told.startswith("gap")), "")

    async def venue_books(self) -> dict[str, OrderBook]:
        """The emulator's own books, as it answers."""
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # reading the certificates takes 40 ms
            return {symbol: await self._venue_book(client, symbol) for symbol in self.recorded}

    async def _venue_book(self, client: httpx.AsyncClient, symbol: str) -> OrderBook:
        reply = await client.get(f"{self.depth_url}&symbol={symbol.replace('-', '')}")
        bids, asks = ([(float(price), float(size)) for price, size in reply.json()[side]] for side in ("bids", "asks"))
        return OrderBook(BookSnapshot(*zip(*bids, strict=True), *zip(*asks, strict=True)))  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------------ the validator

    async def check(self, *, alone: bool = True) -> None:
        """What has to hold after any fault.

        Args:
            alone: the fault was of one symbol's frames, so that the others of its connection felt nothing.
        """
        await self.check_all()
        for symbol in (BESIDE, APART) if alone else (APART,):
            self.check_untouched(symbol)

    async def check_all(self) -> None:
        """What has to hold of every topic."""
        assert self.record.ended is None
        for events in self.record.by_topic.values():
            check_sequence([event for event in events if not event.flags & LOCAL_OR_IMAGE])
        for symbol in self.recorded:
            check_trades(self.record.of(symbol, Kind.TRADE), self.recorded[symbol])
            check_quotes(self.record.of(symbol, Kind.QUOTE), self.recorded[symbol])
        books = {symbol: check_book(self.record.of(symbol, Kind.BOOK), self.recorded[symbol]) for symbol in self.recorded}
        assert books == await self.venue_books()

    def check_untouched(self, symbol: str) -> None:
        """Every frame arrived, and nothing was told but that the topic is live."""
        wanted = self.recorded[symbol]
        assert [self.record.tale(symbol, kind) for kind in KINDS] == [["LIVE"]] * 3
        trades = [event.trade.trade_id for event in self.record.of(symbol, Kind.TRADE) if event.trade]
        assert trades == [str(trade[0]) for trade in wanted.trades]
        quotes = [_numbers(event.quote) for event in self.record.of(symbol, Kind.QUOTE) if event.quote]
        assert quotes == [tuple(map(float, quote[:4])) for quote in wanted.quotes]
        deltas = [event.book_delta.venue_sequence for event in self.record.of(symbol, Kind.BOOK) if event.book_delta]
        assert deltas == [delta[0] for delta in wanted.deltas]


def check_sequence(events: list[v1.MarketEvent]) -> None:
    """One epoch, sequences that go up by one."""
    assert len({event.epoch for event in events}) <= 1
    assert all(later.sequence == event.sequence + 1 for event, later in pairwise(events))


def check_trades(events: list[v1.MarketEvent], recorded: Recorded) -> None:
    """Each trade as the venue has it, none twice, and every hole among their ids has a Gap or a status in it."""
    wanted = {str(trade[0]): trade for trade in recorded.trades}
    following = {before[0]: after[0] for before, after in pairwise(recorded.trades)}  # USD-M has bookings between
    last: int | None = None
    told = False
    for event in events:
        if event.trade is None:
            told = told or event.gap is not None or _is_doubt(event)
            continue
        number, price, size, *_ = wanted[event.trade.trade_id]
        assert last is None or number > last, f"trade {number} after {last}"
        assert told or last is None or number == following[last], f"a hole that was not told: {last} to {number}"
        if not event.flags:
            assert (event.trade.price, event.trade.size) == (float(price), float(size))
        last, told = number, False


def check_quotes(events: list[v1.MarketEvent], recorded: Recorded) -> None:
    """Quotes of the venue, none twice, in order. A quote stands for itself: one that is lost is made good by the next."""
    wanted: Iterator[tuple[float | None, ...]] = iter([tuple(map(float, quote[:4])) for quote in recorded.quotes])
    for event in events:
        if event.quote is not None and not event.flags and None not in _numbers(event.quote):
            assert _numbers(event.quote) in wanted


def check_book(events: list[v1.MarketEvent], recorded: Recorded) -> OrderBook:
    """No delta twice, none while the book is in doubt, none over a hole; the book at the end."""
    before = {delta[0]: prior[0] for prior, delta in pairwise(recorded.deltas)}
    before[recorded.deltas[0][0]] = recorded.snapshot["lastUpdateId"]
    book, told, live, fresh = OrderBook(), True, False, False
    for event in events:
        if (delta := event.book_delta) is not None:
            assert live, f"delta {delta.venue_sequence} while the book is in doubt"
            assert delta.venue_sequence > book.venue_sequence, f"delta {delta.venue_sequence} after {book.venue_sequence}"
            assert before[delta.venue_sequence] <= book.venue_sequence, f"delta {delta.venue_sequence} over a hole"
            assert fresh or before[delta.venue_sequence] == book.venue_sequence
            book.apply(BookDelta(delta.bid_price, delta.bid_size, delta.ask_price, delta.ask_size, delta.venue_sequence))
            fresh = False
        elif (whole := event.book_snapshot) is not None:
            assert told, "a new snapshot, and nobody was told why"
            sides = whole.bid_price, whole.bid_size, whole.ask_price, whole.ask_size
            book.reset(BookSnapshot(*sides, whole.venue_sequence))
            told, fresh = False, True
        else:
            told = told or event.gap is not None or _is_doubt(event)
            live = event.status.state == State.LIVE if event.status is not None else live
    return book


def _is_doubt(event: v1.MarketEvent) -> bool:
    return event.status is not None and event.status.state in (State.DOWN, State.RESYNCING)


def _numbers(quote: v1.Quote) -> tuple[float | None, ...]:
    return quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size


# ------------------------------------------------------------------------------------------------------------- what runs


@asynccontextmanager
async def feeding(
    file: Path,
    *faults: Fault,
    played: Played = SPOT,
    reader: Reader = DEFAULT_READER,
    adapter: Adapter | None = None,
    speed: float = SPEED,
    more: Sequence[ConfiguredFeed] = (),
) -> AsyncIterator[Feeding]:
    """A venue that plays `file` with these faults, and everything from its sockets to a client of the broker.

    Args:
        played: the market of `file`.
        reader: of every WebSocket.
        adapter: of the feed that has the struck symbol.
        speed: times the pace of the recording.
        more: further feeds of the supervisor.
    """
    injector = Injector(faults)
    recorded = {f"{name.removesuffix('USDT')}-USDT": one for name, one in read_recording(file).items()}
    send, receive = trio.open_memory_channel[Batch](64)
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(played.emulator(injector).run, EmulatorOptions(frames=file, speed=speed))
        options = played.adapter.options_type(**urls)

        def configured(name: str, adapter: Adapter, *symbols: str) -> ConfiguredFeed:
            topics = tuple(Topic(name, symbol + played.suffix, kind) for symbol in symbols for kind in KINDS)
            return ConfiguredFeed(FeedSpec(name, topics, options), adapter, "binance", "0", reader=reader)

        feeds = [
            configured(FEED, adapter or played.adapter(), STRUCK, BESIDE),
            configured(OTHER_FEED, played.adapter(), APART),
            *more,
        ]
        broker = Broker(BrokerLimits())
        supervisor = Supervisor(feeds, send, random=Random(1), config=RESTARTS, limits=LIMITS)
        await nursery.start(broker.run, receive)
        record = Record(broker, played.suffix)
        await nursery.start(supervisor.run)
        with contextlib.ExitStack() as stack:
            stack.callback(nursery.cancel_scope.cancel)
            yield Feeding(record, injector, supervisor, recorded, urls["rest_url"] + played.depth)
            assert found_in(event for _, event in record.events) == []
