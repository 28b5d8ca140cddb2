"""What `ingest` feeds is what a venue could have sent."""

from __future__ import annotations

import json
from itertools import islice

from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot
from tests.bench.parts import workloads


def columns(levels: list[list[str]]) -> tuple[list[float], list[float]]:
    return [float(price) for price, _ in levels], [float(size) for _, size in levels]


def test_the_book_of_the_depth_frames_is_never_crossed_and_comes_back_to_where_it_began() -> None:
    recorded, updates = workloads._book(workloads.find_recording())
    body = workloads._without_leftovers(recorded, updates)
    changes = list(workloads._regrouped(body, updates))
    began = BookSnapshot(*columns(body["bids"]), *columns(body["asks"]))
    book = OrderBook(began)
    for _, bids, asks in islice(changes * 2, 2 * len(changes)):
        book.apply(BookDelta(*columns(bids), *columns(asks)))
        assert not book.crossed
    assert book == OrderBook(began)
    assert all(len(bids) + len(asks) == 20 for _, bids, asks in changes[:-1])


def test_a_workload_says_what_its_book_is_at_the_end() -> None:
    workload = workloads.make_workload("depth", 300, workloads.find_recording())
    bid, ask = workload.best
    assert 0 < bid < ask
    assert workload.levels > 100
    assert json.loads(workload.snapshot)["bids"]
