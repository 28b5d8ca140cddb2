"""raven.store.query over a store in memory: order, range, limit, gaps, and continuing from every message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raven.client.decode import Decoder
from raven.client.events import GapEvent, StreamEvent
from raven.errors import InvalidValue, StoreError
from raven.model.events import BookDelta, BookSnapshot, Flag, Gap, GapCause, State, StatusCause, TopicStatus, Trade
from raven.model.topic import Kind, Selector, Topic
from raven.store import query as query_module
from raven.store import windows as windows_module
from raven.store.blocks import Block, HistoryStore, TimeRange
from raven.store.elements import split, stamps
from raven.store.query import Chunk, HistoryQuery, open_reading
from tests.store.memory_history import BOOK, BTC, DAY_NS, ETH, MemoryHistory, events, image, trades

ALL = (Selector("*", "*", frozenset(Kind), "*"),)
TOPICS = (BTC, ETH, Topic("other", "BTC-USDT", Kind.TRADE))


def asked(start_ns: int = 0, end_ns: int = 10**6, **options: Any) -> HistoryQuery:
    return HistoryQuery(ALL, start_ns, end_ns, **options)


def read(store: HistoryStore, query: HistoryQuery, token: str = "") -> tuple[list[Chunk], bool, str]:
    """All chunks, whether it is complete, and the last token."""
    reading = open_reading(store, query, token)
    chunks: list[Chunk] = []
    for _ in range(10_000):
        chunks += reading.step()
        if reading.done:
            return chunks, reading.complete, reading.page_token
    raise AssertionError("it does not end")


def elements(chunks: Sequence[Chunk]) -> list[bytes]:
    return [element for chunk in chunks for element in split(chunk.elements)]


def decoded(store: HistoryStore, query: HistoryQuery) -> list[StreamEvent]:
    return Decoder().decode(b"".join(chunk.elements for chunk in read(store, query)[0])).events


def places(found: Sequence[StreamEvent]) -> list[tuple[str, int, int]]:
    return [(event.topic.symbol[:3], event.epoch, event.sequence) for event in found if not isinstance(event, GapEvent)]


def in_order(store: MemoryHistory, query: HistoryQuery) -> list[bytes]:
    """What is to come, made the simple way."""
    keyed = []
    for topic, blocks in store.kept.items():
        for block in blocks:
            for element in split(block.elements):
                sequence, received, venue = stamps(element)
                ts = venue if query.venue_clock else received
                if query.start_ns <= ts < query.end_ns:
                    keyed.append((ts, topic, block.epoch, sequence, element))
    return [entry[-1] for entry in sorted(keyed)]


# ---- by chance


@st.composite
def stores(draw: st.DrawFn) -> MemoryHistory:
    """Few topics, times that collide, go back and overlap, missing sequences, new epochs."""
    store = MemoryHistory()
    for topic in draw(st.lists(st.sampled_from(TOPICS), unique=True)):
        epoch, sequence, clock = 1, draw(st.integers(1, 3)), draw(st.integers(1, 50))
        for _ in range(draw(st.integers(0, 6))):
            times: list[tuple[int, int | None]] = []
            for _ in range(draw(st.integers(1, 5))):
                clock = max(1, clock + draw(st.sampled_from([0, 0, 1, 1, 2, 7, -1, 30])))
                times.append((clock, draw(st.sampled_from([None, clock, max(0, clock - 3), clock + 2]))))
            store.write([trades(topic, epoch, sequence, times, draw(st.sampled_from(["7", "77"])))])
            sequence += len(times) + draw(st.sampled_from([0, 0, 0, 2]))
            if draw(st.integers(0, 9)) == 0:
                epoch, sequence = epoch + 1, 1
    store.lost = draw(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 120)).map(sorted).map(tuple), max_size=2))  # type: ignore[arg-type]
    return store


queries = st.builds(
    lambda start, width, venue, images: asked(start, start + width, venue_clock=venue, include_image=images),
    st.integers(0, 60),
    st.integers(0, 150),
    st.booleans(),
    st.booleans(),
)


@pytest.fixture(params=[1, 300, 10**7], ids=["one block a window", "a few", "all"])
def narrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and messages so small that little data makes many of them."""
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", request.param)
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MIN", request.param)
    monkeypatch.setattr(query_module, "CHUNK_BYTES_MAX", 150)
    monkeypatch.setattr(windows_module, "TOPIC_BYTES", 0)


