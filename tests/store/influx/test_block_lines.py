"""Blocks and images as points and back."""

from __future__ import annotations

import zlib
from base64 import b64encode
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.errors import InvalidValue, StoreError
from raven.model import events as model
from raven.model.topic import Kind, Topic
from raven.store.blocks import Block
from raven.store.elements import split
from raven.store.influx.block_lines import (
    INFLATED_MAX,
    PART_BYTES,
    SPAN_NS,
    STRING_MAX,
    block_lines,
    image_line,
    image_of,
    parts,
    without_head,
)
from raven.store.influx.block_lines import block_of as block_of_row
from tests.store.influx.parsing import parse_line
from tests.store.influx.samples import EPOCH, START_NS, TRADES, block_of, event, trades, trades_block
from tests.store.influx.samples import image_of as sample_image

BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)


def row_of(line: str) -> dict[str, Any]:
    return dict(parse_line(line).fields)


def deep_book(levels: int) -> model.BookSnapshot:
    prices = [float(number) * 1.000001 for number in range(1, levels + 1)]
    sizes = [1 / number for number in range(1, levels + 1)]
    return model.BookSnapshot(prices[::-1], sizes, prices, sizes[::-1])


def test_a_block_is_one_point_and_comes_back() -> None:
    block = trades_block(100)
    [(line, part)] = block_lines(block)
    assert part == block
    assert block_of_row(TRADES, row_of(line)) == block
    point = parse_line(line)
    assert point.tags == {"kind": "trade", "symbol": "BTC-USDT", "venue": "sim"}
    assert point.measurement == "raven_blocks"


def assert_whole(cut: list[Block], block: Block) -> None:
    assert b"".join(part.elements for part in cut) == block.elements
    at = block.first_sequence
    for part in cut:
        assert part.first_sequence == at
        assert part.count == len(list(split(part.elements)))
        at = part.last_sequence + 1
    assert at == block.last_sequence + 1
    assert min(part.first_ts_ns for part in cut) == block.first_ts_ns
    assert max(part.last_venue_ts_ns for part in cut) == block.last_venue_ts_ns


@settings(max_examples=25)
@given(st.integers(1, 40), st.sampled_from([0, 1_000_000, SPAN_NS // 10, SPAN_NS + 1, -SPAN_NS // 3]))
def test_a_long_block_is_cut_by_bytes_and_by_time(tens: int, step_ns: int) -> None:
    block = trades_block(tens * 30, step_ns=step_ns)
    cut = list(parts(block))
    assert_whole(cut, block)
    assert all(len(part.elements) <= PART_BYTES for part in cut)
    assert all(part.last_ts_ns - part.first_ts_ns <= SPAN_NS for part in cut)
    if abs(step_ns) > SPAN_NS:
        assert len(cut) == block.count


def test_a_large_event_is_in_several_strings() -> None:
    block = block_of(BOOK, [event(BOOK, deep_book(8_000), START_NS), *trades(2, topic=BOOK)])
    lines = [line for line, _ in block_lines(block)]
    assert len(lines) == 2
    fields = row_of(lines[0])
    assert {"data", "data_2", "data_3"} <= set(fields)
    assert all(len(value) <= STRING_MAX for value in fields.values() if isinstance(value, str))
    assert b"".join(block_of_row(BOOK, row_of(line)).elements for line in lines) == block.elements


def test_an_image_comes_back() -> None:
    image = sample_image(BOOK, deep_book(3000), 9, START_NS)
    assert image_of(BOOK, row_of(image_line(image))) == image


def test_the_rest_of_a_block() -> None:
    block = trades_block(10, first=5)
    assert without_head(block, 8) == block_of(TRADES, trades(10)[4:], 9)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidValue, match="epoch: "):
        list(block_lines(attrs.evolve(trades_block(1), epoch=2**63)))
    with pytest.raises(InvalidValue, match="data: "):
        image_line(attrs.evolve(sample_image(BOOK, deep_book(1), 1, START_NS), element=Random(0).randbytes(4_000_000)))


NUMBERS = ("first_sequence", "last_sequence", "first_ts_ns", "last_ts_ns", "first_venue_ts_ns", "last_venue_ts_ns")
ROW = {"epoch": EPOCH, **dict.fromkeys(NUMBERS, 1)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": None}, "no whole numbers"),
        ({"epoch": 1.5}, "no whole numbers"),
        ({"data": "%%%"}, "cannot be read"),
        ({"data": b64encode(b"no zlib").decode()}, "cannot be read"),
        ({"data": b64encode(zlib.compress(b"x" * 100)[:-5]).decode()}, "do not end"),
        ({"data": b64encode(zlib.compress(bytes(INFLATED_MAX + 1))).decode()}, "do not end"),
        ({}, "do not end"),
    ],
)
def test_a_point_that_somebody_else_wrote_is_an_error_and_not_events(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        block_of_row(TRADES, {**ROW, **change})
