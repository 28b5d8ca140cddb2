"""gRPC over one HTTP/2 connection, from the client's side, sans-IO: bytes of the socket in, messages out. On h2.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import attrs
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from h2.connection import ConnectionState

from raven import __version__

__all__ = ["CallEnded", "ConnectionBroken", "Event", "GrpcConnection", "MessageReceived"]

WINDOW_BYTES = 4 * 1024 * 1024
"""What the server may send ahead of what was read, on the connection and on each stream of it."""

FRAME_BYTES_MAX = 256 * 1024
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""A longer message breaks the connection. The server's are at most 1 MiB, unless one event alone is larger."""

FRAME_HEAD, SETTINGS = 9, 4
WINDOW_UPDATE = b"\0\0\4\x08\0"
"""How the frame begins; its stream and the increment follow."""

STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""Names of the gRPC statuses, by number."""

_HTTP = {"400": "INTERNAL", "401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED", "404": "UNIMPLEMENTED"}
_HTTP |= dict.fromkeys(("429", "502", "503", "504"), "UNAVAILABLE")
_RESETS = {
    h2.errors.ErrorCodes.REFUSED_STREAM: "UNAVAILABLE",
    h2.errors.ErrorCodes.CANCEL: "CANCELLED",
    h2.errors.ErrorCodes.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
    h2.errors.ErrorCodes.INADEQUATE_SECURITY: "PERMISSION_DENIED",
}


class ConnectionBroken(OSError):
    """The peer does not speak HTTP/2 as gRPC has it."""


@attrs.frozen
class MessageReceived:
    """One message of a call."""

    call: int
    data: bytes


@attrs.frozen
class CallEnded:
    """A call has ended, with the name of its gRPC status."""

    call: int
    status: str
    message: str


Event = MessageReceived | CallEnded


@attrs.define
class _Call:
    """What has come of one call. `chunks` are not whole messages yet."""

    number: int
    chunks: list[bytes] = attrs.field(factory=list)
    size: int = 0
    read: int = 0  # bytes that have not been given back to its window
    headers: dict[str, str] = attrs.field(factory=dict)
    waiting: bytearray = attrs.field(factory=bytearray)  # to be sent when the window allows
    end: bool = False  # nothing follows what waits


class GrpcConnection:
    """One connection.

    Args:
        authority: "host:port".
        metadata: sent with each call.
    """

    def __init__(self, authority: str, metadata: Mapping[str, str] | None = None, *, scheme: str = "http") -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: FRAME_BYTES_MAX,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 64 * 1024,
            },
        )
        self._h2.max_inbound_frame_size = FRAME_BYTES_MAX  # h2 has read the settings before
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES - 65_535)
        self._authority, self._scheme = authority, scheme
        self._metadata = dict(metadata or {})
        self._calls: dict[int, _Call] = {}
        self._greeted = False
        self._rest = b""  # of a frame that is not whole yet
        self._read = 0  # bytes that have not been given back to the connection's window
        self._updates = bytearray()
        self.going_away = False

    @property
    def calls(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    def start(self, path: str, *, timeout_s: float | None = None) -> int:
        """Begin a call; its number."""
        number = self._h2.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": self._scheme,
            ":path": path,
            ":authority": self._authority,
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": f"raven-client-python/{__version__}",
            **({"grpc-timeout": f"{max(round(timeout_s * 1000), 1)}m"} if timeout_s is not None else {}),
            **self._metadata,
        }
        self._h2.send_headers(number, list(headers.items()))
        self._calls[number] = _Call(number)
        return number

    def send(self, number: int, message: bytes, *, end: bool = False) -> None:
        """Send one message, `end`: the last one. A call that has ended takes nothing more."""
        call = self._calls.get(number)
        if call is not None:
            call.waiting += b"\0" + len(message).to_bytes(4, "big") + message
            call.end = end
            self._flush(number, call)

    def cancel(self, number: int) -> None:
        """Give up a call."""
        if self._calls.pop(number, None) is not None:
            self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)

    def close(self) -> None:
        """Give up all calls and say that nothing follows."""
        for number in list(self._calls):
            self.cancel(number)
        self._h2.close_connection()

    def data_to_send(self) -> bytes:
        """What the socket is to send now."""
        data = self._h2.data_to_send()
        if self._updates:
            data += bytes(self._updates)
            self._updates.clear()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """What the socket has received.

        Raises:
            ConnectionBroken: it is not what a gRPC server sends; the connection is of no use any more.
        """
        data = self._rest + data if self._rest else data
        found: list[Event] = []
        at, end = 0, len(data)
        while end - at >= FRAME_HEAD:
            size = int.from_bytes(data[at : at + 3], "big")
            self._check_frame(data[at + 3], size, data)
            stop = at + FRAME_HEAD + size
            if stop > end:
                break
            call = self._plain_call(data, at)
            if call is None:
                self._by_h2(data[at:stop], found)
            else:
                self._credit(call, size)
                self._append(call, data[at + FRAME_HEAD : stop], found)
            at = stop
        self._rest = data[at:]
        return found

    def _check_frame(self, kind: int, size: int, data: bytes) -> None:
        """A server of HTTP/2 begins with SETTINGS; what begins otherwise would be waited for as if it were a long frame."""
        if not self._greeted and kind != SETTINGS:
            raise ConnectionBroken(f"the server does not speak HTTP/2: it begins with {data[:16]!r}")
        self._greeted = True
        if size > FRAME_BYTES_MAX:
            raise ConnectionBroken(f"the server sent a frame of {size} bytes, and one may have {FRAME_BYTES_MAX}")

    def _plain_call(self, data: bytes, at: int) -> _Call | None:
        """The call whose DATA frame without flags this is, which needs nothing of h2; None for every other frame.

        h2 takes 20 us for each, which is as much as ten events. Its windows stay as they are: what it does not see come, it
        does not see given back either.
        """
        if data[at + 3] or data[at + 4]:  # type DATA is 0
            return None
        call = self._calls.get(int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFF_FFFF)
        return call if call is not None and call.headers else None

    def _credit(self, call: _Call, size: int) -> None:
        """Give back what was read, a good part of the window at a time."""
        call.read += size
        self._read += size
        if call.read >= WINDOW_BYTES // 4:
            self._updates += WINDOW_UPDATE + call.number.to_bytes(4, "big") + call.read.to_bytes(4, "big")
            call.read = 0
        if self._read >= WINDOW_BYTES // 4:
            self._updates += WINDOW_UPDATE + bytes(4) + self._read.to_bytes(4, "big")
            self._read = 0

    def _by_h2(self, frame: bytes, found: list[Event]) -> None:
        try:
            for event in self._h2.receive_data(frame):
                self._take(event, found)
        except h2.exceptions.ProtocolError as error:
            raise ConnectionBroken(f"the server does not speak HTTP/2: {error}") from error

    def _take(self, event: h2.events.Event, found: list[Event]) -> None:
        if isinstance(event, h2.events.DataReceived):
            self._data(event, found)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            call = self._calls.get(event.stream_id or 0)
            if call is not None:
                call.headers.update(_texts(event.headers or ()))
        elif isinstance(event, h2.events.StreamEnded):
            self._ended(event.stream_id or 0, found)
        elif isinstance(event, h2.events.StreamReset):
            code = h2.errors.ErrorCodes(event.error_code or 0) if (event.error_code or 0) in _CODES else None
            if self._calls.pop(event.stream_id or 0, None) is not None:
                status = "INTERNAL" if code is None else _RESETS.get(code, "INTERNAL")
                found.append(CallEnded(event.stream_id or 0, status, f"the server reset the stream ({event.error_code})"))
        elif isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            for number, call in list(self._calls.items()):
                self._flush(number, call)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self._go_away(event, found)

    def _data(self, event: h2.events.DataReceived, found: list[Event]) -> None:
        number, data = event.stream_id or 0, event.data or b""
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, number)
        call = self._calls.get(number)
        if call is not None:
            self._append(call, data, found)

    def _append(self, call: _Call, data: bytes, found: list[Event]) -> None:
        number = call.number
        call.chunks.append(data)
        call.size += len(data)
        _check_prefix(call.chunks)
        if call.size < 5 or call.size - 5 < _message_size(call.chunks):
            return
        joined = b"".join(call.chunks)
        at = 0
        while len(joined) - at >= 5:
            size = int.from_bytes(joined[at + 1 : at + 5], "big")
            if joined[at] or size > MESSAGE_BYTES_MAX:
                raise ConnectionBroken(f"the server sent a message of {size} bytes, flag {joined[at]}")
            if len(joined) - at - 5 < size:
                break
            found.append(MessageReceived(number, joined[at + 5 : at + 5 + size]))
            at += 5 + size
        rest = joined[at:]
        call.chunks = [rest] if rest else []
        call.size = len(rest)

    def _ended(self, number: int, found: list[Event]) -> None:
        call = self._calls.pop(number, None)
        if call is None:
            return
        headers = call.headers
        text = headers.get("grpc-status", "")
        if text.isdecimal():
            status = STATUSES[int(text)] if int(text) < len(STATUSES) else "UNKNOWN"
            found.append(CallEnded(number, status, unquote(headers.get("grpc-message", ""))))
        else:
            http = headers.get(":status", "?")
            found.append(CallEnded(number, _HTTP.get(http, "UNKNOWN"), f"HTTP status {http}, and no gRPC status"))

    def _go_away(self, event: h2.events.ConnectionTerminated, found: list[Event]) -> None:
        """Calls that the server has taken go on; h2 would end them."""
        self.going_away = True
        last = event.last_stream_id if event.last_stream_id is not None else 0
        for number in [number for number in self._calls if number > last]:
            del self._calls[number]
            found.append(CallEnded(number, "UNAVAILABLE", "the server is going away"))
        if event.error_code == h2.errors.ErrorCodes.NO_ERROR:
            self._h2.state_machine.state = ConnectionState.CLIENT_OPEN

    def _flush(self, number: int, call: _Call) -> None:
        """Send what the windows take of what waits."""
        while call.waiting:
            room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size, len(call.waiting))
            if room <= 0:
                return
            last = call.end and room == len(call.waiting)
            self._h2.send_data(number, bytes(call.waiting[:room]), end_stream=last)
            del call.waiting[:room]


_CODES = frozenset(int(code) for code in h2.errors.ErrorCodes)


def _texts(headers: Iterable[tuple[str | bytes, str | bytes]]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in headers}


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _check_prefix(chunks: list[bytes]) -> None:
    """A prefix that was cut is made whole, so that the size can be read from the first chunk."""
    while len(chunks) > 1 and len(chunks[0]) < 5:
        chunks[:2] = [chunks[0] + chunks[1]]


def _message_size(chunks: list[bytes]) -> int:
    """Of the first message, from its prefix.

    Raises:
        ConnectionBroken: it is longer than a message may be.
    """
    size = int.from_bytes(chunks[0][1:5], "big")
    if size > MESSAGE_BYTES_MAX:
        raise ConnectionBroken(f"the server announced a message of {size} bytes, and one may have {MESSAGE_BYTES_MAX}")
    return size
