"""One HTTP/2 connection of a client: grpclib's protocol with its edges closed.

Under trio-asyncio an exception that leaves a protocol callback would end the process, so `RavenProtocol` contains every fault
of a connection at one point. Frames are taken one by one and held against the connection's budgets; what takes too long goes on
after others have had their turn. What opens a window (WINDOW_UPDATE, SETTINGS, a drained socket) calls the stream writers
directly, without a task in between.
"""

from __future__ import annotations

import socket
import time
from asyncio import BaseTransport, BufferedProtocol, TimerHandle, Transport, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Protocol, cast

import structlog
from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, H2Protocol
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame

from raven.grpc.budgets import BYTES_PER_WINDOW_UPDATE, UNANSWERED_BYTES_MAX, Budgets
from raven.grpc.connection import RavenConnection, RavenProcessor, Writer
from raven.grpc.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    FrameCutter,
)
from raven.grpc.http2 import ServerConnection
from raven.grpc.limits import (
    ANSWERS_BYTES_MAX,
    LINGER_BYTES_MAX,
    LINGER_S,
    READ_BYTES,
    TURN_S,
    ConnectionLimits,
    Offence,
)
from raven.grpc.sending import let_go

__all__ = ["ConnectionObserver", "RavenConnection", "RavenProtocol", "Writer"]

log = structlog.stdlib.get_logger("raven.grpc")

GRPC_MESSAGE_BYTES_MIN = 5
"""DATA that is shorter holds not even the prefix of a message."""

EXTENSIONS_MAX = 6
"""So often a handshake is given its time anew, if at the end of it there is something that we have not read yet."""

NO_ERROR = bytes(4)
PING_PAYLOAD = b"raven-ok"
_COUNTED = {SETTINGS: "settings", PRIORITY: "priority", CONTINUATION: "continuation"}
_REASONS = {
    ErrorCodes.FRAME_SIZE_ERROR: "frame_size",
    ErrorCodes.FLOW_CONTROL_ERROR: "flow_control",
    ErrorCodes.ENHANCE_YOUR_CALM: "headers",
}
"""Why h2 ended a connection, by the code that it gave."""


class ConnectionObserver(Protocol):
    """Who wants to know of connections."""

    def connection_opened(self, protocol: RavenProtocol) -> None:
        """A client has connected; with TLS, after its handshake."""

    def connection_closed(self, protocol: RavenProtocol, reason: str, text: str) -> None:
        """A connection is over, for one of a few fixed reasons ("ping_flood")."""

    def connection_broke(self, error: Exception) -> None:
        """A connection met an error that nobody expected: a fault of ours, within an `except`."""


