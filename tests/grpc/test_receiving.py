"""The bytes of a request stream: read whole from frames of any size, and every byte of a window given back once."""

from __future__ import annotations

import asyncio
import gzip
import sys
import zlib

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from raven.grpc.receiving import ENCODINGS, REQUEST_BYTES_MAX, RequestBuffer, inflate


@given(
    frames=st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 255)), max_size=20),
    sizes=st.lists(st.integers(0, 30), max_size=20),
)
def test_reads_are_the_bytes_that_came_and_windows_are_given_back_once(
    frames: list[tuple[bytes, int]], sizes: list[int]
) -> None:
    given_back: list[int] = []
    buffer = RequestBuffer(given_back.append)

    async def come() -> None:
        for number, (data, padding) in enumerate(frames):
            if number % 3 == 0:
                await asyncio.sleep(0)
            buffer.add(data, len(data) + padding)
        buffer.eof()

    async def run() -> list[bytes]:
        coming = asyncio.ensure_future(come())
        reads = [await buffer.read(size) for size in sizes]
        await coming
        return reads

    reads = asyncio.run(run())
    whole = b"".join(data for data, _ in frames)
    assert b"".join(reads) == whole[: sum(sizes)]
    assert all(len(read) == size for read, size in zip(reads, sizes, strict=True) if sum(sizes) <= len(whole))
    assert sum(given_back) + buffer.unacked_size() == sum(len(data) + padding for data, padding in frames)
    assert buffer.unacked_size() == 0


def test_many_tiny_frames_cost_what_one_would() -> None:
    buffer = RequestBuffer(lambda _: None)
    for _ in range(65_535):
        buffer.add(b"x", 1)
        buffer.add(b"", 0)
    assert sys.getsizeof(buffer._kept) < 2 * 65_535


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(message=st.binary(max_size=2_000))
def test_what_was_compressed_is_inflated(encoding: str, message: bytes) -> None:
    compressed = gzip.compress(message) if encoding == "gzip" else zlib.compress(message)
    assert inflate(compressed, ENCODINGS[encoding]) == message


@pytest.mark.parametrize(("size", "refused"), [(REQUEST_BYTES_MAX, False), (REQUEST_BYTES_MAX + 1, True)])
def test_the_limit_is_on_what_it_inflates_to(size: int, refused: bool) -> None:
    compressed = gzip.compress(bytes(size))
    if not refused:
        assert len(inflate(compressed, ENCODINGS["gzip"])) == size
        return
    with pytest.raises(GRPCError) as caught:
        inflate(compressed, ENCODINGS["gzip"])
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
