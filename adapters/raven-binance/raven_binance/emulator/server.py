"""The emulator: two listening sockets and one task that plays the timeline.

The timeline starts when a client has subscribed, and waits a moment for the rest of the recording's streams, so that a client
that subscribes in several messages or over several connections misses nothing. It waits for a slow client. Flat out it also
waits while nobody is subscribed at all; at a pace it goes on, as a venue does.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from raven.adapter import EmulatorOptions
from raven.errors import StartupError
from raven_binance.emulator.connections import Client, serve_client
from raven_binance.emulator.frames import Record
from raven_binance.emulator.injection import Injector
from raven_binance.emulator.profile import SPOT_PROFILE, USDM_PROFILE, Profile
from raven_binance.emulator.rest import BARRIER_WAIT_S, Barrier, RestApp
from raven_binance.emulator.timeline import Source, Timeline, open_source

__all__ = ["SpotEmulator", "UsdmEmulator"]

START_WAIT_S = 0.25  # for the streams that are still to be subscribed, after the first one was
BACKLOG = 128
FRAMES_PER_WRITE_MAX = 64


class SpotEmulator:
    """Binance spot on this machine; see `raven.adapter.Emulator`.

    Args:
        faults: what goes wrong; None is a venue that behaves.
    """

    profile: ClassVar[Profile] = SPOT_PROFILE

    def __init__(self, faults: Injector | None = None) -> None:
        self._faults = faults or Injector()

    async def run(
        self, options: EmulatorOptions, *, task_status: trio.TaskStatus[Mapping[str, str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled. Reports started with the options `ws_url` and `rest_url`; raises StartupError."""
        source = open_source(options, self.profile)
        with _bind(options.host, options.port, "--port") as ws, _bind(options.host, options.rest_port, "--rest-port") as rest:
            await _Venue(source, options.speed, self._faults, self.profile).run(ws, rest, task_status)


class UsdmEmulator(SpotEmulator):
    """Binance USD-M on this machine: the same, with the paths and messages of that market."""

    profile: ClassVar[Profile] = USDM_PROFILE


class _Venue:
    def __init__(self, source: Source, speed: float, faults: Injector, profile: Profile) -> None:
        self._source = source
        self._profile = profile
        self._faults = faults
        self._speed = speed
        self._timeline = Timeline(source)
        self._barriers = {symbol: Barrier() for symbol in self._timeline.books}
        self._clients: set[Client] = set()
        self._subscribed = trio.Event()  # somebody has a stream
        self._complete = trio.Event()  # every stream was somebody's

    async def run(self, ws: socket.socket, rest: socket.socket, task_status: trio.TaskStatus[Mapping[str, str]]) -> None:
        urls = {"ws_url": f"ws://{_address(ws)}", "rest_url": f"http://{_address(rest)}"}
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(ws))
        routes, refusal = self._profile.routes, self._faults.refusal
        handler = partial(serve_client, clients=self._clients, on_change=self._on_change, refusal=refusal, routes=routes)
        application = RestApp(self._timeline, self._barriers, self._profile)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, self._faults.rest(application), _rest_config(rest))
            await nursery.start(trio.serve_listeners, handler, [listener])
            nursery.start_soon(self._play)
            task_status.started(urls)

    def _on_change(self) -> None:
        wanted = {name for client in self._clients for name in client.subscriptions.streams}
        if wanted:
            self._subscribed.set()
        elif self._subscribed.is_set():
            self._subscribed = trio.Event()
        if wanted >= self._source.streams:
            self._complete.set()

    async def _play(self) -> None:
        await self._subscribed.wait()
        with trio.move_on_after(START_WAIT_S):
            await self._complete.wait()
        pace = _Pace(self._speed)
        batch: list[Record] = []
        for record in self._source.records:
            if len(batch) >= FRAMES_PER_WRITE_MAX or not self._may_go_on(pace, record):
                await self._deliver(batch)
                await self._wait(pace, record)
            if self._timeline.advance(record):
                await self._deliver(batch)
                pace.waited_s += await self._barrier(record.symbol)
            elif not record.is_snapshot:
                batch.append(record)
        await self._deliver(batch)

    def _may_go_on(self, pace: _Pace, record: Record) -> bool:
        return pace.is_due(record) if self._speed else self._subscribed.is_set()

    async def _wait(self, pace: _Pace, record: Record) -> None:
        if self._speed:
            await pace.wait_for(record)
        else:
            await self._subscribed.wait()

    async def _deliver(self, batch: list[Record]) -> None:
        """Send frames to whom they belong, and empty the batch. The one place where frames leave: faults are put in here."""
        await self._faults.deliver(batch, tuple(self._clients))
        batch.clear()
        await trio.lowlevel.checkpoint()

    async def _barrier(self, symbol: str) -> float:
        """Wait until a depth request was answered with the snapshot, where a client keeps the book; how long it took."""
        barrier, before = self._barriers[symbol], trio.current_time()
        barrier.reached.set()
        if self._is_wanted(f"{symbol.lower()}@depth"):
            with trio.move_on_after(BARRIER_WAIT_S):
                await barrier.answered.wait()
        self._timeline.books[symbol].pass_barrier()
        return trio.current_time() - before

    def _is_wanted(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for client in self._clients for name in client.subscriptions.streams)


class _Pace:
    """The recorded spacing, divided by `speed`."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._begin: tuple[int, float] | None = None
        self.waited_s = 0.0

    def is_due(self, record: Record) -> bool:
        return self._due(record) <= trio.current_time()

    async def wait_for(self, record: Record) -> None:
        await trio.sleep_until(self._due(record))

    def _due(self, record: Record) -> float:
        if self._begin is None:
            self._begin = record.received_ns, trio.current_time()
        first_ns, begin = self._begin
        return begin + self.waited_s + (record.received_ns - first_ns) / 1e9 / self._speed


def _bind(host: str, port: int, flag: str) -> socket.socket:
    """A listening socket. Raises StartupError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartupError(f"cannot listen on {host}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
        bound.listen(BACKLOG)  # a second emulator finds out here, not when the first client comes
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        advice = f"end what listens there, or choose another with {flag} (0 = any free one)"
        what = (
            f"port {port} on {host} is taken" if error.errno == errno.EADDRINUSE else f"port {port} on {host}: {error.strerror}"
        )
        raise StartupError(f"{what}: {advice}") from error
    return bound


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _rest_config(bound: socket.socket) -> Config:
    config = Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.loglevel = "WARNING"
    return config
