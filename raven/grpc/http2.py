"""h2's connection with a stranger at the other end: what it would end the connection for, keep, or answer without limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, _decode_headers
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from h2.stream import StreamClosedBy, StreamInputs
from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from raven.grpc.limits import (
    CLOSED_STREAMS_MAX,
    CONNECTION_WINDOW_BYTES,
    ENCODINGS,
    FRAME_BYTES_MAX,
    HEADER_LIST_BYTES_MAX,
    HEADER_TABLE_BYTES_MAX,
)

__all__ = ["ANSWER_HEADERS", "ServerConnection"]

# Bytes from 0x80 up are valid in header values (RFC 9110, 5.5). As latin-1 each is a character; as ASCII they would raise.
CONFIG = H2Configuration(client_side=False, header_encoding="latin-1")
WINDOW_MAX = 2**31 - 1

HEADERS_FREE = 256
"""Headers of one call that are free: half of them for as many fields, half for the 8 KiB that libraries of gRPC allow."""

BYTES_PER_HEADER = 64
"""Of names and values, that count as one header more."""

ANSWER_HEADERS = [
    (":status", "200"),
    ("content-type", "application/grpc+proto"),
    ("grpc-accept-encoding", ",".join(("identity", *ENCODINGS))),
]
"""What an answer begins with that has no metadata of its own."""

# never indexed (RFC 7541, 6.2.3), so that it is the same for each connection, whatever their tables hold
_ANSWER_BLOCK = Encoder().encode([ANSWER_HEADERS[0], *(NeverIndexedHeaderTuple(*header) for header in ANSWER_HEADERS[1:])])
_ANSWER_FRAME = len(_ANSWER_BLOCK).to_bytes(3, "big") + b"\x01\x04"  # HEADERS, END_HEADERS (RFC 9113, 6.2)

_KNOWN_SETTINGS = frozenset(SettingCodes)
_PING_ACK = b"\0\0\x08\x06\x01\0\0\0\0"

Spend = Callable[[str, float], None]


def _spend_nothing(_name: str, _amount: float) -> None:
    """Of a connection that is over."""


def _do_nothing() -> None:
    """When a connection is over."""


class ThriftyEncoder(Encoder):
    """Compresses headers with a table that a client cannot make large."""

    @property
    def header_table_size(self) -> int:
        """In bytes."""
        return int(self.header_table.maxsize)

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, HEADER_TABLE_BYTES_MAX)
        self.header_table.maxsize = size
        if self.header_table.resized:
            self.table_size_changes.append(size)


class _Values(list[int]):
    """What h2 keeps of one setting: the value in force and those to come. Its deques take 600 bytes each, fourteen a client."""

    __slots__ = ()

    def popleft(self) -> int:
        """See collections.deque."""
        return self.pop(0)


def _slim(settings: Settings) -> Settings:
    values: dict[Any, Any] = settings._settings  # noqa: SLF001
    for code, kept in values.items():
        values[code] = _Values(kept)
    return settings


class ServerConnection(H2Connection):
    """One connection of a server, its SETTINGS ready to be sent.

    Args:
        streams_max: calls at once; one more is refused.
        spend: takes from a budget; what it raises leaves `receive_data`.
        answered: called when a call's last frame is made.
    """

    MAX_CLOSED_STREAMS = CLOSED_STREAMS_MAX

    def __init__(self, streams_max: int, spend: Spend, answered: Callable[[], None]) -> None:
        super().__init__(CONFIG)
        self._spend = spend
        self._answered = answered
        self.goaway_made = False
        self._receiving = False
        self._opened_bytes = self.outbound_flow_control_window  # all that the client has ever opened of its window
        self.encoder = ThriftyEncoder()
        initial = {
            SettingCodes.MAX_CONCURRENT_STREAMS: streams_max,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
            SettingCodes.MAX_FRAME_SIZE: FRAME_BYTES_MAX,
        }
        self.local_settings = _slim(Settings(client=False, initial_values=initial))
        self.remote_settings = _slim(self.remote_settings)
        self.max_inbound_frame_size = FRAME_BYTES_MAX
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW_BYTES - self.inbound_flow_control_window)

    @property
    def bytes_sent(self) -> int:
        """Of DATA, ever. The stream writers write around h2, and keep its windows true: so this is."""
        return self._opened_bytes - self.outbound_flow_control_window

    def let_go(self) -> None:
        """The connection is over: refer to its owner no more, so that both are free at once, by reference counts."""
        self._spend = _spend_nothing
        self._answered = _do_nothing

    # ---- what comes

    def receive_data(self, data: Any) -> list[Any]:
        """See h2. Resets that are made within are the client's doing."""
        self._receiving = True
        try:
            return super().receive_data(data)
        finally:
            self._receiving = False

    def open_window(self, stream_id: int, increment: int) -> bool:
        """A WINDOW_UPDATE, the short way; False where h2 must see the frame: errors, and streams that are not open."""
        if not increment:
            return False
        if not stream_id:
            window = self.outbound_flow_control_window + increment
            if window > WINDOW_MAX:
                return False
            self.outbound_flow_control_window = window
            self._opened_bytes += increment
            return True
        stream = self.streams.get(stream_id)
        if stream is None or stream.closed or stream.outbound_flow_control_window + increment > WINDOW_MAX:
            return False
        stream.outbound_flow_control_window += increment
        return True

    def acknowledge_ping(self, payload: bytes) -> None:
        """The answer to a PING, the short way."""
        self._data_to_send += _PING_ACK + payload

    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        if self._receiving:
            for frame in frames:
                if isinstance(frame, RstStreamFrame):
                    self._spend("refused" if frame.error_code == ErrorCodes.REFUSED_STREAM else "reset", 1)
        super()._prepare_for_sending(frames)

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Any]]:
        number = frame.stream_id
        new = number not in self.streams and number > self.highest_inbound_stream_id and number % 2
        if not new or self.open_inbound_streams < self.local_settings.max_concurrent_streams:
            frames, events = super()._receive_headers_frame(frame)
            for event in events:
                self._weigh(getattr(event, "headers", ()))
            return frames, events
        self._weigh(_decode_headers(self.decoder, frame.data))  # without it the compression of the next ones is off
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        self.highest_inbound_stream_id = number
        self._closed_streams[number] = StreamClosedBy.SEND_RST_STREAM
        refusal = RstStreamFrame(number)
        refusal.error_code = ErrorCodes.REFUSED_STREAM
        return [refusal], []

    def _weigh(self, headers: Any) -> None:
        """Long headers within the limit are taken, but not one after the other: 2 KB on the wire may keep us for 5 ms."""
        weight = len(headers) + sum(len(name) + len(value) for name, value in headers) // BYTES_PER_HEADER
        if weight > HEADERS_FREE:
            self._spend("metadata", weight - HEADERS_FREE)

    def _receive_settings_frame(self, frame: SettingsFrame) -> tuple[list[Frame], list[Any]]:
        """Without settings that nobody knows: h2 would keep each of them for ever."""
        frame.settings = {code: value for code, value in frame.settings.items() if code in _KNOWN_SETTINGS}
        return super()._receive_settings_frame(frame)

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Any]]:
        """DATA that was on its way when we reset its call is no fault, and not answered with another reset each."""
        if self._stream_closed_by(frame.stream_id) is not StreamClosedBy.SEND_RST_STREAM:
            return super()._receive_data_frame(frame)
        size = frame.flow_controlled_length
        self._spend("late_data", size)
        self.state_machine.process_input(ConnectionInputs.RECV_DATA)
        window = self._inbound_flow_control_window_manager
        window.window_consumed(size)
        increment = window.process_bytes(size)
        if not increment:
            return [], []
        update = WindowUpdateFrame(0)
        update.window_increment = increment
        return [update], []

    def _receive_window_update_frame(self, frame: WindowUpdateFrame) -> tuple[list[Frame], list[Any]]:
        before = self.outbound_flow_control_window
        result = super()._receive_window_update_frame(frame)
        self._opened_bytes += self.outbound_flow_control_window - before
        return result

    # ---- what goes

    def close_connection(self, *arguments: Any, **named: Any) -> None:
        """See h2."""
        super().close_connection(*arguments, **named)
        self.goaway_made = True

    def _terminate_connection(self, error_code: ErrorCodes) -> None:
        super()._terminate_connection(error_code)
        self.goaway_made = True

    def send_headers(self, stream_id: int, headers: Any, end_stream: bool = False, *priority: Any, **named: Any) -> None:
        """See h2."""
        if headers == ANSWER_HEADERS and not end_stream and self._answer_begins(stream_id):
            return
        super().send_headers(stream_id, headers, end_stream, *priority, **named)
        if end_stream:
            self._answered()

    def _answer_begins(self, stream_id: int) -> bool:
        """The headers that begin nearly every answer, as they are on the wire: h2 and HPACK need a tenth of a millisecond to
        check and compress what is always the same. Whether it went: a change of the table's size must come before.
        """
        stream = self.streams.get(stream_id)
        if stream is None or self.encoder.table_size_changes:
            return False
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        self._data_to_send += _ANSWER_FRAME + stream_id.to_bytes(4, "big") + _ANSWER_BLOCK
        return True
