"""What a call may not be before its message is read (rows 14 to 21 of bad input): headers, prefixes, compression.

Over a real socket, from a client that says what no library would. After each an honest call is answered on the same connection.
"""

from __future__ import annotations

import gzip
import zlib

import grpc
import pytest
import trio
from grpclib.const import Status

from raven.codec.generated.raven import v1
from raven.grpc.receiving import REQUEST_BYTES_MAX
from tests.grpc.raw_calls import (
    LISTING,
    PAIR,
    Headers,
    assert_served,
    call_headers,
    framed,
    peer_of_a_server,
    refused,
    refused_after_headers,
)
from tests.grpc.serving import Serving, serving

# ---- 14: what is no call of gRPC


@pytest.mark.parametrize(
    ("headers", "http_status", "part"),
    [
        (call_headers(), 200, ""),
        (call_headers(te=None), 400, "te: trailers"),
        (call_headers(content_type=None), 415, "content-type: application/grpc"),
        (call_headers(content_type="application/json"), 415, "content-type: application/grpc"),
        (call_headers(content_type="application/grpc-web"), 415, "content-type: application/grpc"),
        (call_headers(content_type="application/grpc+json"), 415, "content-type: application/grpc"),
    ],
    ids=["good", "no te", "no type", "json", "grpc-web", "grpc+json"],
)
async def test_bad_input_14_what_is_no_call_gets_an_http_status_and_a_grpc_status(
    headers: Headers, http_status: int, part: str
) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(headers, LISTING)
        if http_status == 200:
            assert answer.status == 0
        else:
            refused(answer, Status.UNKNOWN, part, http_status)


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "BREW"])
async def test_bad_input_14_methods_other_than_post_are_405(method: str) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer([(":method", method), *call_headers()[1:]])
        refused(answer, Status.UNKNOWN, ":method", 405)
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_bad_input_14_every_way_to_say_grpc_is_taken(content_type: str) -> None:
    async with peer_of_a_server() as (_, peer):
        assert (await peer.answer(call_headers(content_type=content_type), LISTING)).status == 0


# ---- 15: paths


@pytest.mark.parametrize(
    "path",
    [
        "/raven.v1.MarketDataService/Nonsense",
        "/raven.v1.MarketDataService/../ControlService/Drain",
        "/raven.v1.MarketDataService/ListTopics/",
        "/raven.v1.MarketDataService/ListTopics?x=1",
        "/RAVEN.V1.marketdataservice/ListTopics",
        "//",
        "*",
        "/" + "x" * 10_000,
        "/%2e%2e/%00",
    ],
    ids=lambda path: path[:50],
)
async def test_bad_input_15_unknown_paths_are_unimplemented_and_no_label(path: str) -> None:
    async with peer_of_a_server() as (raven, peer):
        before = labels(raven)
        refused(await peer.answer(call_headers(path=path), LISTING), Status.UNIMPLEMENTED, "no such method")
        assert labels(raven) == before


def labels(raven: Serving) -> set[str]:
    """Every value of every label there is."""
    samples = (sample for family in raven.registry.collect() for sample in family.samples)
    return {value for sample in samples for value in sample.labels.values()}


# ---- 16: timeouts


@pytest.mark.parametrize("timeout", ["-1S", "1x", "", "S", "1", "1.5S", "123456789S", "9" * 4000 + "S", "1e3S"])
async def test_bad_input_16_a_timeout_that_is_none_is_an_invalid_argument(timeout: str) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(grpc_timeout=timeout), LISTING)
        refused(answer, Status.INVALID_ARGUMENT, "grpc-timeout: 1 to 8 digits")


@pytest.mark.parametrize("timeout", ["99999999H", "10S", "99999999n"])
async def test_bad_input_16_a_long_timeout_is_no_trouble(timeout: str) -> None:
    async with peer_of_a_server() as (_, peer):
        assert (await peer.answer(call_headers(grpc_timeout=timeout), LISTING)).status == 0


@pytest.mark.parametrize("timeout", ["0S", "1n", "00000000H"])
async def test_bad_input_16_a_deadline_that_has_passed_is_exceeded(timeout: str) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers("StreamMarketData", grpc_timeout=timeout), end=False)
        refused(answer, Status.DEADLINE_EXCEEDED, "deadline")