class RavenProtocol(H2Protocol, BufferedProtocol):
    """Holds one connection to its limits, and contains its faults.

    Args:
        observer: called with this protocol.
        read_buffer: what the socket is read into; all connections may share it, it is empty again before anybody else reads.
        clock: monotonic seconds.
    """

    connection: RavenConnection
    processor: RavenProcessor

    def __init__(
        self,
        handler: AbstractHandler,
        config: Configuration,
        limits: ConnectionLimits,
        observer: ConnectionObserver,
        *,
        read_buffer: memoryview | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handler = handler
        self.config = config
        self.budgets = Budgets()
        self.heard_at = 0.0
        self.peer = "unknown"  # host:port of the client
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._buffer = read_buffer if read_buffer is not None else memoryview(bytearray(READ_BYTES))
        self._cutter = FrameCutter()
        self._transport: Transport | None = None
        self._timer: TimerHandle | None = None
        self._ready = False  # the client's preface and SETTINGS are there
        self._waiting = False  # frames are left for the next turn
        self._extensions = 0  # of the time for the handshake
        self._discarded = -1  # bytes since it was told to go; -1 = it was not
        self._asked_at = 0.0
        self._sent_at_ping = 0  # bytes of DATA that had been sent when the last one came
        self._paid_bytes = 0  # of DATA that was sent; WINDOW_UPDATEs have answered to them
        self._ending: tuple[str, str] | None = None

    # ---- what asyncio calls

    def connection_made(self, transport: BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(Transport, transport)
        if address := transport.get_extra_info("peername"):  # a transport of TLS that was aborted does not know it any more
            self.peer = f"{address[0]}:{address[1]}"
        _set_options(transport.get_extra_info("socket"), self._limits)
        h2 = ServerConnection(self._limits.streams_max, self._spend, self.budgets.answered)
        self.connection = RavenConnection(h2, self._transport, config=self.config)
        self.processor = RavenProcessor(self.handler, self.connection)
        self.heard_at = self._clock()
        self._loop = get_running_loop()
        self._timer = self._loop.call_later(self._limits.handshake_s, self._give_up_waiting)
        self._observer.connection_opened(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.abort("tls", "no h2 was offered (ALPN)")
        else:
            self.connection.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._discarded >= 0:
            self._discard(len(data))
            return
        self._cutter.add(data)
        if not self._waiting:
            self._take_turn()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self.processor.close("Connection lost")
        reason, text = self._ending or (("client", "") if exc is None else ("lost", str(exc)))
        self._observer.connection_closed(self, reason, text)
        self.connection.h2.let_go()
        if self._transport is not None:
            let_go(self._transport)

    # ---- what comes

    def _take_turn(self) -> None:
        """Frames until there is none or the turn is over. A fault of this connection ends this connection and nothing else."""
        try:
            self._take_frames()
            self.connection.flush()
            if self.connection.owed_bytes > ANSWERS_BYTES_MAX:
                raise Offence("unread", "answers to frames are not read")
            self.processor.tell_opened()
        except Offence as offence:
            self._end(offence)
        except ProtocolError as error:  # h2 has its GOAWAY ready
            code = getattr(error, "error_code", ErrorCodes.PROTOCOL_ERROR)
            self._end(Offence(_REASONS.get(code, "protocol"), str(error), code))
        except Exception as error:
            self._observer.connection_broke(error)
            self.abort("fault", f"{type(error).__name__}: {error}")

    def _take_frames(self) -> None:
        self._waiting = False
        started = self._clock()
        while (frame := self._cutter.take()) is not None:
            self.heard_at = started
            if self._receive_briefly(frame):
                continue
            self._receive(frame)
            if self.connection.is_closing():
                break
            if self._clock() - started >= TURN_S:
                self._wait_for_next_turn()
                break

    def _wait_for_next_turn(self) -> None:
        """Read nothing more meanwhile: what the client sends waits in its own buffers."""
        assert self._transport is not None
        self._waiting = True
        self._transport.pause_reading()
        self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        if self._discarded >= 0 or self._transport is None or self._transport.is_closing():
            return
        self._take_turn()
        if not self._waiting and not self._transport.is_closing():
            self._transport.resume_reading()

    def _receive_briefly(self, frame: Frame) -> bool:
        """The frames that come most, without h2; whether it was one. See `_receive` for errors."""
        kind = frame.type
        if not self._ready or self._cutter.in_block:
            return False
        if kind == WINDOW_UPDATE:
            self._pay_for_window()
            increment = int.from_bytes(frame.data[9:], "big") & 0x7FFFFFFF
            if frame.size != 4 or not self.connection.h2.open_window(frame.stream_id, increment):
                return False
            self.connection.opened.add(frame.stream_id)
            return True
        if kind == PING:
            sent = self.connection.h2.bytes_sent
            if sent == self._sent_at_ping:  # else it measures how fast that came
                self._spend("ping", 1)
            self._sent_at_ping = sent
            if frame.size != 8 or frame.stream_id or frame.flags & ACK:
                return False
            self.connection.h2.acknowledge_ping(frame.data[9:])
            return True
        if kind == GOAWAY and self.processor.streams and frame.data[13:17] == NO_ERROR:
            self._spend("unknown", 1)
            self.processor.client_leaves = True
            return True
        if kind > CONTINUATION:  # of a kind that nobody knows: no fault (RFC 9113, 4.1)
            self._spend("unknown", 1)
            return True
        return False

    def _pay_for_window(self) -> None:
        """A WINDOW_UPDATE is free where it may answer to data that we have sent."""
        sent = self.connection.h2.bytes_sent
        paid = max(self._paid_bytes, sent - UNANSWERED_BYTES_MAX) + BYTES_PER_WINDOW_UPDATE
        if paid <= sent:
            self._paid_bytes = paid
        else:
            self._spend("window", 1)

    def _receive(self, frame: Frame) -> None:
        """One frame.

        Raises:
            Offence: a budget is spent, or it may not come here.
            ProtocolError: as h2 finds.
        """
        if not self._ready:
            self._be_ready(frame.type, frame.flags)
        self._count(frame)
        for event in self.connection.h2.receive_data(frame.data):
            self.processor.process(event)

    def _be_ready(self, kind: int, flags: int) -> None:
        """The first frame: h2 gets the preface, which was cut off."""
        if kind != SETTINGS or flags & ACK:
            raise Offence("protocol", "SETTINGS must come first", ErrorCodes.PROTOCOL_ERROR)
        self.connection.h2.receive_data(PREFACE)
        self._ready = True
        if self._timer is not None:
            self._timer.cancel()

    def _count(self, frame: Frame) -> None:
        if name := _COUNTED.get(frame.type):
            self._spend(name, 1)
        elif frame.type == DATA:
            if frame.size < GRPC_MESSAGE_BYTES_MIN and not frame.flags & END_STREAM:
                self._spend("empty_data", 1)
        elif frame.type == RST_STREAM and not self.processor.is_seasoned(frame.stream_id):
            self._spend("reset", 1)

    def _spend(self, name: str, amount: float) -> None:
        self.budgets.spend(name, self._clock(), amount)

    # ---- whether the client is there

    def check(self, now: float, stall_s: float) -> None:
        """Look whether the client is there, and takes its answers. Costs next to nothing while all is well."""
        if now - self.heard_at >= self._limits.keepalive_s:
            self._check_alive(now)
        if len(self.processor.streams) != len(self.connection.writers):  # those with a writer have their own limits
            for stream in self.processor.stalled(now, stall_s):
                self.processor.end_call(stream, "the client takes nothing of the answer")

    def _check_alive(self, now: float) -> None:
        """Ask a silent client whether it is there; end the connection of one that was asked and stayed silent."""
        limits = self._limits
        if self._asked_at <= self.heard_at:
            self._asked_at = now
            if not self.connection.is_closing():
                with suppress(ProtocolError):
                    self.connection.h2.ping(PING_PAYLOAD)
                    self.connection.flush()
        elif now - self._asked_at >= limits.keepalive_timeout_s:
            self.abort("keepalive", f"silent for {now - self.heard_at:.0f} s")

    # ---- the ends

    def say_goaway(self) -> None:
        """Tell the client that no further call will be taken here."""
        if self._transport is not None and not self._transport.is_closing() and self._discarded < 0:
            self._ending = self._ending or ("server", "")
            with suppress(ProtocolError):
                self.connection.h2.close_connection()
            self.connection.flush()

    def announce_goaway(self) -> None:
        """Ask the client to make its next calls elsewhere; those that run go on, and a new one is still answered.

        It names the highest of all streams, as RFC 9113, 6.8 has it for a server that is about to go; the last one follows at
        the end and says which calls were taken.
        """
        if self._transport is not None and not self._transport.is_closing() and self._discarded < 0:
            self.connection.flush()
            self._transport.write(GoAwayFrame(0, last_stream_id=2**31 - 1).serialize())

    def abort(self, reason: str = "server", text: str = "") -> None:
        """End the connection at once."""
        self._ending = self._ending or (reason, text)
        if self._transport is not None:
            self._transport.abort()

    def _give_up_waiting(self) -> None:
        if self._waits_unread() and self._extensions < EXTENSIONS_MAX:  # it is we who are behind
            self._extensions += 1
            self._timer = self._loop.call_later(self._limits.handshake_s, self._give_up_waiting)
            return
        seconds = self._limits.handshake_s
        self._end(Offence("handshake_timeout", f"no SETTINGS within {seconds:g} s", ErrorCodes.SETTINGS_TIMEOUT))

    def _waits_unread(self) -> bool:
        """Whether bytes have come that we have not read yet: with thousands of clients that come at once, for seconds."""
        if self._transport is None or self._transport.is_closing():
            return False
        try:
            with DefaultSelector() as selector:
                selector.register(self._transport.get_extra_info("socket"), EVENT_READ)
                return bool(selector.select(0))
        except OSError:  # no file descriptor is left: who wants one must go in time more than ever
            return False

    def _end(self, offence: Offence) -> None:
        """Tell the client why it must go, and see to it that it hears that.

        Closing a socket on which unread bytes wait resets the connection, and what was written before may be lost by that. So
        our side is closed behind the GOAWAY, and the client's is read, for a moment and not for long.
        """
        transport = self._transport
        if self._discarded >= 0 or transport is None or transport.is_closing():
            return
        self._ending, self._discarded = self._ending or (offence.reason, offence.text), 0
        if offence.reason != "not_http2":  # it would not understand
            self._say_why(offence)
        self.connection.leave()
        self.processor.end_calls(offence.text)
        if offence.reason == "not_http2":
            transport.close()
            return
        if transport.can_write_eof():
            with suppress(OSError):  # the client has reset the connection already
                transport.write_eof()
        if self._waiting:
            transport.resume_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_S, self.abort)

    def _say_why(self, offence: Offence) -> None:
        h2 = self.connection.h2
        if not h2.goaway_made:
            with suppress(ProtocolError):
                h2.close_connection(offence.code, offence.text.encode())
        self.connection.flush()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES_MAX:
            self.abort()


def _set_options(sock: Any, limits: ConnectionLimits) -> None:
    """What is small goes at once; what is not acknowledged for too long ends the connection, where the system can do that."""
    with suppress(OSError):  # gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout_ms = round((limits.keepalive_s + limits.keepalive_timeout_s) * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
