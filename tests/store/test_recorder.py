"""The recorder: from the rings of a broker into a history."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raven.adapter import Established, Event
from raven.adapter.batch import BatchItem
from raven.broker import BrokerLimits
from raven.broker.carryover import adopt, hand_over
from raven.broker.ring import RingLimits
from raven.codec.generated.raven import v1
from raven.errors import StoreError
from raven.model.events import BookDelta, BookSnapshot, Flag, Trade
from raven.model.topic import Kind, Topic
from raven.store import recorder as module
from raven.store.blocks import Block, Image, TimeRange
from raven.store.cutting import BLOCK_BYTES_MAX
from raven.store.elements import split, stamps
from raven.store.recorder import Recorder
from raven.store.sqlite import SqliteHistory
from tests.broker.bench import BOOK, TOPICS, TRADE, VENUE, Bench

DAY_NS = 86_400 * 10**9


class Kept:
    """A store that can refuse and can hang; it notes what it is given, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Block], list[Image]]] = []
        self.refuse = ""
        self.tries = 0
        self.go = threading.Event()
        self.go.set()
        self.written = trio.Event()

    def write(self, blocks: Sequence[Block], images: Sequence[Image]) -> None:
        self.go.wait(10)
        self.tries += 1
        if self.refuse:
            raise StoreError(self.refuse)
        self.batches.append((list(blocks), list(images)))
        trio.from_thread.run_sync(self.written.set)

    def events(self, topic: Topic = TRADE) -> list[int]:
        """Sequences of all events of a topic, in the order in which they came."""
        blocks = (block for blocks, _ in self.batches for block in blocks if block.topic == topic)
        return [stamps(element)[0] for block in blocks for element in split(block.elements)]

    @property
    def images(self) -> list[Image]:
        return [image for _, images in self.batches for image in images]


def trade(number: int, topic: Topic = TRADE) -> Event:
    return Event(topic, Trade(100.0, 1.0, 1, str(number)), 1_700_000_000_000_000_000 + number, 4)


def bench(limits: RingLimits = RingLimits()) -> Bench:  # noqa: B008  frozen
    made = Bench(BrokerLimits(ring=limits))
    made.publish(Established(TOPICS))
    return made


def recorder(made: Bench, store: Kept, **options: float) -> Recorder:
    return Recorder(store, made.broker.directory, now_ns=lambda: 1_700_000_000_000_000_000, **options)  # type: ignore[arg-type]


@pytest.fixture
def store() -> Iterator[Kept]:
    made = Kept()
    yield made
    made.go.set()


async def test_what_is_published_is_kept_after_a_commit(store: Kept, nursery: trio.Nursery) -> None:
    made = bench()
    tap = recorder(made, store)
    await nursery.start(tap.run)
    made.publish(trade(1), trade(2))
    await tap.flush()
    assert store.events() == [1, 2, 3]  # the first is the status
    made.publish(trade(3))
    await tap.flush()
    assert store.events() == [1, 2, 3, 4]
    statistics = tap.statistics()
    assert (statistics.events, statistics.behind, statistics.lost, statistics.failing_s) == (7, 0, {}, None)


async def test_the_recorder_commits_by_itself(store: Kept, nursery: trio.Nursery) -> None:
    made = bench()
    tap = recorder(made, store, commit_s=0.05)
    made.publish(trade(1))
    await nursery.start(tap.run)
    with trio.fail_after(5):
        await store.written.wait()
    assert store.events() == [1, 2]


async def test_the_rest_is_kept_at_the_end(store: Kept) -> None:
    made = bench()
    tap = recorder(made, store)
    async with trio.open_nursery() as nursery:
        await nursery.start(tap.run)
        made.publish(*(trade(number) for number in range(3000)))
        nursery.cancel_scope.cancel()
    assert store.events() == list(range(1, 3002))
    await tap.flush()  # and nobody waits for it after the end


