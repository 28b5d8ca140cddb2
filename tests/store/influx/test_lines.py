"""The parts of a line: what is written is read back by the specification, and what has no form is refused."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.errors import InvalidValue
from raven.store.influx.lines import float_value, integer_value, line_head, name_text, string_value
from tests.store.influx.parsing import parse_line


@pytest.mark.parametrize(
    ("text", "written"),
    [("BTC-USDT", "BTC-USDT"), ("a b", r"a\ b"), ("a,b=c", r"a\,b\=c"), (r"a\b", r"a\b"), ("'\"", "'\""), ("é", "é")],
)
def test_names(text: str, written: str) -> None:
    assert name_text(text) == written


@pytest.mark.parametrize("text", ["", "a\nb", "a\\", "a\\,b", "a\\ b", "a\\\\b", "\x00", "a\x7f", "a\u2028b"])
def test_names_that_have_no_form_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="symbol: "):
        name_text(text, "symbol")


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_numbers_that_have_no_form_are_refused(value: float) -> None:
    with pytest.raises(InvalidValue, match="a finite number"):
        float_value(value)


def test_integers_that_do_not_fit_are_left_out() -> None:
    assert integer_value(2**63 - 1) == "9223372036854775807i"
    assert integer_value(-(2**63)) == "-9223372036854775808i"
    assert integer_value(2**63) == integer_value(-(2**63) - 1) == ""


def test_tags_are_sorted_and_empty_ones_left_out() -> None:
    assert line_head("trades", {"venue": "sim", "symbol": "A", "variant": ""}) == "trades,symbol=A,venue=sim"


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3), st.text(max_size=12), st.floats(), st.integers())
def test_whatever_is_written_is_read_back(tags: dict[str, str], text: str, number: float, count: int) -> None:
    try:
        head = line_head("m", tags)
        fields = [f"text={string_value(text)}", f"number={float_value(number)}"]
    except InvalidValue:
        return
    written = integer_value(count)
    fields += [f"count={written}"] if written else []
    point = parse_line(f"{head} {','.join(fields)} 5")
    assert point.measurement == "m"
    assert point.tags == {key: value for key, value in tags.items() if value}
    assert point.fields["number"] == number
    assert point.fields.get("count", count) == count
    assert point.time_ns == 5
    shown = point.fields["text"]
    assert isinstance(shown, str)
    assert len(shown) == len(text)
    assert all(one == other or one == " " for one, other in zip(shown, text, strict=True))


@given(st.text(max_size=12))
def test_a_name_is_written_or_refused(text: str) -> None:
    try:
        written = name_text(text)
    except InvalidValue:
        return
    assert parse_line(f"m,{written}={written} {written}=1i 0").tags == {text: text}
