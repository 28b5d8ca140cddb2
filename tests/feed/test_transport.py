"""Both readers over real sockets: against trio-websocket's server, and against peers that break the rules."""

from __future__ import annotations

import gc
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket
from feed_peers import (
    accept_websocket,
    client_tls,
    close_frame,
    read_head,
    reset,
    server_tls,
    tcp_peer,
    until_closed,
    ws_frame,
)

from raven.errors import ConnectFailed, ConnectionLost
from raven.feed import address, websocket_sansio, websocket_trio
from raven.feed.transport import FeedSocket, Reader, open_websocket
from raven.feed.websocket_sansio import FRAGMENTS_MAX

READERS: list[Reader] = ["websockets", "trio-websocket"]
both_readers = pytest.mark.parametrize("reader", READERS)


@pytest.fixture(autouse=True)
def deadline(nursery: trio.Nursery) -> None:
    nursery.start_soon(_end_after, 10)


async def _end_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise trio.TooSlowError


@asynccontextmanager
async def websocket_server(serve: Callable[[trio_websocket.WebSocketConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        await serve(await request.accept())

    async with trio.open_nursery() as nursery:
        run = partial(trio_websocket.serve_websocket, accept, "127.0.0.1", 0, None)
        server: trio_websocket.WebSocketServer = await nursery.start(run)
        yield f"ws://127.0.0.1:{server.port}/stream?streams=btcusdt@trade"
        nursery.cancel_scope.cancel()


async def receive(socket: FeedSocket, count: int) -> list[bytes]:
    messages: list[bytes] = []
    while len(messages) < count:
        messages += (await socket.receive_bulk())[0]
    return messages


# ------------------------------------------------------------------------------------------------ a server that behaves


@both_readers
async def test_every_message_arrives_once_and_in_order_as_bytes(reader: Reader) -> None:
    sent = [f'{{"n":{n},"s":"é"}}' for n in range(3000)]

    async def serve(connection: trio_websocket.WebSocketConnection) -> None:
        for text in sent:
            await connection.send_message(text)
        await connection.send_message(b"\x00\xff")
        await connection.get_message()

    async with websocket_server(serve) as url, open_websocket(url, reader=reader) as socket:
        assert await receive(socket, 3001) == [*(text.encode() for text in sent), b"\x00\xff"]
        await socket.send("done")


@both_readers
async def test_one_read_brings_many_messages_with_one_timestamp(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await stream.send_all(b"".join(ws_frame(b"%d" % n) for n in range(100)))
        await until_closed(stream)

    before = time.time_ns()
    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
        await trio.testing.wait_all_tasks_blocked(0.05)  # all of it is there before the first read
        messages, received_ts_ns = await socket.receive_bulk()
        assert before <= received_ts_ns <= time.time_ns()
        assert messages == [b"%d" % n for n in range(100)]


@both_readers
async def test_a_message_that_came_with_the_handshake_is_not_lost(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream, then=ws_frame(b"early") + ws_frame(b"half")[:3])
        await stream.send_all(ws_frame(b"half")[3:])
        await until_closed(stream)

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
        assert await receive(socket, 2) == [b"early", b"half"]


@both_readers
async def test_the_path_the_query_and_the_headers_reach_the_venue(reader: Reader) -> None:
    heads: list[bytes] = []

    async def peer(stream: trio.abc.Stream) -> None:
        heads.append(await accept_websocket(stream))
        await until_closed(stream)

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}/a?b=c", headers={"X-Key": "k"}, reader=reader):
        pass
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"GET /a?b=c HTTP/1.1"
    assert b"X-Key: k" in lines
    assert b"User-Agent: raven-marketdata" in lines


@both_readers
async def test_text_and_binary_are_sent_as_what_they_are(reader: Reader) -> None:
    got: list[str | bytes] = []

    async def serve(connection: trio_websocket.WebSocketConnection) -> None:
        got.append(await connection.get_message())
        got.append(await connection.get_message())
        await connection.send_message("thanks")

    async with websocket_server(serve) as url, open_websocket(url, reader=reader) as socket:
        await socket.send('{"method":"SUBSCRIBE"}')
        await socket.send(b"\x01\x02")
        assert await receive(socket, 1) == [b"thanks"]
    assert got == ['{"method":"SUBSCRIBE"}', b"\x01\x02"]


@both_readers
async def test_a_ping_is_answered_with_its_payload(reader: Reader) -> None:
    answered = trio.Event()

    async def serve(connection: trio_websocket.WebSocketConnection) -> None:
        await connection.ping(b"1723104000000")
        answered.set()
        await connection.send_message("after")

    async with websocket_server(serve) as url, open_websocket(url, reader=reader) as socket:
        assert await receive(socket, 1) == [b"after"]
    assert answered.is_set()


async def test_a_ping_is_a_sign_of_life() -> None:
    connected = trio.Event()

    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await connected.wait()
        await stream.send_all(ws_frame(b"", 9))
        await until_closed(stream)

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}") as socket:
        at_first = socket.heard_at
        connected.set()
        with trio.move_on_after(0.2):
            await socket.receive_bulk()
        assert socket.heard_at > at_first


@both_readers
async def test_leaving_closes_with_1000(reader: Reader) -> None:
    reasons: list[int] = []

    async def serve(connection: trio_websocket.WebSocketConnection) -> None:
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await connection.get_message()
        assert closed.value.reason is not None
        reasons.append(closed.value.reason.code)

    async with websocket_server(serve) as url:
        async with open_websocket(url, reader=reader):
            pass
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert reasons == [1000]


@both_readers
async def test_leaving_does_not_wait_long_for_a_venue_that_is_gone(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (websocket_sansio, websocket_trio):
        monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)

    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await trio.sleep_forever()

    async with tcp_peer(peer) as port:
        started = trio.current_time()
        async with open_websocket(f"ws://127.0.0.1:{port}", reader=reader):
            pass
        assert trio.current_time() - started < 1


@both_readers
async def test_what_is_raised_inside_comes_out_as_it_is(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await until_closed(stream)

    async with tcp_peer(peer) as port:
        with pytest.raises(ZeroDivisionError):
            async with open_websocket(f"ws://127.0.0.1:{port}", reader=reader):
                raise ZeroDivisionError


@both_readers
async def test_fragments_are_joined_also_around_a_ping(reader: Reader) -> None:
    whole = "aé€".encode() * 100

    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        parts = [ws_frame(whole[:101], 1, fin=False), ws_frame(b"", 9), ws_frame(whole[101:150], 0, fin=False)]
        for part in [*parts, ws_frame(whole[150:], 0), ws_frame(b"next")]:
            await stream.send_all(part)
        await until_closed(stream)

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
        assert await receive(socket, 2) == [whole, b"next"]


@both_readers
async def test_a_read_that_was_cancelled_loses_nothing(reader: Reader) -> None:
    go_on = trio.Event()

    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        message = ws_frame(b"0123456789")
        await stream.send_all(message[:5])
        await go_on.wait()
        await stream.send_all(message[5:])
        await until_closed(stream)

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
        with trio.move_on_after(0.1) as scope:
            await socket.receive_bulk()
        assert scope.cancelled_caught
        go_on.set()
        assert await receive(socket, 1) == [b"0123456789"]


@both_readers
async def test_tls(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await stream.send_all(ws_frame(b"x" * 100_000) + ws_frame(b"secret"))
        await until_closed(stream)

    wss = partial(open_websocket, reader=reader, tls=client_tls())
    async with tcp_peer(peer, tls=server_tls()) as port, wss(f"wss://127.0.0.1:{port}") as socket:
        assert await receive(socket, 2) == [b"x" * 100_000, b"secret"]


# -------------------------------------------------------------------------------------------------- how a connection ends


async def lost(
    reader: Reader, *pieces: bytes, then_reset: bool = False, frame_bytes_max: int = 1000
) -> tuple[list[bytes], str]:
    """What arrives of `pieces` before the connection is lost, and why it is. The peer closes its side after them."""

    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        for piece in pieces:
            await stream.send_all(piece)
        if then_reset:
            reset(stream)
        else:
            assert isinstance(stream, trio.SocketStream)
            await stream.send_eof()
            await until_closed(stream)

    messages: list[bytes] = []
    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectionLost) as caught:
            await receive_all(f"ws://127.0.0.1:{port}", reader, frame_bytes_max, messages)
        return messages, str(caught.value).replace(f"127.0.0.1:{port}", "venue")


async def receive_all(url: str, reader: Reader, frame_bytes_max: int, messages: list[bytes]) -> None:
    async with open_websocket(url, reader=reader, frame_bytes_max=frame_bytes_max) as socket:
        while True:
            messages += (await socket.receive_bulk())[0]


@both_readers
@pytest.mark.parametrize(
    ("close", "why"),
    [
        (close_frame(1000), "venue closed the connection: code 1000"),
        (close_frame(None), "venue closed the connection: no code"),
        (close_frame(4000, "go\naway"), "venue closed the connection: code 4000, 'go\\naway'"),
    ],
)
async def test_a_close_frame_ends_it_after_what_came_before(reader: Reader, close: bytes, why: str) -> None:
    assert await lost(reader, ws_frame(b"last") + close) == ([b"last"], why)


@both_readers
async def test_a_fin_ends_it_at_once(reader: Reader) -> None:
    started = trio.current_time()
    messages, why = await lost(reader, ws_frame(b"last"))
    assert messages == [b"last"]
    assert why.startswith(("venue ended the connection without closing it", "venue broke the connection"))
    assert trio.current_time() - started < 0.5


@both_readers
async def test_a_reset_inside_a_frame_leaves_nothing_to_the_next_connection(reader: Reader) -> None:
    visits = 0

    async def peer(stream: trio.abc.Stream) -> None:
        nonlocal visits
        visits += 1
        await accept_websocket(stream)
        if visits == 1:
            await stream.send_all(ws_frame(b"first half, second half")[:12])
            await trio.testing.wait_all_tasks_blocked(0.02)
            reset(stream)
        else:
            await stream.send_all(ws_frame(b"whole"))
            await until_closed(stream)

    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectionLost, match="broke the connection"):
            async with open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
                await socket.receive_bulk()
        async with open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
            assert await receive(socket, 1) == [b"whole"]


@both_readers
@pytest.mark.parametrize(
    ("broken", "sansio_says"),
    [
        (ws_frame(b"masked", mask=b"abcd"), "broke the WebSocket protocol: incorrect masking"),
        (ws_frame(b"\xff\xfe"), "sent a text message that is not UTF-8: invalid start byte at byte 0"),
        (ws_frame(b"\xe2\x82", fin=False) + ws_frame(b"A", 0), "sent a text message that is not UTF-8"),
        (ws_frame(b"x", 3), "broke the WebSocket protocol: invalid opcode"),
        (ws_frame(b"x", rsv1=True), "broke the WebSocket protocol: reserved bits must be 0"),
        (ws_frame(b"x", 0), "broke the WebSocket protocol: unexpected continuation frame"),
        (ws_frame(b"x", fin=False) + ws_frame(b"y"), "broke the WebSocket protocol: expected a continuation frame"),
        (ws_frame(b"x" * 1001), "sent a message over the limit of 1000 bytes"),
        (ws_frame(b"x" * 600, fin=False) + ws_frame(b"x" * 600, 0), "sent a message over the limit of 1000 bytes"),
    ],
    ids=[
        "masked",
        "utf8",
        "utf8-fragments",
        "opcode",
        "rsv1",
        "continuation",
        "no-continuation",
        "oversize",
        "oversize-fragments",
    ],
)
async def test_a_venue_that_breaks_the_protocol_loses_the_connection(reader: Reader, broken: bytes, sansio_says: str) -> None:
    messages, why = await lost(reader, ws_frame(b"good"), broken, ws_frame(b"never read"))
    assert b"never read" not in messages
    if reader == "websockets":
        assert messages == [b"good"]
        assert f"venue {sansio_says}" in why
    else:
        assert why.startswith("venue ")


async def test_a_message_in_too_many_fragments_loses_the_connection() -> None:
    pieces = ws_frame(b"", fin=False) + ws_frame(b"", 0, fin=False) * (100 * FRAGMENTS_MAX)
    assert await lost("websockets", pieces) == ([], f"venue sent a message in more than {FRAGMENTS_MAX} fragments")


async def test_a_message_in_as_many_fragments_as_are_allowed_arrives() -> None:
    pieces = ws_frame(b"a", fin=False) + ws_frame(b"b", 0, fin=False) * (FRAGMENTS_MAX - 2) + ws_frame(b"c", 0)
    messages, _ = await lost("websockets", pieces, frame_bytes_max=FRAGMENTS_MAX)
    assert messages == [b"a" + b"b" * (FRAGMENTS_MAX - 2) + b"c"]


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def deflating_peer(stream: trio.abc.Stream, messages: list[bytes]) -> None:
    head = await accept_websocket(stream, extension=b"permessage-deflate; server_no_context_takeover")
    assert b"permessage-deflate" in head
    for message in messages:
        await stream.send_all(ws_frame(deflated(message), rsv1=True))
    await until_closed(stream)


async def test_compressed_messages_arrive_inflated() -> None:
    sent = [b'{"e":"trade"}', b"[1,2]" * 1000]
    peer = partial(deflating_peer, messages=sent)
    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader="websockets") as socket:
        assert await receive(socket, 2) == sent


async def test_a_deflate_bomb_loses_the_connection_at_the_inflated_limit() -> None:
    async with tcp_peer(partial(deflating_peer, messages=[b"\0" * 10_000_000])) as port:
        with pytest.raises(ConnectionLost, match="over the limit of 100000 bytes"):
            async with open_websocket(f"ws://127.0.0.1:{port}", reader="websockets", frame_bytes_max=100_000) as socket:
                await socket.receive_bulk()


@both_readers
async def test_sending_on_a_connection_that_is_over(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await stream.send_all(close_frame(1001))
        await until_closed(stream)

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader=reader) as socket:
        with pytest.raises(ConnectionLost, match="code 1001"):
            await socket.receive_bulk()
        with pytest.raises(ConnectionLost, match="code 1001"):
            await socket.send("too late")


async def test_a_write_that_was_given_up_ends_the_connection() -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await accept_websocket(stream)
        await trio.sleep_forever()

    async with tcp_peer(peer) as port, open_websocket(f"ws://127.0.0.1:{port}", reader="websockets") as socket:
        with trio.move_on_after(0.1):
            await socket.send(b"x" * 50_000_000)  # more than the two socket buffers take
        with pytest.raises(ConnectionLost, match="given up half-way"):
            await socket.receive_bulk()


# ------------------------------------------------------------------------------------------- when there is no connection


@both_readers
async def test_refused(reader: Reader) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(ConnectFailed, match=f"^127.0.0.1:{port}: .*[Cc]onnection refused"):
        await connect(f"ws://127.0.0.1:{port}", reader)


async def connect(url: str, reader: Reader, tls: ssl.SSLContext | None = None) -> None:
    async with open_websocket(url, reader=reader, tls=tls):
        pytest.fail("connected")


@both_readers
async def test_a_host_that_does_not_exist(reader: Reader) -> None:
    with pytest.raises(ConnectFailed, match=r"^venue\.invalid:9443: "):
        await connect("ws://venue.invalid:9443/ws", reader)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "127.0.0.1:80", "ws://", "ws://127.0.0.1:port/", ""])
