from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raven.adapter import Kind, Topic
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot
from raven_sim.listing import parse_listing
from raven_sim.tables import BOOK_DEPTH

symbols = st.sampled_from(["BTC-USDT", "ETH-BTC", "DOGE-USDT", "XYZ-ABC", "BTC-JPY", "SOL-USDT-PERP"])


def topic(symbol: str) -> Topic:
    return Topic("sim", symbol, Kind.BOOK)


def check_delta(book: OrderBook, delta: BookDelta) -> None:
    """Every level once; what goes was there, what is set has a size; the sequence goes up by one."""
    for prices, sizes, held in (
        (delta.bid_price, delta.bid_size, dict(book.bids())),
        (delta.ask_price, delta.ask_size, dict(book.asks())),
    ):
        assert len(set(prices)) == len(prices) == len(sizes) > 0
        assert all(price in held for price, size in zip(prices, sizes, strict=True) if size == 0)
        assert all(size >= 0 for size in sizes)
    assert delta.venue_sequence == book.venue_sequence + 1


@given(seed=st.integers(), symbol=symbols, count=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_book_stays_whole(drive: Callable[..., Any], seed: int, symbol: str, count: int) -> None:
    snapshot, *deltas = drive([topic(symbol)], seed=seed, burst=count).wake().payloads()
    assert isinstance(snapshot, BookSnapshot)
    assert len(deltas) == count
    assert snapshot.depth_limit == BOOK_DEPTH
    book = OrderBook(snapshot)
    for delta in deltas:
        check_delta(book, delta)
        book.apply(delta)
        assert not book.crossed
        assert len(book.bids()) == len(book.asks()) == BOOK_DEPTH


def test_snapshot_is_ordered_best_first(drive: Callable[..., Any]) -> None:
    (snapshot,) = drive([topic("BTC-USDT")]).payloads()
    assert snapshot.bid_price == sorted(snapshot.bid_price, reverse=True)
    assert snapshot.ask_price == sorted(snapshot.ask_price)
    assert snapshot.bid_price[0] < snapshot.ask_price[0]


def test_book_moves_along_the_whole_walk(drive: Callable[..., Any]) -> None:
    """Once around the tables and beyond, so that no place of the walk breaks the book."""
    snapshot, *deltas = drive([topic("BTC-USDT")], burst=10_000, rate=1000).wake(4).payloads()
    book, bests = OrderBook(snapshot), set()
    for delta in deltas:
        book.apply(delta)
        bests.add(book.best_bid)
        assert not book.crossed
        assert len(book) == 2 * BOOK_DEPTH
    assert len(bests) > 200


def test_prices_are_whole_increments(drive: Callable[..., Any]) -> None:
    increment = Decimal(parse_listing("ETH-BTC").price.text)
    for delta in drive([topic("ETH-BTC")], burst=200).wake().payloads()[1:]:
        for price in (*delta.bid_price, *delta.ask_price):
            assert Decimal(repr(price)) % increment == 0


def test_book_and_quote_stand_together(drive: Callable[..., Any]) -> None:
    quotes = Topic("sim", "BTC-USDT", Kind.QUOTE)
    run = drive([quotes, topic("BTC-USDT")], burst=2).wake(100)
    snapshot, *deltas = run.payloads(topic("BTC-USDT"))
    book = OrderBook(snapshot)
    for quote, delta in zip(run.payloads(quotes), deltas, strict=True):
        assert (quote.bid_price, quote.ask_price) == (book.best_bid, book.best_ask)
        book.apply(delta)
