"""Continuity, status, subscriptions: what raven.proto promises, on literals."""

from __future__ import annotations

import pytest

from raven.adapter import Catalogue, Established, Event, Refused, Resync
from raven.adapter.batch import Carry, Down, Drop
from raven.broker import Subscription
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue
from raven.model.events import BookDelta, BookSnapshot, Flag, Gap, GapCause, Quote, StatusCause, TopicStatus, Trade
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Selector, Topic
from tests.broker.bench import BOOK, QUOTE, TOPICS, TRADE, VENUE, Bench, make_bench, pipe_of, read

IMAGE, LOCAL = int(Flag.IMAGE), int(Flag.LOCAL)
State, Cause = v1.TopicStatusState, v1.TopicStatusCause
SNAPSHOT = BookSnapshot([99.0, 98.0], [1.0, 2.0], [101.0, 102.0], [3.0, 4.0], 7)


def trade(number: int, topic: Topic = TRADE) -> Event:
    return Event(topic, Trade(100.0 + number, 1.0, 1, str(number)), 5, 4)


def summary(events: list[v1.MarketEvent]) -> list[tuple[int, str]]:
    """(sequence, what it is) of each event."""
    return [(event.sequence, described(event)) for event in events]


def described(event: v1.MarketEvent) -> str:
    mark = {IMAGE: "image ", LOCAL: "local "}.get(event.flags, "")
    if event.status is not None:
        cause = event.status.cause.name
        return f"{mark}{event.status.state.name}" + (f" {cause}" if cause != "UNSPECIFIED" else "")
    if event.gap is not None:
        return f"{mark}gap {event.gap.cause.name}"
    if event.trade is not None:
        return f"{mark}trade {event.trade.trade_id}"
    return mark + next(name for name in ("quote", "book_snapshot", "book_delta", "instrument") if getattr(event, name))


@pytest.fixture
def bench() -> Bench:
    return make_bench()


def test_a_topic_starts_down_and_goes_live_when_the_venue_confirms(bench: Bench) -> None:
    client = bench.subscribed(Kind.TRADE)
    assert summary(read(client)) == [(0, "local DOWN STARTING")]
    bench.publish(Established([TRADE]), trade(1), trade(2))
    assert summary(read(client)) == [(1, "LIVE"), (2, "trade 1"), (3, "trade 2")]


def test_an_event_makes_a_topic_live_where_the_venue_does_not_confirm(bench: Bench) -> None:
    client = bench.subscribed(Kind.QUOTE)
    read(client)
    bench.publish(Event(QUOTE, Quote(1.0, 2.0, 3.0, 4.0), 5))
    assert summary(read(client)) == [(1, "LIVE"), (2, "quote")]


def test_confirming_again_changes_nothing(bench: Bench) -> None:
    bench.publish(Established([TRADE]))
    client = bench.subscribed(Kind.TRADE)
    read(client)
    bench.publish(Established([TRADE]))
    assert read(client) == []


def test_the_image_is_the_state_as_of_the_last_sequence(bench: Bench) -> None:
    bench.publish(trade(1), trade(2))
    events = read(bench.subscribed(Kind.TRADE))
    assert summary(events) == [(3, "local LIVE"), (3, "image trade 2")]
    assert events[1].received_ts_ns == 5
    assert events[1].venue_ts_ns == 4


def test_skip_image_leaves_it_out(bench: Bench) -> None:
    bench.publish(trade(1))
    assert summary(read(bench.subscribed(Kind.TRADE, skip_image=True))) == [(2, "local LIVE")]


def test_a_lost_feed_is_down_then_a_gap_stands_before_what_follows(bench: Bench) -> None:
    bench.publish(trade(1))
    client = bench.subscribed(Kind.TRADE)
    read(client)
    bench.publish(Down(TOPICS, StatusCause.FEED_DOWN, "closed by the venue"))
    bench.publish(Established([TRADE]), trade(9))
    assert summary(read(client)) == [(3, "DOWN FEED_DOWN"), (4, "gap VENUE"), (5, "LIVE"), (6, "trade 9")]


def test_a_feed_that_never_gave_anything_comes_back_without_a_gap(bench: Bench) -> None:
    client = bench.subscribed(Kind.TRADE)
    bench.publish(Down(TOPICS, StatusCause.FEED_DOWN), Established([TRADE]), trade(1))
    assert summary(read(client))[1:] == [(1, "DOWN FEED_DOWN"), (2, "LIVE"), (3, "trade 1")]


