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

from raven.adapter.batch import Batch, BatchItem, Carry, Down, Drop
from raven.adapter.outputs import Catalogue, Established, Refused, Resync
from raven.broker.client import Client, Ended, Result, Subscription
from raven.broker.outbox import Outbox, OutboxLimits
from raven.broker.topics import BOOK_TOP_DEPTHS, TopicState, TopicView
from raven.errors import InvalidValue, nearest
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
from raven.model.topic import Kind, Selector, Topic

__all__ = ["Broker", "BrokerLimits", "BrokerStatistics"]

BATCHES_BEFORE_FLUSH_MAX = 16
"""Batches that wait already are published together, at most so many, before clients are written to."""

log = structlog.stdlib.get_logger("raven.broker")


@attrs.frozen
class BrokerLimits:
    """What clients may ask for.

    Args:
        outbox: what may wait for one client.
        clients_max: clients at once.
        subscriptions_max: subscriptions of one client.
        topics_max: topics of one client, after wildcards.
    """

    outbox: OutboxLimits = attrs.field(factory=OutboxLimits)
    clients_max: int = 10_000
    subscriptions_max: int = 1_000
    topics_max: int = 10_000


@attrs.frozen
class BrokerStatistics:
    """Counts since the start.

    Args:
        events: published, by (venue, kind).
        topics: known.
        topics_by_state: the same, by the name of their state.
        clients: connected now.
        clients_total: ever connected.
        events_sent, bytes_sent, messages_sent: taken by clients' writers.
        slow_consumers: clients that were ended because they did not read.
        refused_events: events of adapters that broke the contract, by feed.
    """

    events: Mapping[tuple[str, str], int]
    topics: int
    topics_by_state: Mapping[str, int]
    clients: int
    clients_total: int
    events_sent: int
    bytes_sent: int
    messages_sent: int
    slow_consumers: int
    refused_events: Mapping[str, int]


