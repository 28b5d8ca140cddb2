"""How bytes become messages, without a socket: any frames, cut anywhere."""

from __future__ import annotations

import itertools
import zlib

import pytest
import trio
from feed_peers import ws_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import State
from websockets.uri import parse_uri

from raven.feed import websocket_sansio
from raven.feed.websocket_sansio import SansIoSocket

BYTES_MAX = 150_000


def make_socket() -> SansIoSocket:
    protocol = ClientProtocol(parse_uri("ws://venue/"), state=State.OPEN, max_size=BYTES_MAX)
    protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    stream, _ = trio.testing.memory_stream_pair()
    return SansIoSocket(stream, protocol, "venue", b"")  # type: ignore[arg-type]


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def parts(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def fragmented(data: bytes, cuts: list[int]) -> bytes:
    """One text message in fragments, with a ping between each two."""
    pieces = parts(data, cuts)
    frames = [ws_frame(piece, 0 if n else 1, fin=n == len(pieces) - 1) for n, piece in enumerate(pieces)]
    return ws_frame(b"ping", 9).join(frames)


cuts = st.lists(st.integers(0, 2**20), max_size=4)
payload = st.one_of(
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"", b"x" * 125, b"x" * 126, "é".encode() * 70, b"x" * 65535, b"x" * 65536, b"x" * BYTES_MAX]),
)
message = st.one_of(
    payload.map(lambda data: (data, ws_frame(data))),
    st.binary(max_size=20).map(lambda data: (data, ws_frame(data, 2))),
    payload.map(lambda data: (data, ws_frame(deflated(data), rsv1=True))),
    st.tuples(payload, cuts).map(lambda drawn: (drawn[0], fragmented(*drawn))),
    st.just((None, ws_frame(b"are you there", 9))),
    st.just((None, ws_frame(b"", 10))),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(message, max_size=8), st.lists(st.integers(0, 2**21), max_size=8))
async def test_any_frames_cut_anywhere_give_their_messages(messages: list[tuple[bytes | None, bytes]], cuts: list[int]) -> None:
    socket = make_socket()
    received: list[bytes] = []
    for piece in parts(b"".join(frame for _, frame in messages), cuts):
        if piece:
            received += socket._parse(piece)
    assert received == [data for data, _ in messages if data is not None]
    assert socket._ended == ""


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_byte_by_byte(size: int) -> None:
    socket = make_socket()
    data = ws_frame(b"a" * 300) + ws_frame(b"", 9) + fragmented(b"bcd", [1, 2]) + ws_frame(b"e")
    received = [message for start in range(0, len(data), size) for message in socket._parse(data[start : start + size])]
    assert received == [b"a" * 300, b"bcd", b"e"]


async def test_a_frame_over_the_limit_is_refused_at_its_header() -> None:
    socket = make_socket()
    assert socket._parse(ws_frame(b"x" * (BYTES_MAX + 1))[:10]) == []
    assert "over the limit of 150000 bytes" in socket._ended


async def test_a_small_limit_is_refused_at_the_header_too() -> None:
    protocol = ClientProtocol(parse_uri("ws://venue/"), state=State.OPEN, max_size=100)
    stream, _ = trio.testing.memory_stream_pair()
    socket = SansIoSocket(stream, protocol, "venue", b"")  # type: ignore[arg-type]
    assert socket._parse(ws_frame(b"x" * 101)[:2]) == []
    assert "over the limit of 100 bytes" in socket._ended


async def test_a_long_frame_is_not_kept_twice() -> None:
    socket = make_socket()
    socket._parse(ws_frame(b"x" * BYTES_MAX)[: websocket_sansio.TAIL_BYTES_MAX + 20])
    assert socket._tail == b""
