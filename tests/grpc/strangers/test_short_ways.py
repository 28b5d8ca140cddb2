"""The short ways of WINDOW_UPDATE and PING do what h2 does, and turns are short. Without a socket."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel
import trio_asyncio
from grpclib.config import Configuration
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.grpc.connection import RavenConnection, RavenProcessor
from raven.grpc.http2 import ServerConnection
from raven.grpc.limits import TURN_S, ConnectionLimits
from raven.grpc.protocol import RavenProtocol
from tests.grpc.strangers.stranger import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    call_headers,
    frame,
    parse_frames,
    reset,
    setting,
    window_update,
)
from tests.grpc.strangers.stranger import Stranger as Speaker

WINDOW_MAX = 2**31 - 1


def opened(h2: H2Connection) -> H2Connection:
    """With streams: 1 open, 3 half closed by the client, 5 reset, 7 answered and half closed by us."""
    speaker = Speaker(None)  # type: ignore[arg-type]
    h2.receive_data(PREFACE + frame(SETTINGS))
    for number in (1, 3, 5, 7):
        flags = END_HEADERS | (END_STREAM if number == 3 else 0)
        h2.receive_data(frame(HEADERS, flags, number, speaker.block(call_headers())))
    h2.receive_data(reset(5))
    h2.send_headers(7, [(":status", "200")], end_stream=True)
    h2.data_to_send()
    return h2


def plain() -> H2Connection:
    h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
    h2.initiate_connection()
    return opened(h2)


def ours() -> ServerConnection:
    h2 = ServerConnection(100, lambda _name, _amount: None, lambda: None)
    opened(h2)
    return h2


def windows(h2: H2Connection) -> dict[int, int]:
    streams = {number: stream.outbound_flow_control_window for number, stream in h2.streams.items() if not stream.closed}
    return {0: h2.outbound_flow_control_window, **streams}


INCREMENTS = st.one_of(st.sampled_from([0, 1, 65_535, WINDOW_MAX - 65_535, WINDOW_MAX]), st.integers(0, WINDOW_MAX))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 3, 5, 7, 9]), INCREMENTS), max_size=12))
def test_the_short_way_of_window_update_is_what_h2_does(updates: list[tuple[int, int]]) -> None:
    short, long = ours(), plain()
    for stream_id, increment in updates:
        results = []
        for h2 in (short, long):
            try:
                if h2 is long or not short.open_window(stream_id, increment):
                    h2.receive_data(window_update(stream_id, increment))
                results.append("")
            except ProtocolError as error:
                results.append(type(error).__name__)
        assert results[0] == results[1]
        assert windows(short) == windows(long)
        assert bytes(short._data_to_send) == bytes(long._data_to_send)
        if results[0]:
            return


@given(st.binary(min_size=8, max_size=8))
@settings(max_examples=20, deadline=None)
def test_the_short_way_of_ping_is_what_h2_does(payload: bytes) -> None:
    short, long = ours(), plain()
    short.acknowledge_ping(payload)
    long.receive_data(frame(PING, 0, 0, payload))
    assert short.data_to_send() == long.data_to_send()


@given(st.lists(st.tuples(st.sampled_from(["conn", "send"]), st.integers(1, 10_000)), max_size=20))
@settings(max_examples=50, deadline=None)
def test_bytes_sent_are_known_however_windows_open(steps: list[tuple[str, int]]) -> None:
    h2 = ours()
    sent = 0
    for what, size in steps:
        if what == "send" and h2.local_flow_control_window(1) >= size:
            h2.send_headers(1, [(":status", "200")]) if not sent else None
            h2.send_data(1, bytes(size))
            sent += size
        elif what == "conn" and not h2.open_window(0, size):
            raise AssertionError
        if size % 2:
            h2.receive_data(window_update(0, size))
        assert h2.bytes_sent == sent


def test_the_table_of_our_own_compression_stays_small() -> None:
    h2 = ours()
    h2.receive_data(frame(SETTINGS, 0, 0, setting(1, 2**32 - 1)))
    assert h2.encoder.header_table_size == 4_096
    h2.receive_data(frame(SETTINGS, 0, 0, setting(1, 0)))
    assert h2.encoder.header_table_size == 0


# ------------------------------------------------------------------------------------------------- a protocol without a socket


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        assert "write_eof" not in self.calls
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> Any:
        return None if name != "socket" else self

    def setsockopt(self, *_: object) -> None:
        pass

    def abort(self) -> None:
        self.calls.append("abort")
        self.closing = True

    close = abort

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


class Calls:
    """Takes calls and never answers them."""

    closing = False

    def __init__(self) -> None:
        self.releases: list[Any] = []

    def accept(self, stream: object, headers: object, release: Any) -> None:
        self.releases.append(release)

    def cancel(self, stream: object) -> None:
        pass

    def close(self) -> None:
        self.closing = True


class Witness:
    """Sees how connections end."""

    def __init__(self) -> None:
        self.broken: list[Exception] = []

    def connection_opened(self, protocol: RavenProtocol) -> None:
        pass

    def connection_closed(self, protocol: RavenProtocol, reason: str, text: str) -> None:
        pass

    def connection_broke(self, error: Exception) -> None:
        self.broken.append(error)


class Bench:
    """A protocol that has been greeted."""

    def __init__(self, clock: Any = None) -> None:
        self.wire, self.calls, self.witness = Wire(), Calls(), Witness()
        config = Configuration().__for_server__()
        extra = {"clock": clock} if clock else {}
        self.protocol = RavenProtocol(self.calls, config, ConnectionLimits(), self.witness, **extra)  # type: ignore[arg-type]
        self.protocol.connection_made(self.wire)  # type: ignore[arg-type]
        self.protocol.data_received(PREFACE + frame(SETTINGS))

    def frames(self, kind: int) -> list[Any]:
        return [found for found in parse_frames(self.wire.written)[0] if found.type == kind]


async def test_a_long_read_is_taken_in_turns() -> None:
    async with trio_asyncio.open_loop():
        now = [0.0]

        def clock() -> float:
            now[0] += TURN_S / 10  # a frame takes a moment
            return now[0]

        bench = await trio_asyncio.aio_as_trio(_made)(clock)
        bench.protocol.data_received(frame(SETTINGS) * 40)
        first = len(bench.frames(SETTINGS))
        assert first < 20
        assert bench.wire.calls == ["pause_reading"]
        bench.protocol.data_received(frame(PING, 0, 0, b"the last"))  # TLS may bring more although reading is paused
        with trio.fail_after(5):
            while not bench.frames(PING):
                await trio.lowlevel.checkpoint()
        assert len(bench.frames(SETTINGS)) == 42
        assert bench.wire.calls.count("pause_reading") > 3
        assert bench.wire.calls[-1] == "resume_reading"


async def _made(clock: Any = None) -> Bench:
    return Bench(clock)


async def test_answers_that_nobody_reads_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven.grpc.protocol.ANSWERS_BYTES_MAX", 1_000)
    async with trio_asyncio.open_loop():
        bench = await trio_asyncio.aio_as_trio(_made)()
        bench.protocol.pause_writing()
        bench.protocol.data_received(frame(PING, 0, 0, bytes(8)) * 50)
        bench.protocol.resume_writing()
        bench.protocol.pause_writing()
        bench.protocol.data_received(frame(PING, 0, 0, bytes(8)) * 50)
        assert not bench.frames(GOAWAY)
        bench.protocol.data_received(frame(PING, 0, 0, bytes(8)) * 50)
        assert bench.frames(GOAWAY)[0].payload[8:] == b"answers to frames are not read"
        bench.protocol.connection_lost(None)


FRAMES = st.one_of(
    st.binary(max_size=60),
    st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)).map(lambda f: frame(*f)),
    st.sampled_from([1, 3, 5, 7, 2]).map(lambda n: frame(HEADERS, END_HEADERS, n, Speaker(None).block(call_headers()))),  # type: ignore[arg-type]
    st.tuples(st.sampled_from([1, 3, 5]), st.integers(0, WINDOW_MAX)).map(lambda f: window_update(*f)),
    st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)).map(lambda f: frame(SETTINGS, 0, 0, setting(*f))),
    st.just("release"),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=15))
def test_no_exception_leaves_a_connection(steps: list[bytes | str]) -> None:
    async def feed() -> None:
        bench = Bench()
        for step in steps:
            if isinstance(step, bytes):
                bench.protocol.data_received(step)
            elif bench.calls.releases:
                bench.calls.releases.pop()()
        bench.protocol.connection_lost(None)
        assert bench.witness.broken == []

    async def main() -> None:
        async with trio_asyncio.open_loop():
            await trio_asyncio.aio_as_trio(feed)()

    trio.run(main)


async def test_a_fault_of_ours_ends_the_connection_and_nothing_else() -> None:
    async with trio_asyncio.open_loop():
        bench = await trio_asyncio.aio_as_trio(_made)()

        def break_down(*_: object) -> None:
            raise RuntimeError("a bug")

        bench.calls.accept = break_down  # type: ignore[method-assign]
        block = Speaker(None).block(call_headers())  # type: ignore[arg-type]
        bench.protocol.data_received(frame(HEADERS, END_HEADERS, 1, block))
        assert [str(error) for error in bench.witness.broken] == ["a bug"]
        assert "abort" in bench.wire.calls
        bench.protocol.connection_lost(None)


def test_a_writer_hears_of_a_window_once_for_all_that_a_read_brought() -> None:
    class Counting:
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    connection = RavenConnection(ours(), Wire(), config=Configuration())  # type: ignore[arg-type]
    processor = RavenProcessor(Calls(), connection)  # type: ignore[arg-type]
    one, other = Counting(), Counting()
    connection.writers.update({1: one, 3: other})
    connection.opened.update({1, 5})
    processor.tell_opened()
    assert (one.flushed, other.flushed) == (1, 0)
    connection.opened.update({0, 1})
    processor.tell_opened()
    processor.tell_opened()
    assert (one.flushed, other.flushed) == (2, 1)
