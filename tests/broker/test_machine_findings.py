"""What the machine of tests/integration/test_machine.py has found, each by itself."""

from __future__ import annotations

import attrs
import pytest

from raven.adapter import Established, Event
from raven.adapter.batch import Carry, Down
from raven.broker import Broker, BrokerLimits, Client, OutboxLimits, Subscription
from raven.broker.bookmark import Resume, parse_bookmark
from raven.broker.carryover import adopt, hand_over
from raven.broker.ring import RingLimits
from raven.codec.generated.raven import v1
from raven.model.events import Candle, Flag, Quote, State, StatusCause, Trade
from raven.model.topic import Kind, Selector, Topic
from tests.broker.bench import QUOTE, TRADE, VENUE, Bench, make_bench, pipe_of, read

ETH = Topic(VENUE, "ETH-USDT", Kind.TRADE)
CANDLE = Topic(VENUE, "BTC-USDT", Kind.CANDLE, "1m")
NOW_S = 100.0


def trade(number: int, topic: Topic = TRADE, padding: int = 0) -> Event:
    return Event(topic, Trade(100.0, 1.0, 1, f"{number}" + "x" * padding), 5, 4)


def quote(bid: float) -> Event:
    return Event(QUOTE, Quote(bid, 1.0, bid + 1, 1.0), 5, 4)


def candle(close: float, *, closed: bool = False) -> Event:
    return Event(CANDLE, Candle(0, 60, close, close, close, close, 1.0, closed=closed), 5, 4)


def subscribe(bench: Bench, client: Client, subscription: Subscription) -> None:
    assert bench.broker.clients.subscribe(client, subscription).accepted
    bench.broker.clients.put_images(client, subscription)
    client.outbox.flush()


def wanted(sub_id: str, kind: Kind, symbol: str = "BTC-USDT", **fields: int) -> Subscription:
    return attrs.evolve(Subscription(sub_id, Selector(VENUE, symbol, frozenset({kind}))), **fields)


def stalled(client: Client) -> Client:
    pipe_of(client).room = 0
    client.outbox.flush()
    return client


def told(events: list[v1.MarketEvent]) -> list[tuple[int, int]]:
    return [(event.first_sequence, event.sequence) for event in events]


def test_an_id_that_is_taken_twice_in_one_request_brings_no_images_of_the_first() -> None:
    bench = make_bench()
    bench.publish(Established([TRADE, QUOTE]), trade(1), quote(1.0))
    client = bench.client()
    both = (wanted("s", Kind.TRADE), wanted("s", Kind.QUOTE))
    for subscription in both:
        assert bench.broker.clients.subscribe(client, subscription).accepted
    for subscription in both:
        bench.broker.clients.put_images(client, subscription)
    assert {int(event.topic.kind) for event in read(client) if event.topic} == {Kind.QUOTE}


def test_no_bookmark_stands_behind_images_that_were_not_written() -> None:
    bench = make_bench()
    client = bench.subscribed(Kind.TRADE)
    bench.publish(Established([TRADE, QUOTE]), trade(1), quote(1.0))
    assert client.outbox.bookmark
    pipe_of(client).room = 1
    assert bench.broker.clients.subscribe(client, wanted("q", Kind.QUOTE)).accepted
    client.outbox.put_control(b"the answer takes all the room")
    bench.broker.clients.put_images(client, wanted("q", Kind.QUOTE))
    client.outbox.flush()
    assert client.outbox.behind
    assert client.outbox.bookmark == b""
    pipe_of(client).open()
    assert client.outbox.bookmark == bench.broker.clients.bookmark()


def test_no_bookmark_stands_behind_images_that_were_not_even_put() -> None:
    bench = make_bench()
    bench.publish(Established([TRADE]), trade(1))
    client = bench.client()
    assert bench.broker.clients.subscribe(client, wanted("s", Kind.TRADE)).accepted
    client.outbox.put_control(b"welcome")
    client.outbox.flush()
    assert client.outbox.bookmark == b""
    bench.broker.clients.put_images(client, wanted("s", Kind.TRADE))
    client.outbox.flush()
    assert client.outbox.bookmark == bench.broker.clients.bookmark()


