"""The tap of latest values: what it writes and when, what it does without its store, and what a server begins with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice, pairwise
from random import Random

import attrs
import pytest
import trio
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from trio.testing import MockClock

from raven.adapter import Established, Event
from raven.adapter.batch import Carry, Down, Drop
from raven.broker import BrokerLimits, Client, Subscription
from raven.broker.carryover import adopt, hand_over
from raven.broker.restoring import TEXT
from raven.broker.topics import TopicState
from raven.codec.generated.raven import v1
from raven.errors import StoreError
from raven.model.events import BookSnapshot, Flag, GapCause, State, StatusCause, Trade
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Selector, Topic
from raven.ops.metrics import StatisticsCollector
from raven.ops.watchdog import Watchdog
from raven.store.latest.memory import MemoryLatest
from raven.store.latest.pauses import PAUSE_FIRST_S, PAUSE_MAX_S, pauses_s
from raven.store.latest.restore import Restored
from raven.store.latest.slices import SLICE_S, take_slice
from raven.store.latest.values import LatestValue
from raven.store.latest.writer import CLIENT_EXPIRY_SLACK_S, REWRITE_S, TOPIC_BYTES_PER_S, LatestWriter
from tests.broker.bench import BOOK, QUOTE, TOPICS, TRADE, VENUE, Bench, read
from tests.validators import faults

WALL_S = 1_700_000_000
ETH = TOPICS[3]
INSTRUMENT = Topic(VENUE, "BTC-USDT", Kind.INSTRUMENT)


class Store(MemoryLatest):
    """Memory that can be away, and says what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.away = ""
        self.batches: list[list[Topic]] = []
        self.closed = 0

    def put(self, values: Sequence[LatestValue]) -> None:
        self._answer()
        self.batches.append([value.topic for value in values])
        super().put(values)

    def load(self, venues: object) -> list[LatestValue]:
        self._answer()
        return super().load(venues)  # type: ignore[arg-type]

    def close(self) -> None:
        self.closed += 1

    def _answer(self) -> None:
        if self.away:
            raise StoreError(self.away)

    def written(self) -> list[Topic]:
        """The topics of every batch since the last time."""
        batches, self.batches = self.batches, []
        return [topic for batch in batches for topic in batch]


@attrs.define
class House:
    """A broker, a store, the tap between them, and the wall clock."""

    bench: Bench
    store: Store
    wall_s: float = WALL_S
    tap: LatestWriter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tap = LatestWriter(
            self.store, self.bench.broker, 0.01, random=Random(1), now_ns=lambda: int(self.wall_s * 1e9), clock_s=lambda: 0.0
        )

    def subscriptions(self) -> dict[str, list[str]]:
        return {one.client_id: [each.id for each in one.subscriptions] for one in self.store.load_clients(self.wall_s)}

    def client(self, client_id: str, *, named: bool = True) -> Client:
        return self.bench.broker.clients.attach(client_id, "peer", lambda _: None, named=named)

    def subscribe(self, client: Client, name: str) -> None:
        assert self.bench.broker.clients.subscribe(client, Subscription(name, Selector(VENUE, "*"))).accepted


@pytest.fixture
def clock() -> MockClock:
    """Time stands unless a test moves it."""
    return MockClock()


@pytest.fixture
def house() -> House:
    return House(Bench(BrokerLimits()), Store())


def trade(topic: Topic = TRADE) -> Event:
    return Event(topic, Trade(100.0, 1.0, 1, "1"), 5, 4)


def book(levels: int) -> Event:
    bids = [1000.0 - level for level in range(levels)]
    return Event(BOOK, BookSnapshot(bids, [1.0] * levels, [2000.0], [1.0]), 5)


# ---- what is written


async def test_what_has_a_value_is_written_once_and_again_when_it_has_changed(house: House, clock: MockClock) -> None:
    house.bench.publish(trade(), book(2))
    await house.tap._attempt()
    assert sorted(house.store.written()) == [TRADE, BOOK]
    await house.tap._attempt()
    assert house.store.written() == []
    clock.jump(1)
    house.bench.publish(trade())
    await house.tap._attempt()
    assert house.store.written() == [TRADE]
    kept = {value.topic: value.sequence for value in house.store.load([VENUE])}
    assert kept[TRADE] == house.bench.broker.directory.find(TRADE).sequence  # type: ignore[union-attr]


