"""REST requests of a feed: a few at once, each within its limits, with answers in the place of exceptions."""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

import httpx
import trio

from raven.adapter.outputs import Fetch, Reply
from raven.feed.address import USER_AGENT, default_tls, root_cause
from raven.feed.limits import FeedLimits

__all__ = ["HOLDING_STATUSES", "HeldHosts", "RestClient", "open_rest_client", "parse_retry_after"]

HOLDING_STATUSES = frozenset({418, 429, 503})  # 418: how Binance says that an IP address is banned
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib: expect a gzip header


class HeldHosts:
    """Hosts that are left alone, and until when. All feeds of a server share it: a venue counts by address, not by feed, and
    what it asked for stands when a feed is stopped and started.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # on Trio's clock

    def until(self, host: str) -> float:
        """The time before which `host` is not asked; in the past where it may be."""
        return self._until.get(host, 0.0)

    def hold(self, host: str, until: float) -> None:
        """Leave `host` alone until then, if not for longer already."""
        now = trio.current_time()
        self._until = {name: then for name, then in self._until.items() if then > now}
        self._until[host] = max(until, self.until(host))


@asynccontextmanager
async def open_rest_client(
    limits: FeedLimits, held: HeldHosts | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[RestClient]:
    """A client whose connections are closed on leaving.

    Proxy variables of the environment are not followed, as the WebSockets do not follow them either.
    """
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}
    timeout = httpx.Timeout(None)  # the whole request has its deadline
    async with httpx.AsyncClient(verify=tls or default_tls(), headers=headers, timeout=timeout, trust_env=False) as client:
        yield RestClient(client, limits, held or HeldHosts())


class RestClient:
    """Carries out the `Fetch`es of one feed, at most `fetches_at_once_max` at a time. `held` may be shared with others."""

    def __init__(self, client: httpx.AsyncClient, limits: FeedLimits, held: HeldHosts) -> None:
        self._client = client
        self._limits = limits
        self._slots = trio.CapacityLimiter(limits.fetches_at_once_max)
        self._held = held

    async def fetch(self, request: Fetch) -> Reply:
        """The answer; status 0 and `error` where there is none. Never raises for a venue's fault.

        A host that asked to wait (Retry-After) is not asked again before, or before `retry_after_s_max` have passed; one that
        failed is left alone for `retry_pause_s`, so that a session which asks again at once does no harm.
        """
        try:
            host = httpx.URL(request.url).netloc.decode("ascii")
        except httpx.InvalidURL as error:
            return _no_reply(f"{request.url!r} is no address: {error}")
        while True:
            await trio.sleep_until(self._held.until(host))
            async with self._slots:
                if self._held.until(host) > trio.current_time():  # another request was told so meanwhile
                    continue
                reply = await self._answer(request)
                self._hold(host, reply)
                return reply

    async def _answer(self, request: Fetch) -> Reply:
        limits = self._limits
        try:
            with trio.fail_after(limits.fetch_timeout_s):
                return await self._exchange(request)
        except trio.TooSlowError:
            return _no_reply(f"timed out after {limits.fetch_timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, _Unreadable) as error:
            return _no_reply(root_cause(error))

    async def _exchange(self, request: Fetch) -> Reply:
        headers = dict(request.headers)
        async with self._client.stream(request.method, request.url, headers=headers, content=request.body) as response:
            body = await _read_body(response, self._limits.body_bytes_max)
        now_ns = time.time_ns()
        return Reply(
            status=response.status_code,
            body=body,
            received_ts_ns=now_ns,
            headers={name.lower(): value for name, value in response.headers.items()},
            retry_after_s=_retry_after(response, now_ns),
        )

    def _hold(self, host: str, reply: Reply) -> None:
        if reply.status == 0 or reply.status >= 500 or reply.status in HOLDING_STATUSES:
            wait_s = min(reply.retry_after_s or 0.0, self._limits.retry_after_s_max)
            self._held.hold(host, trio.current_time() + max(wait_s, self._limits.retry_pause_s))


def parse_retry_after(text: str, now_ns: int) -> float | None:
    """Seconds from now on, never negative; None for what is neither a number nor a date (RFC 9110, 10.2.3)."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            then = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (then.replace(tzinfo=then.tzinfo or UTC) - datetime.fromtimestamp(now_ns / 1e9, UTC)).total_seconds()
    return max(seconds, 0.0) if isfinite(seconds) else None


def _retry_after(response: httpx.Response, now_ns: int) -> float | None:
    text = response.headers.get("retry-after")
    return parse_retry_after(text, now_ns) if text and response.status_code in HOLDING_STATUSES else None


class _Unreadable(Exception):
    """A body that cannot be taken."""


async def _read_body(response: httpx.Response, bytes_max: int) -> bytes:
    """The body, inflated; it is inflated here so that a bomb stops at the limit and not after it."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise _Unreadable(f"the body is in {encoding!r}, which was not asked for")
    inflater = zlib.decompressobj(_GZIP_WINDOW) if encoding == "gzip" else None
    body = bytearray()
    problem = ""
    with trio.CancelScope() as scope:
        async for piece in response.aiter_raw():
            problem = problem or _take(piece, inflater, body, bytes_max)
            if problem:
                scope.cancel()  # httpx can be stopped cleanly from inside its read alone, not by leaving the loop
    if problem or (inflater and body and not inflater.eof):
        raise _Unreadable(problem or "the body ends before its gzip stream does")
    return bytes(body)


def _take(piece: bytes, inflater: zlib._Decompress | None, body: bytearray, bytes_max: int) -> str:
    """Add `piece` to `body`; why it cannot be, or nothing."""
    try:
        body += inflater.decompress(piece, bytes_max + 1 - len(body)) if inflater else piece
    except zlib.error as error:
        return str(error)
    return f"the body is over the limit of {bytes_max} bytes" if len(body) > bytes_max else ""


def _no_reply(error: str) -> Reply:
    return Reply(status=0, body=b"", received_ts_ns=time.time_ns(), error=error)
