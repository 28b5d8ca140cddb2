"""Requests off the wire against protobuf's own parser, and what no encoder writes."""

from __future__ import annotations

import time
from functools import cache
from random import Random
from typing import Any

import betterproto2
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.codec.generated.raven import v1
from raven.codec.schema import Rule, Schema, schema_of
from raven.codec.varint import varint
from raven.codec.wire import DEPTH_MAX, FIELDS_MAX, ITEMS_MAX, _Fault, _read, parse_message
from raven.errors import InvalidValue
from tests.codec.reference import DESCRIBED, NAMES, assert_agrees, assert_same, mutated, type_of

NUMBERS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 20),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(max_size=8),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
}


@cache
def messages(name: str) -> st.SearchStrategy[Any]:
    return _messages(DESCRIBED[name])


def _messages(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Any message of protobuf's own class."""
    plain = {f.name: st.none() | _values(f) for f in descriptor.fields if f.containing_oneof is None}
    groups = [st.sampled_from(list(oneof.fields)).flatmap(_one) for oneof in descriptor.oneofs]
    message_class = GetMessageClass(descriptor)

    def make(values: dict[str, Any], *chosen: dict[str, Any]) -> Any:
        for one in chosen:
            values = values | one
        return message_class(**{name: value for name, value in values.items() if value is not None})

    return st.builds(make, st.fixed_dictionaries(plain), *groups)


def _one(field: FieldDescriptor) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field.name: _values(field)}) | st.just({})


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one = _messages(field.message_type) if field.type == FieldDescriptor.TYPE_MESSAGE else NUMBERS[field.type]
    return st.lists(one, max_size=3) if field.is_repeated else one


def chunks(data: bytes) -> list[bytes]:
    """The fields of a valid message, each with its tag."""
    found = []
    while data:
        tag, at = _number(data, 0)
        if tag & 7 == 0:
            _, at = _number(data, at)
        elif tag & 7 == 2:
            size, at = _number(data, at)
            at += size
        else:
            at += 8
        found.append(data[:at])
        data = data[at:]
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


# ---- what is valid


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_protobuf_writes_is_read_as_protobuf_reads_it(name: str, data: st.DataObject) -> None:
    reference = data.draw(messages(name))
    assert_same(parse_message(reference.SerializeToString(), type_of(name)), reference)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_order_and_unknown_fields_change_nothing(name: str, data: st.DataObject, seed: int) -> None:
    reference = data.draw(messages(name))
    unknown = [b"\x80\x7d\x05", b"\x81\x7d" + bytes(8), b"\x82\x7d\x03abc", b"\x85\x7d" + bytes(4), b"\x82\xf4\xff\xff\x0f\x00"]
    mixed = [*chunks(reference.SerializeToString()), *unknown]
    Random(seed).shuffle(mixed)
    theirs = type(reference).FromString(b"".join(mixed))
    assert_same(parse_message(b"".join(mixed), type_of(name)), theirs)


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (b"\x0a\x00\x19" + bytes(8), v1.SubscribeRequest()),
        (b"\x0a\x01a\x0a\x01b", v1.SubscribeRequest("b")),
        (b"\x10\x80\x00", v1.ListTopicsRequest()),
        (b"\x10\x85\x80\x80\x80\x80\x80\x80\x80\x80\x00", v1.ListTopicsRequest(page_size=5)),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", v1.ListTopicsRequest(page_size=2**32 - 1)),
        (b"\x8a\x80\x80\x80\x00\x00", v1.ListTopicsRequest([v1.TopicSelector()])),
        (b"\x0a\x04\x18\x01\x18\x02", v1.ListTopicsRequest([v1.TopicSelector(kinds=[v1.Kind.TRADE, v1.Kind.QUOTE])])),
        (
            b"\x0a\x07\x1a\x02\x01\x02\x1a\x01\x03",
            v1.ListTopicsRequest([v1.TopicSelector(kinds=[v1.Kind(n) for n in (1, 2, 3)])]),
        ),
        (b"\x0a\x02\x1a\x00", v1.ListTopicsRequest([v1.TopicSelector()])),
        (b"\x0a\x03\x18\x80\x01", v1.ListTopicsRequest([v1.TopicSelector(kinds=[v1.Kind(128)])])),
        (b"\x1a\x04\xf0\x9f\xa6\x9c", v1.ListTopicsRequest(page_token="\N{PARROT}")),
        (b"\x7a\xff\x7f" + bytes(16383), v1.ListTopicsRequest()),
    ],
)
def test_rare_forms_are_valid(data: bytes, request_: betterproto2.Message) -> None:
    assert parse_message(data, type(request_)) == request_


