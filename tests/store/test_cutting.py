"""Elements of a topic become blocks: with the right numbers, whatever form the elements have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.codec.encoder import TopicEncoder
from raven.model.events import Event, Gap, GapCause, Payload, State, StatusCause, TopicStatus, Trade
from raven.model.topic import Kind, Topic
from raven.store.blocks import Block
from raven.store.cutting import BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, block_behind, cut
from raven.store.elements import split, stamps

TOPICS = (Topic("sim", "BTC-USDT", Kind.TRADE), Topic("a" * 32, "A" * 64, Kind.CANDLE, "1" * 16))
TIME = st.integers(-(2**63), 2**63 - 1)
PAYLOAD: st.SearchStrategy[Payload] = st.one_of(
    st.builds(Trade, st.just(1.5), st.just(2.0), st.just(1), st.text("0123456789", max_size=120)),
    st.builds(
        lambda size: TopicStatus(State.LIVE, StatusCause.STARTING, "x" * size, 5), st.sampled_from([0, 9, 90, 9000, 70_000])
    ),
    st.just(Gap(GapCause.VENUE, 7)),
)
ITEM = st.tuples(PAYLOAD, TIME, st.none() | TIME, st.sampled_from([1, 1, 1, 1, 1, 2, 50]))


def check(blocks: list[Block], elements: list[bytes]) -> None:
    assert b"".join(block.elements for block in blocks) == b"".join(elements)
    for block in blocks:
        inside = list(split(block.elements))
        read = [stamps(element) for element in inside]
        assert [sequence for sequence, _, _ in read] == list(range(block.first_sequence, block.last_sequence + 1))
        assert (block.first_ts_ns, block.last_ts_ns) == (min(r for _, r, _ in read), max(r for _, r, _ in read))
        assert (block.first_venue_ts_ns, block.last_venue_ts_ns) == (min(v for *_, v in read), max(v for *_, v in read))
        assert len(inside) <= BLOCK_EVENTS_MAX
        assert len(inside) == 1 or len(block.elements) <= BLOCK_BYTES_MAX


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TOPICS), st.lists(ITEM, min_size=1, max_size=30))
def test_blocks_say_what_is_in_them(topic: Topic, items: list[tuple[Payload, int, int | None, int]]) -> None:
    encoder, sequence, elements = TopicEncoder(topic, 7), 0, []
    for payload, received, venue, step in items:
        sequence += step
        elements.append(encoder.encode(Event(topic, payload, received, venue), sequence))
    blocks = list(cut(topic, 7, elements))
    check(blocks, elements)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("count", [1, 2, BLOCK_EVENTS_MAX, BLOCK_EVENTS_MAX + 1, 3 * BLOCK_EVENTS_MAX])
def test_runs_of_trades(topic: Topic, count: int) -> None:
    encoder = TopicEncoder(topic, 7)
    elements = [encoder.encode(Event(topic, Trade(1.0, 2.0, 1, str(10 * n)), 1000 - n, 5 * n - 9), n + 1) for n in range(count)]
    blocks = list(cut(topic, 7, elements))
    check(blocks, elements)
    assert len(blocks) >= -(-count // BLOCK_EVENTS_MAX)


def test_what_comes_behind_a_place() -> None:
    topic = TOPICS[0]
    encoder = TopicEncoder(topic, 7)
    elements = [encoder.encode(Event(topic, Trade(1.0, 2.0, 1, str(n)), 1000 + n, n), n) for n in range(11, 21)]
    [block] = cut(topic, 7, elements)
    assert block_behind(block, 0) is block
    assert block_behind(block, 10) is block
    assert block_behind(block, 20) is None
    rest = block_behind(block, 15)
    assert rest is not None
    assert (rest.first_sequence, rest.last_sequence, rest.first_ts_ns, rest.first_venue_ts_ns) == (16, 20, 1016, 16)
    check([rest], elements[5:])


def test_what_is_no_element_is_refused() -> None:
    with pytest.raises(ValueError, match="element"):
        list(cut(TOPICS[0], 7, [b"\x0a\x20" + bytes(32)]))
