"""History in InfluxDB: the same points to every endpoint, read back from the first that answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from raven.client.decode import Decoder
from raven.client.wire import DecodeError
from raven.errors import InvalidValue, StartupError, StoreError
from raven.model.topic import Topic
from raven.store.blocks import Block, Image, TimeRange
from raven.store.config import HistoryConfig
from raven.store.data_dir import has_room, make_dir
from raven.store.elements import split
from raven.store.influx.block_lines import block_lines, image_line
from raven.store.influx.breaker import BreakerState
from raven.store.influx.endpoint import Endpoint, EndpointStatistics
from raven.store.influx.influxql import QueryClient
from raven.store.influx.points import PointWriter
from raven.store.influx.reading import Reader
from raven.store.influx.sending import compressed
from raven.store.influx.spool import Record

__all__ = ["InfluxHistory", "open_influx_history"]

SPOOL = "spool"
"""The directory of the spools within the data directory."""

SETTLE_S = 1.0
"""How long who asks for history waits for what is on its way to the endpoint that is read from."""

FLUSH_S = 2.0
"""How long the end waits for endpoints to take what waits; the next run goes on with the rest."""

CLOSE_S = 5.0
"""How long it may take to bring the spools onto the disk."""

SLICE_EVENTS = 24
YIELD_S = 100e-6
"""After so many events the thread that makes lines of them sleeps: what it does holds the interpreter, and clients wait for
that. 0.1 ms of work, then 0.1 ms for them.
"""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Of the lines of one request, before they are compressed."""

T = TypeVar("T")

log = structlog.stdlib.get_logger("raven.store")


