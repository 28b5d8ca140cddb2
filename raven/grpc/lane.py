"""The quick way of one stream: whole messages, as long as nothing is in their way.

What may be in their way is a window of HTTP/2, a socket that is full, a peer whose frames are small, or an end. Then a lane
does nothing, and StreamWriter has to look. `raven.speedups` has the same lane, compiled; it writes the same bytes.
"""

from __future__ import annotations

from ssl import SSLError
from struct import Struct
from typing import Any

from h2.stream import StreamState

from raven.broker.outbox import Lane
from raven.grpc.sending import Way
from raven.speedups import compiled

__all__ = ["PREFIX_BYTES", "open_lane"]

PREFIX_BYTES = 5
"""gRPC's, in front of each message."""

# RFC 9113, 4.1: length in 24 bits, type DATA = 0, no flags, stream; then gRPC's prefix: not compressed, length
_FRAME_AND_PREFIX = Struct(">HBxxLxL").pack

_CLOSED = StreamState.CLOSED


def open_lane(h2: Any, stream: Any, gate: Any, way: Way) -> Lane:
    """A lane.

    Args:
        h2: the connection as h2 has it, whose windows are kept true.
        stream: the stream as h2 has it.
        gate: `open` says whether the socket takes more.
        way: into the connection.
    """
    return _Lane(h2, stream, gate, way) if compiled is None else compiled.Lane(h2, stream, gate, way)


class _Lane:
    __slots__ = ("_gate", "_h2", "_held", "_number", "_send", "_state", "_stream", "_tls", "_write", "closed")

    def __init__(self, h2: Any, stream: Any, gate: Any, way: Way) -> None:
        self._h2, self._stream, self._gate = h2, stream, gate
        self._state = stream.state_machine
        self._number: int = stream.stream_id
        self._write, self._held, self._send, self._tls = way.write, way.held, way.send, way.tls
        self.closed = False

    def send(self, message: bytes, shared: dict[int, bytes]) -> bool:
        """Write a message; see Lane."""
        h2, stream = self._h2, self._stream
        size = len(message) + PREFIX_BYTES
        if (
            size > h2.outbound_flow_control_window
            or size > stream.outbound_flow_control_window
            or size > h2.max_outbound_frame_size
            or self._held
            or not self._gate.open
            or self.closed
            or self._state.state is _CLOSED
        ):
            return False
        frame = shared.get(self._number)  # most clients have but one stream, and so the same number
        if frame is None:
            frame = shared[self._number] = _FRAME_AND_PREFIX(size >> 8, size & 255, self._number, len(message)) + message
        h2.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        if self._send is None:
            sent = 0
        elif self._tls is None:
            try:
                sent = self._send(frame)
            except OSError:  # full, or broken: the transport will see
                sent = 0
        else:
            sent = self._send_encrypted(frame)
        if sent < len(frame):
            self._write(memoryview(frame)[sent:] if sent else frame)
        return True

    def _send_encrypted(self, data: bytes) -> int:
        """Encrypt, and send what that gives, if nothing is held back in front of it; else it takes nothing."""
        tls, send = self._tls, self._send
        assert tls is not None
        assert send is not None
        if tls.backlog or tls.protocol._state is not tls.wrapped:  # noqa: SLF001
            return 0
        try:
            taken = tls.encrypt(data)
        except SSLError:  # the transport will see
            return 0
        encrypted = tls.read()
        try:
            sent = send(encrypted)
        except OSError:  # full, or broken: what is encrypted must go first, and the transport below will see
            sent = 0
        if sent < len(encrypted):
            tls.push(memoryview(encrypted)[sent:])
        return taken
