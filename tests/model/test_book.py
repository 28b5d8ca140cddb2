"""The order book, against a plain dictionary that is sorted whenever someone asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.model import book as book_module
from raven.model.book import NEAR_LEVELS, NEAR_LEVELS_MAX, UNSEEN_MAX, OrderBook
from raven.model.events import BookDelta, BookSnapshot

pytestmark = pytest.mark.usefixtures("twins")

SNAPSHOT = BookSnapshot((10.0, 9.0, 8.0), (1.0, 2.0, 3.0), (11.0, 12.0), (4.0, 5.0), venue_sequence=7, depth_limit=1000)

PRICES = st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 1e9])
SIZES = st.sampled_from([0.0, 0.0, 1.0, 2.5])
# Few prices, so that levels are met again; size 0 often, so that they go.
LEVELS = st.lists(st.tuples(PRICES, SIZES), max_size=8)
IMAGE = st.lists(st.tuples(PRICES, SIZES), max_size=8, unique_by=lambda level: level[0])  # a venue names each price once
DELTAS = st.lists(st.tuples(LEVELS, LEVELS, st.sampled_from(["", "crossed", "all"])), max_size=12)


@contextmanager
def near_levels(few: int, many: int) -> Iterator[None]:
    """So few levels are near that small books have others too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book_module, "NEAR_LEVELS", few)
        patch.setattr(book_module, "NEAR_LEVELS_MAX", many)
        yield


