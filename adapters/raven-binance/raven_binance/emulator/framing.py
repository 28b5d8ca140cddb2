"""WebSocket frames as a server writes them (RFC 6455, section 5.2), and a stream that keeps each write whole."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

import trio

__all__ = ["WholeWrites", "close_frame", "cut_up", "fragmented", "server_frame", "text_frame"]

FINAL_TEXT = 0x81
CONTINUATION, TEXT, CLOSE = 0, 1, 8  # opcodes
FIN, RSV1, MASKED = 0x80, 0x40, 0x80


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


def server_frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv1: bool = False, mask: bytes = b"") -> bytes:
    """One frame of any kind, also of those that a server must not send: masked with four bytes, or with `rsv1` unasked.

    >>> server_frame(b"{}", fin=False)
    b'\\x01\\x02{}'
    """
    head = text_frame(b"\0" * len(payload))[: -len(payload) or None]
    first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
    second = head[1] | (MASKED if mask else 0)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload
    return bytes([first, second]) + head[2:] + mask + masked


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A close frame; with no code an empty one, which a receiver reports as 1005."""
    return server_frame(b"" if code is None else struct.pack("!H", code) + reason.encode(), CLOSE)


def fragmented(payload: bytes, pieces: int) -> bytes:
    """One text message in so many frames, or in as many as it has bytes."""
    parts = list(cut_up(payload, pieces)) or [b""]
    last = len(parts) - 1
    return b"".join(server_frame(part, CONTINUATION if index else TEXT, fin=index == last) for index, part in enumerate(parts))


def cut_up(data: bytes, pieces: int) -> Iterator[bytes]:
    """`data` in at most so many parts of one size, the last one shorter."""
    size = max(1, -(-len(data) // pieces))
    return (data[start : start + size] for start in range(0, len(data), size))


class WholeWrites(trio.abc.Stream):
    """A stream on which several tasks write: one `send_all` after the other, in the order of the calls."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._turn = trio.Lock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`, nothing of another call in between."""
        async with self._turn:
            await self._stream.send_all(data)

    async def send_pieces(self, pieces: Iterable[bytes], pause_s: float) -> None:
        """The same for data that is written in parts, with a pause behind each."""
        async with self._turn:
            for piece in pieces:
                await self._stream.send_all(piece)
                await trio.sleep(pause_s)

    def reset_on_close(self) -> None:
        """Make the end of this connection a TCP reset."""
        if isinstance(self._stream, trio.SocketStream):
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def wait_send_all_might_not_block(self) -> None:
        """As of the stream below."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As of the stream below."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream below."""
        await self._stream.aclose()