def test_a_parked_feed_closes_its_topics(bench: Bench) -> None:
    client = bench.subscribed(Kind.TRADE)
    read(client)
    bench.publish(Down(TOPICS, StatusCause.ADAPTER_FAILED, "five faults", final=True))
    assert summary(read(client)) == [(1, "CLOSED ADAPTER_FAILED")]
    bench.publish(Down(TOPICS, StatusCause.FEED_DOWN))
    assert read(client) == []


def test_what_the_venue_refuses_is_closed_and_the_rest_goes_on(bench: Bench) -> None:
    client = bench.subscribed(Kind.TRADE, Kind.QUOTE)
    read(client)
    bench.publish(Refused(QUOTE, "unknown symbol"), trade(1))
    events = read(client)
    assert summary(events) == [(1, "CLOSED VENUE_REFUSED"), (1, "LIVE"), (2, "trade 1")]
    assert events[0].status is not None
    assert events[0].status.text == "unknown symbol"


def test_topics_that_are_dropped_are_closed(bench: Bench) -> None:
    client = bench.subscribed(Kind.TRADE)
    read(client)
    bench.publish(Drop([TRADE], StatusCause.OPERATOR, "stopped"))
    assert summary(read(client)) == [(1, "CLOSED OPERATOR")]


class TestBooks:
    def test_a_book_goes_live_with_its_snapshot_not_with_the_confirmation(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.BOOK)
        read(client)
        bench.publish(Established([BOOK]))
        assert read(client) == []
        bench.publish(Event(BOOK, SNAPSHOT, 5), Event(BOOK, BookDelta([99.0], [0.0], [], [], 8), 6))
        assert summary(read(client)) == [(1, "book_snapshot"), (2, "LIVE"), (3, "book_delta")]

    def test_the_image_is_the_whole_book(self, bench: Bench) -> None:
        bench.publish(Event(BOOK, SNAPSHOT, 5), Event(BOOK, BookDelta([99.0], [0.0], [100.5], [9.0], 8), 6))
        status, image = read(bench.subscribed(Kind.BOOK))
        assert summary([status, image]) == [(3, "local LIVE"), (3, "image book_snapshot")]
        assert image.book_snapshot == v1.BookSnapshot([98.0], [2.0], [100.5, 101.0, 102.0], [9.0, 3.0, 4.0], 8)
        assert image.received_ts_ns == 6

    def test_doubt_is_a_gap_and_resyncing_and_the_snapshot_makes_it_live(self, bench: Bench) -> None:
        bench.publish(Event(BOOK, SNAPSHOT, 5))
        client = bench.subscribed(Kind.BOOK)
        read(client)
        bench.publish(Resync(BOOK, StatusCause.SEQUENCE_GAP, "U 12 after u 9"), Resync(BOOK, StatusCause.SEQUENCE_GAP))
        bench.publish(Event(BOOK, SNAPSHOT, 9))
        expected = [(3, "gap VENUE"), (4, "RESYNCING SEQUENCE_GAP"), (5, "book_snapshot"), (6, "LIVE")]
        assert summary(read(client)) == expected

    def test_no_delta_is_passed_on_while_in_doubt(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.BOOK)
        read(client)
        bench.publish(Event(BOOK, BookDelta([1.0], [1.0]), 5))
        assert read(client) == []
        assert bench.faults == [(VENUE, "sim/BTC-USDT/book: a delta while the book is DOWN")]

    def test_tops_are_derived_and_sent_when_they_change(self) -> None:
        bench = make_bench(book_top=True)
        client = bench.client()
        subscription = Subscription("s", Selector(VENUE, "BTC-USDT", frozenset({Kind.BOOK_TOP}), "5"))
        assert bench.broker.clients.subscribe(client, subscription).topics == 1
        wide = BookSnapshot([99.0 - i for i in range(9)], [1.0] * 9, [101.0 + i for i in range(9)], [1.0] * 9)
        bench.publish(Event(BOOK, wide, 5))
        bench.publish(Event(BOOK, BookDelta([91.0], [0.0]), 6))  # the ninth level: the top five are the same
        bench.publish(Event(BOOK, BookDelta([99.0], [5.0]), 7))
        events = read(client)
        assert summary(events) == [(1, "book_snapshot"), (2, "LIVE"), (3, "book_snapshot")]
        assert events[2].book_snapshot == v1.BookSnapshot(
            [99.0, 98.0, 97.0, 96.0, 95.0], [5.0, 1.0, 1.0, 1.0, 1.0], [101.0, 102.0, 103.0, 104.0, 105.0], [1.0] * 5, 0, 5
        )
        bench.publish(Resync(BOOK, StatusCause.SEQUENCE_GAP), Event(BOOK, wide, 8))
        expected = [(4, "gap VENUE"), (5, "RESYNCING SEQUENCE_GAP"), (6, "book_snapshot"), (7, "LIVE")]
        assert summary(read(client)) == expected

    def test_what_a_session_says_of_a_book_holds_for_its_tops(self) -> None:
        bench = make_bench(book_top=True)
        client = bench.client()
        bench.broker.clients.subscribe(client, Subscription("s", Selector(VENUE, "BTC-USDT", frozenset({Kind.BOOK_TOP}))))
        bench.publish(Event(BOOK, SNAPSHOT, 5))
        read(client)
        bench.publish(Event(BOOK, TopicStatus(2, StatusCause.VENUE_SILENT, "nothing for 60 s", 6), 6))
        assert summary(read(client)) == [(3, "STALE VENUE_SILENT")]
        bench.publish(Event(BOOK, SNAPSHOT, 7))
        assert summary(read(client)) == [(4, "gap VENUE"), (5, "book_snapshot"), (6, "LIVE")]