def columns(levels: list[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(price for price, _ in levels), tuple(size for _, size in levels)


def changed(side: dict[float, float], levels: list[tuple[float, float]]) -> dict[float, float]:
    return {price: size for price, size in {**side, **dict(levels)}.items() if size}


def check(book: OrderBook, bids: dict[float, float], asks: dict[float, float]) -> None:
    down, up = sorted(bids.items(), reverse=True), sorted(asks.items())
    assert (book.bids(), book.asks()) == (down, up)
    assert (book.bids(2), book.asks(2)) == (down[:2], up[:2])
    assert (book.best_bid, book.best_ask) == (max(bids, default=None), min(asks, default=None))
    assert book.crossed == bool(bids and asks and max(bids) >= min(asks))
    assert len(book) == len(bids) + len(asks)
    for depth in (0, 1, 100):
        image = book.snapshot(depth)
        assert list(zip(image.bid_price, image.bid_size, strict=True)) == down[: depth or None]
        assert list(zip(image.ask_price, image.ask_size, strict=True)) == up[: depth or None]


@pytest.mark.parametrize(("few", "many"), [(1, 1), (1, 2), (2, 4), (NEAR_LEVELS, NEAR_LEVELS_MAX)])
@given(IMAGE, IMAGE, DELTAS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_book_is_a_dictionary_in_order(
    few: int,
    many: int,
    first_bids: list[tuple[float, float]],
    first_asks: list[tuple[float, float]],
    deltas: list[tuple[list[tuple[float, float]], list[tuple[float, float]], str]],
    look_at_once: bool,
) -> None:
    with near_levels(few, many):
        book = OrderBook(BookSnapshot(*columns(first_bids), *columns(first_asks)))
        bids, asks = changed({}, first_bids), changed({}, first_asks)
        if look_at_once:
            check(book, bids, asks)
        for more_bids, more_asks, look in deltas:
            book.apply(BookDelta(*columns(more_bids), *columns(more_asks)))
            bids, asks = changed(bids, more_bids), changed(asks, more_asks)
            if look == "crossed":
                assert book.crossed == bool(bids and asks and max(bids) >= min(asks))
            elif look:
                check(book, bids, asks)
        check(book, bids, asks)


@pytest.mark.parametrize("unseen", [0, 1, UNSEEN_MAX - 1, UNSEEN_MAX, UNSEEN_MAX + 1, 3 * UNSEEN_MAX])
def test_order_is_right_however_long_nobody_looked(unseen: int) -> None:
    book = OrderBook(SNAPSHOT)
    assert book.bids(1) == [(10.0, 1.0)]
    for number in range(unseen):
        book.apply(BookDelta((10.0, 5.0 + number / 1024), (0.0, 1.0), (11.0,), (0.0,)))
        assert not book.crossed
    walked = {9.0: 2.0, 8.0: 3.0, **{5.0 + number / 1024: 1.0 for number in range(unseen)}}
    check(book, walked if unseen else {10.0: 1.0, 9.0: 2.0, 8.0: 3.0}, {12.0: 5.0} if unseen else {11.0: 4.0, 12.0: 5.0})


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_market_that_walks_far_is_followed(looked_at: bool) -> None:
    """Up and down over more levels than are near, a look at each step: what is near is chosen anew each time it runs out."""
    book, bids, asks = OrderBook(), dict[float, float](), dict[float, float]()
    middles = [*range(0, 600, 9), *range(600, -600, -13), *range(-600, 0, 17)]
    for at, middle in enumerate(middles):
        was = middles[at - 1] if at else 0
        over = [(float(price), 0.0) for price in range(min(middle, was), max(middle, was) + 1)]
        more_bids = [*over, (middle - 1.0, 1.0), (middle - 2.0, 2.0), (middle - 400.0, 1.0)]
        more_asks = [*over, (middle + 1.0, 1.0), (middle + 2.0, 2.0), (middle + 400.0, 1.0)]
        book.apply(BookDelta(*columns(more_bids), *columns(more_asks)))
        bids, asks = changed(bids, more_bids), changed(asks, more_asks)
        assert book.crossed == (max(bids) >= min(asks))
        assert at % 10 or (book.best_bid, book.best_ask) == (max(bids), min(asks))
        assert not looked_at or book.bids(20) == sorted(bids.items(), reverse=True)[:20]
    check(book, bids, asks)


@pytest.mark.parametrize("depth", [1, 50, NEAR_LEVELS, NEAR_LEVELS + 1, NEAR_LEVELS_MAX, 3 * NEAR_LEVELS_MAX])
def test_a_top_of_any_depth(depth: int) -> None:
    book = OrderBook()
    down, up = [float(price) for price in range(2_000, 0, -1)], [float(price) for price in range(2_001, 4_001)]
    sizes = (1.0,) * 2_000
    book.apply(BookDelta(down[::-1], sizes, up[::-1], sizes))
    for gone in range(0, 120, 40):
        best = down[gone : gone + 40]
        assert book.snapshot(depth) == BookSnapshot(
            down[gone : gone + depth], [1.0] * min(depth, 2_000 - gone), up[:depth], [1.0] * min(depth, 2_000), 0, depth
        )
        book.apply(BookDelta(best, (0.0,) * len(best)))


def test_delta_sets_adds_and_removes() -> None:
    book = OrderBook(SNAPSHOT)
    book.apply(BookDelta((9.0, 9.5, 8.0, 1.0), (7.0, 1.0, 0.0, 0.0), (11.0,), (0.0,), venue_sequence=8))
    assert book.bids() == [(10.0, 1.0), (9.5, 1.0), (9.0, 7.0)]
    assert book.asks() == [(12.0, 5.0)]
    assert book.venue_sequence == 8


def test_of_a_price_that_is_there_twice_the_last_counts() -> None:
    for looked in (False, True):
        book = OrderBook(SNAPSHOT)
        assert not looked or book.best_bid
        book.apply(BookDelta((10.0, 10.0, 9.0, 9.0), (0.0, 6.0, 6.0, 0.0)))
        assert book.bids() == [(10.0, 6.0), (8.0, 3.0)]


def test_delta_without_sequence_leaves_the_sequence() -> None:
    book = OrderBook(SNAPSHOT)
    book.apply(BookDelta((9.0,), (1.0,)))
    assert book.venue_sequence == 7


def test_snapshot_takes_the_place_of_everything() -> None:
    book = OrderBook(SNAPSHOT)
    book.apply(BookDelta((9.5,), (1.0,)))
    book.reset(BookSnapshot((3.0, 2.0), (1.0, 0.0), (), (), venue_sequence=1))
    assert book.snapshot() == BookSnapshot([3.0], [1.0], [], [], 1, 0)
    assert book.best_ask is None


def test_snapshot_says_its_depth() -> None:
    book = OrderBook(SNAPSHOT)
    assert book.snapshot(1) == BookSnapshot([10.0], [1.0], [11.0], [4.0], 7, 1)
    assert book.snapshot().depth_limit == 1000


def test_what_a_snapshot_holds_does_not_change_with_the_book() -> None:
    book = OrderBook(SNAPSHOT)
    image, bids = book.snapshot(), book.bids()
    book.apply(BookDelta((10.0, 7.0), (0.0, 1.0), (11.0,), (9.0,)))
    assert (list(image.bid_price), list(image.ask_size)) == ([10.0, 9.0, 8.0], [4.0, 5.0])
    assert bids[0] == (10.0, 1.0)


@pytest.mark.parametrize(("bid", "crossed"), [(10.5, False), (11.0, True), (11.5, True)])
def test_crossed_at_or_above(bid: float, crossed: bool) -> None:
    book = OrderBook(SNAPSHOT)
    book.apply(BookDelta((bid,), (1.0,)))
    assert book.crossed is crossed


def test_crossed_until_the_levels_are_gone() -> None:
    book = OrderBook(SNAPSHOT)
    book.apply(BookDelta((11.5,), (1.0,)))
    assert book.crossed
    book.apply(BookDelta((11.5,), (0.0,)))
    assert not book.crossed
    book.apply(BookDelta((), (), (9.5,), (1.0,)))  # below the best bid
    assert book.crossed
    book.apply(BookDelta((10.0,), (0.0,)))
    assert not book.crossed
    book.apply(BookDelta((9.0, 8.0), (0.0, 0.0)))
    assert not book.crossed  # nothing crosses a side that is empty


def test_empty_book() -> None:
    book = OrderBook()
    assert (book.best_bid, book.best_ask, book.crossed, len(book)) == (None, None, False, 0)
    assert book.snapshot(5) == BookSnapshot([], [], [], [], 0, 5)


@pytest.mark.parametrize("looked", [False, True])
def test_columns_of_different_lengths_are_refused(looked: bool) -> None:
    book = OrderBook(SNAPSHOT)
    assert not looked or book.best_bid
    with pytest.raises(ValueError, match="2 prices and 1 sizes"):
        book.apply(BookDelta((11.5, 8.0), (1.0,)))
    assert book == OrderBook(SNAPSHOT)


@pytest.mark.parametrize("looked", [False, True])
def test_more_levels_at_once_than_are_moved_one_by_one(looked: bool) -> None:
    prices = [float(price) for price in range(1, 3001)]
    book = OrderBook(BookSnapshot(prices[:2000], [1.0] * 2000, [], []))
    if looked:
        book.bids(5)
    book.apply(BookDelta(prices[1000:], [0.0] * 500 + [2.0] * 1500, prices[1000:], [3.0] * 2000))
    check(
        book,
        dict.fromkeys(prices[:1000], 1.0) | dict.fromkeys(prices[1500:], 2.0),
        dict.fromkeys(prices[1000:], 3.0),
    )


def test_numbers_of_other_types_are_numbers() -> None:
    book = OrderBook(BookSnapshot([10, 9], [1, 2], [11], [3]))  # as JSON has them
    book.apply(BookDelta([9, True], [0, 4], [12.5], [5]))
    check(book, {10.0: 1.0, 1.0: 4.0}, {11.0: 3.0, 12.5: 5.0})
    with pytest.raises(TypeError):
        book.apply(BookDelta(["9"], [1.0], [], []))  # type: ignore[list-item]
    check(book, {10.0: 1.0, 1.0: 4.0}, {11.0: 3.0, 12.5: 5.0})


def test_of_a_price_that_a_snapshot_has_twice_the_last_counts() -> None:
    book = OrderBook(BookSnapshot((1.0, 1.0, 2.0, 2.0), (5.0, 0.0, 5.0, 6.0), (), (), 1))
    check(book, {2.0: 6.0}, {})


@pytest.mark.parametrize("count", [2, 2000])
def test_columns_may_be_arrays(count: int) -> None:
    prices = np.arange(1.0, count + 1)
    book = OrderBook(BookSnapshot(prices, np.ones(count), prices[:0], prices[:0]))  # type: ignore[arg-type]
    book.apply(BookDelta(prices[:1], np.zeros(1), prices + count, np.ones(count)))  # type: ignore[arg-type]
    check(book, dict.fromkeys(map(float, prices[1:]), 1.0), dict.fromkeys(map(float, prices + count), 1.0))


def test_columns_that_have_no_length_are_refused() -> None:
    with pytest.raises(TypeError):
        OrderBook().apply(BookDelta(iter([1.0]), iter([1.0])))  # type: ignore[arg-type]


def test_books_are_equal_by_their_levels() -> None:
    one, other = OrderBook(SNAPSHOT), OrderBook(SNAPSHOT)
    other.apply(BookDelta((9.5,), (1.0,), venue_sequence=99))
    assert one != other
    other.apply(BookDelta((9.5,), (0.0,), venue_sequence=100))
    assert one == other
    assert one != "a book"
    assert "3 bids to 10.0, 2 asks from 11.0" in repr(one)