by_chance = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.usefixtures("narrow")
@by_chance
@given(stores(), queries)
def test_every_event_of_the_range_comes_once_in_order(store: MemoryHistory, query: HistoryQuery) -> None:
    found = elements(read(store, query)[0])
    local = Flag.LOCAL | Flag.IMAGE
    flags = [event.flags for event in Decoder().decode(b"".join(found)).events]
    assert [element for element, flag in zip(found, flags, strict=True) if not flag & local] == in_order(store, query)


@pytest.mark.usefixtures("narrow")
@by_chance
@given(stores(), queries)
def test_continuing_from_any_message_gives_exactly_the_rest(store: MemoryHistory, query: HistoryQuery) -> None:
    chunks, complete, last = read(store, query)
    for index, chunk in enumerate(chunks):
        rest, rest_complete, _ = read(store, query, chunk.page_token)
        assert elements(rest) == elements(chunks[index + 1 :])
        assert rest_complete == complete
    assert read(store, query, last)[0] == []


@pytest.mark.usefixtures("narrow")
@by_chance
@given(stores(), queries, st.integers(1, 7))
def test_pages_of_a_limit_are_the_whole(store: MemoryHistory, query: HistoryQuery, limit: int) -> None:
    whole = elements(read(store, query)[0])
    pages: list[bytes] = []
    token = ""
    while True:
        chunks, _, token = read(store, attrs.evolve(query, limit=limit), token)
        pages += elements(chunks)
        count = sum(chunk.count for chunk in chunks)
        assert count <= limit
        if count < limit:
            break
    assert pages == whole


@by_chance
@given(stores(), queries, st.integers(1, 20))
def test_slices_hold_what_is_near_in_time(store: MemoryHistory, query: HistoryQuery, slice_ns: int) -> None:
    chunks, *_ = read(store, attrs.evolve(query, slice_ns=slice_ns))
    assert elements(chunks) == elements(read(store, query)[0])
    for chunk in chunks:
        if chunk.count:
            news = [event for event in Decoder().decode(chunk.elements).events if not event.flags & Flag.LOCAL]
            times = [(query.venue_clock and event.venue_ts_ns) or event.received_ts_ns for event in news]
            assert times[-1] - times[0] < slice_ns
            assert times[0] >= (chunk.first_ts_ns or 0)


# ---- where nothing is left to chance


def test_a_long_block_is_cut_and_a_message_has_its_size() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(n, n) for n in range(20_000)])])
    store.write([trades(BTC, 1, 20_001, [(20_000 + n, n) for n in range(500)])])
    chunks, complete, _ = read(store, asked())
    assert elements(chunks) == in_order(store, asked())
    assert complete
    assert all(len(chunk.elements) <= query_module.CHUNK_BYTES_MAX for chunk in chunks)
    assert sum(len(chunk.elements) > query_module.CHUNK_BYTES_MAX // 2 for chunk in chunks) >= len(chunks) - 1


def test_ten_years_of_nothing_cost_nothing() -> None:
    store = MemoryHistory()
    last = 3_650 * DAY_NS
    store.write([trades(BTC, 1, 1, [(5, 5)]), trades(BTC, 1, 2, [(last - 5, 5)])])
    chunks, complete, _ = read(store, asked(0, last))
    assert (sum(chunk.count for chunk in chunks), complete) == (2, True)
    assert store.blocks_read < 20


def test_missing_sequences_are_told_in_front_of_what_follows() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(10, 10), (11, 11)]), trades(BTC, 1, 6, [(20, 20)])])
    store.write([trades(ETH, 1, 1, [(15, 15)])])
    found = decoded(store, asked())
    assert [event.topic.symbol[:3] for event in found] == ["BTC", "BTC", "ETH", "BTC", "BTC"]
    gap = found[3]
    assert gap.payload == Gap(GapCause.STORE, 1, 3, 5, 3)
    assert (gap.epoch, gap.sequence, gap.flags, gap.received_ts_ns) == (1, 2, Flag.LOCAL, 20)
    assert not read(store, asked())[1]