async def test_blocks_say_what_is_in_them(store: Kept, nursery: trio.Nursery) -> None:
    made = bench()
    tap = recorder(made, store)
    await nursery.start(tap.run)
    made.publish(*(trade(number) for number in range(700)), *(trade(number, TOPICS[3]) for number in range(5)))
    big = Event(TRADE, Trade(1.0, 1.0, 1, "x" * 60_000), 5)
    made.publish(big, big, trade(9), Event(TRADE, Trade(None, 1.0, 1, ""), 77))
    await tap.flush()
    for block in store.batches[0][0]:
        elements = list(split(block.elements))
        read = [stamps(element) for element in elements]
        assert [sequence for sequence, _, _ in read] == list(range(block.first_sequence, block.last_sequence + 1))
        assert (min(r for _, r, _ in read), max(r for _, r, _ in read)) == (block.first_ts_ns, block.last_ts_ns)
        assert (min(v for *_, v in read), max(v for *_, v in read)) == (block.first_venue_ts_ns, block.last_venue_ts_ns)
        assert len(block.elements) <= BLOCK_BYTES_MAX
        assert block.count == len(elements)
    assert store.events() == list(range(1, 706))


async def test_a_store_that_refuses_loses_nothing(store: Kept, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    made = bench()
    tap = recorder(made, store)
    await nursery.start(tap.run)
    store.refuse = "disk full"
    made.publish(trade(1))
    await tap.flush()  # refused is an answer
    assert tap.statistics().error == "disk full"
    tries = store.tries
    for number in range(2, 40):
        made.publish(trade(number))
        await trio.sleep(0.5)  # it is tried once a second, and at each flush
    await tap.flush()  # the clock of the test runs ahead of the threads that write
    assert tries < store.tries < 40
    assert tap.statistics().behind
    store.refuse = ""
    await tap.flush()
    assert store.events() == list(range(1, 41))
    statistics = tap.statistics()
    assert (statistics.failing_s, statistics.error, statistics.behind, statistics.lost) == (None, "", 0, {})


async def test_what_the_ring_drops_meanwhile_is_counted_and_told_by_its_sequences(
    store: Kept, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 1)
    made = bench(RingLimits(events_max=100))
    tap = recorder(made, store)
    await nursery.start(tap.run)
    store.refuse = "disk full"
    made.publish(trade(1))
    await tap.flush()
    made.publish(*(trade(number) for number in range(2, 302)))
    store.refuse = ""
    await tap.flush()
    await tap.flush()
    assert tap.statistics().lost == {VENUE: 200}
    assert store.events() == [1, 2, *range(203, 303)]
    assert all(block.count == len(list(split(block.elements))) for blocks, _ in store.batches for block in blocks)


async def test_a_store_that_refuses_does_not_keep_the_server_from_ending(store: Kept) -> None:
    made = bench()
    tap = recorder(made, store)
    store.refuse = "disk full"
    async with trio.open_nursery() as nursery:
        await nursery.start(tap.run)
        made.publish(trade(1), trade(2))
        nursery.cancel_scope.cancel()
    assert sum(tap.statistics().lost.values()) == 6


async def test_a_store_that_hangs_does_not_keep_the_server_from_ending(store: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_S", 0.05)
    made = bench()
    tap = recorder(made, store)
    store.go.clear()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(tap.run)
            made.publish(trade(1))
            nursery.start_soon(tap.flush)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert sum(tap.statistics().lost.values()) == 5


def book(items: int = 1) -> list[BatchItem]:
    return [
        Event(BOOK, BookDelta([90.0 + number % 50], [float(number + 1)], [], []), 1_700_000_000_000_000_001)
        for number in range(items)
    ]


async def test_an_image_stands_behind_exactly_the_events_that_made_it(
    store: Kept, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    made = bench()
    tap = recorder(made, store, image_s=10.0)
    await nursery.start(tap.run)
    made.publish(Event(BOOK, BookSnapshot([1.0], [1.0], [200.0], [1.0]), 1_700_000_000_000_000_000), *book(20))
    for _ in range(25):
        made.publish(*book(7))
        await trio.sleep(1)
    await tap.flush()
    images = [image for image in store.images if image.topic == BOOK]
    assert len(images) == 3
    state = made.broker.directory.find(BOOK)
    assert state is not None
    for image in images:
        event = v1.StreamMarketDataResponse.parse(image.element).events[0]
        assert (event.sequence, event.epoch, event.flags & Flag.IMAGE) == (image.sequence, state.epoch, Flag.IMAGE)
        assert image.sequence in store.events(BOOK)
    assert [image for image in store.images if image.topic == TRADE] == []  # there has been none: nothing to keep


async def test_each_day_has_an_image_and_a_pass_makes_a_bounded_number(
    store: Kept, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES_MAX", 1)
    now = [1_700_000_000_000_000_000]
    made = bench()
    tap = Recorder(store, made.broker.directory, now_ns=lambda: now[0])  # type: ignore[arg-type]
    await nursery.start(tap.run)
    other = TOPICS[3]
    made.publish(trade(1), trade(1, other))
    for passes in range(5):  # the topics that have nothing to show yet take their turns too
        await tap.flush()
        assert len(store.images) <= passes + 1
    assert [image.topic for image in store.images] == [TRADE, other]
    made.publish(trade(2), trade(2, other))
    await tap.flush()
    await tap.flush()
    assert len(store.images) == 2
    now[0] += DAY_NS
    made.publish(trade(DAY_NS), trade(DAY_NS, other))
    await tap.flush()
    await tap.flush()
    assert [(image.topic, image.ts_ns) for image in store.images[2:]] == [(TRADE, now[0]), (other, now[0])]


async def test_the_events_of_an_earlier_server_are_read_too(store: Kept, nursery: trio.Nursery) -> None:
    old = bench()
    old.publish(*(trade(number) for number in range(10)))
    made = Bench(BrokerLimits())
    made.broker.directory._topics.clear()
    made.broker.directory.rings.clear()
    for feed in hand_over(old.broker.directory):
        adopt(made.broker.directory, feed, ("BTC-USDT",), (Kind.TRADE,))
    tap = recorder(made, store)
    await nursery.start(tap.run)
    await tap.flush()
    assert store.events() == list(range(1, 12))
    state, then = made.broker.directory.find(TRADE), old.broker.directory.find(TRADE)
    assert state is not None
    assert then is not None
    assert {block.epoch for blocks, _ in store.batches for block in blocks if block.topic == TRADE} == {then.epoch}


async def test_rings_that_go_round_are_read_whole(store: Kept, nursery: trio.Nursery) -> None:
    made = bench(RingLimits(events_max=300))
    tap = recorder(made, store)
    await nursery.start(tap.run)
    for start in range(0, 3000, 250):
        made.publish(*(trade(number) for number in range(start, start + 250)))
        await tap.flush()
    assert store.events() == list(range(1, 3002))
    assert tap.statistics().lost == {}


async def test_much_is_given_in_bounded_batches(store: Kept, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES_MAX", 10_000)
    made = bench()
    tap = recorder(made, store)
    await nursery.start(tap.run)
    made.publish(*(trade(number) for number in range(5000)))
    await tap.flush()
    sizes = [sum(len(block.elements) for block in blocks) for blocks, _ in store.batches]
    assert max(sizes) < 10_000 + module.SLICE_EVENTS * 120
    assert store.events() == list(range(1, 5002))


@pytest.mark.parametrize("kept_until", [3, 8])
async def test_a_restart_neither_loses_nor_doubles_what_the_old_server_could_not_write(tmp_path: Path, kept_until: int) -> None:
    """What was published last is written by the next server, from the recent events that the old one has left."""
    old, store = bench(), SqliteHistory(tmp_path)
    old.publish(*(trade(number) for number in range(2, kept_until + 1)))
    async with trio.open_nursery() as nursery:
        await nursery.start(Recorder(store, old.broker.directory).run)
        nursery.cancel_scope.cancel()
    old.publish(*(trade(number) for number in range(kept_until + 1, 9)))
    store.close()
    made = Bench(BrokerLimits())
    made.broker.directory._topics.clear()
    made.broker.directory.rings.clear()
    for feed in hand_over(old.broker.directory):
        adopt(made.broker.directory, feed, ("BTC-USDT", "ETH-USDT"), tuple(Kind))
    store = SqliteHistory(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(Recorder(store, made.broker.directory).run)
        made.publish(Established(TOPICS), trade(9))
        nursery.cancel_scope.cancel()
    blocks = list(store.blocks(TRADE, TimeRange(0, 2**62)))
    sequences = [stamps(element)[0] for block in blocks for element in split(block.elements)]
    assert sequences == list(range(1, 12))  # with the gap that the restart is, and the status behind it
    assert len({block.epoch for block in blocks}) == 1
    store.close()