# ---- what is not


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"\x0a", "selectors[0]: b'\\n' is not valid: a field that ends before its message does"),
        (b"\x0a\x05abc", "selectors[0]: b'\\n\\x05abc' is not valid: a field that ends"),
        (b"\x80", "message: b'\\x80' is not valid: a field that ends"),
        (b"\x10\xff", "page_size: b'\\x10\\xff' is not valid: a field that ends"),
        (b"\x79\x00", "message: b'y\\x00' is not valid: a field that ends"),
        (b"\x0a\x03\x0a\x05a", "selectors[0].venue: b'\\n\\x05a' is not valid: a field that ends"),
        (b"\x0a\x00\x0a\x00\x10\x01\x0a\x02\x12\x09", "selectors[2].symbol: b'\\x12\\t' is not valid: a field that ends"),
        (b"\x0a\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "selectors[0]: "),
        (b"\x0b\x0c", "message: 3 is not valid: a wire type of 0, 1, 2 or 5"),
        (b"\x0c", "message: 4 is not valid: a wire type"),
        (b"\x7b\x78\x01\x7c", "message: 3 is not valid: a wire type"),
        (b"\x0e\x00", "message: 6 is not valid: a wire type"),
        (b"\x00\x00", "message: 0 is not valid: a field number of 1 to 536870911"),
        (b"\x02\x01a", "message: 0 is not valid: a field number"),
        (b"\x10" + b"\x80" * 19 + b"\x01", "page_size: b'\\x80"),
        (b"\x10" + b"\xff" * 9 + b"\x02", "page_size: "),
        (b"\x80" * 19 + b"\x01", "message: b'\\x80\\x80\\x80\\x80\\x80\\x80' is not valid: a number of at most 5 bytes"),
        (b"\xf8\xff\xff\xff\x1f\x00", "message: 8589934584 is not valid: a number of at most 32 bits"),
        (b"\x1a\x02\xc3\x28", "page_token: b'\\xc3(' is not valid: UTF-8"),
        (b"\x1a\x03\xed\xa0\x80", "page_token: b'\\xed\\xa0\\x80' is not valid: UTF-8"),
        (b"\x0a\x04\x12\x02\xc0\x80", "selectors[0].symbol: b'\\xc0\\x80' is not valid: UTF-8"),
        (b"\x08\x01", "selectors: 0 is not valid: wire type 2"),
        (b"\x12\x01a", "page_size: 2 is not valid: wire type 0"),
        (b"\x0a\x09\x19" + bytes(8), "selectors[0].kinds: 1 is not valid: wire type 0 or 2"),
        (b"\x0a\x03\x1a\x01\x80", "selectors[0].kinds: b'\\x1a\\x01\\x80' is not valid: a field that ends"),
    ],
)
def test_what_no_encoder_writes_is_refused_at_its_place(data: bytes, part: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_message(data, v1.ListTopicsRequest)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message_type", "part"),
    [
        (b"\x0a\x02\x0a\x00\x0a\x00", v1.Subscription, "selector: 'a second one' is not valid: selector given once"),
        (b"\x0a\x00\x22\x00", v1.StreamMarketDataRequest, "ping: 'a second one' is not valid: request given once"),
        (b"\x22\x00\x22\x00", v1.StreamMarketDataRequest, "ping: 'a second one' is not valid: request given once"),
    ],
)
def test_what_would_be_lost_silently_is_refused(data: bytes, message_type: type[betterproto2.Message], part: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_message(data, message_type)
    assert part in str(caught.value)


def recursive() -> Schema:
    """A type that holds itself, which no request does."""
    schema = Schema(v1.ListTopicsRequest)
    schema.rules[0x0A] = Rule("selectors", 2, bytes, schema, repeated=True)
    schema.names[1] = "selectors"
    return schema


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = b"\x0a" + varint(len(data)) + data
    return data


def test_messages_within_each_other_have_a_limit() -> None:
    _, fields = _read(nested(DEPTH_MAX - 1), recursive(), 1)
    assert fields == DEPTH_MAX - 1
    with pytest.raises(_Fault, match=f"at most {DEPTH_MAX} messages within each other"):
        _read(nested(3_000), recursive(), 1)


def test_the_contracts_own_requests_are_far_from_that_limit() -> None:
    def depth(schema: Schema) -> int:
        return 1 + max((depth(rule.schema) for rule in schema.rules.values() if rule.schema), default=0)

    assert max(depth(schema_of(type_of(name))) for name in NAMES) == 5


def test_nesting_in_fields_that_nobody_knows_is_their_own() -> None:
    data = nested(3_000)
    assert parse_message(b"\x7a" + varint(len(data)) + data, v1.ListTopicsRequest) == v1.ListTopicsRequest()


@pytest.mark.parametrize(
    ("data", "message_type", "part"),
    [
        (
            b"\x12\x00" * (ITEMS_MAX + 1),
            v1.SubscribeRequest,
            f"subscriptions[{ITEMS_MAX}]: {ITEMS_MAX + 1} is not valid: at most",
        ),
        (b"\x12\x00" * 100_000, v1.SubscribeRequest, f"at most {ITEMS_MAX} items"),
        (b"\x18\x01" * 100_000, v1.TopicSelector, f"at most {ITEMS_MAX} items"),
        (b"\x1a\xa0\x8d\x06" + b"\x01" * 100_000, v1.TopicSelector, f"kinds: {ITEMS_MAX + 1} is not valid: at most"),
        (b"\x1a\xa0\x8d\x06" + b"\x81\x00" * 50_000, v1.TopicSelector, f"kinds: {ITEMS_MAX + 1} is not valid: at most"),
        (b"\x10\x01" * (FIELDS_MAX + 1), v1.ListTopicsRequest, f"at most {FIELDS_MAX} fields in one request"),
        (b"\x78\x01" * (FIELDS_MAX + 1), v1.ListTopicsRequest, f"at most {FIELDS_MAX} fields in one request"),
        ((b"\x12\x40" + b"\x18\x01" * 32) * 2_000, v1.SubscribeRequest, f"at most {FIELDS_MAX} fields in one request"),
    ],
    ids=["items", "many items", "many numbers", "packed", "long packed", "known", "unknown", "within items"],
)
def test_counts_have_limits(data: bytes, message_type: type[betterproto2.Message], part: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_message(data, message_type)
    assert part in str(caught.value)


def test_a_thousand_subscriptions_with_resume_points_are_within_the_limits() -> None:
    request = v1.SubscribeRequest("me", [a_subscription(number) for number in range(1_000)])
    assert parse_message(bytes(request), v1.SubscribeRequest) == request


def a_subscription(number: int) -> v1.Subscription:
    topic = v1.Topic("binance-spot", f"SYM{number}-USDT", v1.Kind.TRADE)
    selector = v1.TopicSelector("binance-spot", f"SYM{number}-USDT", [v1.Kind.TRADE, v1.Kind.QUOTE])
    return v1.Subscription(selector, resume=[v1.ResumePoint(topic, 1, 2)] * 2, id=f"s{number}")


# ---- anything


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_what_is_accepted_is_what_protobuf_accepts_and_nothing_else_is_raised(
    name: str, data: st.DataObject, seed: int
) -> None:
    reference = data.draw(messages(name))
    assert_agrees(name, mutated(reference.SerializeToString(), Random(seed)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(noise=st.binary(max_size=40))
def test_noise_too(name: str, noise: bytes) -> None:
    assert_agrees(name, noise)


# ---- speed


def test_it_is_quicker_than_the_generated_parser() -> None:
    data = bytes(v1.SubscribeRequest("me", [a_subscription(number) for number in range(100)]))
    ours = best_s(lambda: parse_message(data, v1.SubscribeRequest))
    assert ours < best_s(lambda: v1.SubscribeRequest.FromString(data)) / 2
    assert ours < 0.02  # 1.6 ms on a quiet machine


def best_s(run: Any) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)