def test_what_is_missing_at_the_edges_of_a_range() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(10, 10)]), trades(BTC, 1, 5, [(20, 20)]), trades(BTC, 1, 9, [(30, 30)])])
    found = decoded(store, asked(15, 25))
    assert [event.payload for event in found if event.flags] == [
        Gap(GapCause.STORE, 1, 2, 4, 3),
        Gap(GapCause.STORE, 1, 6, 8, 3),
    ]
    assert [event.sequence for event in found] == [1, 5, 5]
    assert not read(store, asked(15, 25))[1]


def test_what_was_before_the_first_that_is_kept_is_told() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 5, [(20, 20)])])
    assert next(iter(decoded(store, asked()))).payload == Gap(GapCause.STORE, 1, 1, 4, 4)


@pytest.mark.parametrize("quiet_ns", [1, 10**9, 3600 * 10**9, 300 * DAY_NS])
def test_a_range_that_begins_after_a_quiet_time_has_no_gap(quiet_ns: int) -> None:
    store = MemoryHistory()
    start = 400 * DAY_NS
    store.write([trades(BTC, 1, 1, [(start - quiet_ns, 1)]), trades(BTC, 1, 2, [(start, 1)])])
    chunks, complete, _ = read(store, asked(start, start + 10))
    assert (len(elements(chunks)), complete) == (1, True)


def test_a_clock_that_was_set_back_is_no_gap() -> None:
    store = MemoryHistory()
    base = 400 * DAY_NS
    store.write([trades(BTC, 1, 1, [(base + 10**10, 1)]), trades(BTC, 1, 2, [(base, 1)])])
    assert places(decoded(store, asked(base, base + 10**11))) == [("BTC", 1, 2), ("BTC", 1, 1)]
    assert read(store, asked(base, base + 10**11))[1]


def test_a_new_epoch_is_no_gap() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(10, 10)]), trades(BTC, 2, 1, [(20, 20)])])
    assert places(decoded(store, asked())) == [("BTC", 1, 1), ("BTC", 2, 1)]
    assert read(store, asked())[1]


def test_a_time_that_cannot_be_read_is_a_gap_of_each_topic() -> None:
    store = MemoryHistory(lost=[(15, 18)])
    store.write([trades(BTC, 1, 1, [(10, 10), (15, 15)]), trades(ETH, 1, 1, [(20, 20)])])
    found = decoded(store, asked())
    assert [(event.topic.symbol[:3], isinstance(event, GapEvent)) for event in found] == [
        ("BTC", False), ("BTC", True), ("ETH", True), ("BTC", False), ("ETH", False)]  # fmt: skip
    assert found[1].payload == Gap(GapCause.STORE, 0, 0, 0, 0)
    assert found[1].received_ts_ns == 15
    assert not read(store, asked())[1]
    assert read(store, asked(18, 25))[1]


class Failing(MemoryHistory):
    """Finds, when it reads a part of its times, that it cannot; and says so from then on."""

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        for block in super().blocks(topic, within):
            if not self.lost and within.start_ns == block.first_ts_ns == 20:
                self.lost.append((0, 30))
                raise StoreError("damaged")
            if not self.lost or block.first_ts_ns >= 30:
                yield block