class Broker:
    """Topics and clients of one server.

    Args:
        limits: what clients may ask for.
        book_top_feeds: feeds from whose books BOOK_TOP topics are derived.
        now_ns: wall clock.
        on_fault: called with a feed's name and the reason when its adapter broke the contract with an event.
    """

    def __init__(
        self,
        limits: BrokerLimits = BrokerLimits(),
        *,
        book_top_feeds: Collection[str] = (),
        now_ns: Callable[[], int] = time.time_ns,
        on_fault: Callable[[str, str], None] | None = None,
    ) -> None:
        self.limits = limits
        self._book_top_feeds = frozenset(book_top_feeds)
        self._now_ns = now_ns
        self._on_fault = on_fault
        self._topics: dict[Topic, TopicState] = {}
        self._clients: dict[str, Client] = {}
        self._instruments: dict[tuple[str, str], Instrument] = {}
        self._dirty: list[Outbox] = []
        self._refused: Counter[str] = Counter()
        self._clients_total = 0
        self._slow_consumers = 0
        self._sent_by_gone = Counter[str]()
        self._empty = trio.Event()

    # ---- the way of an event

    async def run(
        self, channel: trio.MemoryReceiveChannel[Batch], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Publish what feeds send until every feed has closed its end."""
        task_status.started()
        async for batch in channel:
            self.publish(batch)
            for _ in range(BATCHES_BEFORE_FLUSH_MAX - 1):
                try:
                    self.publish(channel.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            self.flush()

    def publish(self, batch: Batch) -> None:
        """Give each item its place in its topic and put it into the outboxes that have the topic."""
        topics = self._topics
        for item in batch.items:
            if item.__class__ is Event:
                state = topics.get(item.topic)
                if state is None or state.feed != batch.feed:
                    self._refuse(batch.feed, f"{item.topic} is not carried by this feed")
                else:
                    self._publish_event(state, item)
            else:
                self._publish_control(batch.feed, item)

    def flush(self) -> None:
        """Have every outbox that got something written away, and end the clients for which too much waits."""
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            outbox.flush()
            if outbox.bytes_queued and (full := outbox.overfull()):
                self._end_slow(outbox, full)

    def _publish_event(self, state: TopicState, event: Event) -> None:
        payload = event.payload
        if not state.live and not isinstance(payload, TopicStatus | Gap):
            if isinstance(payload, BookDelta):
                self._refuse(state.feed, f"{state.topic}: a delta while the book is {State(state.status.state).name}")
                return
            self._after_a_hole(state)
            if not isinstance(payload, BookSnapshot):
                self._set_status(state, State.LIVE)
        if not self._emit(state, event):
            return
        if isinstance(payload, TopicStatus):
            state.status = payload
        elif not isinstance(payload, Gap):
            state.keep(event)
            if state.tops:
                self._publish_tops(state, event)
            if not state.live:  # a book's snapshot has made it whole
                self._set_status(state, State.LIVE)

    def _emit(self, state: TopicState, event: Event) -> bool:
        try:
            element = state.encoder.encode(event, state.sequence + 1)
        except (InvalidValue, KeyError, TypeError, AttributeError, OverflowError) as error:
            self._refuse(state.feed, f"{state.topic}: {type(event.payload).__name__} cannot be encoded: {error}")
            self._doubt(state, StatusCause.ADAPTER_FAILED, "an event of it could not be encoded")
            return False
        state.sequence += 1
        for outbox in state.subscribers:
            outbox.put(element)
            if not outbox.dirty:
                outbox.dirty = True
                self._dirty.append(outbox)
        return True

    def _emit_payload(self, state: TopicState, payload: Payload) -> None:
        self._emit(state, Event(state.topic, payload, self._now_ns()))

    def _publish_tops(self, state: TopicState, event: Event) -> None:
        assert state.book is not None
        for top in state.tops:
            snapshot = state.book.snapshot(top.top_depth)
            if top.last is None or not top.live or not _same_levels(top.last.payload, snapshot):
                self._publish_event(top, attrs.evolve(event, topic=top.topic, payload=snapshot))

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
        if state.last is not None and state.status.state != State.RESYNCING and state.status.cause != StatusCause.STARTING:
            self._emit_payload(state, Gap(GapCause.VENUE, state.epoch))

    def _carried(self, feed: str, topics: Iterable[Topic]) -> Iterator[TopicState]:
        for topic in topics:
            state = self._topics.get(topic)
            if state is None or state.feed != feed:
                self._refuse(feed, f"{topic} is not carried by this feed")
            else:
                yield state

    def _refuse(self, feed: str, reason: str) -> None:
        self._refused[feed] += 1
        if self._refused[feed].bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: a broken adapter does not fill the log
            log.error("an adapter broke its contract", feed=feed, reason=reason, refused=self._refused[feed])
        if self._on_fault is not None:
            self._on_fault(feed, reason)

    # ---- topics

    def _carry(self, feed: str, topics: Iterable[Topic]) -> None:
        for topic in topics:
            if topic in self._topics:
                continue
            state = self._add_topic(topic, feed)
            if topic.kind is Kind.BOOK and feed in self._book_top_feeds:
                tops = (topic._replace(kind=Kind.BOOK_TOP, variant=str(depth)) for depth in BOOK_TOP_DEPTHS)
                state.tops.extend(self._add_topic(top, feed) for top in tops)

    def _add_topic(self, topic: Topic, feed: str) -> TopicState:
        now_ns = self._now_ns()
        state = self._topics[topic] = TopicState(topic, feed, now_ns // 1_000_000, now_ns)
        for client in self._clients.values():
            for subscription in client.subscriptions.values():
                if subscription.selector.matches(topic):
                    client.attach(state, subscription.id)
        return state

    def _catalogue(self, feed: str, instruments: Iterable[Instrument], received_ts_ns: int) -> None:
        for instrument in instruments:
            key = (instrument.venue, instrument.symbol)
            known = self._instruments.get(key)
            if instrument.venue != feed:
                self._refuse(feed, f"instrument {instrument.symbol} names the venue {instrument.venue!r}")
            elif known is not None and known.venue_symbol != instrument.venue_symbol:
                self._refuse(
                    feed, f"{instrument.symbol} stands for both {known.venue_symbol!r} and {instrument.venue_symbol!r}"
                )
            else:
                self._instruments[key] = instrument
                state = self._topics.get(Topic(*key, Kind.INSTRUMENT))
                if state is not None and (known != instrument or not state.live):
                    self._publish_event(state, Event(state.topic, instrument, received_ts_ns))

    def matching(self, selectors: Iterable[Selector]) -> list[TopicState]:
        """The topics of any of `selectors`, in the order of their names."""
        selectors = list(selectors)
        found = (state for topic, state in self._topics.items() if any(selector.matches(topic) for selector in selectors))
        return sorted(found, key=lambda state: state.topic)

    def latest(self, selectors: Iterable[Selector]) -> Iterator[bytes]:
        """Per matching topic its status, then its image, as `events` elements."""
        for state in self.matching(selectors):
            yield state.status_element(self._now_ns())
            image = state.image()
            if image is not None:
                yield image

    def topics(self, selectors: Iterable[Selector]) -> list[TopicView]:
        """The matching topics as they stand, in the order of their names."""
        return [state.view() for state in self.matching(selectors)]

    def instruments(self) -> list[Instrument]:
        """All known definitions, in the order of venue and symbol."""
        return [self._instruments[key] for key in sorted(self._instruments)]

    @property
    def venues(self) -> list[str]:
        """The venues that have topics."""
        return sorted({topic.venue for topic in self._topics})

    def explain_missing(self, selector: Selector) -> tuple[str, str]:
        """Which field of a selector names what is not there, and what would be valid; two empty texts when it is all there.

        Patterns may match nothing yet; names must be known.
        """
        if selector.venue != "*" and selector.venue not in self.venues:
            return "venue", f"{selector.venue!r} is not served: {nearest(selector.venue, self.venues)}"
        if not selector.exact:
            return "", ""
        at_venue = [topic for topic in self._topics if topic.venue == selector.venue]
        of_symbol = [topic for topic in at_venue if topic.symbol == selector.symbol]
        if not of_symbol:
            return "symbol", f"{selector.symbol!r} is not carried: {nearest(selector.symbol, {t.symbol for t in at_venue})}"
        for kind in sorted(selector.kinds):
            if not any(topic.kind is kind for topic in of_symbol):
                labels = ", ".join(sorted({topic.kind.label for topic in of_symbol}))
                return "kinds", f"{kind.label} is not carried for {selector.symbol}; valid: {labels}"
            if not any(selector.matches(topic) for topic in of_symbol if topic.kind is kind):
                variants = ", ".join(sorted({topic.variant for topic in of_symbol if topic.kind is kind}))
                return "variant", f"{selector.variant!r} of {kind.label} is not carried; valid: {variants}"
        return "", ""

    # ---- clients

    def attach(self, client_id: str, peer: str, on_end: Callable[[Ended], None], *, controls: bool = True) -> Client:
        """A new client. One that has the same id is ended: the new stream takes over.

        Raises:
            InvalidValue: there are as many clients as there may be.
        """
        older = self._clients.pop(client_id, None)
        if older is not None:
            self._forget(older)
            older.end(Ended("REPLACED", "another stream took over this client_id", "ABORTED", reconnect=False))
        if len(self._clients) >= self.limits.clients_max:
            raise InvalidValue("clients", len(self._clients), f"at most {self.limits.clients_max} at once")
        client = Client(client_id, Outbox(self.limits.outbox), peer, on_end, self._now_ns(), controls)
        self._clients[client_id] = client
        self._clients_total += 1
        return client

    def detach(self, client: Client) -> None:
        """The client is gone."""
        if self._clients.get(client.client_id) is client:
            del self._clients[client.client_id]
            self._forget(client)
            if not self._clients:
                self._empty.set()

    def _forget(self, client: Client) -> None:
        for state in client.topics:
            del state.subscribers[client.outbox]
        client.topics.clear()
        client.subscriptions.clear()
        sent = client.outbox.statistics()
        self._sent_by_gone.update(events=sent.events_sent, bytes=sent.bytes_sent, messages=sent.messages_sent)

    async def wait_no_clients(self) -> None:
        """Wait until the last client has gone."""
        while self._clients:
            self._empty = trio.Event()
            await self._empty.wait()

    def subscribe(self, client: Client, subscription: Subscription) -> Result:
        """Check one subscription and, if it can be, take it. Its images are put by `put_images`, behind the answer."""
        selector = subscription.selector
        field, error = self.explain_missing(selector)
        if error:
            return Result(subscription.id, accepted=False, field=f"selector.{field}", error=error)
        replaced = subscription.id in client.subscriptions
        if not replaced and len(client.subscriptions) >= self.limits.subscriptions_max:
            limit = self.limits.subscriptions_max
            return Result(subscription.id, accepted=False, field="id", error=f"a client has at most {limit} subscriptions")
        states = self.matching((selector,))
        if len(client.topics.keys() | set(states)) > self.limits.topics_max:
            limit = self.limits.topics_max
            error = f"it matches {len(states)} topics, and a client has at most {limit}: choose a narrower selector"
            return Result(subscription.id, accepted=False, field="selector", error=error)
        if replaced:
            client.detach(subscription.id)
        client.subscriptions[subscription.id] = subscription
        for state in states:
            client.attach(state, subscription.id)
        return Result(subscription.id, accepted=True, topics=len(states))

    def put_images(self, client: Client, subscription: Subscription) -> None:
        """Put the status and the latest state of each of its topics; events that follow come behind them."""
        now_ns = self._now_ns()
        for state in self.matching((subscription.selector,)):
            client.outbox.put(state.status_element(now_ns))
            if subscription.resuming:
                client.outbox.put(_local(state, Gap(GapCause.RESUME_TOO_OLD, state.epoch), now_ns))
            image = state.image()
            if image is not None and (not subscription.skip_image or subscription.resuming):
                client.outbox.put(image)

    def unsubscribe(self, client: Client, ids: Iterable[str], selectors: Iterable[Selector]) -> tuple[list[str], list[str]]:
        """End subscriptions by id or by exactly their selector.

        Returns:
            The ids that were removed, and what was asked for and is not there.
        """
        removed: list[str] = []
        unknown: list[str] = []
        for subscription_id in ids:
            (removed if subscription_id in client.subscriptions else unknown).append(subscription_id)
        for selector in selectors:
            same = [s.id for s in client.subscriptions.values() if s.selector == selector]
            removed.extend(same)
            unknown.extend([] if same else [str(selector)])
        removed = list(dict.fromkeys(removed))
        for subscription_id in removed:
            client.detach(subscription_id)
            del client.subscriptions[subscription_id]
        return removed, unknown

    def clients(self) -> list[Client]:
        """Those connected now."""
        return list(self._clients.values())

    def _end_slow(self, outbox: Outbox, text: str) -> None:
        for client in self.clients():
            if client.outbox is outbox:
                self._slow_consumers += 1
                self.detach(client)
                client.end(Ended("SLOW_CONSUMER", text, "RESOURCE_EXHAUSTED"))

    def end_stalled(self, client: Client, stall_s: float) -> None:
        """End a client that took nothing for `stall_s` seconds though something waits for it."""
        self._end_slow(client.outbox, f"nothing was read for {stall_s:g} s though events wait")

    def statistics(self) -> BrokerStatistics:
        """Counts since the start."""
        events: Counter[tuple[str, str]] = Counter()
        states: Counter[str] = Counter()
        for topic, state in self._topics.items():
            events[topic.venue, topic.kind.label] += state.sequence
            states[State(state.status.state).name.lower()] += 1
        sent = self._sent_by_gone.copy()
        for client in self._clients.values():
            one = client.outbox.statistics()
            sent.update(events=one.events_sent, bytes=one.bytes_sent, messages=one.messages_sent)
        return BrokerStatistics(
            events,
            len(self._topics),
            states,
            len(self._clients),
            self._clients_total,
            sent["events"],
            sent["bytes"],
            sent["messages"],
            self._slow_consumers,
            dict(self._refused),
        )


def _local(state: TopicState, payload: Payload, now_ns: int) -> bytes:
    return state.encoder.encode_general(Event(state.topic, payload, now_ns), state.sequence, flags=Flag.LOCAL)


def _same_levels(old: Payload, new: BookSnapshot) -> bool:
    return isinstance(old, BookSnapshot) and (
        old.bid_price == new.bid_price
        and old.bid_size == new.bid_size
        and old.ask_price == new.ask_price
        and old.ask_size == new.ask_size
    )
