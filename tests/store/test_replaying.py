"""The past as a broker tells it: what is renamed, what stays, and what is said where something is missing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
from msgspec.structs import replace

from raven.adapter.batch import Batch, BatchItem, Carry, Down
from raven.adapter.outputs import Established, Resync
from raven.broker import Broker, BrokerLimits
from raven.broker.client import Subscription
from raven.broker.policy import Policy
from raven.client.decode import Decoder
from raven.client.events import StreamEvent
from raven.errors import InvalidName
from raven.model.book import OrderBook
from raven.model.events import (
    BookDelta,
    BookSnapshot,
    Event,
    Flag,
    Funding,
    Gap,
    GapCause,
    Quote,
    State,
    StatusCause,
    TopicStatus,
    Trade,
)
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Selector, Topic
from raven.store.cutting import cut
from raven.store.query import HistoryQuery, open_reading
from raven.store.replaying import Relay, replayed
from tests.store.memory_history import BOOK, BTC, MemoryHistory, image

T = 1_790_000_000 * 10**9
QUOTE = BTC._replace(kind=Kind.QUOTE)
FUNDING = BTC._replace(kind=Kind.FUNDING)
DEFINITION = BTC._replace(kind=Kind.INSTRUMENT)
ALL = (Selector("*", "*", variant="*"),)
NEW_BOOK, NEW_BTC = replayed(BOOK, "-replay"), replayed(BTC, "-replay")


@attrs.define
class Past:
    """A server of the past: what is published, and the history of it."""

    now_ns: int = T
    broker: Broker = attrs.field(init=False)
    taken: int = 0

    def __attrs_post_init__(self) -> None:
        self.broker = Broker(BrokerLimits(), now_ns=lambda: self.now_ns)

    def publish(self, *items: BatchItem) -> None:
        self.now_ns += 1_000_000
        self.broker.publish(Batch("sim", list(items)))

    def event(self, topic: Topic, payload: object, *, venue: bool = True, flags: int = 0) -> Event:
        return Event(topic, payload, self.now_ns + 500, self.now_ns if venue else None, flags)  # type: ignore[arg-type]

    def elements(self) -> list[tuple[Topic, int, bytes]]:
        return [(state.topic, state.epoch, element) for state, _, element in self.broker.directory.ring("sim").read(0)]

    def history(self, without: Sequence[int] = ()) -> MemoryHistory:
        """Of everything but the elements of some numbers."""
        kept = MemoryHistory()
        by_topic: dict[tuple[Topic, int], list[bytes]] = {}
        for number, (topic, epoch, element) in enumerate(self.elements()):
            if number not in without:
                by_topic.setdefault((topic, epoch), []).append(element)
        for (topic, epoch), elements in by_topic.items():
            kept.write(list(cut(topic, epoch, elements)))
        return kept


class Replay:
    """A broker that tells a history."""

    def __init__(self, history: MemoryHistory, start_ns: int = T, end_ns: int = T + 10**12, times: int = 1) -> None:
        self.broker = Broker(BrokerLimits())
        self.relay = Relay(self.broker, "-replay")
        self.relay.carry(history.kept)
        for _ in range(times):
            self.relay.begin()
            reading = open_reading(history, HistoryQuery(ALL, start_ns, end_ns, include_image=True))
            while not reading.done:
                for chunk in reading.step():
                    self.relay.publish(chunk.elements)

    def told(self, topic: Topic) -> list[StreamEvent]:
        ring = self.broker.directory.ring("sim-replay")
        elements = [element for state, _, element in ring.read(0) if state.topic == topic]
        return Decoder().decode(b"".join(elements)).events

    def book(self) -> OrderBook:
        state = self.broker.directory.find(NEW_BOOK)
        assert state is not None
        assert state.book is not None
        return state.book


def same_but_for_its_place(told: StreamEvent, was: StreamEvent) -> bool:
    payload = replace(was.payload, epoch=told.epoch) if isinstance(was.payload, Gap) else was.payload
    left = (told.payload, told.received_ts_ns, told.venue_ts_ns, told.flags, told.topic)
    return left == (payload, was.received_ts_ns, was.venue_ts_ns, was.flags, replayed(was.topic, "-replay"))


def lively() -> Past:
    """Trades with and without times and flags, quotes, funding, a definition, a book that is lost and found."""
    past = Past()
    past.publish(Carry([BTC, QUOTE, FUNDING, DEFINITION, BOOK]), Established([BTC, QUOTE, FUNDING]))
    past.publish(Event(DEFINITION, Instrument("sim", "BTC-USDT", "btc"), T))
    past.publish(past.event(BOOK, BookSnapshot([10.0, 9.0], [1.0, 2.0], [11.0], [3.0])))
    for number in range(1, 40):
        past.publish(
            past.event(BTC, Trade(10.0 + number, 0.1, 1, str(number)), flags=Flag.SUSPECT_VALUE if number % 7 == 0 else 0),
            past.event(BTC, Trade(10.0, None, 2, "x" * 120)),
            past.event(QUOTE, Quote(1.0, 2.0, 3.0, 4.0), venue=number % 2 == 0),
            past.event(FUNDING, Funding(0.0001, T, 28_800)),
            past.event(BOOK, BookDelta([10.0 - number % 3], [float(number)], [11.0 + number % 5], [1.0 + number])),
        )
        if number == 20:
            past.publish(Resync(BOOK, StatusCause.CHECKSUM, "does not add up"))
            past.publish(past.event(BOOK, BookSnapshot([8.0], [1.0], [12.0], [3.0])))
    past.publish(Down([BTC, BOOK], StatusCause.FEED_DOWN, "the venue hung up"))
    return past


@pytest.mark.parametrize("topic", [BTC, QUOTE, FUNDING, BOOK], ids=lambda topic: topic.kind.label)
def test_everything_is_told_as_it_was_under_names_of_its_own(topic: Topic) -> None:
    past = lively()
    replay = Replay(past.history())
    was = Decoder().decode(b"".join(element for of, _, element in past.elements() if of == topic)).events
    told = replay.told(replayed(topic, "-replay"))
    assert len(told) == len(was) > 20
    assert [event for event, old in zip(told, was, strict=True) if not same_but_for_its_place(event, old)] == []
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert len({event.epoch for event in told}) == 1
    assert told[0].epoch != was[0].epoch
    assert not replay.relay.skipped


def test_the_broker_has_the_same_state_at_the_end() -> None:
    past = lively()
    replay = Replay(past.history())
    for state in past.broker.directory:
        new = replay.broker.directory.find(replayed(state.topic, "-replay"))
        assert new is not None
        assert replace(new.status, since_ts_ns=0) == replace(state.status, since_ts_ns=0)
        assert new.last is not None
        assert state.last is not None
        assert new.last.received_ts_ns == state.last.received_ts_ns
        if state.book is not None:
            assert replay.book().snapshot() == state.book.snapshot()
        elif state.topic != DEFINITION:
            assert new.last.payload == state.last.payload
    assert [(found.venue, found.symbol) for found in replay.broker.directory.instruments()] == [("sim-replay", "BTC-USDT")]
    (definition,) = [
        event.payload for event in replay.told(replayed(DEFINITION, "-replay")) if isinstance(event.payload, Instrument)
    ]
    assert definition.venue == "sim-replay"


def test_a_start_in_the_middle_has_its_images_first() -> None:
    past = lively()
    history = past.history()
    middle = T + 30 * 1_000_000
    replay = Replay(history, middle)
    book = replay.told(NEW_BOOK)
    assert [type(event.payload) for event in book[:3]] == [BookSnapshot, TopicStatus, BookDelta]
    assert all(event.received_ts_ns >= middle for event in book[2:])
    state = past.broker.directory.find(BOOK)
    assert state is not None
    assert state.book is not None
    assert replay.book().snapshot() == state.book.snapshot()
    trades = replay.told(NEW_BTC)
    assert isinstance(trades[0].payload, TopicStatus), "an image of a trade is no news"
    assert trades[1].received_ts_ns >= middle


def test_an_image_is_what_a_client_finds_before_anything_happens() -> None:
    past = lively()
    history = past.history()
    replay = Replay(history, T + 30 * 1_000_000, T + 30 * 1_000_000 + 1)
    for topic in (NEW_BTC, NEW_BOOK):
        state = replay.broker.directory.find(topic)
        assert state is not None
        assert state.live
        (found,) = Decoder().decode(state.image() or b"").events
        assert found.is_image
        assert found.received_ts_ns < T + 30 * 1_000_000


def test_a_hole_in_the_history_is_a_gap_and_ends_the_book_until_its_next_snapshot() -> None:
    past = lively()
    numbers = [number for number, (topic, _, _) in enumerate(past.elements()) if topic == BOOK]
    replay = Replay(past.history(without=numbers[5:8]))
    told = replay.told(NEW_BOOK)
    marks = [event.payload for event in told if isinstance(event.payload, Gap | TopicStatus)]
    epoch = told[0].epoch
    assert marks[0] == TopicStatus(State.LIVE, since_ts_ns=marks[0].since_ts_ns)  # type: ignore[union-attr]
    assert marks[1] == Gap(GapCause.VENUE, epoch, missed=3)
    assert isinstance(marks[2], TopicStatus)
    assert (marks[2].state, marks[2].cause) == (State.RESYNCING, StatusCause.SEQUENCE_GAP)
    first, second = (number for number, event in enumerate(told) if isinstance(event.payload, BookSnapshot))
    hole = next(number for number, event in enumerate(told) if isinstance(event.payload, Gap))
    assert [event for event in told[hole:second] if isinstance(event.payload, BookDelta)] == []
    assert first < hole
    assert replay.relay.skipped["no book"] == 14
    state = past.broker.directory.find(BOOK)
    assert state is not None
    assert state.book is not None
    assert replay.book().snapshot() == state.book.snapshot(), "and after that it is right again"
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))


def test_what_the_order_of_times_parts_is_told_in_the_order_of_its_topic() -> None:
    """The venue hangs up and is back: the gap has the time of its publishing, the snapshot behind it that of its receipt."""
    past = Past()
    past.publish(Carry([BOOK, BTC]), Established([BTC]))
    past.publish(past.event(BOOK, BookSnapshot([1.0], [1.0], [2.0], [1.0])), past.event(BTC, Trade(1.0, 1.0, 1, "1")))
    past.publish(Down([BOOK, BTC], StatusCause.FEED_DOWN, "away"))
    received = past.now_ns + 100
    past.publish(Event(BOOK, BookSnapshot([3.0], [1.0], [4.0], [1.0]), received), Event(BTC, Trade(2.0, 1.0, 1, "2"), received))
    past.publish(past.event(BOOK, BookDelta([3.0], [5.0], [], [])), past.event(BTC, Trade(3.0, 1.0, 1, "3")))
    replay = Replay(past.history())
    for topic, news in ((BOOK, ["BookSnapshot", "TopicStatus", "BookDelta"]), (BTC, ["TopicStatus", "Trade", "Trade"])):
        was = [event.payload for event in Decoder().decode(b"".join(e for of, _, e in past.elements() if of == topic)).events]
        told = [event.payload for event in replay.told(replayed(topic, "-replay"))]
        assert [type(payload) for payload in told] == [type(payload) for payload in was]
        assert [type(payload).__name__ for payload in told[-4:]] == ["Gap", *news]
        assert not [p for p in told if isinstance(p, TopicStatus) and p.state == State.RESYNCING]


def test_a_hole_among_trades_is_a_gap_and_they_go_on() -> None:
    past = lively()
    numbers = [number for number, (topic, _, _) in enumerate(past.elements()) if topic == BTC]
    told = Replay(past.history(without=numbers[5:9])).told(NEW_BTC)
    assert [event.payload for event in told if isinstance(event.payload, Gap)] == [Gap(GapCause.VENUE, told[0].epoch, missed=4)]
    assert len(told) == len(numbers) - 4 + 1


def test_a_book_whose_history_begins_with_changes_waits_for_an_image() -> None:
    past = lively()
    numbers = [number for number, (topic, _, _) in enumerate(past.elements()) if topic == BOOK]
    replay = Replay(past.history(without=numbers[:2]))
    told = replay.told(NEW_BOOK)
    assert [type(event.payload) for event in told[:2]] == [Gap, Gap], "the hole, and that of the past"
    assert replay.relay.skipped["no book"] == 20
    kept = past.history(without=numbers[:2])
    kept.images.append(
        image(BOOK, past.elements()[numbers[0]][1], 2, T - 1, BookSnapshot([10.0, 9.0], [1.0, 2.0], [11.0], [3.0]))
    )
    assert not Replay(kept).relay.skipped


def test_another_epoch_is_a_gap() -> None:
    history = MemoryHistory()
    for start in (0, 3600 * 10**3):
        past = Past(T + start * 10**6)
        past.publish(Carry([BTC]), Established([BTC]))
        for number in range(3):
            past.publish(past.event(BTC, Trade(1.0, 1.0, 1, str(number))))
        history.write([block for blocks in past.history().kept.values() for block in blocks])
    told = Replay(history, end_ns=T + 10**13).told(NEW_BTC)
    assert [type(event.payload).__name__ for event in told] == [
        *("TopicStatus", "Trade", "Trade", "Trade"),
        *("Gap", "Trade", "Trade", "Trade"),  # LIVE it has been told
    ]
    assert [event.sequence for event in told] == list(range(1, 9))
    assert len({event.epoch for event in told}) == 1


def test_once_more_from_the_beginning_is_a_gap_in_the_same_epoch() -> None:
    once, twice = Replay(lively().history()), Replay(lively().history(), times=2)
    for topic in (NEW_BTC, NEW_BOOK):
        first, both = once.told(topic), twice.told(topic)
        assert isinstance(both[len(first)].payload, Gap)
        assert [event.payload for event in both[len(first) + 1 :]] == [
            replace(event.payload, epoch=both[0].epoch) if isinstance(event.payload, Gap) else event.payload for event in first
        ]
        assert [event.sequence for event in both] == list(range(1, len(both) + 1))


def test_a_client_that_is_behind_gets_every_event_that_its_policy_gives_it() -> None:
    history = lively().history()
    broker = Broker(BrokerLimits())
    relay = Relay(broker, "-replay")
    relay.carry(history.kept)
    client = broker.clients.attach("c", "peer", lambda _: None)
    for number, kind in enumerate((Kind.TRADE, Kind.BOOK)):
        policy = Policy.DISCONNECT if kind is Kind.TRADE else Policy.CONFLATE
        found = broker.clients.subscribe(
            client, Subscription(str(number), Selector("*", "*", frozenset({kind})), policy=policy)
        )
        assert found.accepted
    relay.begin()
    reading = open_reading(history, HistoryQuery(ALL, T, T + 10**12))
    while not reading.done:
        for chunk in reading.step():
            relay.publish(chunk.elements)
    taken = Decoder().decode(client.outbox.take(b"") or b"").events
    assert len([event for event in taken if isinstance(event.payload, Trade)]) == 78
    assert [type(event.payload) for event in taken if event.topic == NEW_BOOK][-1] is TopicStatus
    books = [event for event in taken if event.topic == NEW_BOOK and not isinstance(event.payload, Gap | TopicStatus)]
    assert 0 < len(books) < 10, "conflated"


def test_the_end_closes_all_topics_and_says_that_nothing_follows() -> None:
    replay = Replay(lively().history())
    replay.relay.end(T + 10**12)
    for topic in (NEW_BTC, NEW_BOOK):
        last = replay.told(topic)[-1].payload
        assert last == TopicStatus(State.CLOSED, text="the replay is over", since_ts_ns=T + 10**12, final=True)


@pytest.mark.parametrize("suffix", ["-Replay", "_x", "-" + "y" * 40])
def test_a_suffix_that_makes_no_venue_is_refused(suffix: str) -> None:
    with pytest.raises(InvalidName, match="suffix"):
        replayed(BTC, suffix)
