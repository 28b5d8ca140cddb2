"""GetHistoricalData: checks what was asked, reads a step of it in a worker thread, sends that, and reads the next.

A step is read when the one before it was taken, so a slow client costs a few MiB and no time. One that takes nothing at all is
ended as any call is (`stall_s`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any, Protocol

import attrs
import structlog
import trio
import trio_asyncio

from raven.codec.generated.raven import v1
from raven.codec.varint import varint
from raven.errors import InvalidValue, RequestError, StoreError
from raven.grpc.requests import parse_selectors
from raven.model.topic import Selector

__all__ = ["Chunk", "HistoricalData", "History", "Reading"]

QUERIES_MAX = 16
"""Queries that are answered at once; one more is RESOURCE_EXHAUSTED. Each holds a few MiB."""

THREADS_MAX = 2
"""Queries that read the store in the same moment; the others wait for their next step."""

LIMIT_MAX = 1_000_000_000
"""Events that `limit` may ask for; 0 is the way to say all."""

SPEED_MIN, SPEED_MAX = 0.001, 100_000.0

PACE_S = 0.001
"""How much earlier than its time an event may be sent, with one that is due."""

FRESH_NS = 60_000_000_000
"""A range that ends later than this before now needs what was published a moment ago: the store is asked to write it first."""

FLUSH_WAIT_MAX_S = 5.0
"""... for so long. Then it is answered with what the store has, and is not complete."""

_TOKEN_TAG = b"\x12"
_LAST, _LAST_AND_COMPLETE = b"\x18\x01", b"\x18\x01\x20\x01"  # end 3, complete 4

log = structlog.stdlib.get_logger("raven.grpc")


class Chunk(Protocol):
    """What goes into one message (raven.store.query.Chunk)."""

    @property
    def elements(self) -> bytes:
        """Elements of the field `events`, joined."""

    @property
    def first_ts_ns(self) -> int | None:
        """Of its first event, by the chosen clock; None where there is no time to wait for."""

    @property
    def page_token(self) -> str:
        """Goes on behind it."""


class Reading(Protocol):
    """One query that is being answered (raven.store.query.Reading)."""

    @property
    def done(self) -> bool:
        """Whether nothing follows."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""

    @property
    def page_token(self) -> str:
        """Goes on behind what was given."""

    def step(self) -> Sequence[Chunk]:
        """What comes next; it blocks. StoreError: the store does not answer."""

    def mark_incomplete(self) -> None:
        """Something is known to be missing."""


class History(Protocol):
    """What is kept (raven.store.query.StoredHistory)."""

    @property
    def flush(self) -> Callable[[], Awaitable[None]]:
        """Waits, in Trio, until everything that was published is kept. StoreError: it is not."""

    def read(
        self,
        selectors: Sequence[Selector],
        *,
        start_ns: int,
        end_ns: int,
        now_ns: int,
        page_token: str,
        limit: int,
        include_image: bool,
        venue_clock: bool,
        slice_ns: int,
    ) -> Reading:
        """Begin to answer. InvalidValue: the page token is none, or of another query."""


@attrs.frozen
class HistoryRequest:
    """A GetHistoricalDataRequest that was checked. `speed` 0 = as fast as it can."""

    selectors: Sequence[Selector]
    start_ns: int
    end_ns: int
    limit: int
    page_token: str
    speed: float
    include_image: bool
    venue_clock: bool

    def wants_fresh(self, now_ns: int) -> bool:
        """Whether the range reaches to what was published a moment ago."""
        return self.end_ns > now_ns - FRESH_NS or (not self.end_ns and not self.page_token)