async def test_bad_input_16_a_deadline_ends_a_call_that_waits() -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(grpc_timeout="20m"), end=False)  # whose message never comes
        refused(answer, Status.DEADLINE_EXCEEDED, "deadline")


# ---- 17: metadata


@pytest.mark.parametrize("value", ["!", "a", "ab$d", "abcde", "ab=c", "=", "====", "a" * 5_001])
async def test_bad_input_17_binary_metadata_that_is_no_base64_is_an_invalid_argument(value: str) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(x_thing_bin=value), LISTING)
        refused(answer, Status.INVALID_ARGUMENT, "x-thing-bin: its value is not base64")


@pytest.mark.parametrize("value", ["", "YQ", "YQ==", "YWI", "YWI=", "YWJj", "YQ,YWI", "YQ==, YWI="])
async def test_bad_input_17_binary_metadata_with_and_without_padding_is_taken(value: str) -> None:
    async with peer_of_a_server() as (_, peer):
        assert (await peer.answer(call_headers(x_thing_bin=value), LISTING)).status == 0


# ---- 18: the prefix


@pytest.mark.parametrize("size", [2**32 - 1, 2**31, REQUEST_BYTES_MAX + 1])
@pytest.mark.parametrize("method", ["ListTopics", "StreamMarketData", "WatchMarketData"])
async def test_bad_input_18_a_long_message_is_refused_at_its_prefix(method: str, size: int) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(method), framed(b"", size=size), end=False)
        refused_after_headers(answer, Status.RESOURCE_EXHAUSTED, f"a request of {size} bytes: at most {REQUEST_BYTES_MAX}")


async def test_bad_input_18_the_longest_message_is_read_whole_from_frames_of_any_size() -> None:
    size = REQUEST_BYTES_MAX - 4
    unknown = b"\x7a" + bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14))
    whole = framed(unknown + bytes(size))
    async with peer_of_a_server() as (_, peer):
        stream_id = await peer.begin(call_headers())
        for part in (b"", *(whole[at : at + 1] for at in range(6)), b"", whole[6:]):
            await peer.send(stream_id, part, end=len(part) > 1)
        assert (await peer.wait(stream_id)).status == 0


# ---- 19: the flag byte


@pytest.mark.parametrize(
    ("flag", "encoding", "status", "part"),
    [
        (1, None, Status.INTERNAL, "no grpc-encoding says how"),
        (1, "identity", Status.INTERNAL, "no grpc-encoding says how"),
        (1, "snappy", Status.UNIMPLEMENTED, "grpc-encoding: 'snappy' is not served: identity, gzip, deflate are"),
        (1, "x" * 5000, Status.UNIMPLEMENTED, "grpc-encoding: 'xxx"),
        (7, None, Status.INTERNAL, "the flag byte 7"),
        (255, "gzip", Status.INTERNAL, "the flag byte 255"),
    ],
)
@pytest.mark.parametrize("method", ["ListTopics", "StreamMarketData"])
async def test_bad_input_19_a_message_must_say_how_it_is_compressed(
    method: str, flag: int, encoding: str | None, status: Status, part: str
) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(method, grpc_encoding=encoding), framed(b"abc", flag), end=False)
        refused_after_headers(answer, status, part)
        assert answer.headers["grpc-accept-encoding"] == "identity,gzip,deflate"


async def test_bad_input_19_an_unknown_encoding_that_is_not_used_is_no_fault() -> None:
    async with peer_of_a_server() as (_, peer):
        assert (await peer.answer(call_headers(grpc_encoding="snappy"), LISTING)).status == 0


# ---- 20: compression


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression])
async def test_bad_input_20_an_honest_client_may_compress(compression: grpc.Compression) -> None:
    request = bytes(v1.ListTopicsRequest([v1.TopicSelector("sim", "BTC-*")] * 50))
    async with serving(PAIR) as raven:
        channel = grpc.insecure_channel(f"127.0.0.1:{raven.port}", compression=compression)
        call = channel.unary_unary("/raven.v1.MarketDataService/ListTopics")
        answer = await trio.to_thread.run_sync(lambda: call(request, timeout=5))
        assert len(v1.ListTopicsResponse.parse(answer).topics) == 1
        await trio.to_thread.run_sync(channel.close)