def test_a_time_that_turns_out_to_be_unreadable_is_told_where_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", 1)
    monkeypatch.setattr(windows_module, "TOPIC_BYTES", 0)
    store = Failing()
    store.write([trades(BTC, 1, 1, [(10, 10)]), trades(BTC, 1, 2, [(20, 20)]), trades(BTC, 2, 1, [(30, 30)])])
    query = asked(0, 10**6)
    reading = open_reading(store, query)
    first = []
    while not first:
        first = reading.step()
    second, complete, _ = read(store, query, first[0].page_token)
    found = Decoder().decode(b"".join(chunk.elements for chunk in [*first, *second])).events
    assert [(event.epoch, event.sequence, isinstance(event, GapEvent)) for event in found] == [
        (1, 1, False), (0, 0, True), (2, 1, False)]  # fmt: skip
    assert not complete
    assert elements(read(store, query, second[0].page_token)[0]) == elements(second[1:])


def test_a_store_that_does_not_answer_is_an_error() -> None:
    class Away(MemoryHistory):
        def topics(self, within: TimeRange) -> list[Topic]:
            raise StoreError("away")

    with pytest.raises(StoreError, match="away"):
        read(Away(), asked())


def test_a_damaged_block_is_an_error() -> None:
    store = MemoryHistory()
    block = trades(BTC, 1, 1, [(10, 10), (11, 11)])
    store.write([attrs.evolve(block, elements=block.elements[:-3])])
    with pytest.raises(StoreError, match="history of sim/BTC-USDT/trade is damaged at 1/1"):
        read(store, asked())


def test_only_what_was_asked_for() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(10, 10)]), trades(ETH, 1, 1, [(20, 20)])])
    query = HistoryQuery((Selector("sim", "E*", frozenset({Kind.TRADE})),), 0, 100)
    assert places(decoded(store, query)) == [("ETH", 1, 1)]
    assert decoded(store, HistoryQuery((Selector("sim", "*", frozenset({Kind.BOOK})),), 0, 100)) == []


def test_an_end_that_was_now_stays() -> None:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(10, 10)])])
    query = asked(0, 0)
    reading = open_reading(store, query, "", now_ns=20)
    token = reading.page_token
    store.write([trades(BTC, 1, 2, [(19, 19), (20, 20)])])
    again = open_reading(store, query, token, now_ns=1_000)
    chunks = []
    while not again.done:
        chunks += again.step()
    assert sum(chunk.count for chunk in chunks) == 2


def test_one_nanosecond_that_holds_more_than_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "WINDOW_BYTES_MAX", 500)
    monkeypatch.setattr(windows_module, "TOPIC_BYTES", 0)
    store = MemoryHistory()
    for topic in TOPICS:
        store.write([trades(topic, 1, 1 + 10 * number, [(77, 77)] * 10) for number in range(20)])
    store.write([trades(BTC, 1, 201, [(77, 77)] * 30 + [(78, 78)])])
    chunks, complete, _ = read(store, asked())
    assert elements(chunks) == in_order(store, asked())
    assert complete


# ---- tokens


def _token() -> str:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(10, 10)])])
    return read(store, asked())[2]


@pytest.mark.parametrize(
    "other",
    [
        asked(1),
        asked(0, 10**6 + 1),
        asked(include_image=True),
        asked(venue_clock=True),
        HistoryQuery((Selector("sim", "*", frozenset(Kind), "*"),), 0, 10**6),
    ],
)
def test_a_token_of_another_query_is_refused(other: HistoryQuery) -> None:
    with pytest.raises(InvalidValue, match=r"^page_token: .* other selectors, range, clock or include_image"):
        open_reading(MemoryHistory(), other, _token())


def test_a_token_goes_with_another_limit_and_pace() -> None:
    assert not open_reading(MemoryHistory(), asked(limit=7, slice_ns=3), _token()).done


@pytest.mark.parametrize("position", range(0, 55, 7))
def test_a_damaged_token_is_refused(position: int) -> None:
    token = _token()
    wrong = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
    for text in (wrong, token[:-4], "x", "%", "\N{SNOWMAN}", "A" * 5_000):
        with pytest.raises(InvalidValue, match=r"^page_token: "):
            open_reading(MemoryHistory(), asked(), text)


# ---- images


SNAPSHOT = BookSnapshot((100.0, 99.0), (1.0, 2.0), (101.0,), (3.0,), 7)


