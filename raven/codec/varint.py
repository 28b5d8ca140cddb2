"""Base-128 varints, as protobuf has them."""

from __future__ import annotations

__all__ = ["varint"]

_ONE_BYTE = tuple(bytes((n,)) for n in range(128))


def varint(value: int) -> bytes:
    """`value` (0 or more) in as few bytes as it needs.

    >>> varint(300).hex()
    'ac02'
    """
    if value < 128:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
