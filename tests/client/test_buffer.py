"""What gives when a program does not take its events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.client.buffer import Buffer, check_on_slow
from raven.client.errors import BufferOverflow
from raven.client.events import GapEvent, StatusEvent, StreamEvent, make_event
from raven.errors import InvalidValue
from raven.model.events import Candle, Quote, State, TopicStatus
from raven.model.topic import Kind, Topic
from tests.client.history import faults

A, B = (Topic("sim", name, Kind.QUOTE) for name in "AB")


def quotes(topic: Topic, first: int, last: int) -> list[StreamEvent]:
    return [make_event(topic, 7, number, Quote(float(number))) for number in range(first, last + 1)]


def drained(buffer: Buffer) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    while (batch := buffer.take()) is not None:
        events += batch.events
    return events


def summary(events: list[StreamEvent]) -> list[Any]:
    return [
        (event.topic.symbol, event.payload.first_sequence, event.payload.last_sequence)
        if isinstance(event, GapEvent)
        else (event.topic.symbol, event.first_sequence, event.sequence)
        for event in events
    ]


def test_waiting_takes_everything_and_says_when_it_is_full() -> None:
    buffer = Buffer(3, "wait")
    buffer.put(quotes(A, 1, 2))
    assert not buffer.full
    buffer.put(quotes(A, 3, 5), b"mark")
    assert buffer.full
    batches = [buffer.take(), buffer.take(), buffer.take()]
    assert [batch.bookmark if batch else "none" for batch in batches] == [None, b"mark", "none"]
    assert not buffer.full


def test_an_error_for_those_who_want_one() -> None:
    buffer = Buffer(3, "error")
    buffer.put(quotes(A, 1, 3))
    with pytest.raises(BufferOverflow, match="4 events wait, and the buffer holds 3"):
        buffer.put(quotes(A, 4, 4))


def test_the_oldest_go_and_a_gap_in_front_says_which() -> None:
    buffer = Buffer(3, "drop_oldest")
    buffer.put(quotes(A, 1, 2), b"1")
    buffer.put(quotes(B, 1, 2), b"2")
    buffer.put(quotes(A, 3, 4))
    assert len(buffer) == 3
    assert buffer.dropped == 3
    first = buffer.take()
    assert first is not None
    assert summary(list(first.events)) == [("A", 1, 2), ("B", 1, 1), ("B", 0, 2)]
    assert first.bookmark == b"2"
    assert summary(drained(buffer)) == [("A", 0, 3), ("A", 0, 4)]


def test_the_newest_status_of_what_was_dropped_is_kept() -> None:
    buffer = Buffer(1, "drop_oldest")
    buffer.put([make_event(A, 7, 1, TopicStatus(State.DOWN)), make_event(A, 7, 2, TopicStatus(State.LIVE)), *quotes(A, 3, 4)])
    events = drained(buffer)
    assert [type(event) is StatusEvent and event.payload.state for event in events] == [False, State.LIVE, False]


def test_the_newest_of_each_topic_stands_for_those_before_it() -> None:
    buffer = Buffer(4, "conflate")
    buffer.put([*quotes(A, 1, 2), *quotes(B, 1, 2), *quotes(A, 3, 3)])
    assert summary(drained(buffer)) == [("B", 1, 2), ("A", 1, 3)]


def test_closed_candles_are_not_conflated_away() -> None:
    topic = Topic("sim", "A", Kind.CANDLE, "1m")
    buffer = Buffer(3, "conflate")
    buffer.put([make_event(topic, 7, number, Candle(closed=number == 3)) for number in (1, 2, 3, 4, 5)])
    assert summary(drained(buffer)) == [("A", 1, 2), ("A", 0, 3), ("A", 4, 5)]


def test_more_topics_than_room_is_told_as_a_gap() -> None:
    buffer = Buffer(1, "conflate")
    buffer.put([*quotes(A, 1, 1), *quotes(B, 1, 1)])
    assert summary(drained(buffer)) == [("A", 1, 1), ("B", 0, 1)]


def test_a_bookmark_without_events_is_handed_on() -> None:
    buffer = Buffer(3)
    buffer.put([], b"1")
    batch = buffer.take()
    assert batch is not None
    assert (list(batch.events), batch.bookmark) == ([], b"1")
    buffer.put(quotes(A, 1, 1))
    buffer.put([], b"2")
    batch = buffer.take()
    assert batch is not None
    assert batch.bookmark == b"2"


@given(
    limit=st.integers(1, 8),
    on_slow=st.sampled_from(["wait", "drop_oldest", "conflate"]),
    steps=st.lists(st.tuples(st.sampled_from([A, B]), st.integers(1, 6), st.booleans()), max_size=20),
)
def test_whatever_gives_the_record_stays_honest_and_the_buffer_bounded(
    limit: int, on_slow: str, steps: list[tuple[Topic, int, bool]]
) -> None:
    buffer = Buffer(limit, on_slow)
    last = {A: 0, B: 0}
    record: list[StreamEvent] = []
    for topic, count, take in steps:
        buffer.put(quotes(topic, last[topic] + 1, last[topic] + count))
        last[topic] += count
        if on_slow != "wait":
            assert len(buffer) <= limit
        if take and (batch := buffer.take()) is not None:
            record += batch.events
    record += drained(buffer)
    assert faults(record) == []
    for topic, sequence in last.items():
        if sequence:
            last_told = [event for event in record if event.topic == topic][-1]
            assert (last_told.gap.last_sequence if last_told.gap else last_told.sequence) == sequence


@pytest.mark.parametrize(
    ("choice", "kinds", "error"),
    [
        ("block", [], "on_slow: 'block' is not valid: valid are wait, error, drop_oldest, conflate"),
        ("conflate", [Kind.TRADE], "on_slow: 'conflate' is not valid: anything else for trade: every one counts"),
        ("conflate", [Kind.BOOK], "on_slow: 'conflate' is not valid: anything else for book"),
    ],
)
def test_choices_that_cannot_be(choice: str, kinds: list[Kind], error: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_on_slow(choice, kinds)
    assert str(caught.value).startswith(error)


def test_choices_that_can() -> None:
    assert check_on_slow("conflate", [Kind.QUOTE, Kind.TICKER]) == "conflate"
    assert check_on_slow("drop_oldest", Kind) == "drop_oldest"