class TestSubscriptions:
    def test_a_wildcard_matches_what_is_carried_and_what_is_born_later(self, bench: Bench) -> None:
        client = bench.client()
        result = bench.broker.clients.subscribe(client, Subscription("w", Selector("*", "*", frozenset({Kind.TRADE}))))
        assert result.topics == 2
        newborn = Topic(VENUE, "SOL-USDT", Kind.TRADE)
        bench.publish(Carry([newborn]), trade(1, newborn))
        assert summary(read(client)) == [(1, "LIVE"), (2, "trade 1")]

    def test_overlapping_subscriptions_deliver_once(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.TRADE)
        bench.broker.clients.subscribe(
            client, Subscription("more", Selector(VENUE, "BTC-*", frozenset({Kind.TRADE, Kind.QUOTE})))
        )
        read(client)
        bench.publish(trade(1))
        assert summary(read(client)) == [(1, "LIVE"), (2, "trade 1")]
        assert bench.broker.clients.unsubscribe(client, ["s"], []) == (["s"], [])
        bench.publish(trade(2))
        assert summary(read(client)) == [(3, "trade 2")]
        assert bench.broker.clients.unsubscribe(client, ["more", "s"], []) == (["more"], ["s"])
        bench.publish(trade(3))
        assert read(client) == []

    def test_unsubscribing_by_selector_names_what_is_not_there(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.TRADE)
        same, other = (Selector(VENUE, "BTC-USDT", frozenset({kind})) for kind in (Kind.TRADE, Kind.QUOTE))
        assert bench.broker.clients.unsubscribe(client, [], [same, other]) == (["s"], ["sim/BTC-USDT/quote"])

    def test_the_same_id_again_replaces(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.TRADE)
        bench.broker.clients.subscribe(client, Subscription("s", Selector(VENUE, "BTC-USDT", frozenset({Kind.QUOTE}))))
        read(client)
        bench.publish(trade(1), Event(QUOTE, Quote(1.0), 5))
        assert summary(read(client)) == [(1, "LIVE"), (2, "quote")]

    @pytest.mark.parametrize(
        ("selector", "field", "error"),
        [
            (Selector("sym", "*", frozenset({Kind.TRADE})), "selector.venue", "'sym' is not served: did you mean 'sim'?"),
            (Selector("sim", "BTC-USDX"), "selector.symbol", "'BTC-USDX' is not carried: did you mean 'BTC-USDT'?"),
            (
                Selector("sim", "BTC-USDT", frozenset({Kind.TRADE, Kind.FUNDING})),
                "selector.kinds",
                "funding is not carried for BTC-USDT; valid: book, candle, quote, trade",
            ),
            (
                Selector("sim", "BTC-USDT", frozenset({Kind.CANDLE}), "5m"),
                "selector.variant",
                "'5m' of candle is not carried; valid: 1m",
            ),
        ],
    )
    def test_what_is_not_there_is_refused_by_name(self, bench: Bench, selector: Selector, field: str, error: str) -> None:
        result = bench.broker.clients.subscribe(bench.client(), Subscription("s", selector))
        assert (result.accepted, result.field, result.error) == (False, field, error)

    def test_limits_are_named(self) -> None:
        bench = make_bench(subscriptions_max=1, topics_max=2)
        client = bench.client()
        wide = bench.broker.clients.subscribe(client, Subscription("a", Selector("*", "*", variant="*")))
        assert (wide.accepted, wide.field) == (False, "selector")
        assert "5 topics, and a client has at most 2" in wide.error
        assert bench.broker.clients.subscribe(client, Subscription("a", Selector("*", "*", frozenset({Kind.TRADE})))).accepted
        more = bench.broker.clients.subscribe(client, Subscription("b", Selector("*", "*", frozenset({Kind.TRADE}))))
        assert (more.field, more.error) == ("id", "a client has at most 1 subscriptions")


