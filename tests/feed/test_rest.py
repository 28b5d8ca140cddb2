"""REST over real sockets, and what Retry-After means."""

from __future__ import annotations

import gzip

import httpx
import pytest
import trio
from feed_peers import client_tls, read_head, server_tls, tcp_peer

from raven.adapter.outputs import Fetch, Reply
from raven.feed.limits import FeedLimits
from raven.feed.rest import HeldHosts, RestClient, open_rest_client, parse_retry_after

NOW_NS = 784_111_777 * 10**9  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110


def response(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def fetched(answer: bytes, limits: FeedLimits = FeedLimits(), path: str = "/") -> Reply:  # noqa: B008
    async def peer(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(answer)

    async with tcp_peer(peer) as port, open_rest_client(limits) as client:
        return await client.fetch(Fetch(f"http://127.0.0.1:{port}{path}", "test"))


async def test_an_answer_is_returned_whole() -> None:
    reply = await fetched(response(b'{"lastUpdateId":1}', "200 OK", "X-MBX-USED-WEIGHT: 6"))
    assert reply.ok
    assert reply.body == b'{"lastUpdateId":1}'
    assert reply.headers["x-mbx-used-weight"] == "6"
    assert (reply.error, reply.retry_after_s) == ("", None)


async def test_the_request_reaches_the_venue_as_it_was_meant() -> None:
    received = b""

    async def peer(stream: trio.abc.Stream) -> None:
        nonlocal received
        received = await read_head(stream)
        while not received.endswith(b"\r\n\r\nbody"):
            received += await stream.receive_some(100)
        await stream.send_all(response())

    async with tcp_peer(peer) as port, open_rest_client(FeedLimits()) as client:
        url = f"http://127.0.0.1:{port}/api/v3/depth?symbol=BTCUSDT&limit=5000"
        reply = await client.fetch(Fetch(url, "test", method="POST", headers={"X-Key": "k"}, body=b"body"))
    assert reply.status == 200
    assert received.startswith(b"POST /api/v3/depth?symbol=BTCUSDT&limit=5000 HTTP/1.1\r\n")
    assert b"\r\nX-Key: k\r\n" in received


async def test_an_http_error_is_an_answer() -> None:
    reply = await fetched(response(b'{"code":-1121}', "400 Bad Request"))
    assert (reply.status, reply.body, reply.error, reply.ok) == (400, b'{"code":-1121}', "", False)


async def test_a_redirect_is_not_followed() -> None:
    assert (await fetched(response(b"", "301 Moved", "Location: http://127.0.0.1:1/"))).status == 301


async def test_a_gzipped_body_is_inflated() -> None:
    body = b"0123456789" * 10_000
    assert (await fetched(response(gzip.compress(body), "200 OK", "Content-Encoding: gzip"))).body == body


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (response(b"x" * 1001), "the body is over the limit of 1000 bytes"),
        (
            response(gzip.compress(b"\0" * 50_000_000), "200 OK", "Content-Encoding: gzip"),
            "the body is over the limit of 1000 bytes",
        ),
        (
            response(gzip.compress(b"whole")[:-9], "200 OK", "Content-Encoding: gzip"),
            "the body ends before its gzip stream does",
        ),
        (response(b"not gzip", "200 OK", "Content-Encoding: gzip"), "incorrect header check"),
        (response(b"x", "200 OK", "Content-Encoding: br"), "the body is in 'br', which was not asked for"),
        (response(b"short", "200 OK").replace(b": 5", b": 50"), "without sending complete message body"),
        (b"", "disconnected without sending a response"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "disconnected without sending a response"),
    ],
    ids=["long", "bomb", "cut-gzip", "no-gzip", "brotli", "cut", "nothing", "no-http"],
)
async def test_what_cannot_be_read_is_no_answer(answer: bytes, error: str) -> None:
    reply = await fetched(answer, FeedLimits(body_bytes_max=1000))
    assert (reply.status, reply.body) == (0, b"")
    assert error in reply.error


async def test_no_answer_in_time() -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await trio.sleep_forever()

    async with tcp_peer(peer) as port, open_rest_client(FeedLimits(fetch_timeout_s=0.1)) as client:
        reply = await client.fetch(Fetch(f"http://127.0.0.1:{port}/", "test"))
    assert (reply.status, reply.error) == (0, "timed out after 0.1 s")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://venue.invalid/", "ftp://127.0.0.1/", "http://[/", "nothing", ""]
)
async def test_a_venue_that_cannot_be_reached(url: str) -> None:
    async with open_rest_client(FeedLimits()) as client:
        reply = await client.fetch(Fetch(url, "test"))
    assert reply.status == 0
    assert reply.error


