"""gRPC over HTTP/2 from the client's side, against h2 as a server, in memory."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.client.http2 import CallEnded, ConnectionBroken, GrpcConnection, MessageReceived
from raven.client.http2 import Event as Found

PATH = "/raven.v1.MarketDataService/ListTopics"


class Peer:
    """h2 as a server, and a client whose bytes go to it."""

    def __init__(self, **options: Any) -> None:
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.server.initiate_connection()
        self.client = GrpcConnection("here:1", options.get("metadata"))
        self.events: list[Any] = []
        self.exchange()

    def exchange(self, step: int = 0) -> list[Found]:
        """Everything that both have to say, to the client in steps of so many bytes; what the client finds."""
        found: list[Found] = []
        while True:
            to_server, to_client = self.client.data_to_send(), self.server.data_to_send()
            if not to_server and not to_client:
                return found
            self.events += self.server.receive_data(to_server)
            for at in range(0, len(to_client), step or max(len(to_client), 1)):
                found += self.client.receive(to_client[at : at + (step or len(to_client))])

    def headers(self, call: int, **more: str) -> None:
        headers = {":status": "200", "content-type": "application/grpc", **{k.replace("_", "-"): v for k, v in more.items()}}
        self.server.send_headers(call, list(headers.items()))

    def trailers(self, call: int, status: str, text: str = "") -> None:
        self.server.send_headers(call, [("grpc-status", status), ("grpc-message", text)], end_stream=True)


def framed(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


def test_a_call_asks_as_grpc_asks() -> None:
    peer = Peer(metadata={"authorization": "Bearer x"})
    call = peer.client.start(PATH, timeout_s=2.5)
    peer.client.send(call, b"request", end=True)
    peer.exchange()
    (asked,) = [event for event in peer.events if isinstance(event, h2.events.RequestReceived)]
    headers = dict(asked.headers or ())
    assert headers[":path"] == PATH
    assert (headers["te"], headers["content-type"], headers["grpc-timeout"]) == ("trailers", "application/grpc", "2500m")
    assert headers["authorization"] == "Bearer x"
    (data,) = [event for event in peer.events if isinstance(event, h2.events.DataReceived)]
    assert data.data == framed(b"request")
    assert any(isinstance(event, h2.events.StreamEnded) for event in peer.events)


@settings(max_examples=40, deadline=None)
@given(messages=st.lists(st.binary(max_size=40), min_size=1, max_size=6), cut=st.integers(1, 30), step=st.integers(0, 50))
def test_messages_come_whole_however_they_are_cut(messages: list[bytes], cut: int, step: int) -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    peer.headers(call)
    data = b"".join(map(framed, messages))
    for at in range(0, len(data), cut):
        peer.server.send_data(call, data[at : at + cut])
    peer.trailers(call, "0")
    assert peer.exchange(step) == [*(MessageReceived(call, one) for one in messages), CallEnded(call, "OK", "")]
    assert peer.client.calls == 0


def test_large_messages_in_large_frames_and_windows_that_open_again() -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    assert peer.server.max_outbound_frame_size == 256 * 1024
    peer.headers(call)
    found: list[Found] = []
    for _ in range(20):  # five times what the window takes
        message = framed(b"x" * 1_000_000)
        for at in range(0, len(message), 256 * 1024):
            peer.server.send_data(call, message[at : at + 256 * 1024])
        found += peer.exchange()
    assert [len(one.data) for one in found if isinstance(one, MessageReceived)] == [1_000_000] * 20


def test_what_the_servers_window_does_not_take_waits() -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.client.send(call, b"y" * 100_000, end=True)
    peer.exchange()
    sent = sum(len(event.data or b"") for event in peer.events if isinstance(event, h2.events.DataReceived))
    assert sent == 65_535
    peer.server.increment_flow_control_window(100_000, call)
    peer.server.increment_flow_control_window(100_000)
    peer.exchange()
    assert sum(len(event.data or b"") for event in peer.events if isinstance(event, h2.events.DataReceived)) == 100_005
    assert any(isinstance(event, h2.events.StreamEnded) for event in peer.events)


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"grpc_status": "3", "grpc_message": "venue: 'x' isn%27t"}, "INVALID_ARGUMENT", "venue: 'x' isn't"),
        ({"grpc_status": "14"}, "UNAVAILABLE", ""),
        ({"grpc_status": "99"}, "UNKNOWN", ""),
        ({":status": "503"}, "UNAVAILABLE", "HTTP status 503, and no gRPC status"),
        ({":status": "404"}, "UNIMPLEMENTED", "HTTP status 404, and no gRPC status"),
    ],
)
def test_an_answer_of_headers_alone(headers: dict[str, str], status: str, text: str) -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    given = {":status": "200", "content-type": "application/grpc"} | {k.replace("_", "-"): v for k, v in headers.items()}
    peer.server.send_headers(call, list(given.items()), end_stream=True)
    assert peer.exchange() == [CallEnded(call, status, text)]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (h2.errors.ErrorCodes.REFUSED_STREAM, "UNAVAILABLE"),
        (h2.errors.ErrorCodes.CANCEL, "CANCELLED"),
        (h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, "RESOURCE_EXHAUSTED"),
        (h2.errors.ErrorCodes.PROTOCOL_ERROR, "INTERNAL"),
    ],
)
def test_a_reset_is_a_status(code: h2.errors.ErrorCodes, status: str) -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    peer.server.reset_stream(call, code)
    (ended,) = peer.exchange()
    assert isinstance(ended, CallEnded)
    assert ended.status == status


def test_a_server_that_goes_away_finishes_what_it_has_begun() -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    peer.headers(call)
    goaway = bytes.fromhex("0000080700000000007fffffff00000000")  # as a graceful end begins: nothing is refused yet
    assert peer.client.receive(goaway) == []
    assert peer.client.going_away
    peer.server.send_data(call, framed(b"still"))
    peer.trailers(call, "0")
    assert peer.exchange() == [MessageReceived(call, b"still"), CallEnded(call, "OK", "")]


def test_a_call_that_a_leaving_server_has_not_taken_is_unavailable() -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    goaway = bytes.fromhex("000008070000000000" + "00000000" + "00000000")
    assert peer.client.receive(goaway) == [CallEnded(call, "UNAVAILABLE", "the server is going away")]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4,
        b"\0\0\0\xff" * 40,
    ],
)
def test_a_peer_that_speaks_something_else_is_told_so(data: bytes) -> None:
    with pytest.raises(ConnectionBroken, match="does not speak HTTP/2"):
        GrpcConnection("here:1").receive(data)


@pytest.mark.parametrize("prefix", [b"\1\0\0\0\1x", b"\0\xff\xff\xff\xff"])
def test_a_message_that_is_compressed_or_too_long_breaks_the_connection(prefix: bytes) -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    peer.headers(call)
    peer.server.send_data(call, prefix)
    with pytest.raises(ConnectionBroken, match=r"a message of \d+ bytes"):
        peer.exchange()


def test_a_cancelled_call_says_nothing_more() -> None:
    peer = Peer()
    call = peer.client.start(PATH)
    peer.exchange()
    peer.headers(call)
    peer.server.send_data(call, framed(b"late"))
    late = peer.server.data_to_send()
    peer.client.cancel(call)
    peer.exchange()
    assert peer.client.receive(late) == []
    assert any(isinstance(event, h2.events.StreamReset) for event in peer.events)
