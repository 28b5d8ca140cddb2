"""Events as points: each payload as it is documented, one point for each event, the same one whenever it is made."""

from __future__ import annotations

import re
from collections import Counter
from math import inf
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.client.decode import Decoder
from raven.client.events import StreamEvent, Unknown, make_event
from raven.errors import InvalidValue
from raven.model import events as model
from raven.model.topic import Kind, Topic
from raven.store.influx.points import MEASUREMENTS, MILLISECOND_NS, PointWriter, point_time
from tests.store.influx.parsing import parse_line
from tests.store.influx.samples import EPOCH, PAYLOADS, START_NS, TRADES, block_of, event, trades_block

DOCUMENT = Path(__file__).parents[3] / "docs" / "data-model.md"

GOLDEN = [line for line in Path(__file__).with_name("golden.lp").read_text().splitlines() if not line.startswith("#")]


def read(block_elements: bytes) -> list[StreamEvent]:
    return list(Decoder().decode(block_elements).events)


def sample(number: int, venue_ts_ns: int | None = None, flags: int = 0) -> StreamEvent:
    kind, variant, payload = PAYLOADS[number]
    topic = Topic("sim", "S", kind, variant)
    return read(block_of(topic, [event(topic, payload, START_NS + 5, venue_ts_ns, flags)], 7).elements)[0]


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_golden(number: int) -> None:
    assert PointWriter().line(sample(number)) == GOLDEN[number]


def test_there_is_a_sample_of_everything() -> None:
    assert {type(payload) for _, _, payload in PAYLOADS} == set(MEASUREMENTS) == set(model.payload_kinds)
    assert {kind for kind, _, _ in PAYLOADS} == set(Kind)


def test_what_is_rare_stands_in_fields_too() -> None:
    line = PointWriter().line(sample(0, START_NS - 1, model.Flag.BACKFILLED))
    assert line.endswith(
        f"epoch={EPOCH}i,sequence=7i,flags=4i,received_ts_ns={START_NS + 5}i,venue_ts_ns={START_NS - 1}i {START_NS + 7}"
    )
    huge = attrs.evolve(sample(0), sequence=2**64 - 1)
    assert f"epoch={EPOCH}i,received_ts_ns" in PointWriter().line(huge)


def test_a_payload_that_we_do_not_know_is_no_point() -> None:
    assert PointWriter().line(make_event(TRADES, EPOCH, 1, Unknown(99, b"x"), START_NS)) == ""


def test_a_number_that_is_none_is_refused() -> None:
    for payload in (model.Trade(inf, 1.0), model.Quote(1.0, inf, 1.0, 1.0), model.Ticker(inf), model.Bar(None, {"x": inf})):
        with pytest.raises(InvalidValue, match="finite"):
            PointWriter().line(make_event(TRADES, EPOCH, 1, payload, START_NS))


def test_events_of_one_frame_stay_apart_and_a_second_time_makes_the_same() -> None:
    events = read(trades_block(3000, step_ns=0).elements)
    lines = [PointWriter().line(each) for each in events]
    assert len({parse_line(line).time_ns for line in lines}) == 3000
    writer = PointWriter()
    assert [writer.line(each) for each in reversed(events)] == lines[::-1]


@given(st.integers(0, 2**62), st.integers(0, 2**63), st.integers(1, 2**63), st.integers(1, 999_999))
def test_a_point_is_in_its_millisecond_and_apart_from_the_next_999_999(ts: int, epoch: int, sequence: int, later: int) -> None:
    time_ns = point_time(ts, epoch, sequence)
    assert time_ns // MILLISECOND_NS == ts // MILLISECOND_NS
    assert point_time(ts, epoch, sequence + later) != time_ns


def test_epochs_that_meet_in_a_millisecond_stay_apart() -> None:
    """A clock that was set back: the first thousand events of each of ten epochs, all in one millisecond."""
    times = Counter(point_time(START_NS, EPOCH + epoch, sequence) for epoch in range(10) for sequence in range(1, 1001))
    assert set(times.values()) == {1}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(range(len(PAYLOADS))), min_size=1, max_size=5), st.text(max_size=20))
def test_any_event_is_a_line_of_the_specification(numbers: list[int], text: str) -> None:
    writer = PointWriter()
    for number in numbers:
        point = parse_line(writer.line(sample(number, START_NS)))
        assert point.fields["sequence"] == 7
    trade = make_event(TRADES, EPOCH, 1, model.Trade(1.0, 2.0, 9, text, text[::-1]), START_NS)
    point = parse_line(writer.line(trade))
    assert point.tags == {"symbol": "BTC-USDT", "venue": "sim"}
    assert point.fields["price"] == 1.0


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Measurement to its tags and fields, from the table of the document."""
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|([^|]*)\|", section, re.MULTILINE)
    return {name: (set(re.findall(r"`(\w+)`", tags)), set(re.findall(r"`(\w+)`", fields))) for name, tags, fields in rows}


def test_the_document_has_every_measurement_tag_and_field() -> None:
    told = documented()
    of_topics, of_events = told["every_measurement"]
    for number in range(len(PAYLOADS)):
        point = parse_line(PointWriter().line(sample(number, START_NS, 4)))
        tags, fields = told[point.measurement]
        assert set(point.tags) - of_topics <= tags, point.measurement
        named = {"value_name" if key.startswith("value_") else key for key in point.fields}
        assert named - of_events <= fields, point.measurement
    assert set(told) == {*MEASUREMENTS.values(), "book_top", "raven_blocks", "raven_images", "every_measurement"}
