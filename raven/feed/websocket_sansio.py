"""A WebSocket client: the sans-IO core of `websockets` over a Trio stream.

One read takes up to `READ_BYTES_MAX` from the socket, and every message in it goes to the caller at once: no task, queue or
wake-up per message. Whole text and binary messages in one frame, which is what venues send, are cut out of the read here; every
other frame (control, compressed, fragmented, very long, or against the rules) goes to the library, which knows what to do.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.extensions.permessage_deflate import enable_client_permessage_deflate
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import State

from raven.errors import ConnectionLost, shown
from raven.feed.address import USER_AGENT, ByteStream, WebSocketAddress, connecting, open_stream, root_cause

__all__ = ["CLOSE_TIMEOUT_S", "FRAGMENTS_MAX", "READ_BYTES_MAX", "TAIL_BYTES_MAX", "open_sansio"]

CLOSE_TIMEOUT_S = 1.0  # for the closing handshake
READ_BYTES_MAX = 64 * 1024  # of one read: 256 KiB are no faster, and hold up every other task four times as long
TAIL_BYTES_MAX = 64 * 1024  # the beginning of a longer frame is not kept here, but given to the library
FRAGMENTS_MAX = 4096  # of one message

_TEXT = Opcode.TEXT
_BINARY = Opcode.BINARY
_CONT = Opcode.CONT
_TEXT_FRAME = 0x81  # first byte of a frame (RFC 6455, 5.2): final, text
_BINARY_FRAME = 0x82
_WHOLE_MESSAGE = frozenset({_TEXT_FRAME, _BINARY_FRAME})
_MASKED = 0x80  # in the second byte, above the length


@asynccontextmanager
async def open_sansio(
    address: WebSocketAddress, *, headers: Mapping[str, str], frame_bytes_max: int, tls: ssl.SSLContext | None
) -> AsyncGenerator[SansIoSocket]:
    """As `raven.feed.transport.open_websocket`."""
    protocol = ClientProtocol(address.uri, extensions=enable_client_permessage_deflate(None), max_size=frame_bytes_max)
    socket = await _connect(address, protocol, headers, tls)
    try:
        yield socket
    finally:
        await socket.aclose()


class SansIoSocket:
    """A `FeedSocket`, from the end of the opening handshake on."""

    def __init__(self, stream: ByteStream, protocol: ClientProtocol, where: str, early: bytes) -> None:
        """`early`: what came in one read with the handshake's answer, after it."""
        self._stream = stream
        self._protocol = protocol
        self._where = where
        self._write_lock = trio.Lock()
        self._message_bytes_max = protocol.max_message_size or 0
        self._tail = b""  # the beginning of a frame
        self._owed = 0  # bytes that the library still needs for the frame it is at
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._fragments_text = False
        self._ended = ""  # why no more messages come
        self._heard_at = trio.current_time()
        self._early_ts_ns = time.time_ns()
        self._early = self._parse(early) if early else []

    @property
    def heard_at(self) -> float:
        """When anything at all was last read, on Trio's clock."""
        return self._heard_at

    async def receive_bulk(self) -> tuple[list[bytes], int]:
        """As `FeedSocket` has it."""
        if self._early:
            await trio.lowlevel.checkpoint()
            early, self._early = self._early, []
            return early, self._early_ts_ns
        while not self._ended:
            data = await self._read()
            received_ts_ns = time.time_ns()
            self._heard_at = trio.current_time()
            messages = self._parse(data)
            if not self._ended:  # what is left to write at the end, `aclose` writes under its deadline
                await self._flush()
            if messages:
                return messages, received_ts_ns
        raise ConnectionLost(self._ended)

    async def send(self, data: str | bytes) -> None:
        """As `FeedSocket` has it."""
        try:
            if isinstance(data, str):
                self._protocol.send_text(data.encode())
            else:
                self._protocol.send_binary(data)
        except InvalidState:
            raise ConnectionLost(self._ended or f"{self._where}: the connection is closing") from None
        await self._flush()
        if self._ended:
            raise ConnectionLost(self._ended)

    async def aclose(self) -> None:
        """Say goodbye if there is anyone to say it to, and close the socket in any case."""
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await self._say_goodbye()
        await trio.aclose_forcefully(self._stream)

    async def _say_goodbye(self) -> None:
        waiting = not self._ended
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        await self._flush()
        with contextlib.suppress(ConnectionLost):
            while waiting and await self._read():
                pass  # what it sends now is too late; at its close frame a server ends the connection

    async def _read(self) -> bytes | bytearray:
        try:
            return await self._stream.receive_some(READ_BYTES_MAX)
        except (trio.BrokenResourceError, OSError) as error:
            self._ended = f"{self._where} broke the connection: {root_cause(error)}"
            raise ConnectionLost(self._ended) from error

    async def _flush(self) -> None:
        """Write what the protocol has to say. A connection that cannot be written to is over; the next read says so."""
        if not self._protocol.writes:
            return
        async with self._write_lock:
            data = b"".join(self._protocol.data_to_send())
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, OSError) as error:
                self._ended = self._ended or f"{self._where} broke the connection: {root_cause(error)}"
            except trio.Cancelled:
                self._ended = self._ended or f"{self._where}: a write was given up half-way"
                raise

    def _parse(self, data: bytes | bytearray) -> list[bytes]:
        """The whole messages in one read.

        One longer function, because it is most of what a message costs: 0.3 us of 120 bytes, 3.1 us through the library.
        """
        messages: list[bytes] = []
        bytes_max = self._message_bytes_max
        if not data:
            self._end_by(f"{self._where} ended the connection without closing it")
        data = self._tail + data if self._tail else bytes(data)
        size = len(data)
        position = min(self._owed, size)
        if position:
            self._feed(data[:position], self._owed, messages)
        while size - position >= 2 and not self._ended:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length > 125:
                if length & _MASKED:  # which no server may do: the library will say so
                    self._feed(data[position:], size - position, messages)
                    break
                start += 2 if length == 126 else 8
                if start > size:
                    break
                length = int.from_bytes(data[position + 2 : start])
            end = start + length
            whole = first in _WHOLE_MESSAGE and self._protocol.current_size is None  # None between messages
            if whole and end <= size and length <= bytes_max:
                message = data[start:end]
                if first == _TEXT_FRAME and not message.isascii() and not self._is_text(message):
                    break
                messages.append(message)
            elif end <= size or length > min(bytes_max, TAIL_BYTES_MAX):
                self._feed(data[position:end], end - position, messages)
            else:
                break
            position = end
        self._tail = data[position:]
        return messages

    def _feed(self, piece: bytes, needed: int, messages: list[bytes]) -> None:
        """Give the library a frame that needs so many bytes, or as much of it as there is."""
        self._owed = needed - len(piece)
        self._protocol.receive_data(piece)
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in (_CONT, _TEXT, _BINARY):
                self._join(frame, messages)
        if self._protocol.state is not State.OPEN:
            self._end_by(self._why())

    def _join(self, frame: Frame, messages: list[bytes]) -> None:
        """Take one fragment of a message; one that is whole is its only fragment."""
        if frame.opcode is not _CONT:
            self._fragments_text = frame.opcode is _TEXT
        self._fragments.append(frame.data)
        if len(self._fragments) > FRAGMENTS_MAX:
            self._fail(CloseCode.POLICY_VIOLATION, f"sent a message in more than {FRAGMENTS_MAX} fragments")
        elif frame.fin:
            data = b"".join(self._fragments)
            self._fragments.clear()
            if not self._fragments_text or self._is_text(data):
                messages.append(data)

    def _is_text(self, data: bytes) -> bool:
        try:
            data.decode()
        except UnicodeDecodeError as error:
            self._fail(CloseCode.INVALID_DATA, f"sent a text message that is not UTF-8: {error.reason} at byte {error.start}")
            return False
        return True

    def _fail(self, code: CloseCode, what: str) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code)
        self._end_by(f"{self._where} {what}")

    def _end_by(self, why: str) -> None:
        self._ended = self._ended or why
        self._fragments.clear()

    def _why(self) -> str:
        """What ended the protocol, for people."""
        error, close = self._protocol.parser_exc, self._protocol.close_rcvd
        if isinstance(error, PayloadTooBig):
            return f"{self._where} sent a message over the limit of {self._protocol.max_message_size} bytes"
        if error is not None and not isinstance(error, EOFError):
            return f"{self._where} broke the WebSocket protocol: {error}"
        if close is not None:
            return f"{self._where} closed the connection: {_format_close(close)}"
        return f"{self._where} ended the connection without closing it"