def bomb(encoding: str, size: int) -> bytes:
    zeros = bytes(2**20)
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    return b"".join([deflater.compress(zeros) for _ in range(size >> 20)]) + deflater.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_bad_input_20_a_bomb_is_refused_and_costs_no_memory(encoding: str) -> None:
    message = bomb(encoding, 200 << 20)  # about 200 KB on the wire
    assert len(message) < REQUEST_BYTES_MAX
    async with peer_of_a_server() as (_, peer):
        await peer.answer(call_headers(grpc_encoding=encoding), framed(message, 1))
        before = peak_memory_kib()
        answer = await peer.answer(call_headers(grpc_encoding=encoding), framed(message, 1))
        refused(answer, Status.RESOURCE_EXHAUSTED, f"more than {REQUEST_BYTES_MAX} bytes, inflated")
        assert peak_memory_kib() - before < 8 * 1024


def peak_memory_kib() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"no gzip",
        gzip.compress(b"abc")[:-3],
        gzip.compress(b"abc") + b"x",
        gzip.compress(b"abc") * 2,
        zlib.compress(b"abc"),
    ],
    ids=["empty", "not gzip", "cut off", "more behind it", "two", "deflate"],
)
async def test_bad_input_20_what_is_not_compressed_as_said_is_internal(message: bytes) -> None:
    async with peer_of_a_server() as (_, peer):
        answer = await peer.answer(call_headers(grpc_encoding="gzip"), framed(message, 1))
        refused(answer, Status.INTERNAL, "compressed message")


# ---- 21: truncated


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\0", framed(b"\x12", size=100), framed(b"", size=1)])
async def test_bad_input_21_a_truncated_message_is_internal_and_no_request(data: bytes) -> None:
    async with peer_of_a_server() as (raven, peer):
        answer = await peer.answer(call_headers(), data)
        refused(answer, Status.INTERNAL, "the stream ended within a message")
        answer = await peer.answer(call_headers("WatchMarketData"), data)
        refused(answer, Status.INTERNAL, "the stream ended within a message")
        assert len(raven.broker.clients) == 0


async def test_bad_input_21_a_stream_ends_at_a_truncated_message_and_its_client_is_gone() -> None:
    async with peer_of_a_server() as (raven, peer):
        hello = framed(bytes(v1.StreamMarketDataRequest(hello=v1.Hello(client_id="me"))))
        stream_id = await peer.begin(call_headers("StreamMarketData"), hello)
        await peer.wait(stream_id, messages=1)
        await peer.send(stream_id, framed(b"\x12", size=9), end=True)
        answer = await peer.wait(stream_id)
        refused_after_headers(answer, Status.INTERNAL, "the stream ended within a message: 1 of 9 bytes")
        assert raven.broker.clients.get("me") is None


@pytest.mark.parametrize("method", ["ListTopics", "GetLatest", "WatchMarketData", "Subscribe"])
async def test_bad_input_21_a_call_that_ends_without_its_request_is_told_so(method: str) -> None:
    async with peer_of_a_server() as (_, peer):
        refused(await peer.answer(call_headers(method)), Status.INVALID_ARGUMENT, "the request is missing")


async def test_a_call_that_is_reset_before_it_began_leaves_nothing_behind() -> None:
    async with peer_of_a_server() as (raven, peer):
        for _ in range(50):
            stream_id: int = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream_id, call_headers())
            peer.h2.send_data(stream_id, bytes(1000))
            peer.h2.reset_stream(stream_id)
        await peer.flush()
        await assert_served(peer)
        await assert_served(peer)
        (protocol,) = raven.server._connections
        with trio.fail_after(5):
            while protocol.processor.streams:
                await trio.lowlevel.checkpoint()
        inbound = protocol.connection._connection._inbound_flow_control_window_manager
        assert (
            inbound.max_window_size - inbound.current_window_size == inbound._bytes_processed
        )  # all given back, or about to be
