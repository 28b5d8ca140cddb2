"""Clients that come back: with a bookmark or with points, nothing is lost and nothing comes twice, or a Gap says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.adapter import Established, Event
from raven.adapter.batch import Carry
from raven.broker import BrokerLimits, Client, OutboxLimits, Result, Subscription
from raven.broker.bookmark import Resume, format_bookmark, parse_bookmark
from raven.broker.ring import Ring, RingLimits
from raven.codec.generated.raven import v1
from raven.model.events import BookDelta, BookSnapshot, Flag, GapCause, Quote, Trade
from raven.model.topic import Kind, Selector, Topic
from tests.broker.bench import BOOK, QUOTE, TRADE, VENUE, Bench, pipe_of, read

ETH = Topic(VENUE, "ETH-USDT", Kind.TRADE)
OTHER = Topic("two", "BTC-USDT", Kind.TRADE)
NEW = Topic("two", "NEW-USDT", Kind.TRADE)
LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)
KINDS = frozenset({Kind.TRADE, Kind.QUOTE, Kind.BOOK})
SNAPSHOT = BookSnapshot([99.0], [1.0], [101.0], [1.0])


def make(ring: RingLimits | None = None, **outbox: int) -> Bench:
    bench = Bench(BrokerLimits(OutboxLimits(**outbox), ring or RingLimits()))
    bench.publish(Carry([OTHER]), feed="two")
    bench.publish(Established([TRADE, QUOTE, ETH]), Event(BOOK, SNAPSHOT, 1))
    bench.publish(Established([OTHER]), feed="two")
    return bench


def trade(number: int, topic: Topic = TRADE) -> Event:
    return Event(topic, Trade(100.0, 1.0, 1, str(number)), 5, 4)


def join(bench: Bench, resume: Resume | None, kinds: Iterable[Kind] = KINDS, **fields: object) -> tuple[Client, Result]:
    client = bench.client()
    subscription = Subscription("s", Selector("*", "*", frozenset(kinds)), resume=resume, **fields)  # type: ignore[arg-type]
    result = bench.broker.clients.subscribe(client, subscription)
    bench.broker.clients.put_images(client, subscription)
    client.outbox.flush()
    return client, result


def leave(bench: Bench, client: Client) -> None:
    bench.broker.clients.detach(client)


def news(events: Sequence[v1.MarketEvent], topic: Topic = TRADE) -> list[int]:
    """The sequences of what is not LOCAL."""
    return [e.sequence for e in events if _name(e)[:3] == topic[:3] and not e.flags]


def _name(event: v1.MarketEvent) -> tuple[str, str, int, str]:
    assert event.topic is not None
    return event.topic.venue, event.topic.symbol, int(event.topic.kind), event.topic.variant


def bookmarked(bench: Bench) -> Resume:
    return Resume(parse_bookmark(bench.broker.clients.bookmark()))


def test_a_bookmark_continues_every_topic_also_one_that_was_born_meanwhile() -> None:
    bench = make()
    bench.publish(trade(1), trade(1, ETH))
    resume = bookmarked(bench)
    bench.publish(trade(2), trade(2, ETH), trade(3))
    bench.publish(Carry([NEW]), Established([NEW]), trade(1, NEW), feed="two")
    client, result = join(bench, resume)
    events = read(client)
    assert result.recovered
    assert news(events) == [3, 4]
    assert news(events, ETH) == [3]
    assert [e.sequence for e in events if e.topic and e.topic.symbol == "NEW-USDT" and not e.flags] == [1, 2]
    assert not any(e.flags & IMAGE for e in events)
    bench.publish(trade(4))
    assert news(read(client)) == [5]


def test_the_status_stands_behind_what_was_missed() -> None:
    bench = make()
    resume = bookmarked(bench)
    bench.publish(trade(1), trade(2))
    client, _ = join(bench, resume, [Kind.TRADE])
    events = [e for e in read(client) if e.topic and e.topic.symbol == "BTC-USDT" and e.topic.venue == VENUE]
    assert [(e.sequence, e.flags) for e in events] == [(2, 0), (3, 0), (3, LOCAL)]


def test_a_point_continues_its_topic_and_the_rest_begins_with_the_latest_state() -> None:
    bench = make()
    bench.publish(*(trade(number) for number in range(1, 6)), trade(1, ETH))
    epoch = bench.broker.directory.rings[VENUE].epoch
    state = bench.broker.directory.find(TRADE)
    assert state is not None
    client, result = join(bench, Resume(points={TRADE: (state.epoch, 3)}), [Kind.TRADE])
    events = read(client)
    assert result.recovered
    assert epoch
    assert news(events) == [4, 5, 6]
    assert [e.flags for e in events if e.topic and e.topic.symbol == "ETH-USDT"] == [LOCAL, IMAGE]


@pytest.mark.parametrize("sequence", [0, 7, 8, 10**6, 2**64 - 1])
@pytest.mark.parametrize("off", [0, 1])
def test_a_point_that_cannot_be_continued_is_a_gap_and_an_image(sequence: int, off: int) -> None:
    bench = make(RingLimits(events_max=4))
    bench.publish(*(trade(number) for number in range(1, 21)))
    state = bench.broker.directory.find(TRADE)
    assert state is not None
    client, result = join(bench, Resume(points={TRADE: (state.epoch + off, sequence)}), [Kind.TRADE])
    events = [e for e in read(client) if e.topic and e.topic.symbol == "BTC-USDT" and e.topic.venue == VENUE]
    assert not result.recovered
    assert [(e.flags, e.gap is not None) for e in events] == [(LOCAL, False), (LOCAL, True), (IMAGE, False)]
    assert events[1].gap is not None
    assert events[1].gap.cause == GapCause.RESUME_TOO_OLD
    bench.publish(trade(21))
    assert news(read(client)) == [22]


@pytest.mark.parametrize(
    "bookmark",
    [b"", b"\x00", b"\x01\xff", b"\x01\x03sim", b"\x01\x03sim" + b"\xff" * 16, b"\x02" + b"x" * 50, b"\x01" + b"\x00" * 9000],
)
def test_a_forged_bookmark_is_too_old_and_no_error(bookmark: bytes) -> None:
    bench = make()
    bench.publish(trade(1))
    client, result = join(bench, Resume(parse_bookmark(bookmark)), [Kind.TRADE])
    assert not result.recovered
    events = [e for e in read(client) if e.topic and e.topic.symbol == "BTC-USDT" and e.topic.venue == VENUE]
    assert [e.flags for e in events] == [LOCAL, LOCAL, IMAGE]


def test_a_bookmark_says_the_place_in_every_feed() -> None:
    limits = RingLimits(8)
    rings = [Ring("binance-spot", 1_700_000_000_000, limits, 5), Ring("x", 2**63, limits, 2**40)]
    assert parse_bookmark(format_bookmark(rings)) == {"binance-spot": (1_700_000_000_000, 5), "x": (2**63, 2**40)}


def test_catching_up_never_counts_against_the_limits_of_the_client() -> None:
    bench = make(events_max=10)
    resume = bookmarked(bench)
    bench.publish(*(trade(number) for number in range(500)))
    client, _ = join(bench, resume, [Kind.TRADE])
    assert not bench.ended
    assert news(read(client)) == list(range(2, 502))


def test_what_is_published_while_a_client_catches_up_comes_once_and_in_order() -> None:
    bench = make()
    resume = bookmarked(bench)
    big = Event(TRADE, Trade(1.0, 1.0, 1, "x" * 60_000), 5, 4)
    bench.publish(*[big] * 100)
    client = bench.client()
    pipe_of(client).room = 0
    client.outbox.flush()
    subscription = Subscription("s", Selector("*", "*", frozenset({Kind.TRADE})), resume=resume)
    bench.broker.clients.subscribe(client, subscription)
    bench.broker.clients.put_images(client, subscription)
    sequences: list[int] = []
    for _ in range(12):
        pipe_of(client).open(1)
        bench.publish(trade(0), trade(1))
        pipe_of(client).room = 0
        messages, pipe_of(client).messages = pipe_of(client).messages, []
        sequences += news([e for m in messages for e in v1.StreamMarketDataResponse.parse(m).events])
    pipe_of(client).open()
    sequences += news(read(client))
    assert sequences == list(range(2, 126))
    assert client.catching_up == {}


def test_a_client_that_the_ring_outruns_is_told_what_it_missed_and_goes_on() -> None:
    bench = make(RingLimits(events_max=30))
    resume = bookmarked(bench)
    client = bench.client()
    pipe_of(client).room = 0
    client.outbox.flush()
    subscription = Subscription("s", Selector(VENUE, "BTC-USDT", frozenset({Kind.TRADE})), resume=resume)
    assert bench.broker.clients.subscribe(client, subscription).recovered
    bench.broker.clients.put_images(client, subscription)
    bench.publish(*(trade(number) for number in range(100)))
    pipe_of(client).open()
    events = read(client)
    assert [(e.flags, bool(e.gap)) for e in events] == [(LOCAL, True), (IMAGE, False), (LOCAL, False)]
    bench.publish(trade(1))
    assert news(read(client)) == [102]


def test_a_topic_wanted_at_an_interval_begins_with_its_latest_state() -> None:
    bench = make()
    resume = bookmarked(bench)
    bench.publish(Event(QUOTE, Quote(1.0, 1.0, 2.0, 1.0), 5, 4))
    client, result = join(bench, resume, [Kind.QUOTE], conflate_ms=100)
    assert result.recovered
    assert [e.flags for e in read(client)] == [LOCAL, IMAGE]


def test_old_events_leave_by_count_by_bytes_and_by_age() -> None:
    ring = Ring("sim", 1, RingLimits(events_max=4, bytes_max=10**6, age_s=10.0))
    bench = make()
    state = bench.broker.directory.find(TRADE)
    assert state is not None
    state.forgotten = 0
    for number in range(1, 7):
        state.sequence = number
        ring.append(state, b"12345")
    assert (ring.first, ring.next, state.forgotten, ring.bytes_kept) == (2, 6, 2, 20)
    ring._bytes_max = 12
    ring.append(state, b"12345")
    assert (ring.first, ring.bytes_kept) == (5, 10)
    ring.expire(100.0)
    ring.append(state, b"1")
    ring.expire(109.0)
    assert len(ring) == 3
    ring.expire(110.0)
    assert len(ring) == 1
    ring.expire(119.0)
    assert len(ring) == 0


STEP = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["cut", "bookmark", "point"]), st.just(0)),
    st.tuples(st.just("room"), st.integers(0, 2)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, max_size=40), st.sampled_from([6, 40, 10_000]))
def test_a_resumed_history_is_an_unbroken_one_or_a_gap_says_where(steps: list[tuple[str, int]], ring: int) -> None:
    bench = make(RingLimits(events_max=ring))
    resume: Resume | None = None
    known = bookmarked(bench)
    client, _ = join(bench, None)
    history: list[v1.MarketEvent] = list(read(client))
    number, kept = 0, len(history)
    for step, size in steps:
        if step == "publish":
            number += 1
            items = (trade(number), trade(number, ETH), Event(BOOK, BookDelta([90.0 + number % 5], [float(number)], [], []), 1))
            bench.publish(*(items[(number + index) % 3] for index in range(size)))
        elif step == "room":
            pipe_of(client).open(size)
        elif step == "bookmark":  # as a heartbeat brings it: behind all that was delivered
            pipe_of(client).open()
            history += read(client)
            known, kept = bookmarked(bench), len(history)
        else:
            messages = pipe_of(client).messages
            delivered = [e for m in messages for e in v1.StreamMarketDataResponse.parse(m).events]
            leave(bench, client)
            if step == "point":
                history += delivered
                resume = Resume(points=_points(history))
            else:
                resume, history = known, history[:kept]  # what came behind the bookmark comes again
            client, _ = join(bench, resume)
    pipe_of(client).open()
    history += read(client)
    if not bench.ended:
        _check_unbroken(history)


def _points(history: Sequence[v1.MarketEvent]) -> dict[tuple[str, str, int, str], tuple[int, int]]:
    return {_name(event): (event.epoch, event.sequence) for event in history}


def _check_unbroken(history: Sequence[v1.MarketEvent]) -> None:
    last: dict[tuple[str, str, int, str], int] = {}
    for event in history:
        name = _name(event)
        if event.gap is not None and event.flags & LOCAL:
            last.pop(name, None)
        elif event.flags & IMAGE:
            last[name] = event.sequence
        elif not event.flags & LOCAL and name in last:
            first = event.first_sequence or event.sequence
            assert first == last[name] + 1, (name, event.sequence, last[name])
            last[name] = event.sequence