def test_a_warning_does_not_stand_in_front_of_welcome() -> None:
    bench = make_bench(events_max=4)
    client = stalled(bench.client())
    client.outbox.on_pressure = lambda *_: client.outbox.put_in_front(b"warning")
    client.outbox.put_control(b"welcome")
    for _ in range(4):
        client.outbox.put(b"event")
    assert client.outbox.overfull() == ""
    assert [client.outbox.take(b"") for _ in range(3)] == [b"welcome", b"warning", b"event" * 4]


def test_points_beside_a_bookmark_repeat_nothing_that_is_older_than_the_bookmark() -> None:
    bench = make_bench()
    bench.publish(Established([TRADE, ETH]), trade(1), trade(1, ETH))
    state = bench.broker.directory.find(TRADE)
    assert state is not None
    resume = Resume(parse_bookmark(bench.broker.clients.bookmark()), {TRADE: (state.epoch, 1)})
    bench.publish(trade(2), trade(2, ETH))
    client = bench.client()
    subscribe(bench, client, attrs.evolve(wanted("s", Kind.TRADE, "*"), resume=resume))
    news = [(event.topic.symbol, event.sequence) for event in read(client) if event.topic and not event.flags]
    assert sorted(news) == [("BTC-USDT", 2), ("BTC-USDT", 3), ("ETH-USDT", 3)]


@pytest.mark.parametrize("way", ["removed", "covered", "repeated"])
def test_what_an_interval_holds_back_is_put_when_the_interval_ends(way: str) -> None:
    bench = make_bench()
    bench.broker.clients.pacer.clock_s = lambda: NOW_S
    client = bench.client()
    every, paced = wanted("every", Kind.QUOTE), wanted("paced", Kind.QUOTE, conflate_ms=1000)
    subscribe(bench, client, every)
    subscribe(bench, client, paced)
    bench.publish(Established([QUOTE]), quote(1.0))
    bench.publish(quote(2.0), quote(3.0))  # these are held back
    if way == "removed":
        bench.broker.clients.unsubscribe(client, ["paced"], [])
    else:
        again = {"covered": every, "repeated": paced}[way]
        subscribe(bench, client, attrs.evolve(again, id="again", skip_image=True))
    bench.publish(quote(4.0))
    bench.broker.clients.pacer.clock_s = lambda: NOW_S + 2
    bench.broker.clients.pacer.release()
    bench.broker.flush()
    last = 0
    for event in read(client):
        if not event.flags & int(Flag.LOCAL):
            assert (event.first_sequence or event.sequence) == last + 1
            last = event.sequence
    assert last == 5


def test_what_is_wanted_at_an_interval_too_is_not_continued_but_begins_with_its_state() -> None:
    bench = make_bench()
    bench.broker.clients.pacer.clock_s = lambda: NOW_S
    bench.publish(Established([QUOTE]), quote(1.0))
    resume = Resume(parse_bookmark(bench.broker.clients.bookmark()))
    bench.publish(quote(2.0), quote(3.0))
    client = bench.client()
    both = [attrs.evolve(wanted(f"{ms}", Kind.QUOTE, conflate_ms=ms), resume=resume) for ms in (0, 1000)]
    for subscription in both:
        assert bench.broker.clients.subscribe(client, subscription).accepted
    for subscription in both:
        bench.broker.clients.put_images(client, subscription)
    assert {event.flags for event in read(client)} == {int(Flag.LOCAL), int(Flag.IMAGE)}
    assert client.catching_up == {}


def test_a_second_subscription_of_a_client_that_is_behind_leaves_it_no_old_status() -> None:
    bench = make_bench()
    client = bench.subscribed(Kind.QUOTE)
    bench.publish(Established([QUOTE]), quote(1.0))
    stalled(client)
    bench.publish(quote(2.0), quote(3.0))
    subscribe(bench, client, wanted("again", Kind.QUOTE, "*"))
    bench.publish(Down([QUOTE], StatusCause.FEED_DOWN, "gone"))
    pipe_of(client).open()
    statuses = [event.status.state for event in read(client) if event.status]
    assert statuses[-1] == State.DOWN


