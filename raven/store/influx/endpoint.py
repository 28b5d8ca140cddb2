"""One endpoint: what waits for it, its breaker, and a turn of writing.

Everything goes through the spool: what has been put is on the disk before `put` returns, and a record leaves it when the
endpoint has taken it. So there is one way for what is new and for what has waited, in one order, and a crash loses nothing that
was put. Where the disk takes nothing more, memory holds what it may.
"""

from __future__ import annotations

import gzip
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Condition, Lock
from typing import Protocol

import attrs
import structlog

from raven.store.config import InfluxConfig
from raven.store.influx.block_lines import BLOCKS, IMAGES
from raven.store.influx.breaker import Breaker, BreakerState
from raven.store.influx.isolating import Refused, chokes, isolate, refuses
from raven.store.influx.rejected import RejectedLines
from raven.store.influx.sending import Answer, Sender, Verdict, compressed
from raven.store.influx.spool import Record, Spool, Times

__all__ = ["Endpoint", "EndpointStatistics", "Sends"]

MEMORY_BYTES_MAX = 32 * 1024 * 1024
"""What waits in memory while the disk takes nothing."""

TURN_S = 0.5
"""After so long a turn ends, that whoever runs it may stop."""

CHOKES_MAX = 8
"""A server that has failed on one batch so often in a row (half a minute, with the pauses of the breaker) is given others: if
it takes one, that batch is what it fails on.
"""

PROGRESS_S = 5.0
BACKLOG_BYTES = 1024 * 1024
"""What has waited is logged as it goes, from this much on."""

log = structlog.stdlib.get_logger("raven.store")


class Sends(Protocol):
    """What writes to an endpoint (`raven.store.influx.sending.Sender`)."""

    def send(self, body: bytes) -> Answer:
        """Write lines that are compressed."""

    def close(self) -> None:
        """Give everything back."""


@attrs.frozen
class EndpointStatistics:
    """How an endpoint stands.

    Args:
        name: of the endpoint.
        breaker: how its breaker stands.
        reason: why the last request failed; empty when it did not.
        points_written: that it took.
        requests_failed: that were tried again.
        points_rejected: that it refused, and that were set aside.
        points_dropped: that went because too much waited, or could not be read back from the disk.
        spool_bytes, spool_points: what waits, on the disk and in memory.
        torn_bytes: of the spool, that a crash left without their end.
        disk: why the spool takes nothing; empty when it does.
    """

    name: str
    breaker: BreakerState
    reason: str
    points_written: int
    requests_failed: int
    points_rejected: int
    points_dropped: int
    spool_bytes: int
    spool_points: int
    torn_bytes: int
    disk: str

    @property
    def waits(self) -> bool:
        """Whether something is not in the database yet."""
        return self.spool_points > 0

    @property
    def behind(self) -> bool:
        """Whether more waits than what is on its way."""
        return self.spool_bytes >= BACKLOG_BYTES


