"""A client's bytes cut into HTTP/2 frames, before anything else looks at them.

h2 would wait for the whole of a frame before it finds it too long, and has no count of frames. So everything passes here
first: the preface, the lengths, the size of header blocks (RFC 9113, 3.4, 4.1, 4.2, 4.3).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from h2.errors import ErrorCodes

from raven.grpc.limits import CONTINUATIONS_MAX, FRAME_BYTES_MAX, HEADER_LIST_BYTES_MAX, Offence

__all__ = ["PREFACE", "Frame", "FrameCutter"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4

_HEAD = Struct(">IBI")  # length in 24 bits and type in 8, flags, stream
_HEAD_BYTES = 9


class Frame(NamedTuple):
    """One frame. `data` is all of it; its payload begins at byte 9."""

    type: int
    flags: int
    stream_id: int
    data: bytes

    @property
    def size(self) -> int:
        """Of the payload."""
        return len(self.data) - _HEAD_BYTES


class FrameCutter:
    """Takes bytes as they come, gives frames. Keeps less than one frame between two reads."""

    __slots__ = ("_at", "_block_bytes", "_block_frames", "_data", "_preface_done", "in_block")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._preface_done = False
        self._block_bytes = 0
        self._block_frames = 0
        self.in_block = False  # a header block was begun; until it is over nothing but CONTINUATION may come

    def add(self, data: bytes) -> None:
        """These bytes came."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def take(self) -> Frame | None:
        """The next frame; None until more bytes come.

        Raises:
            Offence: this is no HTTP/2, a frame is too long, or a header block.
        """
        data, start = self._data, self._at
        if len(data) - start < _HEAD_BYTES:
            if not self._preface_done:
                self._take_preface()
            return None
        if not self._preface_done:
            return self.take() if self._take_preface() else None
        word, flags, stream_id = _HEAD.unpack_from(data, start)
        size, kind = word >> 8, word & 0xFF
        if size > FRAME_BYTES_MAX:
            raise Offence("frame_size", f"a frame of {size} bytes: at most {FRAME_BYTES_MAX}", ErrorCodes.FRAME_SIZE_ERROR)
        end = start + _HEAD_BYTES + size
        if end > len(data):
            return None
        self._at = end
        if self.in_block or kind == HEADERS:
            self._count_block(kind, flags, size)
        return Frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:end])

    def _take_preface(self) -> bool:
        """Whether it is there as a whole."""
        head = self._data[: len(PREFACE)]
        if not PREFACE.startswith(head):
            raise Offence("not_http2", "this is no HTTP/2", ErrorCodes.PROTOCOL_ERROR)
        self._preface_done = head == PREFACE
        self._at = len(PREFACE) if self._preface_done else 0
        return self._preface_done

    def _count_block(self, kind: int, flags: int, size: int) -> None:
        if kind == HEADERS:
            self._block_bytes, self._block_frames = 0, 0
        self._block_bytes += size
        self._block_frames += 1
        self.in_block = not flags & END_HEADERS if kind in (HEADERS, CONTINUATION) else self.in_block
        if self._block_frames > CONTINUATIONS_MAX:
            raise Offence("headers", f"headers in more than {CONTINUATIONS_MAX} frames")
        if self._block_bytes > HEADER_LIST_BYTES_MAX:
            raise Offence("headers", f"headers of more than {HEADER_LIST_BYTES_MAX} bytes")