async def test_tls_and_a_certificate_that_nobody_trusts() -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(response(b"secret"))

    async with tcp_peer(peer, tls=server_tls()) as port:
        request = Fetch(f"https://127.0.0.1:{port}/", "test")
        async with open_rest_client(FeedLimits(), tls=client_tls()) as client:
            assert (await client.fetch(request)).body == b"secret"
        async with open_rest_client(FeedLimits()) as client:
            assert "certificate verify failed" in (await client.fetch(request)).error


# ------------------------------------------------------------------------------ timing, on a clock that jumps; no sockets


def answer(status: int, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(b""))


def client_of(venue: httpx.AsyncBaseTransport, limits: FeedLimits, held: HeldHosts | None = None) -> RestClient:
    return RestClient(httpx.AsyncClient(transport=venue), limits, held or HeldHosts())


class SlowVenue(httpx.AsyncBaseTransport):
    """Answers after a second with what `answers` has next, 200 at the end; notes when it was asked, and how many at once."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []
        self.started = trio.current_time()
        self.active = self.active_max = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked_at.append(trio.current_time() - self.started)
        self.active += 1
        self.active_max = max(self.active_max, self.active)
        await trio.sleep(1)
        self.active -= 1
        return self.answers.pop(0) if self.answers else answer(200)


async def test_a_host_that_asks_to_wait_is_left_alone_for_so_long(autojump_clock: trio.testing.MockClock) -> None:
    venue = SlowVenue(answer(429, "30"))
    client = client_of(venue, FeedLimits())
    assert (await client.fetch(Fetch("http://a/1", ""))).retry_after_s == 30
    await client.fetch(Fetch("http://b/", ""))
    await client.fetch(Fetch("http://a/2", ""))
    assert venue.asked_at == [0, 1, 31]


async def test_a_host_that_asks_one_feed_to_wait_is_left_alone_by_all(autojump_clock: trio.testing.MockClock) -> None:
    """Fault 7: the venue counts by address."""
    venue, held = SlowVenue(answer(429, "30")), HeldHosts()
    one, other = client_of(venue, FeedLimits(), held), client_of(venue, FeedLimits(), held)
    await one.fetch(Fetch("http://a/1", ""))
    await other.fetch(Fetch("http://b/", ""))
    await other.fetch(Fetch("http://a/2", ""))
    assert venue.asked_at == [0, 1, 31]


async def test_requests_that_wait_for_a_slot_hold_back_too(autojump_clock: trio.testing.MockClock) -> None:
    venue = SlowVenue(answer(418, "5"))
    client = client_of(venue, FeedLimits(fetches_at_once_max=1))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.fetch, Fetch("http://a/", ""))
    assert venue.asked_at == [0, 6, 7]


async def test_no_host_is_held_back_for_longer_than_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    venue = SlowVenue(answer(503, "999999"))
    client = client_of(venue, FeedLimits(retry_after_s_max=60))
    assert (await client.fetch(Fetch("http://a/", ""))).retry_after_s == 999999
    await client.fetch(Fetch("http://a/", ""))
    assert venue.asked_at == [0, 61]


@pytest.mark.parametrize("status", [429, 500, 502])
async def test_a_host_in_trouble_gets_a_pause(status: int, autojump_clock: trio.testing.MockClock) -> None:
    venue = SlowVenue(answer(status), answer(404))
    client = client_of(venue, FeedLimits(retry_pause_s=2))
    for _ in range(3):
        await client.fetch(Fetch("http://a/", ""))
    assert venue.asked_at == [0, 3, 4]


async def test_only_so_many_at_once(autojump_clock: trio.testing.MockClock) -> None:
    venue = SlowVenue()
    client = client_of(venue, FeedLimits(fetches_at_once_max=3))
    async with trio.open_nursery() as nursery:
        for _ in range(7):
            nursery.start_soon(client.fetch, Fetch("http://a/", ""))
    assert venue.active_max == 3
    assert trio.current_time() - venue.started == 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("1.5", 1.5),
        ("-3", 0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
    ],
)
def test_parse_retry_after(text: str, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW_NS) == seconds
