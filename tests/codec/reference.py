"""Requests by protobuf's own parser, to hold ours against, and bytes that are nearly requests."""

from __future__ import annotations

from importlib.resources import files
from random import Random
from typing import Any

import betterproto2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from raven.codec.generated.raven import v1
from raven.codec.wire import parse_message
from raven.errors import InvalidValue


def described() -> dict[str, Descriptor]:
    """Every request of the contract, in a pool of its own."""
    pool = DescriptorPool()
    data = files("raven.codec.generated").joinpath("raven.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    types = pool.FindFileByName("raven/v1/raven.proto").message_types_by_name
    return {name: descriptor for name, descriptor in types.items() if name.endswith("Request")}


DESCRIBED = described()
NAMES = sorted(DESCRIBED)


def type_of(name: str) -> type[betterproto2.Message]:
    found: type[betterproto2.Message] = getattr(v1, name)
    return found


def assert_same(message: Any, reference: Any) -> None:
    """A message of ours against one of protobuf's."""
    for field in reference.DESCRIPTOR.fields:
        ours, theirs = getattr(message, field.name), getattr(reference, field.name)
        if field.is_repeated:
            assert len(ours) == len(theirs)
            for one, other in zip(ours, theirs, strict=True):
                assert_same_value(field, one, other)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not reference.HasField(field.name):
            assert ours is None
        else:
            assert_same_value(field, ours, theirs)


def assert_same_value(field: FieldDescriptor, ours: Any, theirs: Any) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        assert_same(ours, theirs)
    else:
        assert ours == theirs or (ours != ours and theirs != theirs)


def mutated(data: bytes, random: Random) -> bytes:
    """`data` with a few bytes changed, taken away or put in."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(out))
        change = random.randrange(4)
        if change == 0:
            out[at : at + random.randint(1, 4)] = b""
        elif change == 1:
            out[at:at] = random.randbytes(random.randint(1, 3))
        elif change == 2:
            out[at : at + 1] = bytes((random.choice((0, 1, 7, 8, 10, 18, 0x7F, 0x80, 0xFF)),))
        else:
            start = random.randint(0, len(out))
            out[at:at] = out[start : start + random.randint(1, 8)]
    return bytes(out)


def assert_agrees(name: str, data: bytes) -> None:
    try:
        message = parse_message(data, type_of(name))
    except InvalidValue:
        return
    try:
        theirs = GetMessageClass(DESCRIBED[name]).FromString(data)
    except DecodeError:
        raise AssertionError(f"{name} {data.hex()}: accepted, and protobuf does not") from None
    assert_same(message, theirs)
    type_of(name).FromString(data)
