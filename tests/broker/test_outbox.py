"""The outbox: order, joining, limits; the same bytes however they are taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raven.broker import Outbox, OutboxLimits
from raven.broker.outbox import MESSAGE_BYTES_MAX


def test_events_are_joined_up_to_the_next_control() -> None:
    outbox = Outbox(OutboxLimits())
    for element in (b"a", b"b"):
        outbox.put(element)
    outbox.put_control(b"CONTROL")
    outbox.put(b"c")
    assert [outbox.take(b"!") for _ in range(4)] == [b"ab!", b"CONTROL!", b"c!", None]
    assert outbox.empty
    assert (len(outbox), outbox.bytes_queued, outbox.sent.events) == (0, 0, 3)


def test_what_comes_after_a_take_goes_into_the_next_message() -> None:
    outbox = Outbox(OutboxLimits())
    outbox.put(b"a")
    assert outbox.take(b"") == b"a"
    outbox.put(b"b")
    assert outbox.take(b"") == b"b"


def test_a_message_is_at_most_a_mebibyte_unless_one_event_is_longer() -> None:
    outbox = Outbox(OutboxLimits())
    sizes = [MESSAGE_BYTES_MAX // 2, MESSAGE_BYTES_MAX // 2, 10, MESSAGE_BYTES_MAX + 5, 10]
    for size in sizes:
        outbox.put(b"x" * size)
    assert [len(outbox.take(b"") or b"") for _ in range(4)] == [MESSAGE_BYTES_MAX, 10, MESSAGE_BYTES_MAX + 5, 10]


def test_each_limit_is_named() -> None:
    outbox = Outbox(OutboxLimits(events_max=2, bytes_max=10, control_bytes_max=5))
    assert outbox.overfull() == ""
    for _ in range(3):
        outbox.put(b"x")
    assert outbox.overfull() == "3 events wait, the limit is 2"
    outbox.clear()
    outbox.put(b"x" * 11)
    assert outbox.overfull() == "11 bytes of events wait, the limit is 10"
    outbox.clear()
    outbox.put_control(b"123456")
    assert outbox.overfull() == "6 bytes of control messages wait, the limit is 5"


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=5), st.just(None), st.just("take")), max_size=60))
def test_nothing_is_lost_or_turned_round(steps: list[bytes | str | None]) -> None:
    outbox = Outbox(OutboxLimits())
    put, taken = [], []
    for step in steps:
        if step == "take":
            taken.append(outbox.take(b"") or b"")
        elif step is None:
            outbox.put_control(b"C")
            put.append(b"C")
        else:
            assert isinstance(step, bytes)
            outbox.put(step)
            put.append(step)
    while not outbox.empty:
        taken.append(outbox.take(b"") or b"")
    assert b"".join(taken) == b"".join(put)
    assert (len(outbox), outbox.bytes_queued) == (0, 0)
