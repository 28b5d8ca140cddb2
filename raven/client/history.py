"""What was kept: events of a range, read to its end across broken connections.

A connection that breaks is made again, and reading goes on behind the last message by its page token: nothing is missed, and
nothing comes twice.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from random import Random
from types import TracebackType

import attrs

from raven.client.backoff import Backoff, Reconnect
from raven.client.decode import Decoder
from raven.client.errors import ServerUnavailable, error_of_status
from raven.client.events import Batch, StreamEvent
from raven.client.runtime import CallOver, Dial, Link, Runtime, reason_of
from raven.client.selectors import selector
from raven.client.wire import walk
from raven.codec.generated.raven import v1
from raven.errors import ClientError, InvalidValue
from raven.model.events import Flag
from raven.model.topic import Topic

__all__ = ["CLOCKS", "HistoryBatches", "HistoryStream", "Time", "history_request", "open_history", "to_ns"]

METHOD = "/raven.v1.MarketDataService/GetHistoricalData"

CLOCKS = {
    "received": v1.GetHistoricalDataRequestClock.RECEIVED,
    "venue": v1.GetHistoricalDataRequestClock.VENUE,
}
"""Which time a range is in, and the order is by."""

GIVE_UP_S = 300.0
"""Without `Reconnect.give_up_s`: a server that could not be read from for so long raises."""

SILENCE_MAX_S = 60.0
"""A server that sends nothing for so long is asked again; a replay may be silent as long as the market was."""

LIMIT_MAX = 2**32 - 1

TOKEN, END, COMPLETE = 2, 3, 4
_AGAIN = frozenset({"UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"})
_NO_NEWS = Flag.IMAGE | Flag.LOCAL
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Time = int | datetime
"""Nanoseconds since 1970, or a datetime with its time zone."""


def to_ns(time: Time | None, field: str) -> int:
    """Nanoseconds since 1970; 0 for None.

    Raises:
        InvalidValue: a datetime without a time zone, or a time before 1970.
    """
    if time is None:
        return 0
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise InvalidValue(field, time.isoformat(), "a datetime with a time zone, as datetime.now(UTC), or nanoseconds")
        time = (time - _EPOCH) // timedelta(microseconds=1) * 1_000
    if not 0 <= time < 2**63:
        raise InvalidValue(field, time, "nanoseconds since 1970, 0 or more")
    return time


def history_request(
    topics: Sequence[str],
    kinds: str | Iterable[str],
    variant: str,
    *,
    start: Time | None,
    end: Time | None,
    limit: int,
    include_image: bool,
    speed: float,
    clock: str,
    page_token: str = "",
) -> v1.GetHistoricalDataRequest:
    """What is asked for, as a message. Arguments as of `Client.history`.

    Raises:
        InvalidValue: naming the argument.
    """
    kinds = kinds if isinstance(kinds, str) else list(kinds)
    start_ns, end_ns = to_ns(start, "start"), to_ns(end, "end")
    if end_ns and end_ns < start_ns:
        raise InvalidValue("end", str(end), f"not before start ({start})")
    if not 0 <= limit <= LIMIT_MAX:
        raise InvalidValue("limit", limit, f"0 (all) to {LIMIT_MAX}")
    if not isfinite(speed) or speed < 0:
        raise InvalidValue("speed", speed, "0 (as fast as it can), 1 (as it happened), or any factor above 0")
    if clock not in CLOCKS:
        raise InvalidValue("clock", clock, "valid are " + ", ".join(CLOCKS))
    selectors = [selector(topic, kinds, variant) for topic in topics or ("*/*",)]
    return v1.GetHistoricalDataRequest(
        selectors, start_ns, end_ns, limit, page_token, float(speed), include_image, CLOCKS[clock]
    )


def open_history(
    request: v1.GetHistoricalDataRequest, runtime: Runtime, dial: Dial, reconnect: Reconnect, target: str
) -> HistoryStream:
    """A stream of what `request` asks for; nothing is sent before it is read."""
    return HistoryStream(HistoryBatches(_Reader(request, runtime, dial, reconnect, target), runtime))


@attrs.frozen
class _Answer:
    """One message. `complete` is None in all but the last."""

    events: list[StreamEvent]
    page_token: str
    complete: bool | None


class _Reader:
    """Reads an answer to its end, in a task of its own, one message ahead of who takes it.

    Args:
        request: is changed: it always says what is still to come.
    """

    def __init__(
        self, request: v1.GetHistoricalDataRequest, runtime: Runtime, dial: Dial, reconnect: Reconnect, target: str
    ) -> None:
        self.request = request
        self.answers: deque[_Answer] = deque()
        self.news, self.room = runtime.wakeup(), runtime.wakeup()
        self.ended = False
        self.error: ClientError | None = None
        self._runtime = runtime
        self._dial = dial
        self._target = target
        self._give_up_s = GIVE_UP_S if reconnect.give_up_s is None else reconnect.give_up_s
        self._connect_s = reconnect.connect_s
        self._backoff = Backoff(reconnect, Random())
        self._decoder = Decoder()
        self._limited = request.limit > 0
        self._begun = False  # a server has answered
        self._over = False

    async def run(self) -> None:
        """Until the end, or until it makes no sense any more."""
        try:
            await self._read_all()
        except ClientError as error:
            self.error = error
        finally:
            self.ended = True
            self.news.set()

    async def _read_all(self) -> None:
        progress_s = self._runtime.now()
        while not self._over:
            token = self.request.page_token
            failure = await self._read_once()
            if failure is None:
                return
            now_s = self._runtime.now()
            if self.request.page_token != token:
                progress_s = now_s
                self._backoff.reset()
            pause_s = self._backoff.next_s()
            if not self._begun or now_s + pause_s - progress_s > self._give_up_s:
                raise failure
            await self._runtime.sleep(pause_s)

    async def _read_once(self) -> ClientError | None:
        """One call; what ended it, if another may go on.

        Raises:
            ClientError: no other will.
        """
        link: Link | None = None
        try:
            link = await self._dial()
            self._begun = True
            await link.start(METHOD)
            await link.send(bytes(self.request), end=True)
            await self._receive(link)
            return None
        except CallOver as over:
            error = error_of_status(over.status, over.message, self._target)
            if over.status in _AGAIN or (over.status == "OK" and not self._over):
                return error
            if over.status == "OK":
                return None
            raise error from None
        except TimeoutError:
            waited = "in time" if link is None else f"for {SILENCE_MAX_S:g} s"
            return ServerUnavailable(f"no answer from {self._target} {waited}")
        except OSError as error:
            what = f"no server at {self._target}" if link is None else f"the connection to {self._target} was lost"
            return ServerUnavailable(f"{what}: {reason_of(error)}")
        finally:
            if link is not None:
                await link.aclose()

    async def _receive(self, link: Link) -> None:
        silence_s = None if self.request.replay_speed else SILENCE_MAX_S
        while not self._over:
            for message in await link.receive(silence_s):
                self._take(message)
            self.news.set()
            while self.answers:
                await self.room.wait()

    def _take(self, message: bytes) -> None:
        answer = _read_answer(message, self._decoder)
        self.answers.append(answer)
        self._over = answer.complete is not None
        if answer.page_token:
            self.request.page_token = answer.page_token
        if self._limited:
            self.request.limit -= sum(1 for event in answer.events if not event.flags & _NO_NEWS)
            self._over = self._over or self.request.limit <= 0


def _read_answer(message: bytes, decoder: Decoder) -> _Answer:
    decoded = decoder.decode(message)
    token = b"".join(value for number, value in decoded.controls if number == TOKEN)
    behind = message.rfind(token) + len(token) if token else 0
    numbers = {number: value for number, wire_type, value in walk(message, behind) if wire_type == 0}
    complete = bool(numbers.get(COMPLETE)) if numbers.get(END) else None
    return _Answer(decoded.events, token.decode(), complete)


class HistoryBatches:
    """The messages of an answer. Reading begins with the first `async for`, and ends with `aclose` or with the client's block.

    Attributes:
        complete: None until the end; then whether nothing is missing. Where something is, a GapEvent says what.
        page_token: goes on behind what was taken, with the same arguments (`Client.history(page_token=...)`).
        places: of each topic epoch and sequence of the last event that was taken.
    """

    def __init__(self, reader: _Reader, runtime: Runtime) -> None:
        self._reader = reader
        self._runtime = runtime
        self._stop = _Stop()
        self.complete: bool | None = None
        self.page_token = reader.request.page_token
        self.places: dict[Topic, tuple[int, int]] = {}
        weakref.finalize(self, self._stop).atexit = False  # a loop that was left by `break` is read no further

    def __aiter__(self) -> HistoryBatches:
        return self

    async def __anext__(self) -> Batch:
        reader = self._reader
        self._stop.start(self._runtime, reader)
        while True:
            if reader.answers:
                events = self._take(reader.answers.popleft())
                reader.room.set()
                if events:
                    await self._runtime.sleep(0)
                    return Batch(events)
            elif reader.ended:
                raise reader.error or StopAsyncIteration
            else:
                await reader.news.wait()

    def _take(self, answer: _Answer) -> list[StreamEvent]:
        self.page_token = answer.page_token or self.page_token
        if answer.complete is not None:
            self.complete = answer.complete
        places = self.places
        for event in answer.events:
            place = (event.epoch, event.sequence)
            if not event.flags & Flag.LOCAL and place > places.get(event.topic, (0, 0)):
                places[event.topic] = place
        return answer.events

    @property
    def bookmark(self) -> bytes:
        """The page token, as bytes."""
        return self.page_token.encode()

    def resume_points(self) -> list[v1.ResumePoint]:
        """Where a subscription goes on behind what was taken."""
        return [
            v1.ResumePoint(v1.Topic(topic.venue, topic.symbol, v1.Kind(int(topic.kind)), topic.variant), epoch, sequence)
            for topic, (epoch, sequence) in self.places.items()
        ]

    async def aclose(self) -> None:
        """Read no further."""
        self._stop()
        await self._runtime.sleep(0)

    async def __aenter__(self) -> HistoryBatches:
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Stop:
    """Starts a reader once, and stops it; it knows nothing of who reads, so that one who is forgotten can be collected."""

    def __init__(self) -> None:
        self._cancel: Callable[[], None] = _nothing
        self._begun = False

    def start(self, runtime: Runtime, reader: _Reader) -> None:
        if not self._begun:
            self._begun = True
            self._cancel = runtime.spawn(reader.run)

    def __call__(self) -> None:
        self._begun = True
        self._cancel()


def _nothing() -> None:
    """There is nothing to cancel yet."""


class HistoryStream:
    """Events one by one. See `HistoryBatches`, which it reads."""

    def __init__(self, batches: HistoryBatches) -> None:
        self.batches = batches
        self._events: Iterator[StreamEvent] = iter(())
        self._behind = batches.page_token

    def __aiter__(self) -> HistoryStream:
        return self

    async def __anext__(self) -> StreamEvent:
        for event in self._events:
            return event
        self._behind = self.batches.page_token
        self._events = iter((await self.batches.__anext__()).events)
        return next(self._events)

    @property
    def complete(self) -> bool | None:
        """None until the end; then whether nothing is missing."""
        return self.batches.complete

    @property
    def page_token(self) -> str:
        """Goes on without missing anything that was not taken here; some of it may come again."""
        return self._behind

    @property
    def places(self) -> Mapping[Topic, tuple[int, int]]:
        """Of each topic epoch and sequence of its last event. At the end: what `Client.stream` goes on behind (`after`)."""
        return self.batches.places

    def resume_points(self) -> list[v1.ResumePoint]:
        """At the end: where a subscription of a request made by hand goes on."""
        return self.batches.resume_points()

    async def aclose(self) -> None:
        """Read no further."""
        await self.batches.aclose()

    async def __aenter__(self) -> HistoryStream:
        return self

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