async def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConnectFailed, match="is no WebSocket address: ws://host:port/path or wss://host:port/path"):
        await connect(url, "websockets")


@both_readers
async def test_an_http_error_is_named(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")

    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectFailed, match=f"^127.0.0.1:{port}: .*HTTP 503"):
            await connect(f"ws://127.0.0.1:{port}", reader)


@both_readers
@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_a_peer_that_is_no_web_server(reader: Reader, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_trio, "HANDSHAKE_TIMEOUT_S", 0.1)  # the library notices nothing and waits

    async def peer(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        if answer:
            await stream.send_all(answer)

    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectFailed, match=f"^127.0.0.1:{port}: "):
            await connect(f"ws://127.0.0.1:{port}", reader)


@both_readers
async def test_a_handshake_that_never_comes(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (address, websocket_trio):
        monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT_S", 0.1)

    async def peer(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectFailed, match=f"^127.0.0.1:{port}: no connection within 0.1 s"):
            await connect(f"ws://127.0.0.1:{port}", reader)


@both_readers
async def test_a_certificate_that_nobody_trusts(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)

    async with tcp_peer(peer, tls=server_tls()) as port:
        with pytest.raises(ConnectFailed, match=r"(?i)certificate verify failed"):
            await connect(f"wss://127.0.0.1:{port}", reader)


async def test_a_peer_without_tls() -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectFailed, match=f"^127.0.0.1:{port}: .*SSL"):
            await connect(f"wss://127.0.0.1:{port}", "websockets")


@both_readers
async def test_no_socket_is_left_open(reader: Reader) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with tcp_peer(peer) as port:
        with pytest.raises(ConnectFailed):
            await connect(f"ws://127.0.0.1:{port}", reader)
        gc.collect()  # a socket that was forgotten would warn here, and a warning is an error
