"""A runner, its socket in memory and its session by script: what the tests of the runner share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import trio
from structlog.testing import capture_logs

from raven.adapter.batch import Batch, BatchItem
from raven.adapter.contract import Connection, Session
from raven.adapter.outputs import Fetch, Output, Reconnect, Reply
from raven.errors import AdapterFault, ConnectionLost
from raven.feed.limits import FeedLimits
from raven.feed.runner import run_connection
from raven.feed.statistics import ConnectionCounters
from raven.model.events import Event, Trade
from raven.model.topic import Kind, Topic

TOPIC = Topic("venue", "BTC-USDT", Kind.TRADE)
MAIN = Connection("main", "ws://venue", (TOPIC,), idle_timeout_s=60, sends_per_s_max=5)
NO_SOCKET = Connection("main", None, (TOPIC,))


def trade(n: float, received_ts_ns: int = 0) -> Event:
    return Event(TOPIC, Trade(price=n), received_ts_ns)


class MemorySocket:
    """A `FeedSocket` whose venue is the test: `arrive` makes one read, `sent` is what the runner wrote, and when."""

    def __init__(self) -> None:
        self._arrive, self._arrived = trio.open_memory_channel[list[bytes]](math.inf)
        self.sent: list[tuple[float, str | bytes]] = []
        self.started = self.heard_at = trio.current_time()
        self.stuck = False

    def arrive(self, *frames: bytes) -> None:
        self._arrive.send_nowait(list(frames))

    def ping(self) -> None:
        self.heard_at = trio.current_time()

    def close(self) -> None:
        self._arrive.close()

    async def receive_bulk(self) -> tuple[list[bytes], int]:
        try:
            frames = await self._arrived.receive()
        except trio.EndOfChannel:
            raise ConnectionLost("closed by the venue") from None
        self.heard_at = trio.current_time()
        return frames, int(1e9 * (trio.current_time() - self.started))

    async def send(self, data: str | bytes) -> None:
        if self.stuck:
            await trio.sleep_forever()
        self.sent.append((round(trio.current_time() - self.started, 9), data))


class ScriptedSession(Session):
    """Returns for each call what the test's function for it returns; notes the calls."""

    def __init__(self, **script: Callable[..., Sequence[Output]]) -> None:
        self.script = script
        self.calls: list[tuple[str, Any]] = []

    def _play(self, name: str, argument: Any) -> Sequence[Output]:
        self.calls.append((name, argument))
        return self.script[name](argument) if name in self.script else ()

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        return self._play("connect", now_ns)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        return self._play("frame", frame)

    def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
        return self._play("reply", (request.purpose, reply.status))

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        return self._play("wakeup", now_ns)

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        return self._play("subscribe", topics)

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        return self._play("unsubscribe", topics)


async def no_venue(request: Fetch) -> Reply:
    return Reply(0, b"", 0, error="there is no venue")


class Run:
    """One run of the runner: what it returned or raised, and the batches that came out."""

    def __init__(self, session: Session, socket: MemorySocket | None, **options: Any) -> None:
        self.session = session
        self.socket = socket
        self.counters = ConnectionCounters()
        self.ending: Reconnect | Exception | None = None
        self.logs: list[Any] = []
        self._send, self._receive = trio.open_memory_channel[Batch](options.pop("batches_max", math.inf))
        self.options = {"connection": MAIN if socket else NO_SOCKET, "fetch": no_venue, "limits": FeedLimits(), **options}

    async def __call__(self) -> None:
        """Run to the end, or for an hour."""
        with capture_logs() as self.logs, trio.move_on_after(3600):
            try:
                self.ending = await run_connection(
                    self.session,
                    self.socket,
                    feed="venue",
                    batches=self._send,
                    counters=self.counters,
                    wall_clock=lambda: int(1e9 * trio.current_time()),
                    **self.options,
                )
            except (ConnectionLost, AdapterFault) as error:
                self.ending = error

    def batches(self) -> list[list[BatchItem]]:
        batches = []
        while True:
            try:
                batch = self._receive.receive_nowait()
            except trio.WouldBlock:
                return batches
            assert batch.feed == "venue"
            batches.append(batch.items)


async def ran(session: Session, socket: MemorySocket | None, **options: Any) -> Run:
    run = Run(session, socket, **options)
    await run()
    return run