async def test_a_large_book_is_written_as_often_as_its_size_allows(house: House, clock: MockClock) -> None:
    house.bench.publish(book(20_000))
    await house.tap._attempt()
    size = house.tap.statistics().written_bytes
    assert size > 2 * 8 * 20_000
    house.store.written()
    house.bench.publish(book(20_000))
    clock.jump(size / TOPIC_BYTES_PER_S - 0.1)
    await house.tap._attempt()
    assert house.store.written() == []
    await house.tap._attempt(at_end=True)
    assert house.store.written() == [BOOK]
    house.bench.publish(book(20_000))
    clock.jump(size / TOPIC_BYTES_PER_S + 0.1)
    await house.tap._attempt()
    assert house.store.written() == [BOOK]


async def test_everything_is_written_anew_now_and_then_so_that_nothing_expires(house: House, clock: MockClock) -> None:
    house.bench.publish(trade())
    await house.tap._attempt()
    house.store.written()
    clock.jump(REWRITE_S - 1)
    await house.tap._attempt()
    assert house.store.written() == []
    clock.jump(1)
    await house.tap._attempt()
    assert house.store.written() == [TRADE]


async def test_many_topics_go_in_several_batches_each_topic_once(house: House) -> None:
    topics = [TRADE._replace(symbol=f"S{number}") for number in range(2_500)]
    house.bench.publish(Carry(topics))
    house.bench.publish(*(trade(topic) for topic in topics))
    slices = iter(range(10**9))
    house.tap._clock_s = lambda: next(slices) * SLICE_S / 100  # a slice is 100 topics
    await house.tap._attempt(at_end=True)
    sizes = [len(batch) for batch in house.store.batches]
    assert len(sizes) == 3
    assert max(sizes) < 1_000 + 102  # as many as are enough, and what was left of a slice
    assert sorted(house.store.written()) == sorted(topics)


def test_a_slice_ends_with_the_piece_that_goes_beyond_its_time() -> None:
    now_s = 0.0

    def pieces() -> object:
        nonlocal now_s
        for number in range(10):
            now_s += SLICE_S / 4
            yield number if number % 2 else None

    source = pieces()
    assert take_slice(source, lambda: now_s) == ([1, 3], True)  # type: ignore[arg-type]
    assert take_slice(source, lambda: now_s) == ([5, 7], True)  # type: ignore[arg-type]
    assert take_slice(source, lambda: now_s) == ([9], False)  # type: ignore[arg-type]


# ---- clients


async def test_subscriptions_of_clients_that_may_come_back_are_written(house: House) -> None:
    named, nameless = house.client("desk"), house.client("client-77", named=False)
    house.subscribe(named, "a")
    house.subscribe(nameless, "a")
    await house.tap._attempt()
    assert house.subscriptions() == {"desk": ["a"]}
    house.subscribe(named, "b")
    await house.tap._attempt()
    assert house.subscriptions() == {"desk": ["a", "b"]}
    house.bench.broker.clients.unsubscribe(named, ["a", "b"], [])
    await house.tap._attempt()
    assert house.subscriptions() == {}


async def test_a_client_that_stays_is_kept_for_ever_and_one_that_left_for_its_time(house: House) -> None:
    stays, leaves = house.client("stays"), house.client("leaves")
    house.subscribe(stays, "a")
    house.subscribe(leaves, "a")
    await house.tap._attempt()
    house.bench.broker.clients.detach(leaves)
    house.wall_s += CLIENT_EXPIRY_SLACK_S + 1
    await house.tap._attempt()
    kept_s = BrokerLimits().kept_s
    expiry = {one.client_id: one.expires_s for one in house.store.load_clients(0)}
    assert expiry["stays"] == house.wall_s + kept_s
    assert expiry["leaves"] <= house.wall_s + kept_s


