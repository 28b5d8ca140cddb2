"""Plans of faults on literals: what is sent in place of what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_binance.emulator.faults import (
    Act,
    Answer,
    Delay,
    Drop,
    Duplicate,
    Edit,
    Fault,
    Fin,
    Fragment,
    OldAnswer,
    Plan,
    Refuse,
    Replay,
    Struck,
)
from raven_binance.emulator.frames import Record
from raven_binance.emulator.framing import close_frame, cut_up, fragmented, server_frame, text_frame

A, B = "a@trade", "b@trade"


def records(*names: str) -> list[Record]:
    """ "a1" is the record of stream A with the payload "1"."""
    return [Record(0, {"a": A, "b": B}[name[0]], name[1:]) for name in names]


def sent(plan: Plan, *names: str) -> str:
    """What goes out, with the class of an act in the place of what it strikes."""
    words = []
    for step in plan.steps(records(*names), lambda fault, name: None):
        if isinstance(step, Struck):
            words.append(f"{type(step.act).__name__}({step.record.stream[0]}{step.record.payload})")
        else:
            words += [record.stream[0] + record.payload for record in step]
    return " ".join(words)


@pytest.mark.parametrize(
    ("act", "out"),
    [
        (Drop(), "a1 b1 b2 a3 a4"),
        (Duplicate(), "a1 b1 a2 a2 b2 a3 a4"),
        (Duplicate(2), "a1 b1 a2 a2 a2 b2 a3 a4"),
        (Delay(), "a1 b1 b2 a3 a2 a4"),
        (Delay(2), "a1 b1 b2 a3 a4 a2"),
        (Edit(lambda payload: payload + "!"), "a1 b1 a2! b2 a3 a4"),
        (Fin(), "a1 b1 Fin(a2) b2 a3 a4"),
        (Fragment(), "a1 b1 Fragment(a2) b2 a3 a4"),
    ],
)
def test_the_second_frame_of_a_stream_is_struck(act: Act, out: str) -> None:
    plan = Plan([Fault(act, "a@*", after=1)])
    assert sent(plan, "a1", "b1", "a2", "b2", "a3", "a4") == out


def test_a_plan_counts_on_from_batch_to_batch() -> None:
    plan = Plan([Fault(Drop(), A, after=2), Fault(Delay(), B)])
    assert sent(plan, "a1", "b1", "a2") == "a1 a2"
    assert sent(plan, "a3", "b2", "a4") == "b2 b1 a4"


def test_each_so_manieth_is_struck_without_end() -> None:
    plan = Plan([Fault(Drop(), "*", after=1, every=2, times=0)])
    assert sent(plan, *(f"a{number}" for number in range(7))) == "a0 a2 a4 a6"


def test_the_first_that_strikes_counts_and_the_others_count_on() -> None:
    plan = Plan([Fault(Drop(), A, after=1), Fault(Duplicate(), "*", after=1, times=2)])
    assert sent(plan, "a1", "a2", "a3", "a4") == "a1 a3 a3 a4"


def test_strikes_are_reported_with_the_stream() -> None:
    struck: list[tuple[Fault, str]] = []
    fault = Fault(Drop(), "*", times=2)
    list(Plan([fault]).steps(records("a1", "b1", "a2"), lambda *strike: struck.append(strike)))
    assert struck == [(fault, A), (fault, B)]


def test_each_kind_of_act_has_its_own_names() -> None:
    drop, wait, old = Fault(Drop(), times=0), Fault(Answer(429), "*depth*"), Fault(OldAnswer(), "*depth*", after=1)
    refuse, replay = Fault(Refuse(), A), Fault(Replay(3), B)
    plan = Plan([drop, wait, old, refuse, replay])
    assert plan.on_frame(records("a1")[0]) is drop
    assert [plan.on_rest("/depth"), plan.on_rest("/time"), plan.on_rest("/depth"), plan.on_rest("/depth")] == [
        wait,
        None,
        old,
        None,
    ]
    assert [plan.on_subscribe([B]), plan.on_subscribe([B, A]), plan.on_subscribe([A])] == [None, refuse, None]
    assert plan.replays() == [(B, 3)]


def test_without_faults_frames_are_what_they_were() -> None:
    assert list(Plan().steps(records("a1", "b1"), lambda *_: None)) == [records("a1", "b1")]


@given(st.binary(max_size=300), st.integers(1, 400))
def test_fragments_join_to_the_message(payload: bytes, pieces: int) -> None:
    data, joined, heads = fragmented(payload, pieces), b"", []
    while data:
        head, size, start = data[0], data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        heads.append(head)
        joined += data[start : start + size]
        data = data[start + size :]
    assert joined == payload
    assert [head & 0x80 for head in heads] == [0] * (len(heads) - 1) + [0x80]
    assert [head & 0x0F for head in heads] == [1] + [0] * (len(heads) - 1)


@given(st.binary(max_size=99), st.integers(1, 120))
def test_pieces_join_to_the_data(data: bytes, pieces: int) -> None:
    parts = list(cut_up(data, pieces))
    assert b"".join(parts) == data
    assert len(parts) <= pieces


def test_server_frames() -> None:
    for size in (0, 1, 125, 126, 65_535, 65_536):
        assert server_frame(b"x" * size) == text_frame(b"x" * size)
    assert server_frame(b"ab", 2, fin=False, rsv1=True) == b"\x42\x02ab"
    assert server_frame(b"ab", mask=b"\0\1\2\3") == b"\x81\x82\0\1\2\3ac"
    assert close_frame(None) == b"\x88\0"
    assert close_frame(4321, "x") == b"\x88\x03\x10\xe1x"
