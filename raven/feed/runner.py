"""Drives one session over one connection: what arrives goes in, events come out as batches, commands are carried out.

Several tasks call the session (the reader, the alarm, one per request, changes of topics), but none awaits inside of a call, so
calls never overlap. After each call its items enter the batch channel before the task can be rescheduled, and the channel is
first in, first out for waiting senders too: batches arrive in the order of the calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
import trio

from raven.adapter.batch import Batch, BatchItem
from raven.adapter.contract import Connection, Session
from raven.adapter.outputs import (
    Catalogue,
    Count,
    Established,
    Fetch,
    Output,
    Reconnect,
    Refused,
    Reply,
    Resync,
    Send,
    Wakeup,
)
from raven.errors import AdapterFault, ConnectionLost, FeedError, FrameError, VenueSilent
from raven.feed.commands import TopicChange, check_command
from raven.feed.limits import FeedLimits
from raven.feed.quarantine import Quarantine, Verdict, mark
from raven.feed.sampling import SampleLog, format_sample
from raven.feed.statistics import ConnectionCounters
from raven.feed.transport import FeedSocket
from raven.model.events import Event
from raven.model.topic import Kind

__all__ = ["run_connection"]

log = structlog.get_logger("raven.feed")

_ITEMS = frozenset({Established, Refused, Resync, Catalogue})  # beside Event, what goes on to the broker


async def run_connection(
    session: Session,
    socket: FeedSocket | None,
    *,
    feed: str,
    connection: Connection,
    batches: trio.MemorySendChannel[Batch],
    fetch: Callable[[Fetch], Awaitable[Reply]],
    counters: ConnectionCounters,
    limits: FeedLimits,
    changes: trio.MemoryReceiveChannel[TopicChange] | None = None,
    wall_clock: Callable[[], int] = time.time_ns,
) -> Reconnect:
    """Run until the connection ends. Everything that came before the end has then been handed on.

    Args:
        socket: None for a session that lives from wakeups alone.
        batches: where the outcome of each read goes; while it is full nothing is read.
        fetch: carries out one REST request and never raises for a venue's fault.
        counters: of this connection, over all its lives.
        changes: topics to add and to take away while it runs.

    Returns:
        The session's planned Reconnect: make a new connection at once.

    Raises:
        ConnectionLost: the venue ended it, the session asked for an unplanned Reconnect, or (VenueSilent) nothing came.
        AdapterFault: the session raised (its exception is the cause), or broke its contract.
    """
    runner = _Runner(session, socket, feed, connection, batches, fetch, counters, limits, wall_clock)
    counters.begin(wall_clock())
    try:
        async with trio.open_nursery() as nursery:
            await runner.start(nursery, changes)
    finally:
        counters.end()
    return runner.outcome()


class _Runner:
    """The tasks of one connection, and the one place where the session is called."""

    def __init__(
        self,
        session: Session,
        socket: FeedSocket | None,
        feed: str,
        connection: Connection,
        batches: trio.MemorySendChannel[Batch],
        fetch: Callable[[Fetch], Awaitable[Reply]],
        counters: ConnectionCounters,
        limits: FeedLimits,
        wall_clock: Callable[[], int],
    ) -> None:
        self._session = session
        self._socket = socket
        self._feed = feed
        self._connection = connection
        self._batches = batches
        self._fetch = fetch
        self._counters = counters
        self._limits = limits
        self._wall_clock = wall_clock
        self._samples = SampleLog(limits.log_samples_max)
        self._quarantine = Quarantine(limits.suspects_max, limits.doubt_pause_s)
        self._log = log.bind(feed=feed, connection=connection.name)
        self._nursery: trio.Nursery
        self._ending: Reconnect | FeedError | AdapterFault | None = None
        self._sends, self._to_send = trio.open_memory_channel[str | bytes](limits.sends_queued_max)
        self._fetches_pending = 0
        self._alarm = trio.CancelScope()
        self._alarm_at = math.inf

    def outcome(self) -> Reconnect:
        """Why it ended: returned when planned, raised otherwise."""
        ending = self._ending
        if isinstance(ending, Reconnect):
            if ending.planned:
                return ending
            raise ConnectionLost(f"given up by the session: {ending.reason}")
        assert ending is not None
        raise ending

    async def start(self, nursery: trio.Nursery, changes: trio.MemoryReceiveChannel[TopicChange] | None) -> None:
        """Tell the session that the connection stands, then start the tasks."""
        self._nursery = nursery
        nursery.start_soon(self._guard, self._wake)
        if self._socket is not None:
            nursery.start_soon(self._guard, self._write, self._socket)
        await self._guard(self._call, self._session.on_connect, self._wall_clock())
        if self._socket is not None:
            nursery.start_soon(self._guard, self._read, self._socket)
        if changes is not None:
            nursery.start_soon(self._guard, self._follow, changes)

    # ---------------------------------------------------------------------------------------------------------- endings

    async def _guard(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a task of this connection; a fault of the venue or the adapter ends the connection, any other goes up."""
        try:
            await task(*args)
        except (FeedError, AdapterFault) as error:
            self._end(error)

    def _end(self, ending: Reconnect | FeedError | AdapterFault) -> None:
        if self._ending is None:
            self._ending = ending
        self._nursery.cancel_scope.cancel()

    def _fault(self, error: Exception) -> AdapterFault:
        fault = AdapterFault(f"{type(self._session).__name__} raised {type(error).__name__}: {error}")
        fault.__cause__ = error
        return fault

    # ------------------------------------------------------------------------------------------------- the way of a frame

    async def _read(self, socket: FeedSocket) -> None:
        counters = self._counters
        while True:
            frames, received_ts_ns = await self._receive(socket)
            counters.frames += len(frames)
            counters.bytes += sum(map(len, frames))
            counters.last_frame_ts_ns = received_ts_ns
            counters.mark_data(trio.current_time())
            outputs, fault = self._frames(frames, received_ts_ns)
            await self._hand_on(outputs)
            if fault is not None:
                raise fault

    async def _receive(self, socket: FeedSocket) -> tuple[list[bytes], int]:
        idle_s = self._connection.idle_timeout_s
        deadline = trio.current_time() + idle_s
        while True:
            with trio.move_on_at(deadline):
                return await socket.receive_bulk()
            deadline = socket.heard_at + idle_s  # a ping is a sign of life too
            if deadline <= trio.current_time():
                raise VenueSilent(f"nothing received for {idle_s:g} s")

    def _frames(self, frames: list[bytes], received_ts_ns: int) -> tuple[list[Output], AdapterFault | None]:
        """Everything that the session makes of one read, and the fault that ended it early. One turn of the loop per frame."""
        outputs: list[Output] = []
        on_frame = self._session.on_frame
        for frame in frames:
            try:
                outputs += on_frame(frame, received_ts_ns)
            except FrameError as error:
                self._bad_frame(error, frame)
            except Exception as error:  # an adapter's bug may be anything
                return outputs, self._fault(error)
        return outputs, None

    async def _call(self, method: Callable[..., Sequence[Output]], *args: Any) -> None:
        """One call of the session, except for frames."""
        outputs: list[Output] = []
        try:
            outputs += method(*args)
        except FrameError as error:
            self._bad_frame(error, args[-1].body if isinstance(args[-1], Reply) else b"")
        except Exception as error:  # an adapter's bug may be anything
            raise self._fault(error) from error
        await self._hand_on(outputs)

    async def _hand_on(self, outputs: list[Output]) -> None:
        """Carry out the commands, send the rest as one batch, and end if the session said so. In the order of the outputs."""
        items: list[BatchItem] = []
        fault = self._sort(outputs, items)
        if items:
            await self._batches.send(Batch(self._feed, items))
        if fault is not None:
            raise fault
        if self._ending is not None:
            self._nursery.cancel_scope.cancel()

    def _sort(self, outputs: list[Output], items: list[BatchItem]) -> AdapterFault | None:
        events = 0
        runs = self._quarantine.runs
        doubted: list[Resync] = []
        try:
            for output in outputs:
                kind = type(output)
                if kind is Event:
                    events += 1
                    mark(output)  # type: ignore[arg-type]  # the comparison of types says what it is
                    if output.flags or runs:  # type: ignore[union-attr]
                        self._judge(output, items, doubted)  # type: ignore[arg-type]
                    else:
                        items.append(output)  # type: ignore[arg-type]
                elif kind in _ITEMS:
                    items.append(output)  # type: ignore[arg-type]
                elif kind is Reconnect:
                    self._ending = self._ending or output  # type: ignore[assignment]
                    break  # what the session asks for after this has no connection any more
                else:
                    self._carry_out(output)
        except AdapterFault as error:
            return error
        finally:
            self._counters.events += events
        return self._begin_anew(doubted, items) if doubted and self._ending is None else None

    # ------------------------------------------------------------------------------------------------- values that cannot be

    def _judge(self, event: Event, items: list[BatchItem], doubted: list[Resync]) -> None:
        verdict = self._quarantine.judge(event, trio.current_time())
        if verdict is Verdict.DOUBT:
            resync = self._quarantine.resync(event)
            self._told(resync)
            items.append(resync)
            if event.topic.kind is Kind.BOOK:
                doubted.append(resync)
                verdict = Verdict.WITHHOLD
            else:
                verdict = self._quarantine.judge(event, trio.current_time())
        if verdict is Verdict.WITHHOLD:
            self._counters.counts["quarantined_events"] += 1
        else:
            items.append(event)

    def _told(self, resync: Resync) -> None:
        self._counters.counts["quarantines"] += 1
        self._log.warning("topic in doubt", topic=str(resync.topic), cause=resync.cause.name, reason=resync.text)

    def _begin_anew(self, doubted: list[Resync], items: list[BatchItem]) -> AdapterFault | None:
        """Have the session begin the books anew that were found to be in doubt. Before anything else can reach the session."""
        outputs: list[Output] = []
        try:
            for resync in doubted:
                outputs += self._renew(resync)
        except Exception as error:  # an adapter's bug may be anything
            return self._fault(error)
        self._quarantine.begun_anew()
        return self._sort(outputs, items)

    def _renew(self, resync: Resync) -> list[Output]:
        """Unsubscribe and subscribe: it is how every session comes to a new snapshot."""
        topics = (resync.topic,)
        return [*self._session.on_unsubscribe(topics), *self._session.on_subscribe(topics)]

    def _doubt(self, resync: Resync) -> list[Output]:
        """What was found out downstream."""
        if not self._quarantine.may_doubt(resync.topic, trio.current_time()):
            return []
        self._told(resync)
        return [resync, *(self._renew(resync) if resync.topic.kind is Kind.BOOK else ())]

    def _bad_frame(self, error: FrameError, frame: bytes) -> None:
        self._counters.bad_frames += 1
        suppressed = self._samples.take(trio.current_time())
        if suppressed is not None:
            text = format_sample(frame, self._limits.sample_chars_max)
            self._log.warning("bad frame skipped", reason=str(error), frame=text, suppressed=suppressed)

    # ------------------------------------------------------------------------------------------------------------ commands

    def _carry_out(self, command: object) -> None:
        match check_command(command):
            case Send(data):
                self._queue(data)
            case Fetch() as request:
                self._begin(request)
            case Wakeup(after_ns):
                self._alarm_at = self._alarm.deadline = trio.current_time() + max(after_ns, 0) / 1e9
            case Count(what, amount):
                self._counters.counts[what] += amount

    def _queue(self, data: str | bytes) -> None:
        if self._socket is None:
            raise AdapterFault(f"Send on connection {self._connection.name!r}, which has no url")
        try:
            self._sends.send_nowait(data)
        except trio.WouldBlock:
            raise AdapterFault(f"over {self._limits.sends_queued_max} messages wait to be sent") from None

    async def _write(self, socket: FeedSocket) -> None:
        """Send what is queued, evenly: a burst is what venues ban for."""
        pause_s = 1 / self._connection.sends_per_s_max
        async for data in self._to_send:
            with trio.move_on_after(self._limits.send_timeout_s) as scope:
                await socket.send(data)
            if scope.cancelled_caught:
                raise ConnectionLost(f"the venue took no message for {self._limits.send_timeout_s:g} s")
            await trio.sleep(pause_s)

    def _begin(self, request: Fetch) -> None:
        if self._fetches_pending >= self._limits.fetches_pending_max:
            raise AdapterFault(f"over {self._limits.fetches_pending_max} requests wait for their answer")
        self._fetches_pending += 1
        self._counters.counts["fetches"] += 1
        self._nursery.start_soon(self._guard, self._ask, request)

    async def _ask(self, request: Fetch) -> None:
        reply = await self._fetch(request)
        self._fetches_pending -= 1
        if not reply.ok:
            self._failed_fetch(request, reply)
        await self._call(self._session.on_reply, request, reply)

    def _failed_fetch(self, request: Fetch, reply: Reply) -> None:
        self._counters.counts["fetches_failed"] += 1
        suppressed = self._samples.take(trio.current_time())
        if suppressed is not None:
            reason = reply.error or f"HTTP {reply.status}"
            body = format_sample(reply.body, self._limits.sample_chars_max)
            self._log.warning("request failed", purpose=request.purpose, reason=reason, body=body, suppressed=suppressed)

    async def _wake(self) -> None:
        """One pending wakeup; a new one moves the deadline of the sleep."""
        while True:
            with trio.CancelScope(deadline=self._alarm_at) as self._alarm:
                await trio.sleep_forever()
            if trio.current_time() < self._alarm_at:  # moved after it rang, before it was heard
                continue
            self._alarm_at = math.inf
            if self._socket is None:
                self._counters.mark_data(trio.current_time())
            await self._call(self._session.on_wakeup, self._wall_clock())

    async def _follow(self, changes: trio.MemoryReceiveChannel[TopicChange]) -> None:
        async for change in changes:
            if change.doubted is not None:
                await self._call(self._doubt, change.doubted)
            if change.added:
                await self._call(self._session.on_subscribe, change.added)
            if change.removed:
                await self._call(self._session.on_unsubscribe, change.removed)
