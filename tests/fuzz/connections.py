"""Sessions of HTTP/2 into a real server over loopback, among them an honest client that must get its answers."""

from __future__ import annotations

import gc
import logging
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import structlog
import trio
from structlog.testing import LogCapture

from raven.adapter import Event
from raven.codec.generated.raven import v1
from raven.model.events import BookSnapshot, Trade
from raven.model.topic import Kind, Topic
from tests.fuzz.mutations import mutate_session, segments
from tests.grpc.raw_calls import LISTING, call_headers, framed, raw_peer, unexpected
from tests.grpc.serving import Serving, serving, subscription

__all__ = ["AT_ONCE", "RSS_GROWTH_MAX_BYTES", "Connections", "Failed", "Session"]

TRADE = Topic("sim", "BTC-USDT", Kind.TRADE)
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)
TOPICS = (TRADE, BOOK, Topic("sim", "ETH-USDT", Kind.TRADE))
RSS_GROWTH_MAX_BYTES = 8 * 2**20
QUIET_S = 0.02
PROBE = b"fuzz-end"  # of a PING behind the session: its answer says that all of it was read
PING = b"\0\0\x08\x06\0\0\0\0\0" + PROBE
AT_ONCE = 10
RECENT = 2 * AT_ONCE


class Failed(Exception):
    """An invariant does not hold."""


class Session:
    """One input: the parts in which it is sent, and how its client leaves."""

    WAYS_OUT = ("ping", "half close", "close", "reset")

    def __init__(self, parts: Sequence[bytes], way_out: str) -> None:
        self.parts = parts
        self.way_out = way_out

    def __bytes__(self) -> bytes:
        parts = b"".join(struct.pack(">I", len(part)) + part for part in self.parts)
        return bytes((self.WAYS_OUT.index(self.way_out),)) + parts

    @classmethod
    def read(cls, data: bytes) -> Session:
        parts, at = [], 1
        while at < len(data):
            (size,) = struct.unpack_from(">I", data, at)
            parts.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        return cls(parts, cls.WAYS_OUT[data[0]])


class Connections:
    """A server, and one stranger after the other.

    Args:
        corpus: valid sessions.
    """

    def __init__(self, raven: Serving, corpus: Sequence[bytes], logs: LogCapture, records: list[logging.LogRecord]) -> None:
        self._raven = raven
        self._corpus = corpus
        self._logs = logs
        self._records = records
        self._published = 0
        self.recent: deque[Session] = deque(maxlen=RECENT)

    @classmethod
    @asynccontextmanager
    async def open(cls, corpus: Sequence[bytes]) -> AsyncIterator[Connections]:
        """A running server that strangers may come to."""
        logs, records = LogCapture(), list[logging.LogRecord]()
        structlog.configure(processors=[logs])
        stdlib = logging.Handler(logging.ERROR)
        stdlib.emit = records.append  # type: ignore[method-assign]
        logging.getLogger().addHandler(stdlib)
        try:
            async with serving(TOPICS, book_top=True) as raven:
                yield cls(raven, corpus, logs, records)
        finally:
            logging.getLogger().removeHandler(stdlib)
            structlog.reset_defaults()

    def make(self, random: Random) -> Session:
        """An input."""
        session = mutate_session(self._corpus, random)
        return Session(segments(session, random), random.choice(Session.WAYS_OUT[:1] * 4 + Session.WAYS_OUT))

    async def run(self, sessions: Sequence[Session]) -> None:
        """Some strangers at once.

        Raises:
            Failed: something left a connection.
        """
        self.recent.extend(sessions)
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(self._run, session)
        self.check()

    async def _run(self, session: Session) -> None:
        with suppress(OSError, trio.BrokenResourceError):  # the server has hung up, as it may
            stream = await trio.open_tcp_stream("127.0.0.1", self._raven.port)
            async with stream:
                await self._talk(stream, session)

    async def _talk(self, stream: trio.SocketStream, session: Session) -> None:
        for part in session.parts:
            await stream.send_all(part)
            if len(session.parts) > 1:
                await trio.lowlevel.checkpoint()  # the server reads meanwhile
        self._publish()
        if session.way_out == "ping":
            await stream.send_all(PING)
            await _read_until(stream, PROBE)
        elif session.way_out == "half close":
            await stream.send_eof()
            await _read_until(stream, None)
        elif session.way_out == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _publish(self) -> None:
        self._published += 1
        events = [Event(TRADE, Trade(1.0, 1.0, 1, str(self._published)), self._published, 1)]
        if self._published % 5 == 0:
            events.append(Event(BOOK, BookSnapshot([1.0], [1.0], [2.0], [1.0], self._published), self._published))
        self._raven.publish(*events)

    def check(self) -> None:
        """Nothing may have been counted or logged that no stranger may cause.

        Raises:
            Failed: something was.
        """
        kinds = [kind for kind in unexpected(self._raven) if kind[:1].isupper()]  # names of exceptions
        errors = [entry for entry in self._logs.entries if entry["log_level"] in ("error", "critical")]
        if kinds or errors or self._records:
            raise Failed(f"counted {kinds}, logged {errors} {[_record(record) for record in self._records]}")
        self._logs.entries.clear()

    async def check_honest(self) -> None:
        """Somebody else is served as ever, and nobody is left.

        Raises:
            Failed: they are not.
        """
        try:
            with trio.fail_after(5):
                async with raw_peer(self._raven.port) as peer:
                    answer = await peer.answer(call_headers(), LISTING)
                    assert answer.status == 0, answer
                    await self._check_stream(peer)
                while self._raven.server.connections or list(self._raven.broker.clients):
                    await trio.lowlevel.checkpoint()
        except (AssertionError, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            left = (self._raven.server.connections, len(list(self._raven.broker.clients)))
            raise Failed(f"an honest client: {error!r}; connections and clients that are left: {left}") from error

    async def _check_stream(self, peer: Any) -> None:
        wanted = v1.SubscribeRequest(subscriptions=[subscription("sim/BTC-USDT", v1.Kind.TRADE)])
        requests = (v1.StreamMarketDataRequest(hello=v1.Hello()), v1.StreamMarketDataRequest(subscribe=wanted))
        stream_id = await peer.begin(call_headers("StreamMarketData"), b"".join(framed(bytes(one)) for one in requests))
        await peer.wait(stream_id, messages=3)
        self._publish()
        wanted_id, seen = str(self._published), 3
        while True:  # a heartbeat may come between
            answer = await peer.wait(stream_id, messages=seen + 1)
            assert not answer.over, answer
            events = v1.StreamMarketDataResponse.parse(answer.messages()[seen]).events
            if any(event.trade is not None and event.trade.trade_id == wanted_id for event in events):
                return
            seen += 1


def _record(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return f"{record.name}: {record.getMessage()}: {error!r}"


async def _read_until(stream: trio.SocketStream, wanted: bytes | None) -> None:
    """Until `wanted`, or the end, or nothing for a while."""
    seen = b""
    while True:
        data = b""
        with trio.move_on_after(QUIET_S):
            data = await stream.receive_some(65536)
        seen = seen[-20:] + data
        if not data or (wanted is not None and wanted in seen):
            return


def resident_bytes() -> int:
    """Of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
