"""The parts of a feed that neither wait nor talk."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.adapter.outputs import Count, Fetch, Send, Wakeup
from raven.errors import AdapterFault
from raven.feed.backoff import draw_pause_s
from raven.feed.commands import check_command
from raven.feed.sampling import SAMPLE_WINDOW_S, SampleLog, format_sample
from raven.feed.statistics import ConnectionCounters, FeedState


class Highest(Random):
    """Draws the end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_ceiling_is_as_long_as_the_outage_up_to_the_cap() -> None:
    outages = (0.0, 0.25, 0.75, 1.75, 2.74, 2.75, 1e9)
    assert [draw_pause_s(outage_s, 0.25, 3.0, Highest()) for outage_s in outages] == [0.25, 0.5, 1.0, 2.0, 2.99, 3.0, 3.0]


def test_a_base_over_the_cap_is_the_cap() -> None:
    assert draw_pause_s(0.0, 5.0, 2.0, Highest()) == 2.0


def test_without_jitter_pauses_double() -> None:
    outage_s, pauses = 0.0, []
    for _ in range(6):
        pauses.append(draw_pause_s(outage_s, 1.0, 16.0, Highest()))
        outage_s += pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0]


@given(st.integers(), st.floats(0, 100), st.floats(0.001, 10), st.floats(0.001, 100))
def test_the_pause_is_drawn_from_the_whole_range(seed: int, outage_s: float, base_s: float, cap_s: float) -> None:
    pauses = [draw_pause_s(outage_s, base_s, cap_s, random) for random in [Random(seed)] for _ in range(40)]
    ceiling = draw_pause_s(outage_s, base_s, cap_s, Highest())
    assert 0 <= min(pauses) < ceiling / 2 < max(pauses) <= ceiling  # forty on one side: once in 10^12


@given(st.integers(0, 2**32))
def test_a_short_outage_is_never_followed_by_a_long_pause(seed: int) -> None:
    """However the draws fall: who was away for 2 s is waited for at most so long again."""
    random, outage_s = Random(seed), 0.0
    while outage_s < 2.0:
        outage_s += draw_pause_s(outage_s, 0.25, 30.0, random)
    assert outage_s <= 2 * 2.0 + 0.25


def test_samples_are_so_many_a_minute_and_the_next_line_tells_what_was_left_out() -> None:
    samples = SampleLog(2)
    assert [samples.take(now) for now in (0, 1, 2, 3)] == [0, 0, None, None]
    assert samples.take(SAMPLE_WINDOW_S) == 2
    assert samples.take(SAMPLE_WINDOW_S + 0.5) is None
    assert samples.take(SAMPLE_WINDOW_S + 1) == 1


def test_no_samples_at_all() -> None:
    samples = SampleLog(0)
    assert samples.take(0) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"a":1}', '{"a":1}'),
        (b"a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        (b"\xff\xfe", "\\\\xff\\\\xfe"),
        ("\u202eabc".encode(), "\\u202eabc"),
        (b"x" * 20, "xxxxxxxxxxxx... (20 bytes)"),
        (b"\n" * 10, "\\n\\n\\n\\n\\n\\n... (10 bytes)"),
        (b"", ""),
    ],
)
def test_a_sample_is_short_and_printable(data: bytes, text: str) -> None:
    assert format_sample(data, 12) == text


@given(st.binary(max_size=100), st.integers(0, 50))
def test_a_sample_of_anything_is_one_line_of_ascii(data: bytes, chars_max: int) -> None:
    text = format_sample(data, chars_max)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= chars_max + len("... (100 bytes)")


@pytest.mark.parametrize(
    "command", [Send("x"), Send(b"x"), Wakeup(0), Count("x"), Count("x", 5), Fetch("http://a/", "x", headers={"a": "b"})]
)
def test_commands_pass(command: object) -> None:
    assert check_command(command) is command


@pytest.mark.parametrize(
    "slip",
    [
        None,
        "text",
        Send(5),  # type: ignore[arg-type]
        Send("\ud800"),
        Wakeup(1.5),  # type: ignore[arg-type]
        Count("x", None),  # type: ignore[arg-type]
        Fetch(None, "x"),  # type: ignore[arg-type]
        Fetch("http://a/", "x", headers={"a": 1}),  # type: ignore[dict-item]
        Fetch("http://a/", "x", body="text"),  # type: ignore[arg-type]
    ],
)
def test_slips_are_the_adapters(slip: object) -> None:
    with pytest.raises(AdapterFault):
        check_command(slip)


def test_counters_know_for_how_long_there_was_data() -> None:
    counters = ConnectionCounters()
    assert counters.data_s == 0
    counters.mark_data(5.0)
    counters.mark_data(17.5)
    assert counters.data_s == 12.5
    counters.forget_data()
    assert counters.data_s == 0
    counters.begin(99)
    assert counters.view("main", FeedState.LIVE, "").connected_since_ts_ns == 99


def test_a_view_does_not_change() -> None:
    counters = ConnectionCounters()
    counters.counts["skipped"] += 1
    view = counters.view("main", FeedState.LIVE, "")
    counters.counts["skipped"] += 1
    counters.frames += 1
    assert (view.frames, view.counts) == (0, {"skipped": 1})