class TestClients:
    def test_a_second_stream_with_the_same_id_takes_over(self, bench: Bench) -> None:
        first = bench.subscribed(Kind.TRADE)
        second = bench.subscribed(Kind.TRADE)
        assert (bench.ended["c"].reason, bench.ended["c"].status) == ("REPLACED", "ABORTED")
        read(first), read(second)
        bench.publish(trade(1))
        assert read(first) == []
        assert summary(read(second)) == [(1, "LIVE"), (2, "trade 1")]
        bench.broker.clients.detach(first)
        assert list(bench.broker.clients) == [second]

    def test_there_may_be_only_so_many(self) -> None:
        bench = make_bench(clients_max=1)
        bench.client("a")
        with pytest.raises(InvalidValue, match="clients: 1 is not valid: at most 1 at once"):
            bench.client("b")

    def test_one_for_whom_too_much_waits_is_ended_and_the_others_are_not(self) -> None:
        bench = make_bench(events_max=3)
        slow = bench.subscribed(Kind.TRADE, client_id="slow")
        pipe_of(slow).room = 0
        fine = bench.subscribed(Kind.TRADE, client_id="fine")
        for number in range(5):
            bench.publish(trade(number))
            read(fine)
        assert (bench.ended["slow"].reason, bench.ended["slow"].status) == ("SLOW_CONSUMER", "RESOURCE_EXHAUSTED")
        assert bench.ended["slow"].text == "4 events wait, the limit is 3"
        assert slow not in bench.broker.clients
        assert "fine" not in bench.ended
        assert bench.broker.statistics().slow_consumers == 1


class TestBrokenAdapters:
    def test_a_number_that_is_not_finite_is_refused_and_told(self, bench: Bench) -> None:
        bench.publish(Event(BOOK, SNAPSHOT, 5))
        client = bench.subscribed(Kind.BOOK)
        read(client)
        bench.publish(Event(BOOK, BookDelta([float("nan")], [1.0]), 6))
        assert summary(read(client)) == [(3, "gap VENUE"), (4, "RESYNCING ADAPTER_FAILED")]
        assert len(bench.faults) == 1
        assert "finite" in bench.faults[0][1]

    def test_a_topic_that_is_not_the_feeds_own_is_refused(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.TRADE)
        read(client)
        bench.publish(trade(1), feed="other")
        bench.publish(trade(1, Topic(VENUE, "XRP-USDT", Kind.TRADE)))
        assert read(client) == []
        assert [feed for feed, _ in bench.faults] == ["other", VENUE]
        assert bench.broker.statistics().refused_events == {"other": 1, VENUE: 1}

    def test_two_venue_symbols_under_one_symbol_are_a_fault(self, bench: Bench) -> None:
        instruments = [Instrument(VENUE, "BTC-USDT", "BTCUSDT"), Instrument(VENUE, "BTC-USDT", "XBTUSDT")]
        bench.publish(Catalogue(instruments, 5))
        assert bench.broker.directory.instruments() == instruments[:1]
        assert bench.faults == [(VENUE, "BTC-USDT stands for both 'BTCUSDT' and 'XBTUSDT'")]