class Endpoint:
    """What one thread puts, another writes. Neither waits for the other.

    Args:
        config: of the endpoint.
        directory: of its spool.
        sender: what writes; None = influxdb-client.
        clock: seconds that never go back.

    Raises:
        OSError: the spool cannot be opened.
    """

    def __init__(
        self,
        config: InfluxConfig,
        directory: Path,
        sender: Sends | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.name = config.endpoint
        self._sender = sender or Sender(config)
        self._clock = clock
        self._spool = Spool(directory, config.spool_bytes_max)
        self._rejected = RejectedLines(directory / "rejected")
        self._memory: deque[Record] = deque()
        self._memory_lock = Lock()
        self._breaker = Breaker()
        self._turned = Condition()
        self._stopping = False
        self._reason = self._disk = ""
        self._choking: Record | None = None  # on which the last request failed, and how often in a row
        self._chokes = 0
        self._written = self._failed = self._points_rejected = self._memory_dropped = 0
        self._progress = _Progress(self._clock())
        waiting = self._spool.statistics()
        self._records_put = waiting.records
        if waiting.points or waiting.torn_bytes:
            told = {"points": waiting.points, "bytes": waiting.bytes, "torn_bytes": waiting.torn_bytes}
            log.info("history that an earlier run could not write goes first", endpoint=self.name, **told)

    # ---- putting in

    def put(self, records: Sequence[Record]) -> None:
        """Take charge of records. Never waits for the endpoint, and never fails: what is beyond the bounds is counted."""
        with self._memory_lock:
            self._memory.extend(records)
            self._records_put += len(records)
            self._move_to_disk()
            while sum(record.size for record in self._memory) > MEMORY_BYTES_MAX:
                dropped = self._memory.popleft()
                self._memory_dropped += dropped.points
                self._spool.lose((dropped.first_ts_ns, dropped.last_ts_ns))

    def _move_to_disk(self) -> None:
        try:
            while self._memory:
                self._spool.append(self._memory[0])
                self._memory.popleft()
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != self._disk:
                log.warning("the history spool takes nothing: it waits in memory", endpoint=self.name, error=reason)
            self._disk = reason
        else:
            self._disk = ""

    # ---- writing

    def turn(self) -> float | None:
        """Write what waits, for `TURN_S` or one request.

        Returns:
            Seconds until there is something to do again: 0 = at once; None = when something is put.
        """
        end_s = self._clock() + TURN_S
        while not self._stopping:
            now_s = self._clock()
            record = self._first()
            if record is None:
                return None
            wait_s = self._breaker.wait_s(now_s)
            if wait_s or now_s >= end_s:
                return wait_s
            self._breaker = self._breaker.trying(now_s)
            self._settle(record, self._sender.send(record.body))
            with self._turned:
                self._turned.notify_all()
        return None

    def _first(self) -> Record | None:
        """The spool's, or when that is empty, the first of those for which the disk has no room."""
        record = self._spool.first()
        if record is None and self._memory:
            with self._memory_lock:
                record = self._memory[0] if self._memory else None
        return record

    def _taken(self, record: Record) -> None:
        self._spool.taken(record)
        with self._memory_lock:
            if self._memory and self._memory[0] is record:
                self._memory.popleft()

    def _second(self) -> Record | None:
        """The one behind the first."""
        record = self._spool.second()
        if record is None:
            at = 0 if self._spool.statistics().records else 1
            with self._memory_lock:
                record = self._memory[at] if len(self._memory) > at else None
        return record

    def _settle(self, record: Record, answer: Answer) -> None:
        refused: list[Refused] = []
        if refuses(answer):
            refused, answer = isolate(self._sender.send, _lines(record), answer)
        elif self._chokes_on(record, answer):
            refused, answer = self._look_for_poison(record, answer)
        if answer.verdict is not Verdict.TAKEN:
            self._not_answered(answer)
            return
        for piece in refused:
            self._reject(record, piece)
        self._written += record.points - sum(len(piece.lines) for piece in refused)
        self._taken(record)
        self._answered()

    def _chokes_on(self, record: Record, answer: Answer) -> bool:
        """Whether a server that is there has failed on this batch for long enough."""
        again = answer.of_batch and record == self._choking
        self._chokes = self._chokes + 1 if again else int(answer.of_batch)
        self._choking = record if answer.of_batch else None
        return self._chokes >= CHOKES_MAX

    def _look_for_poison(self, record: Record, answer: Answer) -> tuple[list[Refused], Answer]:
        """Which lines a server fails on that takes others, before and after. One that takes nothing is down, and then nothing
        is set aside. What is written before its turn is written again in it, which makes the same points.
        """
        other = next(filter(self._takes, self._others(record)), None)
        if other is None:
            return [], answer
        refused, after = isolate(self._sender.send, _lines(record), answer, chokes)
        if after.verdict is not Verdict.TAKEN or (refused and not self._takes(other)):
            return [], answer
        return [piece for piece in refused if not self._takes(compressed(piece.lines))], after

    def _others(self, record: Record) -> Iterator[bytes]:
        """The batch behind the first, and the halves of the first."""
        second = self._second()
        if second is not None:
            yield second.body
        lines = _lines(record)
        if len(lines) > 1:
            half = len(lines) // 2
            yield compressed(lines[:half])
            yield compressed(lines[half:])

    def _takes(self, body: bytes) -> bool:
        return self._sender.send(body).verdict is Verdict.TAKEN

    def _answered(self) -> None:
        if self._breaker.openings:
            log.info("a history endpoint takes what it is sent again", endpoint=self.name)
        self._breaker, self._reason = self._breaker.succeeded(), ""
        waiting = self._spool.statistics()
        told = self._progress.told(self._clock(), self._written, waiting.bytes)
        if told is not None:
            log.info("a history endpoint catches up", endpoint=self.name, left_points=waiting.points, **told)

    def _not_answered(self, answer: Answer) -> None:
        self._failed += 1
        misconfigured = answer.verdict is Verdict.MISCONFIGURED
        before, spread = self._breaker, random.uniform(0.5, 1.0)
        self._breaker = before.failed(self._clock(), at_once=misconfigured, pause_s=answer.pause_s, spread=spread)
        opened = before.state is BreakerState.CLOSED and self._breaker.state is BreakerState.OPEN
        if opened or (misconfigured and answer.reason != self._reason):
            write = log.error if misconfigured else log.warning
            write("a history endpoint takes nothing: it waits on the disk", endpoint=self.name, reason=answer.reason)
        self._reason = answer.reason

    def _reject(self, record: Record, refused: Refused) -> None:
        lines, reason = refused.lines, refused.reason
        self._points_rejected += len(lines)
        if any(line.startswith((f"{BLOCKS},", f"{IMAGES},")) for line in lines):
            self._spool.lose((record.first_ts_ns, record.last_ts_ns))
        try:
            self._rejected.add(lines, reason)
        except OSError as error:
            log.warning("refused lines could not be set aside", endpoint=self.name, error=error.strerror)
        log.warning("a history endpoint refuses lines: they are set aside", endpoint=self.name, lines=len(lines), reason=reason)

    # ---- what there is

    def wait_written(self, timeout_s: float) -> None:
        """Wait until what has been put so far is written, as long as the endpoint takes what it is sent."""
        goal = self._records_put
        with self._turned:
            self._turned.wait_for(lambda: bool(self._reason) or self._records_gone() >= goal, timeout_s)

    def _records_gone(self) -> int:
        """How many of those that were put wait no more."""
        with self._memory_lock:
            return self._records_put - self._spool.statistics().records - len(self._memory)

    def missing(self) -> list[Times]:
        """First and last time of receipt of what is not in the database: it waits, or was lost."""
        with self._memory_lock:
            return [*self._spool.times(), *((record.first_ts_ns, record.last_ts_ns) for record in self._memory)]

    def statistics(self) -> EndpointStatistics:
        """How it stands. May be called in any thread."""
        waiting = self._spool.statistics()
        with self._memory_lock:
            memory = list(self._memory)
        return EndpointStatistics(
            self.name,
            self._breaker.state,
            self._reason,
            self._written,
            self._failed,
            self._points_rejected,
            waiting.dropped_points + self._memory_dropped,
            waiting.bytes + sum(record.size for record in memory),
            waiting.points + sum(record.points for record in memory),
            waiting.torn_bytes,
            self._disk,
        )

    def close(self) -> None:
        """End the turn that runs after its request, and sync the spool. What waits is written by the next run."""
        self._stopping = True
        with self._memory_lock:
            self._move_to_disk()
            lost = sum(record.points for record in self._memory)
            self._memory_dropped += lost
            self._memory.clear()
        if lost:
            log.error("history that had no room on the disk is lost", endpoint=self.name, points=lost, error=self._disk)
        self._spool.close()
        self._sender.close()


def _lines(record: Record) -> list[str]:
    return gzip.decompress(record.body).decode().split("\n")


@attrs.define
class _Progress:
    """When the catching up was last told of, and how far it was."""

    at_s: float
    written: int = 0

    def told(self, now_s: float, written: int, waiting_bytes: int) -> dict[str, int] | None:
        """What to log, if it is time for it."""
        if waiting_bytes < BACKLOG_BYTES:
            self.at_s, self.written = now_s, written
            return None
        if now_s - self.at_s < PROGRESS_S:
            return None
        rate = round((written - self.written) / (now_s - self.at_s))
        self.at_s, self.written = now_s, written
        return {"left_bytes": waiting_bytes, "points_per_s": rate}