class InfluxHistory:
    """A `HistoryStore`. `run` writes to the endpoints; without it everything waits on the disk.

    Args:
        config: of the history, with its endpoints.
        directory: the data directory; the spools are in it.

    Raises:
        StartupError: there is no endpoint, or a spool cannot be opened.
    """

    def __init__(self, config: HistoryConfig, directory: Path) -> None:
        if not config.influxdb:
            valid = "[[history.influxdb]] with a url, or INFLUXDB_URL"
            raise StartupError(f'history.influxdb: backend = "influxdb" has nowhere to write; valid: {valid}')
        make_dir(directory / SPOOL)
        has_room(directory / SPOOL)  # a disk that is full passes: meanwhile memory holds what it may
        try:
            self._endpoints = [Endpoint(each, directory / SPOOL / each.endpoint) for each in config.influxdb]
        except OSError as error:
            raise StartupError(f"data.dir: {directory / SPOOL} cannot be used: {error.strerror}") from error
        _tell_of_strangers(directory / SPOOL, {each.name for each in self._endpoints})
        self._readers = {each.endpoint: Reader(QueryClient(each)) for each in config.influxdb}
        self._points = PointWriter()
        self._decoder = Decoder()
        self._batch_points = min(each.batch_points for each in config.influxdb)
        self._unreadable = 0
        self._in_a_row = 0  # events since the thread that writes last slept
        self._read_from = ""
        self._wakes = {endpoint.name: trio.Event() for endpoint in self._endpoints}
        self._turned = trio.Event()
        self._trio: trio.lowlevel.TrioToken | None = None

    # ---- writing

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write to the endpoints what is put, each in a thread of its own, until cancelled."""
        self._trio = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            for endpoint in self._endpoints:
                nursery.start_soon(self._run_endpoint, endpoint)
            task_status.started()

    async def _run_endpoint(self, endpoint: Endpoint) -> None:
        limiter = trio.CapacityLimiter(1)
        while True:
            wake = self._wakes[endpoint.name] = trio.Event()
            # a request that hangs is left behind: what it was to write is in the spool until it is taken
            wait_s = await trio.to_thread.run_sync(endpoint.turn, limiter=limiter, abandon_on_cancel=True)
            turned, self._turned = self._turned, trio.Event()
            turned.set()
            if wait_s is None:
                await wake.wait()
            else:
                await trio.sleep(wait_s)

    def _wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()

    async def flush(self) -> None:
        """Wait until every endpoint that takes anything has everything."""
        while any(each.waits and each.breaker is BreakerState.CLOSED for each in self.endpoints()):
            await self._turned.wait()

    def write(self, blocks: Sequence[Block], images: Sequence[Image]) -> None:
        """Put them into the spool of each endpoint; all of them are kept when this returns."""
        batch = _Batch(self._batch_points, self._put)
        for block in blocks:
            self._add_block(batch, block)
        for image in images:
            try:
                batch.add(image_line(image), image.ts_ns, image.ts_ns)
            except InvalidValue as error:
                self._refuse(image.topic, 1, error)
        batch.finish()

    def _add_block(self, batch: _Batch, block: Block) -> None:
        try:
            for line, part in block_lines(block):
                for point in self._point_lines(part):
                    batch.add(point, part.first_ts_ns, part.last_ts_ns)
                batch.add(line, part.first_ts_ns, part.last_ts_ns)
        except (ValueError, IndexError) as error:
            self._refuse(block.topic, block.count, error)

    def _point_lines(self, block: Block) -> Iterator[str]:
        elements = split(block.elements)
        while piece := b"".join(islice(elements, SLICE_EVENTS)):
            try:
                events = self._decoder.decode(piece).events
            except DecodeError as error:
                self._refuse(block.topic, SLICE_EVENTS, error)
                continue
            for event in events:
                try:
                    line = self._points.line(event)
                except InvalidValue as error:
                    self._refuse(block.topic, 1, error)
                    continue
                if line:
                    yield line
            self._give_way(len(events))

    def _give_way(self, events: int) -> None:
        self._in_a_row += events
        if self._in_a_row >= SLICE_EVENTS:
            self._in_a_row = 0
            time.sleep(YIELD_S)

    def _refuse(self, topic: Topic, events: int, error: Exception) -> None:
        self._unreadable += events
        log.warning("events cannot be written as points", topic=str(topic), events=events, error=str(error))

    def _put(self, record: Record) -> None:
        for endpoint in self._endpoints:
            endpoint.put([record])
        if self._trio is not None:
            with suppress(trio.RunFinishedError):
                self._trio.run_sync_soon(self._wake)

    # ---- reading

    def topics(self, within: TimeRange) -> list[Topic]:
        """The topics of which something may be kept in a range, sorted.

        Raises:
            StoreError: no endpoint answers.
        """
        return self._first_answer(lambda reader: reader.topics(within))

    def blocks(self, topic: Topic, within: TimeRange) -> Iterator[Block]:
        """The blocks of a topic that touch a range, in the order of (epoch, first_sequence), read as they are asked for.

        Raises:
            StoreError: no endpoint answers, or the one that did does not any more.
        """
        first, rest = self._first_answer(lambda reader: _begun(reader.blocks(topic, within)))
        if first is not None:
            yield first
        yield from rest

    def image(self, topic: Topic, before_ns: int) -> Image | None:
        """The latest image of a topic with `ts_ns` < `before_ns`.

        Raises:
            StoreError: no endpoint answers.
        """
        return self._first_answer(lambda reader: reader.image(topic, before_ns))

    def holes(self, within: TimeRange) -> Sequence[tuple[int, int]]:
        """Times in a range of which the endpoint that answers has not everything: it waits for it, or never got it.

        They are times of receipt, whatever the clock of the range is. What is on its way just now is waited for.
        """
        endpoint = next((each for each in self._endpoints if each.name == self._read_from), self._in_order()[0])
        endpoint.wait_written(SETTLE_S)
        missing = ((max(first, within.start_ns), min(last + 1, within.end_ns)) for first, last in endpoint.missing())
        return _merged((start, end) for start, end in missing if start < end)

    def _first_answer(self, ask: Callable[[Reader], T]) -> T:
        refusals = []
        for endpoint in self._in_order():
            try:
                answer = ask(self._readers[endpoint.name])
            except StoreError as error:
                refusals.append(str(error))
            else:
                self._read_from = endpoint.name
                return answer
        raise StoreError("; ".join(refusals))

    def _in_order(self) -> list[Endpoint]:
        """The endpoints as configured, but first those that take what they are sent and are not behind, and the one that
        answered last.
        """
        bad = {each.name: each.breaker is not BreakerState.CLOSED or each.behind for each in self.endpoints()}
        return sorted(self._endpoints, key=lambda endpoint: (bad[endpoint.name], endpoint.name != self._read_from))

    # ---- what there is

    def endpoints(self) -> tuple[EndpointStatistics, ...]:
        """How each endpoint stands. May be called in any thread."""
        return tuple(endpoint.statistics() for endpoint in self._endpoints)

    @property
    def unreadable(self) -> int:
        """Events that are no points, because they cannot be read or written as such."""
        return self._unreadable

    def close(self) -> None:
        """Sync the spools and close connections."""
        for endpoint in self._endpoints:
            endpoint.close()
        for reader in self._readers.values():
            reader.close()


@asynccontextmanager
async def open_influx_history(config: HistoryConfig, directory: Path) -> AsyncIterator[InfluxHistory]:
    """A history whose endpoints are written to while the context lasts; what waits at its end gets `FLUSH_S`.

    Raises:
        StartupError: as InfluxHistory.
    """
    history = await trio.to_thread.run_sync(InfluxHistory, config, directory)  # it reads what waits
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(history.run)
            yield history
            with trio.move_on_after(FLUSH_S, shield=True):
                await history.flush()
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await trio.to_thread.run_sync(history.close, abandon_on_cancel=True)


class _Batch:
    """Lines on their way to a record."""

    def __init__(self, points_max: int, put: Callable[[Record], None]) -> None:
        self._points_max = points_max
        self._put = put
        self._lines: list[str] = []
        self._bytes = self._first_ts_ns = self._last_ts_ns = 0

    def add(self, line: str, first_ts_ns: int, last_ts_ns: int) -> None:
        if self._bytes + len(line) > BATCH_BYTES_MAX:
            self.finish()
        if not self._lines:
            self._first_ts_ns, self._last_ts_ns = first_ts_ns, last_ts_ns
        self._first_ts_ns = min(self._first_ts_ns, first_ts_ns)
        self._last_ts_ns = max(self._last_ts_ns, last_ts_ns)
        self._lines.append(line)
        self._bytes += len(line)
        if len(self._lines) >= self._points_max:
            self.finish()

    def finish(self) -> None:
        if self._lines:
            self._put(Record(compressed(self._lines), self._first_ts_ns, self._last_ts_ns, len(self._lines)))
        self._lines, self._bytes = [], 0


def _tell_of_strangers(directory: Path, names: set[str]) -> None:
    """An endpoint that was renamed or taken out of the configuration leaves what waited for it, which nobody writes."""
    for spool in sorted(directory.iterdir()):
        size = sum(file.stat().st_size for file in spool.glob("*.seg"))
        if size and spool.name not in names:
            log.warning("history waits for an endpoint that is not configured", directory=str(spool), bytes=size)


def _begun(blocks: Iterator[Block]) -> tuple[Block | None, Iterator[Block]]:
    """The first block, which shows whether there is an answer, and the others."""
    return next(blocks, None), blocks


def _merged(times: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, and those that touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(times):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