def _format_close(close: Close) -> str:
    code = "no code" if close.code == CloseCode.NO_STATUS_RCVD else f"code {int(close.code)}"
    return f"{code}, {shown(close.reason)}" if close.reason else code


async def _connect(
    address: WebSocketAddress, protocol: ClientProtocol, headers: Mapping[str, str], tls: ssl.SSLContext | None
) -> SansIoSocket:
    with connecting(address):
        stream = await open_stream(address, tls)
        try:
            early = await _shake_hands(stream, protocol, headers)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return SansIoSocket(stream, protocol, address.where, early)


async def _shake_hands(stream: ByteStream, protocol: ClientProtocol, headers: Mapping[str, str]) -> bytes:
    """Returns what came after the answer."""
    request = protocol.connect()
    for name, value in {"User-Agent": USER_AGENT, **headers}.items():
        request.headers[name] = value
    protocol.send_request(request)
    await stream.send_all(b"".join(protocol.data_to_send()))
    before = b""
    while protocol.handshake_exc is None:
        data = bytes(await stream.receive_some(READ_BYTES_MAX))
        if not data:
            protocol.receive_eof()
            continue
        end = _end_of_head(before, data)
        protocol.receive_data(data[:end])
        if protocol.state is State.OPEN:
            protocol.events_received()  # the answer
            return data[end:]
        protocol.receive_data(data[end:])
        before = (before + data)[-3:]
    raise protocol.handshake_exc


def _end_of_head(before: bytes, data: bytes) -> int:
    """Where in `data` an HTTP head ends; all of it while it does not. `before`: the last bytes that came earlier."""
    found = (before + data).find(b"\r\n\r\n")
    return len(data) if found < 0 else found + 4 - len(before)
