"""Bad input 5 to 9 and 18: floods. Each is told ENHANCE_YOUR_CALM, hears it, and is gone; the server keeps nothing of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio
from hpack import Encoder

from raven.grpc import GrpcConfig
from raven.grpc.budgets import BUDGETS
from tests.grpc.serving import Serving, serving
from tests.grpc.strangers.settling import gone, resident_bytes, until
from tests.grpc.strangers.stranger import (
    ACK,
    CONTINUATION,
    DATA,
    EMPTY_MESSAGE,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    PRIORITY,
    REFUSED_STREAM,
    SETTINGS,
    STREAM,
    TRADE,
    Stranger,
    call_headers,
    frame,
    guest,
    reset,
    setting,
    stranger,
    window_update,
)

MEMORY_BYTES = 8 * 1024 * 1024
OVER_S = 3.0
"""A flood is over within this, on a machine that does other things as well."""


@pytest.fixture
async def raven() -> AsyncIterator[Serving]:
    async with serving([TRADE], config=GrpcConfig(heartbeat_s=60)) as served:
        yield served


async def is_sent_away(raven: Serving, one: Stranger, pieces: Iterator[bytes], reason: str) -> None:
    """Whether a flood ends as it should."""
    before, started = resident_bytes(), time.monotonic()
    await one.flood(pieces)
    assert one.goaway is not None, one.frames[-3:]
    assert one.goaway[0] == ENHANCE_YOUR_CALM
    assert time.monotonic() - started < OVER_S
    await one.stream.aclose()
    await gone(raven)
    assert raven.metric("raven_connections_ended_total", reason=reason) == 1
    assert resident_bytes() - before < MEMORY_BYTES
    async with guest(raven.port) as other:
        assert await other.is_heard()


# ---------------------------------------------------------------------------------------------------------------- headers


def big_block(one: Stranger) -> bytes:
    return one.block(call_headers()) + b"".join(Encoder().encode([("x-a", "y" * 3_000)]) for _ in range(40))


@pytest.mark.parametrize("size", [0, 1, 100], ids=["empty", "1 byte", "100 bytes"])
async def test_bad_input_05_a_thousand_continuations(raven: Serving, size: int) -> None:
    async with guest(raven.port) as one:
        begin = frame(HEADERS, END_STREAM, 1, one.block(call_headers()))
        more = frame(CONTINUATION, 0, 1, Encoder().encode([("x", "y" * size)])[:size])
        await is_sent_away(raven, one, iter([begin, *[more] * 1_000]), "headers")


async def test_bad_input_05_a_header_block_of_more_than_64_kib(raven: Serving) -> None:
    async with guest(raven.port) as one:
        begin = frame(HEADERS, END_STREAM, 1, bytes(16_384))
        await is_sent_away(raven, one, iter([begin, *[frame(CONTINUATION, 0, 1, bytes(16_384))] * 4]), "headers")


async def test_bad_input_05_a_header_list_of_more_than_64_kib(raven: Serving) -> None:
    async with guest(raven.port) as one:
        block = one.block([*call_headers(), *((f"x-{i}", "z" * 700) for i in range(100))])  # 50 KiB on the wire, Huffman-coded
        pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        assert sum(map(len, pieces)) < 64 * 1024
        frames = [frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 1, piece) for piece in pieces[1:]]
        await is_sent_away(raven, one, iter([frame(HEADERS, 0, 1, pieces[0]), *frames]), "headers")


async def test_bad_input_05_many_header_blocks_of_many_continuations(raven: Serving) -> None:
    def blocks(one: Stranger) -> Iterator[bytes]:
        for stream_id in range(1, 2_001, 2):
            begin = frame(HEADERS, END_STREAM, stream_id, one.block(call_headers()))
            yield begin + frame(CONTINUATION, 0, stream_id) * 60 + frame(CONTINUATION, END_HEADERS, stream_id)

    async with guest(raven.port) as one:
        await is_sent_away(raven, one, blocks(one), "continuation_flood")


async def test_bad_input_05_headers_below_the_limits_are_served(raven: Serving) -> None:
    async with guest(raven.port) as one:
        block = one.block([*call_headers(), *((f"x-{i}", "z" * 500) for i in range(100))])
        pieces = [block[at : at + 1_000] for at in range(0, len(block), 1_000)]
        frames = [frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 1, piece) for piece in pieces[1:]]
        await one.send(frame(HEADERS, 0, 1, pieces[0]), *frames, frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 1, END_STREAM)


@pytest.mark.parametrize("headers", [[("a", "")] * 1_800, [("x-long", "z" * 50_000)]], ids=["many", "long"])
async def test_calls_with_headers_just_below_the_limits_one_after_the_other(
    raven: Serving, headers: list[tuple[str, str]]
) -> None:
    def calls(one: Stranger) -> Iterator[bytes]:
        block = Encoder().encode([(name, value, True) for name, value in [*call_headers(), *headers]], huffman=False)
        for stream_id in range(1, 2_001, 2):
            pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
            yield frame(HEADERS, END_STREAM | (END_HEADERS if len(pieces) == 1 else 0), stream_id, pieces[0])
            for piece in pieces[1:]:
                yield frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, stream_id, piece)

    async with guest(raven.port) as one:
        await is_sent_away(raven, one, calls(one), "metadata_flood")


async def test_metadata_as_libraries_allow_it_is_free(raven: Serving) -> None:
    async with guest(raven.port) as one:
        block = [*call_headers(), *((f"x-{i}", "z" * 60) for i in range(110))]
        await one.send(frame(HEADERS, END_HEADERS, 1, one.block(block)), frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 1, END_STREAM)
    assert "metadata" not in raven.server.budgets_lowest()


async def test_bad_input_06_a_bomb_of_compressed_headers(raven: Serving) -> None:
    """7.5 KB that would become 16 MB: one value of 4,000 bytes in the table, then an index to it 4,000 times."""
    async with guest(raven.port) as one:
        value = Encoder().encode([("x", "a" * 4_000)], huffman=False)
        bomb = one.block(call_headers()) + value + b"\xbe" * 4_000
        pieces = (frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb) for _ in range(1))
        await is_sent_away(raven, one, pieces, "headers")


# ----------------------------------------------------------------------------------------------------------------- resets


async def test_bad_input_07_rapid_reset(raven: Serving) -> None:
    async with guest(raven.port) as one:
        calls = (one.call(stream_id, STREAM) + reset(stream_id) for stream_id in range(1, 40_000, 2))
        await is_sent_away(raven, one, calls, "reset_flood")
        last = int.from_bytes(next(f for f in one.frames if f.type == 7).payload[:4], "big")
        assert last // 2 < 150  # calls that were looked at


async def test_bad_input_07_rapid_reset_in_one_piece(raven: Serving) -> None:
    """20 thousand resets in one write held the loop for 126 ms when they were all fed at once."""
    async with guest(raven.port) as one:
        calls = b"".join(one.call(stream_id, STREAM) + reset(stream_id) for stream_id in range(1, 20_000, 2))
        await is_sent_away(raven, one, iter([calls]), "reset_flood")


async def test_bad_input_07_no_call_is_left_behind(raven: Serving) -> None:
    async with guest(raven.port) as one:
        for stream_id in range(1, 120, 2):
            await one.send(one.call(stream_id, STREAM), reset(stream_id))
        assert await one.is_heard()
        (protocol,) = raven.server._connections
        await until(lambda: not protocol.processor.streams)


async def test_who_has_answers_may_reset_more(raven: Serving) -> None:
    async with guest(raven.port) as one:
        for stream_id in range(1, 1_600, 16):
            await one.send(one.call(stream_id), frame(DATA, END_STREAM, stream_id, EMPTY_MESSAGE))
            await one.read_until(HEADERS, stream_id, END_STREAM)
            for other in range(stream_id + 2, stream_id + 16, 2):  # seven resets for an answer
                await one.send(one.call(other, STREAM), reset(other))
        assert await one.is_heard()
    assert raven.server.budgets_lowest()["reset"] > 0.5


async def test_calls_that_were_open_for_a_while_may_be_reset(raven: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven.grpc.connection.SEASONED_S", 0.0)
    async with guest(raven.port) as one:
        for stream_id in range(1, 500, 2):
            await one.send(one.call(stream_id, STREAM), reset(stream_id))
        assert await one.is_heard()
    assert "reset" not in raven.server.budgets_lowest()


def overflowed(one: Stranger, stream_id: int) -> bytes:
    return one.call(stream_id, STREAM) + window_update(stream_id, 2**31 - 1)


def data_behind_the_end(one: Stranger, stream_id: int) -> bytes:
    return one.call(stream_id, STREAM, end=True) + frame(DATA, 0, stream_id, b"more!")


def headers_behind_the_end(one: Stranger, stream_id: int) -> bytes:
    return one.call(stream_id, STREAM, end=True) + one.call(stream_id, STREAM)


def data_behind_the_reset(one: Stranger, stream_id: int) -> bytes:
    return one.call(1, STREAM) + reset(1) + frame(DATA, 0, 1, b"more!") if stream_id == 1 else frame(DATA, 0, 1, b"more!")


@pytest.mark.parametrize("provoke", [overflowed, data_behind_the_end, headers_behind_the_end, data_behind_the_reset])
async def test_bad_input_08_resets_that_the_client_makes_us_send(
    raven: Serving, provoke: Callable[[Stranger, int], bytes]
) -> None:
    async with guest(raven.port) as one:
        await is_sent_away(raven, one, (provoke(one, stream_id) for stream_id in range(1, 4_000, 2)), "reset_flood")
        assert len(one.frames) < 400


async def test_bad_input_12_a_flood_of_calls_above_the_limit(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await is_sent_away(raven, one, (one.call(stream_id, STREAM) for stream_id in range(1, 8_000, 2)), "refused_flood")
        refused = [code for code in one.resets().values() if code == REFUSED_STREAM]
        assert len(refused) >= BUDGETS["refused"].burst


# ------------------------------------------------------------------------------------------------------- frames by their kind


def data(payload: bytes) -> bytes:
    return frame(DATA, 0, 1, payload)


BEGUN = data(b"\0\0\0\x40\0")
"""A message of 16 KiB that is never finished."""

FLOODS = {
    "ping": (frame(PING, 0, 0, bytes(8)), "ping"),
    "ping answers that nobody asked for": (frame(PING, ACK, 0, bytes(8)), "ping"),
    "settings": (frame(SETTINGS), "settings"),
    "settings answers that nobody asked for": (frame(SETTINGS, ACK), "settings"),
    "priority": (frame(PRIORITY, 0, 5, bytes(4) + b"\x10"), "priority"),
    "data without data": (data(b""), "empty_data"),
    "data byte by byte": (data(b"\0"), "empty_data"),
    "window_update": (window_update(0, 1), "window"),
    "window_update of a stream": (window_update(1, 1), "window"),
    "unknown frames": (frame(0xBE, 0, 0, b"?"), "unknown"),
}


@pytest.mark.parametrize(("what", "budget"), FLOODS.values(), ids=list(FLOODS))
async def test_bad_input_09_floods_of_frames(raven: Serving, what: bytes, budget: str) -> None:
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM), BEGUN)
        await one.read_until(HEADERS, 1)
        await is_sent_away(raven, one, (what * 100 for _ in range(1_000)), f"{budget}_flood")
        assert one.goaway == (ENHANCE_YOUR_CALM, BUDGETS[budget].text)


@pytest.mark.parametrize(("what", "budget"), FLOODS.values(), ids=list(FLOODS))
async def test_half_of_a_budget_is_no_flood(raven: Serving, what: bytes, budget: str) -> None:
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM), BEGUN)
        await one.read_until(HEADERS, 1)
        await one.send(what * int(BUDGETS[budget].burst / 2 - 5))
        assert await one.is_heard()
        assert raven.server.budgets_lowest()[budget] >= 0.5
        assert not one.resets()


async def test_windows_and_pings_that_answer_to_data_are_free(raven: Serving) -> None:
    """As grpc-go does with every read of a stream."""
    async with guest(raven.port) as one:
        await one.send(one.call(1, STREAM))
        for number in range(60):
            name = (0x5EED_5EED_5EED_0000 + number).to_bytes(8, "little")
            await one.send(frame(DATA, 0, 1, b"\0\0\0\0\x0b\x22\x09\x09" + name))
            with trio.fail_after(5):
                while not any(f.type == DATA and name in f.payload for f in one.frames):
                    await one.read()
            await one.send(window_update(0, 20), frame(PING, 0, 0, number.to_bytes(8, "big")))
        assert await one.is_heard()
        lowest = raven.server.budgets_lowest()
        assert "window" not in lowest
        assert lowest.get("ping", 1.0) > 0.998  # the last one asked without having got anything


# --------------------------------------------------------------------------------------------------------- data after a reset


async def test_bad_input_18_data_that_goes_on_after_our_reset(raven: Serving) -> None:
    async with guest(raven.port) as one:
        await one.send(one.call(1), data(b"\0\xff\xff\xff\xff"))
        await one.read_until(3, 1)  # RST_STREAM, behind the trailers with RESOURCE_EXHAUSTED
        await is_sent_away(raven, one, (data(bytes(16_000)) for _ in range(1_000)), "late_data_flood")
        assert len(one.resets()) == 1


async def test_bad_input_18_data_that_was_on_its_way_is_no_fault(raven: Serving) -> None:
    async with guest(raven.port) as one:
        for stream_id in (1, 3):
            await one.send(one.call(stream_id), frame(DATA, 0, stream_id, b"\0\xff\xff\xff\xff"))
            await one.read_until(3, stream_id)
            await one.send(frame(DATA, 0, stream_id, bytes(16_384)) * 3, frame(DATA, END_STREAM, stream_id, bytes(5_000)))
        await one.send(one.call(5), frame(DATA, END_STREAM, 5, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 5, END_STREAM)
        assert sorted(one.resets()) == [1, 3]


# ----------------------------------------------------------------------------------------------------------- those who go


async def test_a_flood_whose_sender_reads_nothing_is_ended_all_the_same(raven: Serving) -> None:
    async with stranger(raven.port) as one:
        await one.greet()
        with trio.fail_after(OVER_S):
            while not one.closed:
                await one.send(frame(PING, 0, 0, bytes(8)) * 1_000)
                await trio.lowlevel.checkpoint()
            await gone(raven)  # though its socket stays open


async def test_the_calls_of_a_flood_end_with_it_whatever_they_wait_for(raven: Serving) -> None:
    async with guest(raven.port, setting(4, 0)) as one:
        await one.send(one.call(1, STREAM), one.call(3), one.call(5), frame(DATA, END_STREAM, 5, EMPTY_MESSAGE))
        await one.read_until(HEADERS, 5)  # 1 streams, 3 waits for its request, 5 for a window
        (protocol,) = raven.server._connections
        tasks = asyncio.all_tasks(protocol._loop)
        assert len(tasks) >= 3
        await one.flood(frame(PING, 0, 0, bytes(8)) * 100 for _ in range(1_000))
        await until(lambda: all(task.done() for task in tasks))
        assert len(raven.broker.clients) == 0


async def test_a_second_flood_at_once_does_not_disturb_the_first_ones_goodbye(raven: Serving) -> None:
    async with guest(raven.port) as one, guest(raven.port) as other, trio.open_nursery() as nursery:
        for each in (one, other):
            nursery.start_soon(each.flood, (frame(PING, 0, 0, bytes(8)) * 100 for _ in range(1_000)))
    assert one.goaway == other.goaway == (ENHANCE_YOUR_CALM, "too many PINGs")
    await gone(raven)
