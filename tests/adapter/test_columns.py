"""Levels to columns, as it is compiled and as it is in Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.adapter import columns as as_adapters_have_it
from raven.adapter.columns import Columns, Levels, split_columns
from raven.speedups import compiled

WAYS = {"python": split_columns, "here": as_adapters_have_it} | ({"compiled": compiled.columns} if compiled else {})
PAIRS = st.lists(st.tuples(st.floats(), st.floats()))


@pytest.mark.parametrize("way", WAYS)
@given(PAIRS, st.sampled_from([list, tuple]), st.sampled_from([list, tuple]))
def test_each_level_is_in_both(way: str, pairs: Levels, outer: type, inner: type) -> None:
    found: Columns = WAYS[way](outer(inner(pair) for pair in pairs))
    assert all(isinstance(column, tuple) for column in found)
    assert list(map(repr, zip(*found, strict=True))) == list(map(repr, pairs))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("odd", [(1.0,), (), (1.0, 2.0, 3.0)])
def test_a_level_that_is_no_pair_is_an_error(way: str, odd: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  zip has words of its own
        WAYS[way]([(1.0, 2.0), odd])  # type: ignore[list-item]
