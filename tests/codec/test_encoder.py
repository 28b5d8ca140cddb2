"""The encoder against the generated code, byte for byte."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.codec.encoder import UNENCODABLE, TopicEncoder, sent_ts
from raven.codec.generated.raven import v1
from raven.codec.payloads import NUMBERS
from raven.errors import InvalidValue
from raven.model import events as model
from raven.model.instrument import Instrument, PriceStep
from raven.model.plain import names_of
from raven.model.topic import Kind, Topic

pytestmark = pytest.mark.usefixtures("twins")

finite = st.floats(allow_nan=False, allow_infinity=False)
uint32 = st.integers(0, 2**32 - 1)
fixed64 = st.integers(0, 2**64 - 1)
sfixed64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(max_size=200)
column = st.lists(st.floats(-1e9, 1e9), max_size=40)
enums = {"aggressor": 2, "side": 2, "state": 5, "cause": 5, "type": 5, "status": 4, "size_unit": 3, "option_type": 2}
OPTIONAL_INTS = {"trades": fixed64, "funding_ts_ns": sfixed64, "interval_s": uint32}
INTS = {
    "depth_limit": uint32,
    "delay_ms": uint32,
    "open_ts_ns": sfixed64,
    "close_ts_ns": sfixed64,
    "since_ts_ns": sfixed64,
}
INTS |= {"expiry_ts_ns": sfixed64, "listed_ts_ns": sfixed64}


def a_field(cls: type, name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name in enums:
        return st.integers(0, enums[name])
    if name in OPTIONAL_INTS:
        return st.none() | OPTIONAL_INTS[name]
    if kind == "float | None":
        return st.none() | finite
    if kind == "str":
        return text
    if kind == "bool":
        return st.booleans()
    if kind == "int":
        return INTS.get(name, fixed64)
    raise AssertionError(f"no strategy for {cls.__name__}.{name}: {kind}")


@st.composite
def payloads(draw: st.DrawFn, cls: type) -> Any:
    values: dict[str, Any] = {}
    for name, kind in inspect.get_annotations(cls).items():
        if name == "candle":
            values["candle"] = draw(st.none() | payloads(model.Candle))
        elif name == "values":
            values["values"] = draw(st.dictionaries(text, finite, max_size=4))
        elif name == "price_steps":
            values["price_steps"] = tuple(draw(st.lists(st.builds(PriceStep, text, text), max_size=3)))
        elif "Sequence" in kind:
            same = len(values.get(name.replace("size", "price"), [])) if name.endswith("size") else None
            values[name] = draw(column if same is None else st.lists(finite_level, min_size=same, max_size=same))
        else:
            values[name] = draw(a_field(cls, name, kind))
    return cls(**values)


finite_level = st.floats(0, 1e12)


def generated(payload: Any) -> Any:
    """The same payload as a message of the generated code."""
    cls = getattr(v1, type(payload).__name__)
    values = {}
    for name in names_of(type(payload)):
        value = getattr(payload, name)
        if isinstance(value, model.Candle):
            value = generated(value)
        elif name == "price_steps":
            value = [v1.InstrumentPriceStep(step.from_price, step.increment) for step in value]
        elif name in enums:
            value = cls.__dataclass_fields__[name].default_factory().__class__(value)
        values[name] = list(value) if isinstance(value, tuple) else value
    return cls(**values)


def snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_").replace("topic_status", "status")


def expected(event: model.Event, epoch: int, sequence: int, flags: int = 0, first_sequence: int = 0) -> bytes:
    topic = event.topic
    message = v1.MarketEvent(
        topic=v1.Topic(topic.venue, topic.symbol, v1.Kind(topic.kind), topic.variant),
        epoch=epoch,
        sequence=sequence,
        venue_ts_ns=event.venue_ts_ns,
        received_ts_ns=event.received_ts_ns,
        first_sequence=first_sequence,
        flags=event.flags | flags,
        **{snake(type(event.payload).__name__): generated(event.payload)},
    )
    return bytes(v1.WatchMarketDataResponse(events=[message]))


topics = st.builds(
    Topic,
    st.just("binance-spot"),
    st.text("ABC-", min_size=1, max_size=64),
    st.sampled_from(Kind),
    st.sampled_from(["", "1m", "20"]),
)


@pytest.mark.parametrize("cls", NUMBERS, ids=lambda cls: cls.__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_payload_is_encoded_as_the_generated_code_does(cls: type, data: st.DataObject) -> None:
    event = model.Event(
        data.draw(topics),
        data.draw(payloads(cls)),
        data.draw(sfixed64),
        data.draw(st.none() | sfixed64),
        data.draw(st.integers(0, 63)),
    )
    epoch, sequence = data.draw(st.integers(1, 2**53)), data.draw(st.integers(0, 2**64 - 1))
    encoder = TopicEncoder(event.topic, epoch)
    assert encoder.encode(event, sequence or 1) == expected(event, epoch, sequence or 1)
    flags, first = data.draw(st.integers(0, 63)), data.draw(fixed64)
    general = encoder.encode_general(event, sequence, flags=flags, first_sequence=first)
    assert general == expected(event, epoch, sequence, flags, first)


@given(
    id_size=st.integers(0, 120),
    price=st.none() | finite,
    size=st.none() | finite_level,
    side=st.integers(0, 2),
    venue=st.none() | sfixed64,
)
@settings(deadline=None)
def test_the_short_way_of_a_trade_is_the_same_bytes(
    id_size: int, price: float | None, size: float | None, side: int, venue: int | None
) -> None:
    topic = Topic("binance-spot", "BTC-USDT", Kind.TRADE)
    event = model.Event(topic, model.Trade(price, size, side, "7" * id_size), 1_700_000_000_000_000_000, venue)
    assert TopicEncoder(topic, 17).encode(event, 9) == expected(event, 17, 9)


@given(numbers=st.lists(st.none() | finite_level, min_size=4, max_size=4), venue=st.none() | sfixed64)
@settings(deadline=None)
def test_the_short_way_of_a_quote_is_the_same_bytes(numbers: list[float | None], venue: int | None) -> None:
    topic = Topic("binance-spot", "BTC-USDT", Kind.QUOTE)
    event = model.Event(topic, model.Quote(*numbers), 1_700_000_000_000_000_000, venue)
    assert TopicEncoder(topic, 17).encode(event, 9) == expected(event, 17, 9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: model.Trade(x, 1.0, 1, "1"),
        lambda x: model.Trade(1.0, x),
        lambda x: model.Quote(1.0, 1.0, x, 1.0),
        lambda x: model.Quote(x),
        lambda x: model.BookDelta([1.0, x], [1.0, 1.0]),
        lambda x: model.BookSnapshot(ask_price=[1.0], ask_size=[x]),
        lambda x: model.Bar(values={"vpin": x}),
        lambda x: model.Candle(open=x),
    ],
)
def test_no_number_that_is_not_finite_is_encoded(bad: float, make: Any) -> None:
    topic = Topic("sim", "BTC-USDT", Kind.TRADE)
    with pytest.raises(InvalidValue, match="finite"):
        TopicEncoder(topic, 1).encode(model.Event(topic, make(bad), 1, 1), 1)


def test_columns_of_different_length_are_refused() -> None:
    topic = Topic("sim", "BTC-USDT", Kind.BOOK)
    with pytest.raises(InvalidValue, match="bid_size: 1 is not valid: as many as bid_price has, 2"):
        TopicEncoder(topic, 1).encode(model.Event(topic, model.BookDelta([1.0, 2.0], [1.0]), 1), 1)


@given(data=st.data())
@settings(deadline=None)
def test_the_short_way_of_a_change_is_the_same_bytes(data: st.DataObject) -> None:
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
    sides = []
    for _ in range(2):
        count = data.draw(st.sampled_from([0, 1, 15, 16, 17, 2047, 2048, 2049]) | st.integers(0, 40))
        filler = [data.draw(numbers) for _ in range(min(count, 3))]
        side = (filler * (count // 3 + 1))[:count]
        sides += [data.draw(st.sampled_from([side, tuple(side)])), tuple(side)]
    delta = model.BookDelta(*sides, data.draw(fixed64))
    topic = Topic("binance-spot", "BTC-USDT", Kind.BOOK)
    event = model.Event(topic, delta, data.draw(sfixed64), data.draw(st.none() | sfixed64), data.draw(st.sampled_from([0, 16])))
    assert TopicEncoder(topic, 17).encode(event, 9) == expected(event, 17, 9)


@pytest.mark.parametrize("price", [64000, True, np.float64(64000.5)])
def test_other_numbers_are_encoded_as_what_they_are(price: float) -> None:
    topic = Topic("sim", "BTC-USDT", Kind.TRADE)
    for payload in (model.Trade(price, 1.0, 1, "7"), model.Quote(price, 1, 2, 3), model.BookDelta([price], [1], [], [], 5)):
        event = model.Event(topic, payload, 1, 1)
        plain = type(payload)(
            *(
                [float(value) for value in column] if isinstance(column, list) else column
                for column in (getattr(payload, name) for name in names_of(type(payload)))
            )
        )
        assert TopicEncoder(topic, 1).encode(event, 1) == expected(model.Event(topic, plain, 1, 1), 1, 1)


@pytest.mark.parametrize("bad", [2**63, -(2**63) - 1, "soon", 1.7e18, Decimal(5)])
@pytest.mark.parametrize(
    "payload", [model.Trade(1.0, 1.0, 1, "7"), model.Quote(1.0, 1.0, 2.0, 1.0), model.BookDelta([1.0], [1.0], [], [], 5)]
)
def test_a_time_that_is_no_such_integer_is_refused_in_a_way_that_the_broker_knows(bad: Any, payload: model.Payload) -> None:
    topic = Topic("sim", "BTC-USDT", Kind.TRADE)
    for event in (model.Event(topic, payload, bad, 1), model.Event(topic, payload, 1, bad)):
        with pytest.raises(UNENCODABLE):
            TopicEncoder(topic, 1).encode(event, 1)


def some(*values: float) -> Iterator[float]:
    """A column that can be read once."""
    return iter(values)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model.BookDelta((1.0,), (2.0,), (), (), 1.5),  # type: ignore[arg-type]
        lambda: model.BookDelta((1.0,), (2.0,), (), (), Decimal(5)),  # type: ignore[arg-type]
        lambda: model.BookDelta(some(1.0), some(2.0), (), (), 9),  # type: ignore[arg-type]
        lambda: model.BookDelta(some(1.0), (2.0,), (), (), 9),  # type: ignore[arg-type]
        lambda: model.BookDelta((Decimal("sNaN"),), (2.0,), (), (), 9),  # type: ignore[arg-type]
        lambda: model.Trade(1.0, 2.0, -129, "a"),
        lambda: model.Trade(1.0, 2.0, -1, "a"),
        lambda: model.Trade(1.0, 2.0, 2**70, "a"),
        lambda: model.Trade(1.0, 2.0, 1.5, "a"),  # type: ignore[arg-type]
        lambda: model.Trade(1.0, 2.0, 1, "\ud800"),
        lambda: model.Trade(1.0, 2.0, 1, 7),  # type: ignore[arg-type]
        lambda: model.Liquidation(side=-129),
    ],
)
def test_what_an_adapter_gets_wrong_is_refused_in_a_way_that_the_broker_knows(make: Callable[[], model.Payload]) -> None:
    topic = Topic("sim", "BTC-USDT", Kind.TRADE)
    with pytest.raises(UNENCODABLE):
        TopicEncoder(topic, 1).encode(model.Event(topic, make(), 1, 1), 1)


def test_a_side_of_more_than_one_byte() -> None:
    topic = Topic("sim", "BTC-USDT", Kind.TRADE)
    element = TopicEncoder(topic, 1).encode(model.Event(topic, model.Trade(1.0, 2.0, 200, "a"), 1, 1), 1)
    assert b"\x18\xc8\x01\x22\x01a" in element


def test_sent_ts_is_the_last_field_of_both_responses() -> None:
    assert sent_ts(5) == bytes(v1.StreamMarketDataResponse(sent_ts_ns=5)) == bytes(v1.WatchMarketDataResponse(sent_ts_ns=5))


def test_every_number_is_the_one_of_the_contract() -> None:
    fields = {name: meta.metadata["betterproto"].number for name, meta in v1.MarketEvent.__dataclass_fields__.items()}
    assert {snake(cls.__name__): number for cls, number in NUMBERS.items()} == {n: i for n, i in fields.items() if i >= 10}


def test_instrument_has_no_field_that_the_table_lacks() -> None:
    assert set(names_of(Instrument)) == set(v1.Instrument.__dataclass_fields__)
