"""Feeds and topics that come and go while the supervisor runs, and what others report of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from raven.adapter.batch import Carry, Down, Drop
from raven.adapter.contract import Connection
from raven.adapter.outputs import Output, Resync
from raven.errors import RequestError
from raven.feed.statistics import FeedState
from raven.model.events import StatusCause
from raven.model.topic import Kind, Selector, Topic
from tests.supervisor.house import (
    PlainAdapter,
    PlainSession,
    configured,
    house,
    topic,
)

ETH = Selector("*", "ETH-USDT", frozenset({Kind.TRADE}))


async def test_a_topic_is_added_without_touching_the_rest(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(1)
        h.items()
        statistics = await h.supervisor.start_feed("a", [ETH])
        assert statistics.topics == (topic("a"), topic("a", "ETH-USDT"))
        await h.supervisor.start_feed("a", [ETH])
        await trio.sleep(1)
        assert [url for _, url in h.venues.attempts] == ["ws://a/BTC-USDT", "ws://a/ETH-USDT"]
        assert h.items() == [Carry([topic("a", "ETH-USDT")]), Carry([])]


async def test_a_topic_is_taken_away_and_its_connection_with_it(autojump_clock: MockClock) -> None:
    async with house(configured("a", symbols=("BTC-USDT", "ETH-USDT"))) as h:
        await trio.sleep(1)
        h.items()
        await h.supervisor.stop_feed("a", [Selector("a", "ETH-*")])
        await h.supervisor.stop_feed("a", [Selector("a", "ETH-*")])
        await trio.sleep(30)
        assert len(h.venues.attempts) == 2
        assert h.items() == [Carry([]), Drop([topic("a", "ETH-USDT")], StatusCause.OPERATOR, "stopped by an operator")]
        assert h.states() == [FeedState.LIVE]


async def test_one_connection_is_told_of_changes_while_it_stands(autojump_clock: MockClock) -> None:
    told: list[tuple[str, tuple[Topic, ...]]] = []

    class Told(PlainSession):
        def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
            told.append(("+", tuple(topics)))
            return ()

        def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
            told.append(("-", tuple(topics)))
            return ()

    adapter = PlainAdapter(
        connect=lambda spec: [Connection("main", f"ws://{spec.name}/all", spec.topics)],
        begin=lambda spec, memory: Told(spec.name),
    )
    async with house(configured("a", adapter)) as h:
        await trio.sleep(1)
        await h.supervisor.start_feed("a", [ETH])
        await trio.sleep(1)
        await h.supervisor.stop_feed("a", [Selector("*", "BTC-USDT")])
        await trio.sleep(1)
        assert told == [("+", (topic("a", "ETH-USDT"),)), ("-", (topic("a"),))]
        assert len(h.venues.attempts) == 1
        assert h.states() == [FeedState.LIVE]


async def test_a_feed_is_stopped_and_started_again_at_once(autojump_clock: MockClock) -> None:
    async with house(configured("a"), configured("b")) as h:
        await trio.sleep(1)
        h.items()
        assert (await h.supervisor.stop_feed("a")).state is FeedState.STOPPED
        assert (await h.supervisor.stop_feed("a")).state is FeedState.STOPPED
        await h.supervisor.start_feed("a")
        await trio.sleep(1)
        assert h.states() == [FeedState.LIVE, FeedState.LIVE]
        dropped = Drop((topic("a"),), StatusCause.OPERATOR, "the feed was stopped")
        assert [item for item in h.items() if isinstance(item, Drop)] == [dropped]
        assert sorted(url for _, url in h.venues.attempts) == ["ws://a/BTC-USDT", "ws://a/BTC-USDT", "ws://b/BTC-USDT"]


async def test_a_parked_feed_can_be_started_again(autojump_clock: MockClock) -> None:
    async with house(configured("a")) as h:
        with trio.fail_after(60):
            while h.states() != [FeedState.FAILED]:
                await trio.sleep(0.5)
                if h.states() == [FeedState.LIVE]:
                    h.venues.sockets["ws://a/BTC-USDT"].arrive(b"boom")
        await h.supervisor.start_feed("a")
        await trio.sleep(1)
        assert h.states() == [FeedState.LIVE]


async def test_a_fault_that_others_saw_restarts_the_connection_and_is_counted(autojump_clock: MockClock) -> None:
    async with house(configured("a", symbols=("BTC-USDT", "ETH-USDT"))) as h:
        await trio.sleep(1)
        h.items()
        h.supervisor.report_fault("a", topic("a"), "a price that is no number")
        h.supervisor.report_fault("a", topic("a"), "and one more in the same batch")
        await trio.sleep(30)
        (statistics,) = h.supervisor.statistics()
        assert statistics.faults == 1
        assert [url for _, url in h.venues.attempts].count("ws://a/BTC-USDT") == 2
        assert [url for _, url in h.venues.attempts].count("ws://a/ETH-USDT") == 1
        assert h.items() == [Down((topic("a"),), StatusCause.ADAPTER_FAILED, "a price that is no number")]


@pytest.mark.parametrize(
    ("name", "selector", "error"),
    [
        ("x", ETH, "name: there is no feed 'x': valid are a"),
        ("a", Selector("b", "ETH-USDT", frozenset({Kind.TRADE})), "venue: 'b' is not this feed's: it is 'a'"),
        ("a", Selector("a", "ETH-*", frozenset({Kind.TRADE})), "symbol: 'ETH-*' is a pattern: a feed is started by names"),
        ("a", Selector("a", "ETH-USDT", frozenset({Kind.BOOK})), "kinds: 'book' is not valid: this feed can carry trade"),
        ("a", Selector("a", "ETH-USDT"), "kinds: '' is not valid: this feed can carry trade"),
    ],
)
async def test_what_cannot_be_started_is_refused_by_field(
    name: str, selector: Selector, error: str, autojump_clock: MockClock
) -> None:
    async with house(configured("a")) as h:
        await trio.sleep(1)
        with pytest.raises(RequestError) as caught:
            await h.supervisor.start_feed(name, [selector])
        assert str(caught.value) == error
        assert h.states() == [FeedState.LIVE]


async def test_a_topic_that_others_doubt_is_told_by_its_session(autojump_clock: MockClock) -> None:
    """So it comes to the broker behind what is on its way; and not again within a minute."""
    async with house(configured("a", symbols=("BTC-USDT", "ETH-USDT")), configured("b")) as h:
        h.supervisor.doubt("a", topic("a"), StatusCause.CROSSED, "nothing is connected yet")
        await trio.sleep(1)
        h.items()
        for _ in range(3):
            h.supervisor.doubt("a", topic("a", "ETH-USDT"), StatusCause.CROSSED, "20 deltas in a row left it crossed")
            await trio.sleep(10)
        h.supervisor.doubt("a", topic("b"), StatusCause.CROSSED, "not of this feed")
        h.supervisor.doubt("x", topic("b"), StatusCause.CROSSED, "no such feed")
        await trio.sleep(10)
        assert h.items() == [Resync(topic("a", "ETH-USDT"), StatusCause.CROSSED, "20 deltas in a row left it crossed")]
        assert h.states() == [FeedState.LIVE, FeedState.LIVE]
        assert [feed.faults for feed in h.supervisor.statistics()] == [0, 0]
