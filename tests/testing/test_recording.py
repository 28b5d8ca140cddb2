"""Frames and events come back from a file as they were written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from raven.adapter import Event, Kind, Topic
from raven.errors import InvalidValue
from raven.model.events import (
    Bar,
    BookSnapshot,
    Candle,
    Flag,
    Funding,
    Gap,
    GapCause,
    Greeks,
    Liquidation,
    MarkPrice,
    OpenInterest,
    Quote,
    Side,
    State,
    StatusCause,
    Ticker,
    TopicStatus,
    Trade,
    payload_kinds,
)
from raven.model.instrument import Instrument, InstrumentType, PriceStep, SizeUnit
from raven.testing.recording import (
    Frame,
    event_table,
    format_event,
    parse_event,
    parse_frame,
    read_events,
    read_frames,
    write_events,
    write_frames,
)

NOW_NS = 1_700_000_000_000_000_001
FRAMES = [Frame(NOW_NS, b'{"a": "1 2"}'), Frame(NOW_NS, "é".encode()), Frame(NOW_NS + 5, b"\xff\x00 ")]

PAYLOADS: dict[type, Any] = {
    Trade: Trade(64000.12, 1e-08, Side.SELL, "17", "15"),
    Quote: Quote(0.0, None, 5e-324, 1.7976931348623157e308),
    BookSnapshot: BookSnapshot((2.0, 1.0), (0.1, 0.2), [], (), 2**63, 5),
    Candle: Candle(1, 2, 1.0, 2.0, 0.5, None, 0.0, trades=0, closed=True),
    Ticker: Ticker(1.0, volume=0.1 + 0.2),
    Funding: Funding(-0.0001, NOW_NS, 28800, settled=True),
    MarkPrice: MarkPrice(1.5, 1.25),
    OpenInterest: OpenInterest(3.0),
    Liquidation: Liquidation(1.0, 2.0, Side.BUY),
    Instrument: Instrument(
        "v",
        "A-B",
        "ab",
        InstrumentType.PERPETUAL,
        size_unit=SizeUnit.CONTRACT,
        price_steps=(PriceStep("0", "0.1"),),
        inverse=True,
    ),
    Greeks: Greeks(0.55, delta=-0.25),
    Bar: Bar(Candle(1, 2, trades=3), {"imbalance": 0.1}),
    TopicStatus: TopicStatus(State.DOWN, StatusCause.FEED_DOWN, "gone", NOW_NS, final=True),
    Gap: Gap(GapCause.VENUE, missed=3),
}


@pytest.mark.parametrize("name", ["a.frames", "a.frames.gz"])
def test_frames(tmp_path: Path, name: str) -> None:
    write_frames(tmp_path / name, FRAMES)
    assert list(read_frames(tmp_path / name)) == FRAMES
    first = (tmp_path / name).read_bytes()
    write_frames(tmp_path / name, FRAMES)
    assert (tmp_path / name).read_bytes() == first
    assert (first[:2] == b"\x1f\x8b") is name.endswith(".gz")


@pytest.mark.parametrize("line", [b"", b"17", b"17 ", b"x {}", b"-1 {}", b"1.5 {}", b" {}"])
def test_a_line_that_is_no_frame_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.frames"
    path.write_bytes(b"1 {}\n" + line + b"\n")
    with pytest.raises(InvalidValue, match=r"a\.frames:2: .* is not valid: the receipt time in ns, a space, the raw text$"):
        list(read_frames(path))


def test_line_ends_of_both_kinds() -> None:
    assert parse_frame(b"1 {}\r\n") == parse_frame(b"1 {}\n") == parse_frame(b"1 {}") == Frame(1, b"{}")


@pytest.mark.parametrize("data", [b"", b"a\nb", b"a\rb"])
def test_a_frame_that_no_line_can_hold(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidValue, match="a text of one line, not empty"):
        write_frames(tmp_path / "a.frames", [Frame(1, data)])
    assert not (tmp_path / "a.frames").exists()


@pytest.mark.parametrize("cls", sorted(payload_kinds, key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_every_payload_comes_back(cls: type, tmp_path: Path) -> None:
    payload = PAYLOADS.get(cls) or cls(PAYLOADS[BookSnapshot].bid_price, (0.0, 0.2))
    kind = min(payload_kinds[cls])
    event = Event(Topic("v", "A-B", kind, "1m" if kind is Kind.CANDLE else ""), payload, NOW_NS, None, Flag.INFERRED)
    write_events(tmp_path / "e.jsonl.gz", [event, replace(event, venue_ts_ns=0, flags=0)])
    first, second = read_events(tmp_path / "e.jsonl.gz")
    assert event_table(first) == event_table(event)
    assert (first.topic, first.flags, first.venue_ts_ns) == (event.topic, 32, None)
    assert (second.flags, second.venue_ts_ns) == (0, 0)
    assert type(first.payload) is cls


def test_enums_and_steps_come_back_as_what_they_are() -> None:
    event = parse_event(format_event(Event(Topic("v", "A-B", Kind.INSTRUMENT), PAYLOADS[Instrument], NOW_NS)))
    assert event.payload == PAYLOADS[Instrument]
    assert isinstance(event.payload, Instrument)
    assert event.payload.type is InstrumentType.PERPETUAL


@settings(max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_exact(price: float) -> None:
    event = Event(Topic("v", "A-B", Kind.TRADE), Trade(price), NOW_NS)
    back = parse_event(format_event(event)).payload
    assert isinstance(back, Trade)
    assert back.price is not None
    assert (back.price, math.copysign(1, back.price)) == (price, math.copysign(1, price))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "an event as format_event writes it"),
        ("[]", "an event as format_event writes it"),
        ("{}", "KeyError: 'type'"),
        ('{"type":"Trad"}', "did you mean 'Trade'"),
        ('{"type":"Trade","topic":"v/A-B"}', "venue/symbol/kind"),
        ('{"type":"Trade","topic":"v/A-B/trade","payload":{"prise":1},"received_ts_ns":1}', "prise"),
        ('{"type":"Trade","topic":"v/A-B/trade","payload":{}}', "received_ts_ns"),
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str, text: str) -> None:
    (tmp_path / "e.jsonl").write_text(line + "\n")
    with pytest.raises(InvalidValue, match=r"e\.jsonl:1") as caught:
        list(read_events(tmp_path / "e.jsonl"))
    assert text in str(caught.value)
