"""The decoder against the generated code: what it says is what the generated code says of the same bytes."""

from __future__ import annotations

from typing import Any

import betterproto2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.client.decode import Decoder
from raven.client.events import Event, GapEvent, StatusEvent, Unknown
from raven.client.wire import NUMBERS, DecodeError
from raven.codec.encoder import TopicEncoder, sent_ts
from raven.codec.generated.raven import v1
from raven.model import events as model
from raven.model.plain import has_fields, names_of
from raven.model.topic import Kind, Topic
from tests.codec.test_encoder import expected, finite, fixed64, payloads, sfixed64, topics

TOPIC = Topic("sim", "BTC-USDT", Kind.TRADE)
FIELDS = {
    "Trade": "trade",
    "TopicStatus": "status",
    **{
        cls.__name__: "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")
        for cls in NUMBERS.values()
        if cls is not model.TopicStatus
    },
}


def plain(value: Any) -> Any:
    """A payload of either kind as plain data: enums as numbers, columns as lists."""
    if isinstance(value, betterproto2.Message):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if has_fields(type(value)):
        return {name: plain(getattr(value, name)) for name in names_of(type(value))}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return dict(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def check(data: bytes) -> None:
    decoded = Decoder().decode(data).events
    known = v1.WatchMarketDataResponse.parse(data).events
    assert len(decoded) == len(known)
    for ours, theirs in zip(decoded, known, strict=True):
        topic = theirs.topic or v1.Topic()
        assert ours.topic == (topic.venue, topic.symbol, int(topic.kind), topic.variant)
        names = ("epoch", "sequence", "venue_ts_ns", "received_ts_ns", "first_sequence", "flags")
        assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
        name = FIELDS[type(ours.payload).__name__]
        assert plain(ours.payload) == plain(getattr(theirs, name))
        assert isinstance(ours, GapEvent) == isinstance(ours.payload, model.Gap)
        assert isinstance(ours, StatusEvent) == isinstance(ours.payload, model.TopicStatus)


@pytest.mark.parametrize("cls", NUMBERS.values(), ids=lambda cls: cls.__name__)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_every_payload_is_what_the_generated_code_reads(cls: type, data: st.DataObject) -> None:
    event = model.Event(
        data.draw(topics),
        data.draw(payloads(cls)),
        data.draw(sfixed64),
        data.draw(st.none() | sfixed64),
        data.draw(st.integers(0, 63)),
    )
    element = expected(event, data.draw(fixed64), data.draw(fixed64), first_sequence=data.draw(fixed64))
    check(element * data.draw(st.integers(1, 3)) + sent_ts(1))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_short_ways_say_the_same(data: st.DataObject) -> None:
    """Elements of the server's encoder, in the topics and epochs of one client, in any order."""
    encoders = [TopicEncoder(topic, epoch) for topic in (TOPIC, TOPIC._replace(variant="5m")) for epoch in (1, 2**63)]
    trades = st.builds(model.Trade, finite, finite.map(lambda x: x / 4), st.integers(0, 2), st.text(max_size=130))
    quotes = st.builds(model.Quote, *[st.none() | st.floats(-1e9, 1e9)] * 4)
    column = st.lists(st.floats(-1e9, 1e9), max_size=3)
    deltas = st.builds(lambda b, a, s: model.BookDelta(b, b, a, a, s), column, column, fixed64)
    event = st.builds(
        model.Event, st.just(TOPIC), trades | quotes | deltas, sfixed64, st.none() | sfixed64, st.sampled_from([0, 0, 1, 2])
    )
    items = data.draw(st.lists(st.tuples(st.sampled_from(encoders), event, st.integers(1, 2**64 - 1)), max_size=8))
    check(b"".join(encoder.encode(event, sequence) for encoder, event, sequence in items) + sent_ts(5))


def test_the_decoder_remembers_a_topic_and_gives_the_same_object() -> None:
    decoder = Decoder()
    encoder = TopicEncoder(TOPIC, 7)
    trades = b"".join(encoder.encode(model.Event(TOPIC, model.Trade(1.0, 2.0, 1, "a"), 5, 6), n) for n in (1, 2))
    first, second = decoder.decode(trades).events, decoder.decode(trades).events
    assert first[0].topic is second[1].topic
    assert [type(event) for event in first] == [Event, Event]
    assert first[0].trade == model.Trade(1.0, 2.0, 1, "a")
    assert first[0].quote is None


def test_fields_in_any_order_and_those_of_a_later_contract() -> None:
    topic = bytes(v1.Topic("sim", "BTC-USDT", v1.Kind.TRADE))
    body = b"\xf2\x07\x03new" + b"\x38\x01" + b"\xfa\x01\x02hi" + b"\x19" + b"\x05" + b"\0" * 7 + b"\x0a%c" % len(topic) + topic
    (event,) = Decoder().decode(b"\x0a%c" % len(body) + body).events
    assert (event.topic, event.sequence, event.flags, event.payload) == (TOPIC, 5, 1, Unknown(31, b"hi"))


def test_an_event_without_anything_and_a_kind_of_a_later_contract() -> None:
    empty, other = Decoder().decode(b"\x0a\x00" + b"\x0a\x04\x0a\x02\x18\x63").events
    assert (empty.topic.venue, empty.payload) == ("", Unknown())
    assert other.topic.kind == 99


def test_controls_are_handed_out_as_they_are() -> None:
    message = v1.StreamMarketDataResponse(heartbeat=v1.Heartbeat(server_ts_ns=3, bookmark=b"x"), sent_ts_ns=9)
    decoded = Decoder().decode(bytes(message))
    assert decoded.events == []
    assert [(number, v1.Heartbeat.parse(body).bookmark) for number, body in decoded.controls] == [(7, b"x")]


@given(st.binary(max_size=60))
def test_what_is_no_message_is_told_as_such(data: bytes) -> None:
    decoder = Decoder()
    decoder.decode(TopicEncoder(TOPIC, 1).encode(model.Event(TOPIC, model.Trade(1.0, 1.0, 1, "x"), 1, 1), 1))
    try:
        decoder.decode(b"\x0a" + data)
    except DecodeError:
        return


@settings(max_examples=80, deadline=None)
@given(at=st.integers(0, 90), value=st.integers(0, 255), cut=st.integers(1, 100))
def test_a_damaged_trade_is_refused_or_is_what_the_generated_code_reads(at: int, value: int, cut: int) -> None:
    element = TopicEncoder(TOPIC, 1).encode(model.Event(TOPIC, model.Trade(1.0, 1.0, 1, "x"), 1, 1), 1)
    damaged = bytearray(element)
    if at < len(damaged):
        damaged[at] = value
    decoder = Decoder()
    decoder.decode(element)
    try:
        decoder.decode(bytes(damaged[:cut]))
    except DecodeError:
        return
