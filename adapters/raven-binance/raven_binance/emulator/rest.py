"""The venue's REST endpoints as a plain ASGI application, and its server."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import attrs
import msgspec
import trio

from raven_binance.emulator.books import Stage
from raven_binance.emulator.profile import SPOT_PROFILE, Profile
from raven_binance.emulator.timeline import Timeline

__all__ = ["BARRIER_WAIT_S", "Barrier", "RestApp"]

BARRIER_WAIT_S = 5.0  # the timeline waits so long for a depth request, and a depth request for the timeline
DEPTH_LIMIT_DEFAULT = 100
INTEREST_BASE = 80_000_000  # thousandths; it goes up by one each second, and begins again

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@attrs.frozen
class Barrier:
    """Where the timeline and a depth request meet.

    Args:
        reached: the timeline is at the recorded snapshot.
        answered: a depth request was answered with it.
    """

    reached: trio.Event = attrs.field(factory=trio.Event)
    answered: trio.Event = attrs.field(factory=trio.Event)


@attrs.frozen
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes


class RestApp:
    """`depth`, `exchangeInfo`, `time` and `ping`; with derivatives also `openInterest` and `fundingInfo`.

    Args:
        timeline: what is answered from.
        barriers: by symbol.
        profile: the market.
    """

    def __init__(self, timeline: Timeline, barriers: Mapping[str, Barrier], profile: Profile = SPOT_PROFILE) -> None:
        self._profile = profile
        self._timeline = timeline
        self._barriers = barriers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, send)

    async def _serve(self, scope: Scope, send: Send) -> None:
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        if scope["method"] != "GET":
            await _respond(send, _refused(405, -1, "Method not allowed"))
        elif scope["path"] == f"{self._profile.rest_prefix}/depth":
            await self._serve_depth(query, send)
        else:
            await _respond(send, self._plain(scope["path"], query))

    def _plain(self, path: str, query: Mapping[str, str]) -> Answer:
        now_ms = time.time_ns() // 1_000_000
        prefix, _, name = path.rpartition("/")
        known = name if prefix == self._profile.rest_prefix else ""
        if known == "exchangeInfo":
            return self._exchange_info(query, now_ms)
        if known == "time":
            return Answer(200, msgspec.json.encode({"serverTime": now_ms}))
        if known == "ping":
            return Answer(200, b"{}")
        if known in ("openInterest", "fundingInfo") and self._profile.derivatives:
            return self._open_interest(query, now_ms) if known == "openInterest" else self._funding_info()
        return _refused(404, -1, f"Path {path}, Method GET")

    def _open_interest(self, query: Mapping[str, str], now_ms: int) -> Answer:
        symbol = query.get("symbol", "")
        if symbol not in self._timeline.symbols:
            return _refused(400, -1121, "Invalid symbol.")
        amount = INTEREST_BASE + now_ms // 1000 % INTEREST_BASE
        told = {"openInterest": f"{amount // 1000}.{amount % 1000:03d}", "symbol": symbol, "time": now_ms}
        return Answer(200, msgspec.json.encode(told))

    def _funding_info(self) -> Answer:
        """Of every second symbol: the venue names those only whose terms were changed."""
        named = tuple(self._timeline.symbols)[::2]
        terms = {"adjustedFundingRateCap": "0.02000000", "adjustedFundingRateFloor": "-0.02000000", "fundingIntervalHours": 8}
        return Answer(200, msgspec.json.encode([{"symbol": symbol, **terms} for symbol in named]))

    def _exchange_info(self, query: Mapping[str, str], now_ms: int) -> Answer:
        listed, exchange_info = self._timeline.symbols, self._profile.exchange_info
        try:
            asked = _asked_symbols(query) if self._profile.lists_by_symbol else None
        except msgspec.MsgspecError:
            return _refused(400, -1100, "Illegal characters found in parameter 'symbols'.")
        if asked is None:
            return Answer(200, exchange_info(listed.values(), now_ms))
        if not all(symbol in listed for symbol in asked):
            return _refused(400, -1121, "Invalid symbol.")
        return Answer(200, exchange_info((listed[symbol] for symbol in asked), now_ms))

    async def _serve_depth(self, query: Mapping[str, str], send: Send) -> None:
        """A request that comes before the timeline is at the symbol's snapshot waits for it, but not for ever."""
        symbol, limit = query.get("symbol", ""), query.get("limit", str(DEPTH_LIMIT_DEFAULT))
        fault = self._depth_fault(symbol, limit)
        if fault is not None:
            await _respond(send, fault)
            return
        barrier, book = self._barriers[symbol], self._timeline.books[symbol]
        with trio.move_on_after(BARRIER_WAIT_S):
            await barrier.reached.wait()
        if book.stage is Stage.AHEAD:
            await _respond(send, _refused(503, -1001, "Internal error; unable to process your request. Please try again."))
            return
        await _respond(send, Answer(200, book.reply(min(int(limit), self._profile.depth_limit_max))))
        barrier.answered.set()

    def _depth_fault(self, symbol: str, limit: str) -> Answer | None:
        if not symbol:
            return _refused(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 20 and int(limit)):
            return _refused(400, -1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
        if symbol not in self._timeline.books:
            return _refused(400, -1121, "Invalid symbol.")
        return None


def _asked_symbols(query: Mapping[str, str]) -> list[str] | None:
    if "symbols" in query:
        return msgspec.json.decode(query["symbols"], type=list[str])
    return [query["symbol"]] if "symbol" in query else None


def _refused(status: int, code: int, text: str) -> Answer:
    return Answer(status, msgspec.json.encode({"code": code, "msg": text}))


async def _respond(send: Send, answer: Answer) -> None:
    headers = [(b"content-type", b"application/json;charset=UTF-8"), (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