async def test_a_client_whose_time_is_over_takes_nothing_from_another_server(house: House) -> None:
    client = house.client("desk")
    house.subscribe(client, "a")
    await house.tap._attempt()
    (written,) = house.store.load_clients(0)
    theirs = attrs.evolve(written, expires_s=written.expires_s + 1_000)
    house.store.put_clients([theirs])
    house.bench.broker.clients.detach(client)
    house.bench.broker.clients._kept.take("desk")
    house.wall_s = written.expires_s
    await house.tap._attempt()
    assert house.store.load_clients(0) == [theirs]
    assert house.tap._written_clients == {}


# ---- a store that is away


async def test_a_store_that_comes_back_is_given_everything_with_a_word_at_each_end(house: House, clock: MockClock) -> None:
    house.bench.publish(trade(), trade(ETH))
    await house.tap._attempt()
    house.store.away = "connection refused"
    house.bench.publish(trade())
    clock.jump(1)
    with capture_logs() as logs:
        for _ in range(3):
            await house.tap._attempt()
        away = house.tap.statistics()
        house.store.remove([ETH])  # it has lost something, too
        house.store.away = ""
        house.store.written()
        await house.tap._attempt()
        await house.tap._attempt()
    assert (away.failures, away.away_s, away.error) == (3, 0.0, "connection refused")
    assert sorted(house.store.written()) == [TRADE, ETH]
    assert house.tap.statistics().away_s is None
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
    assert logs[1]["topics"] == 2


async def test_a_store_that_is_away_at_the_start_is_no_reason_not_to_start(house: House) -> None:
    house.store.away = "connection refused"
    with capture_logs():
        await house.tap.restore({VENUE: TOPICS})
    assert house.tap.statistics().away_s is not None
    house.store.away = ""
    house.bench.publish(trade())
    await house.tap._attempt()
    assert house.store.written() == [TRADE]


def test_pauses_grow_to_a_limit_and_differ_between_servers() -> None:
    pauses = list(islice(pauses_s(Random(1)), 12))
    assert PAUSE_FIRST_S * 0.8 <= pauses[0] <= PAUSE_FIRST_S * 1.2
    assert all(later > earlier for earlier, later in pairwise(pauses[:3]))
    assert all(PAUSE_MAX_S * 0.8 <= pause <= PAUSE_MAX_S * 1.2 for pause in pauses[4:])
    assert pauses != list(islice(pauses_s(Random(2)), 12))


# ---- from the start to the end, in real time