def _book_events(found: Sequence[StreamEvent]) -> list[tuple[int, int, object]]:
    return [(event.sequence, event.flags, event.payload) for event in found]


def test_the_book_at_the_start_comes_first() -> None:
    store = MemoryHistory()
    status = TopicStatus(State.LIVE, StatusCause.STARTING, "", 5)
    first: Block = events(BOOK, 1, 1, [(10, SNAPSHOT), (20, BookDelta((100.0,), (0.0,), (), (), 8)), (25, status)])
    store.write([first, events(BOOK, 1, 4, [(30, BookDelta((), (), (102.0,), (4.0,), 9))])])
    whole = BookSnapshot([99.0], [2.0], [101.0], [3.0], 8, 0)
    seen = _book_events(decoded(store, asked(30, 40, include_image=True)))
    assert seen[0][:2] == (3, Flag.IMAGE)
    assert _levels(seen[0][2]) == _levels(whole)
    assert [row[0] for row in seen] == [3, 4]


def test_a_book_from_the_stores_image() -> None:
    store = MemoryHistory()
    store.write(
        [events(BOOK, 1, 4, [(30, BookDelta((), (), (102.0,), (4.0,), 9)), (40, BookDelta((), (), (103.0,), (5.0,), 10))])]
    )
    store.write([], [image(BOOK, 1, 3, 25, SNAPSHOT)])
    seen = _book_events(decoded(store, asked(40, 50, include_image=True)))
    assert [row[:2] for row in seen] == [(4, Flag.IMAGE), (5, 0)]
    assert _levels(seen[0][2])[2] == (101.0, 102.0)
    assert read(store, asked(40, 50, include_image=True))[1]


def test_a_book_with_a_part_missing_has_no_image_until_a_snapshot() -> None:
    store = MemoryHistory()
    store.write([events(BOOK, 1, 1, [(10, SNAPSHOT)]), events(BOOK, 1, 3, [(30, BookDelta((1.0,), (1.0,)))])])
    assert [row[1] for row in _book_events(decoded(store, asked(40, 50, include_image=True)))] == []
    store.write([events(BOOK, 1, 4, [(35, SNAPSHOT)])])
    assert [row[:2] for row in _book_events(decoded(store, asked(40, 50, include_image=True)))] == [(4, Flag.IMAGE)]


def _levels(payload: object) -> tuple[tuple[float, ...], ...]:
    assert isinstance(payload, BookSnapshot)
    return tuple(map(tuple, (payload.bid_price, payload.bid_size, payload.ask_price, payload.ask_size)))


def test_the_last_trade_before_the_start_is_its_image() -> None:
    store = MemoryHistory()
    hour = 3600 * 10**9
    status = TopicStatus(State.STALE, StatusCause.VENUE_SILENT, "", 5)
    store.write([trades(BTC, 1, 1, [(5, 5), (hour, hour)]), events(BTC, 1, 3, [(hour * 5, status)])])
    seen = decoded(store, asked(hour * 6, hour * 7, include_image=True))
    assert [(event.sequence, event.flags, type(event.payload)) for event in seen] == [(3, Flag.IMAGE, Trade)]
    assert seen[0].received_ts_ns == hour
    assert decoded(store, asked(0, 5, include_image=True)) == []


def test_images_come_once_and_can_be_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "CHUNK_BYTES_MAX", 1)
    monkeypatch.setattr(query_module, "TOPICS_A_STEP", 2)
    store = MemoryHistory()
    for topic in TOPICS:
        store.write([trades(topic, 1, 1, [(5, 5), (15, 15)])])
    query = asked(10, 20, include_image=True)
    chunks, *_ = read(store, query)
    assert [chunk.count for chunk in chunks] == [0, 0, 0, 3]
    for index, chunk in enumerate(chunks):
        assert elements(read(store, query, chunk.page_token)[0]) == elements(chunks[index + 1 :])
    assert all(before.page_token != after.page_token for before, after in pairwise(chunks))
