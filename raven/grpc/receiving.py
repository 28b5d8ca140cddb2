"""One request stream of a client: what arrived of it, and the messages in that.

A message has a prefix of five bytes: whether it is compressed, and its length
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). A stranger's prefix is held against the limit before
anything behind it is kept, and what a compressed message inflates to is held against the same one.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import Buffer, Connection, Stream

from raven.grpc.http2 import ANSWER_HEADERS
from raven.grpc.limits import ENCODINGS

__all__ = ["ENCODINGS", "REQUEST_BYTES_MAX", "RavenStream", "inflate"]

REQUEST_BYTES_MAX = 256 * 1024
"""The longest request that is taken, after inflating it: a thousand subscriptions with resume points fit into it."""

PREFIX_SIZE = 5

_NEVER = asyncio.Event()

_ACCEPTED = ANSWER_HEADERS[-1]


class RequestBuffer(Buffer):
    """The bytes of one request stream that are not read yet.

    A window is given back for what is read, so not more than one window is kept; many tiny frames cost no more than one.

    Args:
        give_back: returns so many bytes to the windows of stream and connection.
    """

    def __init__(self, give_back: Callable[[int], None]) -> None:  # without grpclib's own, whose queue it does not use
        self._give_back = give_back
        self._kept = bytearray()
        self._padding = 0  # of frames: it counts for the windows
        self._ended = False
        self._arrived: asyncio.Future[None] | None = None

    def add(self, data: bytes, flow_controlled_bytes: int) -> None:
        """A DATA frame came."""
        self._kept += data
        self._padding += flow_controlled_bytes - len(data)
        if data:
            self._wake()

    def eof(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake()

    def unacked_size(self) -> int:
        """Forget what was not read; how many bytes that gives back to the windows."""
        size, self._padding = len(self._kept) + self._padding, 0
        self._kept.clear()
        return size

    @property
    def has_message(self) -> bool:
        """Whether the next message is there as a whole, and reading it waits for nothing."""
        kept = self._kept
        return len(kept) >= PREFIX_SIZE and len(kept) - PREFIX_SIZE >= int.from_bytes(kept[1:PREFIX_SIZE], "big")

    async def read(self, size: int) -> bytes:
        """`size` bytes; fewer if the stream ended before."""
        taken = bytearray()
        while len(taken) < size and (self._kept or not self._ended):
            if not self._kept:
                await self._wait()
            part = self._kept[: size - len(taken)]
            del self._kept[: len(part)]
            taken += part
            self._return(len(part))
        return bytes(taken)

    def _return(self, size: int) -> None:
        size, self._padding = size + self._padding, 0
        self._give_back(size)

    async def _wait(self) -> None:
        self._arrived = asyncio.get_running_loop().create_future()
        try:
            await self._arrived
        finally:
            self._arrived = None

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class RavenStream(Stream):
    """Reads requests whole or not at all, and tells every client which encodings it may use."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.headers_received = self.trailers_received = _NEVER  # only clients wait for them

    def init_stream(self, stream_id: int, connection: Connection) -> None:
        """grpclib has opened it."""
        super().init_stream(stream_id, connection)
        self.buffer = RequestBuffer(partial(connection.ack, stream_id))

    async def send_headers(self, headers: list[tuple[str, str]], end_stream: bool = False) -> None:
        """Response headers or trailers; the first of a stream name our encodings."""
        if any(name == ":status" for name, _ in headers):
            headers = [*headers, _ACCEPTED]
        await super().send_headers(headers, end_stream=end_stream)

    async def read_request(self, encoding: str | None) -> bytes | None:
        """The next message, inflated; None when the client has sent its last.

        Args:
            encoding: the header grpc-encoding.

        Raises:
            GRPCError: RESOURCE_EXHAUSTED, it is longer than `REQUEST_BYTES_MAX`; INTERNAL, it is cut off or no message;
                UNIMPLEMENTED, an encoding that we do not have.
        """
        prefix = await self.buffer.read(PREFIX_SIZE)
        if not prefix:
            return None
        if len(prefix) < PREFIX_SIZE:
            raise GRPCError(Status.INTERNAL, f"the stream ended within a message: {len(prefix)} bytes of its prefix of 5")
        flag, size = prefix[0], int.from_bytes(prefix[1:], "big")
        if size > REQUEST_BYTES_MAX:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a request of {size} bytes: at most {REQUEST_BYTES_MAX}")
        window_bits = _window_bits(flag, encoding)
        message = await self.buffer.read(size)
        if len(message) < size:
            raise GRPCError(Status.INTERNAL, f"the stream ended within a message: {len(message)} of {size} bytes")
        return inflate(message, window_bits) if window_bits else message


def _window_bits(flag: int, encoding: str | None) -> int:
    """For zlib; 0 for a message that is not compressed.

    Raises:
        GRPCError: as gRPC's compression.md has it.
    """
    if flag == 0:
        return 0
    if flag != 1:
        raise GRPCError(Status.INTERNAL, f"a message with the flag byte {flag}: 0 or 1 would be valid")
    if encoding in (None, "identity"):
        raise GRPCError(Status.INTERNAL, "a message is compressed, and no grpc-encoding says how")
    assert encoding is not None
    if encoding not in ENCODINGS:
        names = ", ".join(ENCODINGS)
        raise GRPCError(Status.UNIMPLEMENTED, f"grpc-encoding: {ascii(encoding)[:80]} is not served: identity, {names} are")
    return ENCODINGS[encoding]


def inflate(data: bytes, window_bits: int, size_max: int = REQUEST_BYTES_MAX) -> bytes:
    """What a compressed message holds; not a byte more than `size_max` is ever made.

    Raises:
        GRPCError: RESOURCE_EXHAUSTED, it holds more; INTERNAL, it is not compressed so, or cut off.
    """
    inflater = zlib.decompressobj(window_bits)
    try:
        message = inflater.decompress(data, size_max + 1)
    except zlib.error as error:
        raise GRPCError(Status.INTERNAL, f"a compressed message cannot be inflated: {error}") from error
    if len(message) > size_max:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a request of more than {size_max} bytes, inflated: at most {size_max}")
    if not inflater.eof or inflater.unused_data:
        raise GRPCError(Status.INTERNAL, "a compressed message is cut off, or something stands behind its end")
    return message