class Hanging(Store):
    """Takes for ever, until the test lets go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def put(self, values: Sequence[LatestValue]) -> None:
        self.let_go.wait()

    def load(self, venues: object) -> list[LatestValue]:
        self.let_go.wait()
        return []


class InRealTime:
    """Overrides the clock of this module."""

    @pytest.fixture
    def clock(self) -> None:
        return None


class TestRunning(InRealTime):
    async def test_it_writes_as_time_goes_on_and_what_is_missing_at_the_end(self) -> None:
        house = House(Bench(BrokerLimits()), Store())
        async with trio.open_nursery() as nursery:
            await nursery.start(house.tap.run)
            house.bench.publish(trade())
            with trio.fail_after(5):
                while not house.store.batches:
                    await trio.lowlevel.checkpoint()
            house.bench.publish(book(2), trade(ETH))
            nursery.cancel_scope.cancel()
        assert set(house.store.written()) == {TRADE, BOOK, ETH}
        assert house.store.closed == 1

    async def test_a_store_that_hangs_holds_nobody_at_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("raven.store.latest.writer.LAST_WRITE_S", 0.05)
        store = Hanging()
        house = House(Bench(BrokerLimits()), store)
        house.bench.publish(trade())
        with capture_logs() as logs, trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                await nursery.start(house.tap.run)
                await trio.sleep(0.05)
                nursery.cancel_scope.cancel()
        store.let_go.set()
        assert "not all written at the end" in logs[-1]["event"]

    async def test_a_store_that_hangs_holds_nobody_at_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("raven.store.latest.writer.LOAD_WAIT_S", 0.05)
        store = Hanging()
        house = House(Bench(BrokerLimits()), store)
        with capture_logs() as logs, trio.fail_after(2):
            await house.tap.restore({VENUE: TOPICS})
        store.let_go.set()
        assert "within 0.05 s" in logs[0]["error"]


# ---- what a server begins with


def empty_bench() -> Bench:
    """A broker whose feed has not begun."""
    bench = Bench(BrokerLimits())
    bench.broker.directory._topics.clear()
    bench.broker.directory._by_symbol.clear()
    bench.broker.directory.rings.clear()
    return bench


async def restarted(store: Store, carried: Sequence[Topic] = TOPICS) -> House:
    """Another server on the same store."""
    new = House(empty_bench(), store)
    await new.tap.restore({VENUE: frozenset(carried)})
    return new


async def test_another_server_begins_with_the_values_and_the_subscriptions(house: House) -> None:
    client = house.client("desk")
    house.subscribe(client, "a")
    house.bench.publish(trade(), book(3))
    await house.tap._attempt()
    new = await restarted(house.store)
    restored = new.tap.statistics().restored
    assert (restored.topics, restored.clients, restored.dropped) == (2, 1, 0)
    state = new.bench.broker.directory.find(BOOK)
    assert state is not None
    assert state.status.state == State.DOWN
    assert state.book is not None
    assert len(state.book) == 4
    back = new.client("desk")
    assert [one.id for one in new.bench.broker.clients.restore(back, True)] == ["a"]


async def test_definitions_of_instruments_come_back_too(house: House) -> None:
    instrument = Instrument(VENUE, "BTC-USDT", "BTCUSDT", price_increment="0.01")
    house.bench.publish(Carry([INSTRUMENT]), Event(INSTRUMENT, instrument, 5))
    await house.tap._attempt()
    new = await restarted(house.store, [INSTRUMENT])
    assert new.bench.broker.directory.instruments() == [instrument]


@pytest.mark.parametrize("shared", [False, True])
async def test_what_is_not_carried_any_more_is_removed_unless_others_may_carry_it(house: House, shared: bool) -> None:
    house.bench.publish(trade(), trade(ETH))
    await house.tap._attempt()
    house.store.shared = shared
    new = await restarted(house.store, [TRADE])
    assert new.bench.broker.directory.find(ETH) is None
    assert [value.topic for value in house.store.load([VENUE])] == ([TRADE, ETH] if shared else [TRADE])


@pytest.mark.parametrize(
    "broken",
    [
        {"image": b""},
        {"image": b"\x0a\x05nonse"},
        {"image": b"nonsense"},
        {"sequence": 99},
        {"epoch": 1},
        {"topic": ETH},
    ],
)
async def test_a_value_that_makes_no_sense_is_dropped_counted_and_removed(house: House, broken: dict[str, object]) -> None:
    house.bench.publish(trade(), book(1))
    await house.tap._attempt()
    (good,) = [value for value in house.store.load([VENUE]) if value.topic == TRADE]
    house.store.remove([TRADE])
    bad = attrs.evolve(good, **broken)  # type: ignore[arg-type]
    house.store.put([bad])
    with capture_logs() as logs:
        new = await restarted(house.store)
    assert [entry["log_level"] for entry in logs] == ["warning", "info"]
    assert new.tap.statistics().restored.dropped == 1
    assert new.bench.broker.directory.find(bad.topic) is None
    assert [value.topic for value in house.store.load([VENUE])] == [BOOK]


async def test_a_value_of_an_epoch_that_cannot_be_is_dropped(house: House) -> None:
    house.bench.publish(Event(QUOTE, Trade(1.0, 1.0, 1, "x"), 5))  # a trade where quotes are
    await house.tap._attempt()
    with capture_logs():
        new = await restarted(house.store)
    assert new.tap.statistics().restored.dropped == 1
    assert len(new.bench.broker.directory) == 0


# ---- what it lacks when the store was away then


@attrs.define
class Late:
    """A server that began without its store, which is back now, and what it knows by then."""

    house: House
    tap: LatestWriter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tap = self.house.tap

    def state(self, topic: Topic) -> TopicState:
        found = self.house.bench.broker.directory.find(topic)
        assert found is not None
        return found

    def latest(self, topic: Topic) -> list[v1.MarketEvent]:
        """As GetLatest answers."""
        selector = Selector(topic.venue, topic.symbol, frozenset({topic.kind}), topic.variant)
        return [event for element in self.house.bench.broker.directory.latest([selector]) for event in parse(element)]


def parse(element: bytes) -> list[v1.MarketEvent]:
    return v1.StreamMarketDataResponse.parse(element).events


async def begun_without(store: Store, *, carried: bool = True) -> Late:
    """Its feed has begun, and has said nothing yet but what it carries."""
    store.away = "connection refused"
    with capture_logs():
        late = Late(await restarted(store))
    if carried:
        late.house.bench.publish(Carry(TOPICS))
    store.away = ""
    return late


async def test_values_are_read_when_the_store_is_back(house: House) -> None:
    client = house.client("desk")
    house.subscribe(client, "a")
    house.bench.publish(trade(), book(3))
    await house.tap._attempt()
    late = await begun_without(house.store)
    assert [event.status is not None for event in late.latest(TRADE)] == [True]
    with capture_logs() as logs:
        await late.tap._attempt()
    assert [entry["event"] for entry in logs] == ["latest values restored late", "the store of latest values is back"]
    assert late.tap.statistics().restored == Restored(topics=2, clients=1)
    status, image = late.latest(TRADE)
    assert status.status is not None
    assert (status.status.state, status.status.text) == (v1.TopicStatusState.DOWN, TEXT)
    assert image.trade is not None
    assert (image.trade.price, image.sequence) == (100.0, 1)
    assert late.state(BOOK).book is not None
    back = late.house.client("desk")
    assert [one.id for one in late.house.bench.broker.clients.restore(back, True)] == ["a"]
    await late.tap._attempt()
    assert late.tap.statistics().restored.topics == 2  # once is enough


async def test_subscribers_are_told_in_order_and_of_the_hole_when_the_feed_is_live(house: House) -> None:
    house.bench.publish(trade(), book(3))
    await house.tap._attempt()
    late = await begun_without(house.store)
    client = late.house.bench.subscribed(Kind.TRADE, Kind.BOOK)
    await late.tap._attempt()
    late.house.bench.publish(Established([TRADE]), trade(), book(2))
    record = read(client)
    assert faults(record) == []
    of_trade = [event for event in record if event.topic and event.topic.kind == Kind.TRADE and not event.flags & Flag.LOCAL]
    assert [bool(event.status) for event in of_trade] == [True, False, True, False]
    assert of_trade[1].gap is not None
    assert of_trade[1].gap.cause == GapCause.VENUE


async def test_a_topic_that_is_live_and_has_said_nothing_takes_the_old_value_behind_a_gap(house: House) -> None:
    house.bench.publish(trade())
    await house.tap._attempt()
    late = await begun_without(house.store)
    late.house.bench.publish(Established([TRADE]))
    client = late.house.bench.subscribed(Kind.TRADE)
    read(client)
    await late.tap._attempt()
    (told,) = read(client)
    assert told.gap is not None
    status, image = late.latest(TRADE)
    assert status.status is not None
    assert status.status.state == State.LIVE
    assert image.trade is not None
    assert late.house.bench.faults == []


async def test_what_is_newer_stays(house: House) -> None:
    """Also of clients: one is there again, one has been there and left."""
    for name in ("here", "left", "away"):
        house.subscribe(house.client(name), "old")
    house.bench.publish(trade(), trade(ETH))
    await house.tap._attempt()
    late = await begun_without(house.store)
    late.house.wall_s += 10
    newer = Event(TRADE, Trade(7.0, 1.0, 1, "7"), 9)
    late.house.bench.publish(Established([TRADE]), newer, Drop([ETH], StatusCause.UNSPECIFIED))
    for name in ("here", "left"):
        late.house.subscribe(late.house.client(name), "new")
    clients = late.house.bench.broker.clients
    left = clients.get("left")
    assert left is not None
    clients.detach(left)
    await late.tap._attempt()
    assert late.tap.statistics().restored == Restored(clients=1, late=4)
    assert late.state(TRADE).last == newer
    assert late.state(ETH).last is None
    assert [one.id for one in clients.kept("left")] == ["new"]
    assert [one.id for one in clients.kept("away")] == ["old"]
    (kept,) = [value for value in house.store.load([VENUE]) if value.topic == TRADE]
    assert kept.epoch == late.state(TRADE).epoch
    assert late.house.subscriptions() == {"here": ["new"], "left": ["new"], "away": ["old"]}


async def test_a_topic_that_its_feed_has_not_begun_yet_begins_with_the_value(house: House) -> None:
    house.bench.publish(trade())
    await house.tap._attempt()
    late = await begun_without(house.store, carried=False)
    await late.tap._attempt()
    client = late.house.bench.subscribed(Kind.TRADE)
    late.house.bench.publish(Carry(TOPICS), Established([TRADE]), trade())
    record = read(client)
    assert faults(record) == []
    assert record[0].flags & Flag.LOCAL
    assert record[1].trade is not None


@pytest.mark.parametrize("stale", [False, True])
async def test_a_topic_that_was_handed_over_takes_only_what_it_was_handed_over_with(house: House, stale: bool) -> None:
    house.bench.publish(Established([TRADE]), trade())
    await house.tap._attempt()
    if stale:
        house.bench.publish(trade())  # the store was away already
    carried = hand_over(house.bench.broker.directory)
    bench = empty_bench()
    adopt(bench.broker.directory, carried[0], ["BTC-USDT", "ETH-USDT"], list(Kind))
    late = Late(House(bench, house.store))
    house.store.away = "connection refused"
    with capture_logs():
        await late.tap.restore({VENUE: TOPICS})
        house.store.away = ""
        bench.publish(Carry(TOPICS), Down([TRADE], StatusCause.FEED_DOWN, "refused"))
        await late.tap._attempt()
    assert late.tap.statistics().restored == (Restored(dropped=1) if stale else Restored(topics=1))
    assert (late.state(TRADE).last is None) is stale
    if not stale:
        assert late.state(TRADE).status.text == f"refused; {TEXT}"


async def test_a_value_that_makes_no_sense_is_dropped_late_too(house: House) -> None:
    house.bench.publish(Event(QUOTE, Trade(1.0, 1.0, 1, "x"), 5))  # a trade where quotes are
    await house.tap._attempt()
    late = await begun_without(house.store)
    with capture_logs():
        await late.tap._attempt()
    assert late.tap.statistics().restored.dropped == 1
    assert late.state(QUOTE).last is None
    assert late.state(QUOTE).sequence == 0


async def test_nothing_is_read_late_at_the_end(house: House) -> None:
    house.bench.publish(trade())
    await house.tap._attempt()
    late = await begun_without(house.store)
    await late.tap._attempt(at_end=True)
    assert late.state(TRADE).last is None
    assert [value.topic for value in house.store.load([VENUE])] == [TRADE]


# ---- what is shown of it


async def test_metrics(house: House) -> None:
    house.bench.publish(trade())
    await house.tap._attempt()
    registry = CollectorRegistry()
    collector = StatisticsCollector("0", house.bench.broker.statistics, list, Watchdog().statistics, house.tap.statistics)
    registry.register(collector)
    assert registry.get_sample_value("raven_cache_up", {"backend": "memory"}) == 1
    assert registry.get_sample_value("raven_cache_written_total") == 1
    assert registry.get_sample_value("raven_cache_written_bytes_total") == house.tap.statistics().written_bytes > 50
    assert registry.get_sample_value("raven_cache_failures_total") == 0
    assert registry.get_sample_value("raven_cache_behind_seconds") == 0
    house.store.away = "gone"
    house.bench.publish(trade())
    with capture_logs():
        await house.tap._attempt(at_end=True)
    assert registry.get_sample_value("raven_cache_up", {"backend": "memory"}) == 0
    assert registry.get_sample_value("raven_cache_failures_total") == 1
