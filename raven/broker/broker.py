"""The broker itself: batches of a feed in, events with sequence and status out to whoever has their topics.

`publish` never awaits and never raises for a client's sake. The rules of continuity, in the words of raven.proto:

* a topic's events carry a sequence that goes up by one within an epoch; status changes and venue gaps are events of it;
* while a topic is not LIVE no delta of its book is passed on; its snapshot makes it LIVE again;
* events that may have been lost between venue and Raven are a Gap before the first event that follows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import attrs
import structlog
import trio
from msgspec.structs import replace

from raven.adapter.batch import Batch, BatchItem, Carry, Down, Drop
from raven.adapter.outputs import Catalogue, Established, Refused, Resync
from raven.broker.clients import BrokerLimits, Clients, ClientStatistics
from raven.broker.directory import Directory
from raven.broker.topics import BOOK_TOP_DEPTHS, TopicState
from raven.codec.encoder import UNENCODABLE
from raven.model.events import (
    BookDelta,
    BookSnapshot,
    Event,
    Flag,
    Gap,
    GapCause,
    Payload,
    State,
    StatusCause,
    TopicStatus,
)
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Topic

__all__ = ["Broker", "BrokerStatistics"]

BATCHES_BEFORE_FLUSH_MAX = 16
"""Batches that wait already are published together, at most so many, before clients are written to."""

CROSSED_IN_A_ROW_MAX, CROSSED_NS_MIN = 20, 2_000_000_000
"""A book that so many changes in a row, over so long, leave crossed is no book in the middle of a burst: it is wrong."""

RING_AGING_S = 1.0
"""How often the recent events are looked through for what is too old."""

_LIVE = State.LIVE
_MARKS = frozenset({TopicStatus, Gap})  # payloads that say something about the topic

log = structlog.stdlib.get_logger("raven.broker")


@attrs.frozen
class BrokerStatistics(ClientStatistics):
    """Counts since the start.

    Args:
        events: published, by (venue, kind).
        topics: known.
        topics_by_state: the same, by the name of their state.
        refused_events: events of adapters that broke the contract, by feed.
    """

    events: Mapping[tuple[str, str], int]
    topics: int
    topics_by_state: Mapping[str, int]
    refused_events: Mapping[str, int]


class Broker:
    """Topics and clients of one server.

    Args:
        limits: what clients may ask for.
        book_top_feeds: feeds from whose books BOOK_TOP topics are derived.
        now_ns: wall clock.
        on_doubt: called with a feed's name, one of its topics, the cause and a text, when what the venue sends for the topic
            makes no sense for longer: who runs the feed is to renew it.
        on_fault: called with a feed's name, the topic where there is one, and the reason, when its adapter broke the contract.
    """

    def __init__(
        self,
        limits: BrokerLimits,
        *,
        book_top_feeds: Collection[str] = (),
        now_ns: Callable[[], int] = time.time_ns,
        on_fault: Callable[[str, Topic | None, str], None] | None = None,
        on_doubt: Callable[[str, Topic, StatusCause, str], None] | None = None,
    ) -> None:
        self.directory = Directory(now_ns, limits.ring)
        self.clients = Clients(limits, self.directory, now_ns)
        self._book_top_feeds = frozenset(book_top_feeds)
        self._now_ns = now_ns
        self._on_fault = on_fault
        self._on_doubt = on_doubt
        self._refused: Counter[str] = Counter()

    # ---- the way of an event

    async def run(
        self, channel: trio.MemoryReceiveChannel[Batch], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Publish what feeds send until every feed has closed its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.clients.pacer.run, self.flush)
            nursery.start_soon(self._age)
            task_status.started()
            async for batch in channel:
                self.publish(batch)
                for _ in range(BATCHES_BEFORE_FLUSH_MAX - 1):
                    try:
                        self.publish(channel.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                self.flush()
            nursery.cancel_scope.cancel()

    async def _age(self) -> None:
        """Drop what is too old for any client to come back for."""
        while True:
            await trio.sleep(RING_AGING_S)
            for ring in self.directory.rings.values():
                ring.expire(trio.current_time())

    def publish(self, batch: Batch) -> None:
        """Give each item its place in its topic and put it into the outboxes that have the topic."""
        self.clients.place()
        find = self.directory.find
        for item in batch.items:
            if item.__class__ is Event:
                state = find(item.topic)
                if state is None or state.feed != batch.feed:
                    self._refuse(batch.feed, f"{item.topic} is not carried by this feed")
                else:
                    self._publish_event(state, item)
            else:
                self._publish_control(batch.feed, item)

    def flush(self) -> None:
        """Have what was published written away, and end the clients for which too much waits."""
        self.clients.flush()

    def _publish_event(self, state: TopicState, event: Event) -> None:
        payload = event.payload
        if state.status.state == _LIVE and payload.__class__ not in _MARKS:  # the way that nearly every event goes
            if state.book is None:
                if self._emit(state, event):
                    state.last = event
            else:
                self._publish_change(state, event)
            return
        if state.status.state == State.CLOSED:
            return  # what was under way when the topic was closed
        if not state.live and not isinstance(payload, TopicStatus | Gap):
            if isinstance(payload, BookDelta):
                self._refuse(
                    state.feed, f"{state.topic}: a delta while the book is {State(state.status.state).name}", state.topic
                )
                return
            self._after_a_hole(state)
            if not isinstance(payload, BookSnapshot):
                self._set_status(state, State.LIVE)
        if not self._emit(state, event):
            return
        if isinstance(payload, TopicStatus):
            state.status = payload
            for top in state.tops:
                if payload.state != State.LIVE:  # a top goes LIVE with its own first event
                    self._set_status(top, State(payload.state), StatusCause(payload.cause), payload.text)
        elif not isinstance(payload, Gap):
            state.keep(event)
            if state.tops:
                self._publish_tops(state, event)
            if not state.live:  # a book's snapshot has made it whole
                self._set_status(state, State.LIVE)

    def _publish_change(self, state: TopicState, event: Event) -> None:
        """A change of a book: what it makes of the book is among its flags, so it is applied before it goes out."""
        try:
            element = state.encoder.encode(event, state.sequence + 1)
        except UNENCODABLE as error:
            self._refuse_event(state, event, error)
            return
        book, payload = state.book, event.payload
        assert book is not None  # who calls has looked
        if payload.__class__ is BookDelta:
            doubtful = book.apply(payload)
            state.last = event
        else:
            doubtful = True
            state.keep(event)
        if doubtful and book.crossed:
            event.flags |= Flag.SUSPECT_VALUE
            element = state.encoder.encode(event, state.sequence + 1)
            self._count_crossed(state, event)
        else:
            state.crossed = 0
        self._deliver(state, event, element)
        if state.tops:
            self._publish_tops(state, event)

    def _count_crossed(self, state: TopicState, event: Event) -> None:
        """Have a book that stays crossed renewed by who runs its feed."""
        state.crossed += 1
        if state.crossed == 1:
            state.crossed_since_ns = event.received_ts_ns
        lasts_ns = event.received_ts_ns - state.crossed_since_ns
        if self._on_doubt is not None and state.crossed % CROSSED_IN_A_ROW_MAX == 0 and lasts_ns >= CROSSED_NS_MIN:
            text = f"{state.crossed} changes in a row left it crossed"
            self._on_doubt(state.feed, state.topic, StatusCause.CROSSED, text)

    def _emit(self, state: TopicState, event: Event) -> bool:
        element = self._encode(state, event)
        if element is None:
            return False
        self._deliver(state, event, element)
        return True

    def _encode(self, state: TopicState, event: Event) -> bytes | None:
        try:
            return state.encoder.encode(event, state.sequence + 1)
        except UNENCODABLE as error:
            self._refuse_event(state, event, error)
            return None

    def _refuse_event(self, state: TopicState, event: Event, error: Exception) -> None:
        self._refuse(state.feed, f"{state.topic}: {type(event.payload).__name__} cannot be encoded: {error}", state.topic)
        self._doubt(state, StatusCause.ADAPTER_FAILED, "an event of it could not be encoded")

    def _deliver(self, state: TopicState, event: Event, element: bytes) -> None:
        state.sequence += 1
        state.ring.append(state, element)
        for audience in state.audiences:
            audience.pending.append(element)
            if not audience.dirty:
                audience.mark()
            if audience.behind:
                for outbox in audience.behind:
                    outbox.put_event(state, event, element)
        if state.paced:
            for paced in state.paced.values():
                paced.offer(event, element)

    def _emit_payload(self, state: TopicState, payload: Payload) -> None:
        self._emit(state, Event(state.topic, payload, self._now_ns()))

    def _publish_tops(self, state: TopicState, event: Event) -> None:
        assert state.book is not None
        for top in state.tops:
            snapshot = state.book.snapshot(top.top_depth)
            if top.last is None or not top.live or not _same_levels(top.last.payload, snapshot):
                self._publish_event(top, replace(event, topic=top.topic, payload=snapshot))

    # ---- status

    def _publish_control(self, feed: str, item: BatchItem) -> None:
        match item:
            case Established(topics):
                for state in self._carried(feed, topics):
                    if not state.live and state.book is None:
                        self._after_a_hole(state)
                        self._set_status(state, State.LIVE)
            case Resync(topic, cause, text):
                for state in self._carried(feed, (topic,)):
                    self._doubt(state, cause, text)
            case Down(topics, cause, text, final):
                for state in self._carried(feed, topics):
                    if state.status.state != State.CLOSED:
                        self._set_status(state, State.CLOSED if final else State.DOWN, cause, text)
            case Refused(topic, text, cause):
                for state in self._carried(feed, (topic,)):
                    self._set_status(state, State.CLOSED, cause, text)
            case Carry(topics):
                self._carry(feed, topics)
            case Drop(topics, cause, text):
                for state in self._carried(feed, topics):
                    self._set_status(state, State.CLOSED, cause, text)
            case Catalogue(instruments, received_ts_ns):
                self._catalogue(feed, instruments, received_ts_ns)
            case _:
                self._refuse(feed, f"{type(item).__name__} is nothing that a feed publishes")

    def _set_status(self, state: TopicState, to: State, cause: StatusCause = StatusCause.UNSPECIFIED, text: str = "") -> None:
        if (state.status.state, state.status.cause) == (to, cause):
            return
        state.status = TopicStatus(to, cause, text, self._now_ns())
        self._emit_payload(state, state.status)
        for top in state.tops:
            if to is not State.LIVE:  # a top goes LIVE with its own first event
                self._set_status(top, to, cause, text)

    def _doubt(self, state: TopicState, cause: StatusCause, text: str) -> None:
        """Events of the topic are lost or wrong from here until its next image."""
        if state.status.state == State.RESYNCING:
            return
        for top in state.tops:
            self._doubt(top, cause, text)
        self._emit_payload(state, Gap(GapCause.VENUE, state.epoch))
        self._set_status(state, State.RESYNCING, cause, text)

    def _after_a_hole(self, state: TopicState) -> None:
        """The topic comes back: what happened at the venue meanwhile is not known."""
        if (state.last is not None or state.adopted) and state.status.state != State.RESYNCING:
            self._emit_payload(state, Gap(GapCause.VENUE, state.epoch))
        state.adopted = False

    def _carried(self, feed: str, topics: Iterable[Topic]) -> Iterator[TopicState]:
        for topic in topics:
            state = self.directory.find(topic)
            if state is None or state.feed != feed:
                self._refuse(feed, f"{topic} is not carried by this feed")
            else:
                yield state

    def _refuse(self, feed: str, reason: str, topic: Topic | None = None) -> None:
        self._refused[feed] += 1
        if self._refused[feed].bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: a broken adapter does not fill the log
            log.error("an adapter broke its contract", feed=feed, reason=reason, refused=self._refused[feed])
        if self._on_fault is not None:
            self._on_fault(feed, topic, reason)

    # ---- topics

    def _carry(self, feed: str, topics: Iterable[Topic]) -> None:
        born: list[TopicState] = []
        for topic in topics:
            known = self.directory.find(topic)
            if known is not None:
                if known.adopted and topic.kind is Kind.BOOK and feed in self._book_top_feeds and not known.tops:
                    born += self._derive_tops(known)
                if known.feed == feed and known.status.state == State.CLOSED:
                    self._set_status(known, State.DOWN, StatusCause.STARTING)
                continue
            state = self.directory.add(topic, feed)
            born.append(state)
            if topic.kind is Kind.BOOK and feed in self._book_top_feeds:
                born += self._derive_tops(state)
        if born:
            self.clients.match_newborn(born)
            self.clients.place()

    def _derive_tops(self, book: TopicState) -> list[TopicState]:
        """Give a book its tops; those that are new."""
        names = [book.topic._replace(kind=Kind.BOOK_TOP, variant=str(depth)) for depth in BOOK_TOP_DEPTHS]
        known = {name: self.directory.find(name) for name in names}
        book.tops.extend(state or self.directory.add(name, book.feed) for name, state in known.items())
        return [top for top in book.tops if known[top.topic] is None]

    def _catalogue(self, feed: str, instruments: Iterable[Instrument], received_ts_ns: int) -> None:
        for instrument in instruments:
            if instrument.venue != feed:
                self._refuse(feed, f"instrument {instrument.symbol} names the venue {instrument.venue!r}")
                continue
            known = self.directory.learn(instrument)
            if known is not None and known.venue_symbol != instrument.venue_symbol:
                names = f"{known.venue_symbol!r} and {instrument.venue_symbol!r}"
                self._refuse(feed, f"{instrument.symbol} stands for both {names}")
                continue
            state = self.directory.find(Topic(instrument.venue, instrument.symbol, Kind.INSTRUMENT))
            if state is not None and (known != instrument or not state.live):
                self._publish_event(state, Event(state.topic, instrument, received_ts_ns))

    def statistics(self) -> BrokerStatistics:
        """Counts since the start."""
        return BrokerStatistics(
            **attrs.asdict(self.clients.statistics()),
            events=self.directory.sequences(),
            topics=len(self.directory),
            topics_by_state=self.directory.states(),
            refused_events=dict(self._refused),
        )


def _same_levels(old: Payload, new: BookSnapshot) -> bool:
    return isinstance(old, BookSnapshot) and (
        old.bid_price == new.bid_price
        and old.bid_size == new.bid_size
        and old.ask_price == new.ask_price
        and old.ask_size == new.ask_size
    )
