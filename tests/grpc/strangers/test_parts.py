"""Budgets, the cutter of frames, and what is said sparingly: pure."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.grpc.budgets import BUDGETS, REFUND_PER_ANSWER, Budgets, least
from raven.grpc.frames import Frame, FrameCutter
from raven.grpc.limits import Offence
from raven.grpc.sparing import Sparing
from tests.grpc.strangers.stranger import CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PREFACE, SETTINGS, frame


@pytest.mark.parametrize("name", list(BUDGETS))
def test_a_budget_is_spent_and_comes_back(name: str) -> None:
    budget, budgets = BUDGETS[name], Budgets()
    budgets.spend(name, 0.0, budget.burst)
    with pytest.raises(Offence, match=budget.text) as caught:
        budgets.spend(name, 0.0)
    assert (caught.value.reason, caught.value.code) == (f"{name}_flood", ErrorCodes.ENHANCE_YOUR_CALM)
    budgets.spend(name, 2.0, budget.rate_s)  # one too many was taken before
    with pytest.raises(Offence):
        budgets.spend(name, 2.0, budget.rate_s)


def test_a_budget_holds_no_more_than_it_does() -> None:
    budgets = Budgets()
    budgets.spend("ping", 0.0)
    with pytest.raises(Offence):
        budgets.spend("ping", 1e9, BUDGETS["ping"].burst + 1)


def test_answers_make_resets_good() -> None:
    budgets = Budgets()
    budgets.answered()  # nothing to make good
    for _ in range(50):
        budgets.spend("reset", 0.0, REFUND_PER_ANSWER)
        budgets.answered()
    assert budgets.lowest() == {"reset": 0.9}


def test_the_least_of_several_connections() -> None:
    assert least({"ping": 0.5, "reset": 0.9}, {"ping": 0.7, "window": 0.1}) == {"ping": 0.5, "reset": 0.9, "window": 0.1}


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([DATA, SETTINGS, PING, 0x77]), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=300)
    )
)


@settings(max_examples=100, deadline=None)
@given(FRAMES, st.lists(st.integers(1, 400), min_size=1))
def test_frames_come_whole_however_their_bytes_come(frames: list[tuple[int, int, int, bytes]], cuts: list[int]) -> None:
    data = PREFACE + b"".join(frame(*each) for each in frames)
    cutter, found, at = FrameCutter(), [], 0
    while at < len(data):
        size = cuts[at % len(cuts)]
        cutter.add(data[at : at + size])
        at += size
        while (one := cutter.take()) is not None:
            found.append(one)
    assert found == [
        Frame(kind, flags, stream_id, frame(kind, flags, stream_id, body)) for kind, flags, stream_id, body in frames
    ]
    assert [one.size for one in found] == [len(body) for *_, body in frames]


def test_header_blocks_are_seen_from_their_beginning_to_their_end() -> None:
    cutter = FrameCutter()
    cutter.add(PREFACE)
    states = []
    for data in (
        frame(HEADERS, 0, 1, b"a"),
        frame(CONTINUATION, 0, 1),
        frame(CONTINUATION, END_HEADERS, 1),
        frame(HEADERS, END_HEADERS, 3),
    ):
        cutter.add(data)
        assert cutter.take() is not None
        states.append(cutter.in_block)
    assert states == [True, True, False, False]


def test_what_strangers_provoke_is_said_once_in_a_while() -> None:
    now = [100.0]
    sparing = Sparing(60.0, lambda: now[0])
    assert [sparing.due("flood") for _ in range(4)] == [0, None, None, None]
    assert sparing.due("other") == 0
    now[0] += 60
    assert [sparing.due("flood"), sparing.due("flood")] == [3, None]
