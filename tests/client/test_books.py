"""Books that are kept beside a stream."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.client import Reconnect
from raven.client.books import BookKeeper
from raven.client.events import make_event
from raven.client.testing import FakeServer
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Gap, GapCause, State, TopicStatus
from raven.model.topic import Kind, Topic

TOPIC = Topic("sim", "BTC-USDT", Kind.BOOK)
WHOLE = BookSnapshot((100.0, 99.0), (1.0, 2.0), (101.0, 102.0), (3.0, 4.0))
NAME = "sim/BTC-USDT/book"


def keep(*payloads: object) -> BookKeeper:
    keeper = BookKeeper()
    keeper.put([make_event(TOPIC, 7, number, payload) for number, payload in enumerate(payloads, 1)])  # type: ignore[arg-type]
    return keeper


def test_a_snapshot_and_what_applies_to_it() -> None:
    book = keep(WHOLE, BookDelta((99.5,), (5.0,), (101.0,), (0.0,))).books[TOPIC]
    assert (book.best_bid, book.best_ask, len(book), book.in_doubt) == (100.0, 102.0, 4, False)
    assert book.bids(2) == [(100.0, 1.0), (99.5, 5.0)]
    assert book.top(1) == BookSnapshot([100.0], [1.0], [102.0], [4.0], 0, 1)
    assert (book.epoch, book.sequence) == (7, 2)


def test_it_is_in_doubt_until_its_image_and_behind_a_gap_until_the_next() -> None:
    keeper = keep()
    assert keeper.books == {}
    keeper = keep(TopicStatus(State.LIVE))
    book = keeper.books[TOPIC]
    assert book.doubt == "no image has come yet"
    keeper.put([make_event(TOPIC, 7, 2, WHOLE)])
    assert not book.in_doubt
    keeper.put([make_event(TOPIC, 7, 3, Gap(GapCause.VENUE)), make_event(TOPIC, 7, 4, BookDelta((98.0,), (1.0,)))])
    assert book.in_doubt
    assert len(book) == 4  # a delta behind a hole says nothing
    keeper.put([make_event(TOPIC, 7, 5, WHOLE)])
    assert not book.in_doubt


def test_it_is_in_doubt_while_its_status_is_not_live_and_without_a_connection() -> None:
    keeper = keep(WHOLE, TopicStatus(State.STALE, 0, "quiet"))
    book = keeper.books[TOPIC]
    assert book.doubt == "STALE: quiet"
    keeper.cut_off("cut")
    assert book.doubt == "STALE: quiet; cut"
    keeper.put([make_event(TOPIC, 7, 2, TopicStatus(State.LIVE), flags=2)])
    assert book.doubt == ""


def test_a_reader_gets_each_changed_book_once_however_many_changes() -> None:
    keeper = keep(WHOLE, BookDelta((98.0,), (1.0,)))
    assert keeper.take() is keeper.books[TOPIC]
    assert keeper.take() is None


levels = st.dictionaries(st.integers(1, 9).map(float), st.integers(0, 3).map(float), max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(levels, levels), max_size=12))
def test_it_is_the_book_that_the_server_keeps(changes: list[tuple[dict[float, float], dict[float, float]]]) -> None:
    deltas = [BookDelta(tuple(b), tuple(b.values()), tuple(a), tuple(a.values())) for b, a in changes]
    model = OrderBook(WHOLE)
    for delta in deltas:
        model.apply(delta)
    assert keep(WHOLE, *deltas).books[TOPIC].top() == model.snapshot()


async def test_a_book_of_a_server_goes_on_over_a_break() -> None:
    server = FakeServer()
    server.publish(NAME, WHOLE)
    with trio.fail_after(10):
        async with server.connect() as client, client.book("sim/BTC-USDT") as book:
            assert book.best_bid == 100.0
            server.publish(NAME, BookDelta((100.5,), (1.0,)))
            async for _ in book:
                if book.best_bid == 100.5:
                    break
            server.accepts = False
            server.cut()
            async for _ in book:
                if book.in_doubt:
                    break
            assert "was lost" in book.doubt
            server.publish(NAME, BookDelta((100.7,), (1.0,)))
            server.accepts = True
            async for _ in book:
                if not book.in_doubt and book.best_bid == 100.7:
                    break


async def test_books_of_a_pattern_by_name_and_a_copy_that_stays() -> None:
    server = FakeServer()
    for symbol in ("A", "B"):
        server.publish(f"sim/{symbol}/book", WHOLE)
    with trio.fail_after(10):
        async with server.connect(reconnect=Reconnect()) as client, client.books("sim/*") as books:
            seen: set[str] = set()
            async for book in books:
                seen.add(book.topic.symbol)
                if seen == {"A", "B"} and not any(one.in_doubt for one in books):
                    break
            copy = books["sim/A"].copy(1)
            server.publish("sim/A/book", BookDelta((100.0,), (0.0,)))
            async for book in books:
                if book.best_bid == 99.0:
                    break
            assert (len(copy), copy.best_bid, len(books)) == (2, 100.0, 2)