def test_what_comes_behind_a_message_that_a_client_cannot_take_whole_comes_to_it_too() -> None:
    bench = make_bench()
    quick, late = bench.subscribed(Kind.TRADE, client_id="quick"), bench.subscribed(Kind.TRADE, client_id="late")
    bench.publish(Established([TRADE]))
    read(quick), read(late)
    pipe_of(late).room = 1
    bench.publish(*(trade(number, padding=200_000) for number in range(12)))
    bench.publish(trade(99))
    pipe_of(late).open()
    expected = [(0, sequence) for sequence in range(2, 15)]
    assert told(read(quick)) == expected
    assert told(read(late)) == expected


def test_a_server_that_forgot_topics_hands_over_all_the_same() -> None:
    bench = make_bench()
    bench.publish(Established([TRADE, ETH]), trade(1), trade(1, ETH), trade(2))
    first = Broker(BrokerLimits(ring=RingLimits(100)))
    for carried in hand_over(bench.broker.directory):
        adopt(first.directory, carried, {"BTC-USDT"}, set(Kind))
    second = Broker(BrokerLimits(ring=RingLimits(100)))
    for carried in hand_over(first.directory):
        adopt(second.directory, carried, {"BTC-USDT", "ETH-USDT"}, set(Kind))
    assert second.clients.bookmark() == bench.broker.clients.bookmark()
    state = second.directory.find(TRADE)
    assert state is not None
    assert [sequence for one, sequence, _ in second.directory.rings[VENUE].read(0) if one is state] == [1, 2, 3]
    assert second.directory.find(ETH) is None


@pytest.mark.parametrize("conflate_ms", [0, 1000])
def test_what_was_said_of_a_topic_is_told_around_a_closed_candle_too(conflate_ms: int) -> None:
    bench = make_bench()
    bench.broker.clients.pacer.clock_s = lambda: NOW_S
    client = bench.client()
    subscribe(bench, client, wanted("s", Kind.CANDLE, conflate_ms=conflate_ms))
    bench.publish(Established([CANDLE]), candle(1.0))
    read(client)
    if not conflate_ms:
        stalled(client)
    bench.publish(candle(2.0), candle(3.0))
    bench.publish(Down([CANDLE], StatusCause.FEED_DOWN, "gone"), candle(4.0, closed=True))
    pipe_of(client).open()
    gap, final, status = read(client)
    assert gap.gap is not None
    assert (final.first_sequence, final.sequence) == (3, 8)
    assert status.status is not None
    assert status.status.state == State.LIVE


class TestTheLastMessage:
    def test_nothing_comes_behind_it(self) -> None:
        bench = make_bench()
        client = stalled(bench.subscribed(Kind.TRADE))
        bench.publish(Established([TRADE]), trade(1))
        client.outbox.put_control(b"goodbye")
        client.outbox.seal()
        bench.publish(trade(2))
        client.outbox.put_control(b"heartbeat")
        subscribe(bench, client, wanted("more", Kind.QUOTE))
        bench.publish(quote(1.0))
        pipe_of(client).open()
        assert pipe_of(client).messages[-1] == b"goodbye"

    def test_also_not_for_a_client_that_reads(self) -> None:
        bench = make_bench()
        client = bench.subscribed(Kind.TRADE)
        client.outbox.put_control(b"goodbye")
        client.outbox.seal()
        client.outbox.flush()
        bench.publish(Established([TRADE]), trade(2))
        bench.publish(Carry([Topic(VENUE, "BTC-USDT", Kind.TICKER)]))
        assert pipe_of(client).messages[-1] == b"goodbye"

    def test_the_clients_leave_as_any_other(self) -> None:
        bench = Bench(BrokerLimits(OutboxLimits()))
        clients = [bench.subscribed(Kind.TRADE, client_id=client_id) for client_id in ("one", "two")]
        bench.publish(Established([TRADE]))
        for client in clients:
            client.outbox.seal()
        for client in clients:
            bench.broker.clients.detach(client)
        state = bench.broker.directory.find(TRADE)
        assert state is not None
        assert (state.subscribers, len(state.audiences)) == (0, 0)