def test_instruments_are_kept_and_published_when_they_change(bench: Bench) -> None:
    topic = Topic(VENUE, "BTC-USDT", Kind.INSTRUMENT)
    bench.publish(Carry([topic]))
    client = bench.subscribed(Kind.INSTRUMENT)
    read(client)
    definition = Instrument(VENUE, "BTC-USDT", "BTCUSDT", price_increment="0.01")
    bench.publish(Catalogue([definition, Instrument(VENUE, "ETH-USDT", "ETHUSDT")], 5), Catalogue([definition], 6))
    assert summary(read(client)) == [(1, "LIVE"), (2, "instrument")]
    assert len(bench.broker.directory.instruments()) == 2
    bench.publish(Down([topic], StatusCause.FEED_DOWN), Catalogue([definition], 7))
    assert summary(read(client)) == [(3, "DOWN FEED_DOWN"), (4, "gap VENUE"), (5, "LIVE"), (6, "instrument")]


def test_gaps_and_statuses_of_an_adapter_are_events_of_the_topic(bench: Bench) -> None:
    bench.publish(trade(1))
    client = bench.subscribed(Kind.TRADE)
    read(client)
    stale = TopicStatus(2, StatusCause.VENUE_SILENT, "", 5)
    bench.publish(Event(TRADE, Gap(GapCause.VENUE, missed=3), 5), Event(TRADE, stale, 5), trade(2))
    assert summary(read(client))[:3] == [(3, "gap VENUE"), (4, "STALE VENUE_SILENT"), (5, "gap VENUE")]


def test_latest_is_the_status_then_the_image_of_each_topic_in_order(bench: Bench) -> None:
    bench.publish(trade(1), trade(2, Topic(VENUE, "ETH-USDT", Kind.TRADE)))
    joined = b"".join(bench.broker.directory.latest([Selector("*", "*", frozenset({Kind.TRADE}))]))
    events = v1.GetLatestResponse.parse(joined).events
    assert [(e.topic.symbol if e.topic else "", described(e)) for e in events] == [
        ("BTC-USDT", "local LIVE"),
        ("BTC-USDT", "image trade 1"),
        ("ETH-USDT", "local LIVE"),
        ("ETH-USDT", "image trade 2"),
    ]


def test_statistics_count_what_was_published_and_taken(bench: Bench) -> None:
    client = bench.subscribed(Kind.TRADE)
    bench.publish(trade(1), trade(2))
    read(client)
    statistics = bench.broker.statistics()
    assert statistics.events[VENUE, "trade"] == 3
    assert statistics.topics == len(TOPICS)
    assert statistics.topics_by_state == {"live": 1, "down": 4}
    assert (statistics.clients, statistics.clients_total, statistics.events_sent) == (1, 1, 4)
    bench.broker.clients.detach(client)
    assert bench.broker.statistics().events_sent == 4


class TestCrossedBooks:
    def publish_crossed(self, bench: Bench, count: int, step_ns: int) -> None:
        for number in range(count):
            delta = BookDelta([105.0], [1.0 + number], [], [])
            bench.publish(Event(BOOK, delta, number * step_ns + 1, 4))

    def test_what_leaves_the_book_crossed_is_flagged_and_the_rest_is_not(self, bench: Bench) -> None:
        client = bench.subscribed(Kind.BOOK)
        bench.publish(Event(BOOK, SNAPSHOT, 1))
        read(client)
        self.publish_crossed(bench, 2, 1)
        bench.publish(Event(BOOK, BookDelta([105.0], [0.0], [], []), 5, 4))
        assert [event.flags for event in read(client)] == [int(Flag.SUSPECT_VALUE)] * 2 + [0]

    def test_a_book_that_stays_crossed_is_doubted_again_and_again(self) -> None:
        doubts: list[tuple[object, ...]] = []
        bench = make_bench()
        bench.broker._on_doubt = lambda *doubt: doubts.append(doubt)
        bench.publish(Event(BOOK, SNAPSHOT, 1))
        self.publish_crossed(bench, 45, 200_000_000)
        assert [doubt[:3] for doubt in doubts] == [(VENUE, BOOK, StatusCause.CROSSED)] * 2
        assert doubts[0][3] == "20 changes in a row left it crossed"

    def test_a_burst_is_not(self) -> None:
        doubts: list[object] = []
        bench = make_bench()
        bench.broker._on_doubt = lambda *doubt: doubts.append(doubt)
        bench.publish(Event(BOOK, SNAPSHOT, 1))
        self.publish_crossed(bench, 60, 1_000_000)
        assert doubts == []
