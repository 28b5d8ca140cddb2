"""The simulated venue's side of one feed: wake-ups in, bursts of events out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from raven.adapter import Catalogue, Count, Established, Output, Refused, Session, Topic, Wakeup
from raven.errors import InvalidValue
from raven.model.topic import Kind
from raven_sim.listing import Listing
from raven_sim.options import SimOptions
from raven_sim.pace import next_due
from raven_sim.streams import Stream, open_stream
from raven_sim.tape import Market
from raven_sim.topics import check_topic

__all__ = ["SimSession"]


class SimSession(Session):
    """One run of the simulated venue.

    Connecting establishes the topics and sends the catalogue and each book's snapshot; those are outside of the bursts. From
    then on each wake-up sends exactly `burst` events, the topics taking turns in the order in which they came. A book that is
    subscribed later sends its snapshot as its first turn. INSTRUMENT topics take no turns: the core publishes them from the
    catalogue, which holds the instruments of the topics.

    A topic that is dropped and comes back begins anew; the tape of a symbol, which its trades, candles and ticker share, goes
    on while any topic of the symbol is carried.

    Args:
        venue: the feed's name.
        topics: what to carry from the start.
    """

    def __init__(self, venue: str, options: SimOptions, topics: Sequence[Topic]) -> None:
        self._venue = venue
        self._options = options
        self._topics = topics
        self._markets: dict[str, Market] = {}
        self._carried: set[Topic] = set()
        self._streams: dict[Topic, Stream] = {}
        self._turns: Iterator[Stream] = iter(())
        self._turn = 0
        self._interval_ns = 1
        self._due_ns: int | None = None
        self._unlisted: dict[str, Listing] = {}

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        """Established, the catalogue, the books' snapshots, and the first wake-up one interval from now."""
        outputs = self._carry(self._topics)
        outputs += self._list(now_ns)
        outputs += [stream.event(now_ns) for topic, stream in self._streams.items() if topic.kind is Kind.BOOK]
        if self._streams:
            self._due_ns = now_ns + self._interval_ns
            outputs.append(Wakeup(self._interval_ns))
        return outputs

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        """Exactly `burst` events, and the next wake-up. Time that was missed is counted as "skipped_intervals"."""
        outputs = self._list(now_ns)
        if not self._streams:
            self._due_ns = None
            return outputs
        burst = self._options.burst
        outputs += [stream.event(now_ns) for stream in islice(self._turns, burst)]
        self._turn = (self._turn + burst) % len(self._streams)
        outputs += self._schedule(now_ns)
        return outputs

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        """Established at once; catalogue, image and events from the next wake-up on, because only that one has the time."""
        outputs = self._carry(topics)
        if self._due_ns is None and (self._streams or self._unlisted):
            outputs.append(Wakeup(0))
        return outputs

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        """No further event of these topics; with the last one the session falls silent."""
        dropped = self._carried.intersection(topics)
        self._carried -= dropped
        for topic in dropped:
            if topic in self._streams:
                self._streams[topic].close()
        symbols = {topic.symbol for topic in self._carried}
        self._markets = {symbol: market for symbol, market in self._markets.items() if symbol in symbols}
        self._deal({topic: stream for topic, stream in self._streams.items() if topic in self._carried})
        return ()

    def _carry(self, topics: Sequence[Topic]) -> list[Output]:
        """Open the streams of the topics that are new."""
        refused: list[Output] = []
        streams: dict[Topic, Stream] = {}
        established = [topic for topic in dict.fromkeys(topics) if topic not in self._carried]
        for topic in tuple(established):
            try:
                streams |= self._open(topic)
            except InvalidValue as error:
                established.remove(topic)
                refused.append(Refused(topic, str(error)))
        self._carried.update(established)
        self._deal(self._streams | streams)
        return [Established(established), *refused] if established else refused

    def _open(self, topic: Topic) -> dict[Topic, Stream]:
        listing = check_topic(topic)
        market = self._markets.get(topic.symbol)
        if market is None:
            market = self._markets[topic.symbol] = Market(self._options.seed, listing)
        self._unlisted[topic.symbol] = listing
        stream = open_stream(topic, market)
        return {} if stream is None else {topic: stream}

    def _deal(self, streams: dict[Topic, Stream]) -> None:
        """Let `streams` take turns: those that did so before from where their round stands, then the new ones."""
        before = list(self._streams)
        round_order = before[self._turn :] + before[: self._turn]
        self._streams = {topic: streams[topic] for topic in round_order if topic in streams} | streams
        self._turns = cycle(self._streams.values())
        self._turn = 0
        self._interval_ns = self._options.interval_ns(len(self._streams) or 1)

    def _list(self, now_ns: int) -> list[Output]:
        """The definitions of instruments that were asked for since the last time."""
        if not self._unlisted:
            return []
        instruments = [listing.instrument(self._venue) for listing in self._unlisted.values()]
        self._unlisted = {}
        return [Catalogue(instruments, now_ns)]

    def _schedule(self, now_ns: int) -> list[Output]:
        due_ns = now_ns if self._due_ns is None else self._due_ns
        self._due_ns, skipped = next_due(due_ns, self._interval_ns, now_ns)
        wakeup = Wakeup(self._due_ns - now_ns)
        return [Count("skipped_intervals", skipped), wakeup] if skipped else [wakeup]