class HistoricalData:
    """Serves GetHistoricalData.

    Args:
        now_ns: wall clock.

    Attributes:
        history: what is read; None = this server keeps none.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.history: History | None = None
        self._now_ns = now_ns
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._running = 0

    async def get_historical_data(self, stream: Any) -> None:
        """One call."""
        message = await stream.recv_message()
        history = self.history
        if history is None:
            text = 'this server keeps no history: [history] backend is "none"; "sqlite" or "influxdb" would keep one'
            raise RequestError("FAILED_PRECONDITION", text)
        request = parse_history(message)
        with self._counted():
            reading = await self._open(history, request)
            await stream.send_initial_metadata()
            await self._send(stream, reading, _Pace(request.speed))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._running >= QUERIES_MAX:
            raise RequestError("RESOURCE_EXHAUSTED", f"{QUERIES_MAX} queries of history are being answered: try again later")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _open(self, history: History, request: HistoryRequest) -> Reading:
        now_ns = self._now_ns()
        reading = history.read(
            request.selectors,
            start_ns=request.start_ns,
            end_ns=request.end_ns,
            now_ns=now_ns + 1,
            page_token=request.page_token,
            limit=request.limit,
            include_image=request.include_image,
            venue_clock=request.venue_clock,
            slice_ns=max(1, round(PACE_S * request.speed * 1e9)) if request.speed else 0,
        )
        if request.wants_fresh(now_ns) and not await in_trio(_flush, history):
            reading.mark_incomplete()
        return reading

    async def _send(self, stream: Any, reading: Reading, pace: _Pace) -> None:
        over = False
        while not over:
            chunks = await in_trio(self._step, reading)
            over = reading.done
            for index, chunk in enumerate(chunks, 1):
                await pace.wait(chunk.first_ts_ns)
                end = _end(reading.complete) if over and index == len(chunks) else b""
                await stream.send_message(_message(chunk.elements, chunk.page_token, end))
        if not chunks:
            await stream.send_message(_message(b"", reading.page_token, _end(reading.complete)))

    async def _step(self, reading: Reading) -> Sequence[Chunk]:
        try:
            return await trio.to_thread.run_sync(reading.step, limiter=self._threads)
        except StoreError as error:
            raise RequestError("UNAVAILABLE", f"the history cannot be read: {error}") from error


async def in_trio(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """What a function of Trio returns, from asyncio.

    It does not come as the result of trio-asyncio's future, which refers to itself: a piece of history is a megabyte, and each
    would wait for the garbage collector.
    """
    results: list[Any] = []

    async def run() -> None:
        results.append(await function(*arguments))

    await trio_asyncio.trio_as_aio(run)()
    return results.pop()


async def _flush(history: History) -> bool:
    """Whether everything that was published is kept."""
    with trio.move_on_after(FLUSH_WAIT_MAX_S):
        try:
            await history.flush()
            return True
        except StoreError as error:
            log.warning("history is answered without what is not written yet", error=str(error))
    return False


class _Pace:
    """Waits until an event is due, as it happened: each against the first, so that no delay adds up."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first: tuple[int, float] | None = None

    async def wait(self, ts_ns: int | None) -> None:
        """Until the event of this time may be sent."""
        if not self._speed or ts_ns is None:
            return
        now_s = asyncio.get_running_loop().time()
        if self._first is None:
            self._first = ts_ns, now_s
        first_ns, began_s = self._first
        wait_s = began_s + (ts_ns - first_ns) / 1e9 / self._speed - now_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)


def _message(elements: bytes, page_token: str, end: bytes) -> bytes:
    """A GetHistoricalDataResponse."""
    token = page_token.encode()
    return b"".join((elements, _TOKEN_TAG, varint(len(token)), token, end))


def _end(complete: bool) -> bytes:
    """What stands in the last message."""
    return _LAST_AND_COMPLETE if complete else _LAST


# ---- what was asked


def parse_history(message: v1.GetHistoricalDataRequest) -> HistoryRequest:
    """A request, checked.

    Raises:
        InvalidValue: naming the field.
    """
    start_ns, end_ns = message.start_ts_ns, message.end_ts_ns
    if start_ns < 0:
        raise InvalidValue("start_ts_ns", start_ns, "nanoseconds since 1970, 0 or more")
    if end_ns < 0:
        raise InvalidValue("end_ts_ns", end_ns, "nanoseconds since 1970, or 0 for now")
    if end_ns and end_ns < start_ns:
        raise InvalidValue("end_ts_ns", end_ns, f"not before start_ts_ns ({start_ns}), or 0 for now")
    if message.limit > LIMIT_MAX:
        raise InvalidValue("limit", message.limit, f"1 to {LIMIT_MAX} events, or 0 for all")
    return HistoryRequest(
        parse_selectors(message.selectors, kinds_needed=True),
        start_ns,
        end_ns,
        message.limit,
        message.page_token,
        _parse_speed(message.replay_speed),
        message.include_image,
        _parse_clock(message.clock) is v1.GetHistoricalDataRequestClock.VENUE,
    )


def _parse_speed(speed: float) -> float:
    if not (speed == 0 or (isfinite(speed) and SPEED_MIN <= speed <= SPEED_MAX)):
        raise InvalidValue("replay_speed", speed, f"{SPEED_MIN:g} to {SPEED_MAX:,.0f}, or 0 for as fast as it can")
    return speed


def _parse_clock(clock: int) -> v1.GetHistoricalDataRequestClock:
    for known in v1.GetHistoricalDataRequestClock:
        if known == clock:
            return known
    raise InvalidValue("clock", int(clock), "CLOCK_RECEIVED, CLOCK_VENUE, or unset")
