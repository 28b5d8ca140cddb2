"""Bad input 3, 4, 10, 12 and 13: single frames that are strange, wrong, or one too many."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from raven.grpc import ConnectionLimits, GrpcConfig
from tests.grpc.serving import Serving, serving
from tests.grpc.strangers.settling import gone
from tests.grpc.strangers.stranger import (
    ACK,
    DATA,
    EMPTY_MESSAGE,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    SETTINGS,
    STREAM,
    STREAM_CLOSED,
    TRADE,
    WINDOW_UPDATE,
    call_headers,
    frame,
    guest,
    setting,
    stranger,
    window_update,
)

STREAMS_MAX = 3


@pytest.fixture
async def raven() -> AsyncIterator[Serving]:
    async with serving([TRADE], config=GrpcConfig(limits=ConnectionLimits(streams_max=STREAMS_MAX))) as served:
        yield served


def ended(raven: Serving, reason: str) -> float:
    return raven.metric("raven_connections_ended_total", reason=reason)


GREASE = {
    "unknown types": b"".join(frame(kind, 0xFF, 1, b"x" * kind) for kind in (0x0B, 0x1F, 0xBA, 0xFF)),
    "altsvc": frame(0x0A, 0, 0, b"\0\5a.com" + b"h2"),
    "priority_update": frame(0x10, 0, 0, (1).to_bytes(4, "big") + b"u=3"),
    "unknown settings": frame(SETTINGS, 0, 0, b"".join(setting(0x0A0A + 0x1010 * i, i) for i in range(16))),
    "reserved bit": frame(PING, 0, 0x80000000, bytes(8)),
    "unknown flags": frame(PING, 0xFE, 0, bytes(8)),
}


@pytest.mark.parametrize("strange", GREASE.values(), ids=list(GREASE))
async def test_bad_input_03_what_nobody_knows_is_ignored(raven: Serving, strange: bytes) -> None:
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM))
        await one.read_until(HEADERS, 1)
        await one.send(strange)
        assert await one.is_heard()
        await one.send(frame(DATA, END_STREAM, 1), one.call(3), frame(DATA, END_STREAM, 3, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 3, END_STREAM)
        assert not one.resets()


async def test_bad_input_03_unknown_settings_are_not_kept(raven: Serving) -> None:
    async with guest(raven.port) as one:
        for first in range(100, 10_100, 2_000):
            await one.send(frame(SETTINGS, 0, 0, b"".join(setting(first + i, 1) for i in range(2_000))))
        assert await one.is_heard()
        (protocol,) = raven.server._connections
        assert len(protocol.connection.h2.remote_settings) < 10


@pytest.mark.parametrize(("size", "what"), [(16_385, DATA), (2**24 - 1, DATA), (16_385, 0x55), (20_000, SETTINGS)])
async def test_bad_input_04_a_frame_that_is_too_long_is_refused_at_its_head(raven: Serving, size: int, what: int) -> None:
    async with guest(raven.port) as one:
        await one.send(frame(what, 0, 0, size=size))  # nothing of it follows
        await one.read_to_end()
        assert one.goaway == (FRAME_SIZE_ERROR, f"a frame of {size} bytes: at most 16384")
    await gone(raven)
    assert ended(raven, "frame_size") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        frame(PING, 0, 0, bytes(7)),
        frame(SETTINGS, 0, 0, bytes(5)),
        frame(WINDOW_UPDATE, 0, 0, bytes(3)),
        frame(PRIORITY, 0, 1, bytes(4)),
    ],
    ids=["ping", "settings", "window_update", "priority"],
)
async def test_bad_input_04_a_frame_of_the_wrong_length_ends_the_connection(raven: Serving, wrong: bytes) -> None:
    async with guest(raven.port) as one:
        await one.send(wrong)
        await one.read_to_end()
        assert one.goaway is not None
        assert one.goaway[0] in (FRAME_SIZE_ERROR, PROTOCOL_ERROR)


async def test_bad_input_10_window_update_of_0(raven: Serving) -> None:
    for stream_id in (0, 1):
        async with guest(raven.port) as one:
            await one.send(one.call(1, STREAM), window_update(stream_id, 0))
            await one.read_to_end()
            assert one.goaway is not None
            assert one.goaway[0] == PROTOCOL_ERROR


async def test_bad_input_10_the_window_of_the_connection_overflows(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await one.send(window_update(0, 2**31 - 1))
        await one.read_to_end()
        assert one.goaway is not None
        assert one.goaway[0] == FLOW_CONTROL_ERROR
    await gone(raven)
    assert ended(raven, "flow_control") == 1


async def test_bad_input_10_the_window_of_a_stream_overflows(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM), window_update(1, 2**31 - 1))
        assert await one.is_heard()
        assert one.resets() == {1: FLOW_CONTROL_ERROR}


async def test_bad_input_10_windows_that_settings_overflow(raven: Serving) -> None:
    for value, code in ((2**31, FLOW_CONTROL_ERROR), (2**31 - 1, FLOW_CONTROL_ERROR)):
        async with guest(raven.port) as one:
            await one.send(one.call(1, STREAM), window_update(1, 2**30), frame(SETTINGS, 0, 0, setting(4, value)))
            await one.read_to_end()
            assert one.goaway is not None
            assert one.goaway[0] == code


async def test_bad_input_12_calls_above_the_limit_are_refused_and_the_others_go_on(raven: Serving) -> None:
    async with guest(raven.port) as one:
        advertised = await one.read_until(SETTINGS)
        assert setting(3, STREAMS_MAX) in advertised.payload
        for stream_id in (1, 3, 5, 7, 9):
            await one.send(one.call(stream_id, STREAM))
        assert await one.is_heard()
        assert one.resets() == {7: REFUSED_STREAM, 9: REFUSED_STREAM}
        await one.send(frame(DATA, 0, 7, EMPTY_MESSAGE))  # on its way when the refusal came
        await one.send(frame(DATA, END_STREAM, 1, b"\0\0\0\0\2\x22\0"))  # a ping, which is answered
        await one.read_until(DATA, 1)
        await one.send(frame(3, 0, 3, (8).to_bytes(4, "big")), one.call(11), frame(DATA, END_STREAM, 11, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 11, END_STREAM)
        assert await one.is_heard(b"and now?")
        assert one.resets() == {7: REFUSED_STREAM, 9: REFUSED_STREAM}


async def test_bad_input_12_refused_calls_leave_the_compression_of_headers_true(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await one.send(*(one.call(stream_id, STREAM) for stream_id in (1, 3, 5)))
        await one.send(one.call(7, STREAM, ("x-new", "in the table")), frame(3, 0, 1, (8).to_bytes(4, "big")))
        await one.send(one.call(9, STREAM, ("x-new", "in the table")))
        await one.read_until(HEADERS, 9)
        assert one.resets() == {7: REFUSED_STREAM}


async def test_an_answered_call_whose_client_stays_open_does_not_count_for_ever(raven: Serving) -> None:
    async with guest(raven.port) as one:
        for stream_id in range(1, 4 * STREAMS_MAX, 2):
            await one.send(one.call(stream_id), frame(DATA, 0, stream_id, EMPTY_MESSAGE))  # no END_STREAM
            await one.read_until(HEADERS, stream_id, END_STREAM)
            assert await one.is_heard(stream_id.to_bytes(8, "big"))
            assert one.resets()[stream_id] == NO_ERROR


async def test_a_client_that_says_goaway_may_finish_its_calls(raven: Serving) -> None:
    """As grpc-js does when it is told that the server is about to go. h2 would end the connection, and grpclib does."""
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM), one.call(3))
        await one.read_until(HEADERS, 1)
        await one.send(frame(GOAWAY, 0, 0, bytes(8)), frame(DATA, 0, 1, b"\0\0\0\0\2\x22\0"))
        await one.read_until(DATA, 1)
        await one.send(frame(DATA, END_STREAM, 3, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 3, END_STREAM)
        assert await one.is_heard()
        await one.send(frame(3, 0, 1, (8).to_bytes(4, "big")))
        await one.read_to_end()  # the last call is over
        assert one.goaway is None
    await gone(raven)
    assert ended(raven, "client") == 1


@pytest.mark.parametrize(("calls", "code"), [(0, 0), (1, 2)], ids=["without calls", "with an error"])
async def test_a_client_that_says_goaway_and_has_nothing_to_finish_is_gone(raven: Serving, calls: int, code: int) -> None:
    async with guest(raven.port) as one:
        await one.send(*(one.call(1, STREAM) for _ in range(calls)), frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4, "big")))
        await one.read_to_end()
    await gone(raven)
    assert ended(raven, "client") == 1


def changed(**headers: str) -> list[tuple[str, str]]:
    return [(name, headers.get(name.lstrip(":"), value)) for name, value in call_headers()]


BAD_HEADERS = {
    "upper case": call_headers("/x", ("X-Up", "1")),
    "line feed in a name": call_headers("/x", ("x-a\nb", "1")),
    "nul in a value": call_headers("/x", ("x-a", "a\0b")),
    "cr lf in a value": call_headers("/x", ("x-a", "a\r\nx-b: 1")),
    "space in a name": call_headers("/x", ("x a", "1")),
    "space before a value": call_headers("/x", ("x-a", " 1")),
    "empty name": call_headers("/x", ("", "1")),
    "two content-lengths": call_headers("/x", ("content-length", "5"), ("content-length", "6")),
    "no content-length": call_headers("/x", ("content-length", "five")),
    "connection": call_headers("/x", ("connection", "keep-alive")),
    "te": [*call_headers("/x"), ("te", "gzip")],
    "no path": [header for header in call_headers() if header[0] != ":path"],
    "empty path": changed(path=""),
    "two paths": [(":path", "/y"), *call_headers()],
    "pseudo-header behind the others": [*call_headers(), (":path", "/y")],
    "unknown pseudo-header": [(":nonsense", "1"), *call_headers()],
    "status in a request": [(":status", "200"), *call_headers()],
    "nothing at all": [],
}


@pytest.mark.parametrize("headers", BAD_HEADERS.values(), ids=list(BAD_HEADERS))
async def test_bad_input_13_headers_that_cannot_be(raven: Serving, headers: list[tuple[str, str]]) -> None:
    async with guest(raven.port) as one:
        await one.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, one.block(headers)))
        await one.read_to_end()
        assert one.goaway is not None
        assert one.goaway[0] == PROTOCOL_ERROR
    await gone(raven)
    assert ended(raven, "protocol") == 1


async def test_bad_input_13_headers_beyond_ascii_break_nothing(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await one.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, one.block(call_headers("/\xe4", ("x-a", "gr\xfc\xdf")))))
        await one.read_until(HEADERS, 1)
        assert await one.is_heard()
    await gone(raven)
    assert raven.metric("errors_total", component="connection", kind="UnicodeDecodeError") == 0


WRONG_PLACES = {
    "data on an idle stream": (frame(DATA, 0, 5, b"x"), PROTOCOL_ERROR),
    "data on stream 0": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "headers on an even stream": (frame(HEADERS, END_HEADERS, 2, b"\x82"), PROTOCOL_ERROR),
    "push_promise": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL_ERROR),
    "window of an idle stream": (window_update(5, 1), PROTOCOL_ERROR),
    "continuation of nothing": (frame(9, END_HEADERS, 1, b"\x82"), PROTOCOL_ERROR),
    "self-dependent priority": (frame(PRIORITY, 0, 5, (5).to_bytes(4, "big") + b"\0"), PROTOCOL_ERROR),
    "padding longer than the frame": (frame(DATA, 0x8, 1, b"\xff"), PROTOCOL_ERROR),
    "ack of settings with settings": (frame(SETTINGS, ACK, 0, setting(1, 1)), FRAME_SIZE_ERROR),
    "broken header block": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("wrong", "code"), WRONG_PLACES.values(), ids=list(WRONG_PLACES))
async def test_frames_where_they_cannot_be(raven: Serving, wrong: bytes, code: int) -> None:
    async with guest(raven.port) as one:
        await one.send(wrong)
        await one.read_to_end()
        assert one.goaway is not None
        assert one.goaway[0] in (code, PROTOCOL_ERROR, STREAM_CLOSED)
    await gone(raven)
    assert raven.metric("errors_total", component="connection", kind="AssertionError") == 0
    assert ended(raven, "fault") == 0


async def test_everybody_else_is_served_meanwhile(raven: Serving) -> None:
    async with guest(raven.port) as honest:
        for _ in range(3):
            async with stranger(raven.port) as one:
                await one.greet()
                await one.send(frame(DATA, 0, 0, b"x"))
                await one.read_to_end()
        await gone(raven, 1)
        await honest.send(honest.call(1), frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        await honest.read_until(HEADERS, 1, END_STREAM)
