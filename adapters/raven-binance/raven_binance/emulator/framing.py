"""WebSocket frames as a server writes them (RFC 6455, section 5.2), and a stream that keeps each write whole."""

from __future__ import annotations

import struct

import trio

__all__ = ["WholeWrites", "text_frame"]

FINAL_TEXT = 0x81


def text_frame(payload: bytes) -> bytes:
    """One text message in one unmasked frame.

    >>> text_frame(b"{}")
    b'\\x81\\x02{}'
    """
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", FINAL_TEXT, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", FINAL_TEXT, 126, size) + payload
    return struct.pack("!BBQ", FINAL_TEXT, 127, size) + payload


class WholeWrites(trio.abc.Stream):
    """A stream on which several tasks write: one `send_all` after the other, in the order of the calls."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._turn = trio.Lock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`, nothing of another call in between."""
        async with self._turn:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As of the stream below."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As of the stream below."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream below."""
        await self._stream.aclose()
