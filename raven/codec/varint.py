"""Base-128 varints, as protobuf has them."""

from __future__ import annotations

__all__ = ["varint"]

_ONE_BYTE = tuple(bytes((n,)) for n in range(128))


def varint(value: int) -> bytes:
    """`value` in as few bytes as it needs.

    Raises:
        ValueError: it is negative, or has more than 64 bits.

    >>> varint(300).hex()
    'ac02'
    """
    if 0 <= value < 128:
        return _ONE_BYTE[value]
    if not 0 <= value < 2**64:
        raise ValueError(f"{value} is not valid: 0 to 2**64 - 1")
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
