"""conflate_ms: clients that want at most one event of a topic in so many milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush

import attrs
import trio

from raven.broker.outbox import Outbox
from raven.broker.policy import is_final, is_mark
from raven.broker.topics import TopicState
from raven.broker.withheld import Conflated
from raven.model.events import Event

__all__ = ["Paced", "Pacer"]

TICK_S = 0.001
"""What is due within the same tick is written together."""


class Pacer:
    """Gives clients what was withheld from them when its time has come.

    Args:
        clock_s: a clock that never jumps, in seconds.
        now_ns: wall clock.
    """

    def __init__(self, clock_s: Callable[[], float] = trio.current_time, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.clock_s = clock_s
        self.now_ns = now_ns
        self._due: list[tuple[float, int, Paced]] = []
        self._scheduled = 0
        self._sooner = trio.Event()
        self._dirty: dict[Outbox, None] = {}

    def pace(self, state: TopicState, outbox: Outbox, interval_s: float) -> None:
        """Have `outbox` get `state` at most once in `interval_s` seconds, from now on."""
        state.paced[outbox] = Paced(self, state, outbox, interval_s)

    def hasten(self, state: TopicState, outbox: Outbox) -> None:
        """Put what is held of `state`: it is to be delivered otherwise from now on."""
        paced = state.paced.get(outbox)
        if isinstance(paced, Paced) and paced.held is not None:
            paced.release()
            outbox.flush()  # what is published next may not pass through it

    def schedule(self, paced: Paced) -> None:
        """Look at it when it is due."""
        if not self._due or paced.next_s < self._due[0][0]:
            self._sooner.set()
        self._scheduled += 1
        heappush(self._due, (paced.next_s, self._scheduled, paced))

    def mark(self, outbox: Outbox) -> None:
        """Something was put for it."""
        self._dirty[outbox] = None

    def flush(self) -> list[Outbox]:
        """Write away what was put.

        Returns:
            Those for whom something still waits.
        """
        if not self._dirty:
            return []
        dirty, self._dirty = self._dirty, {}
        for outbox in dirty:
            outbox.flush()
        return [outbox for outbox in dirty if outbox.behind]

    def release(self) -> None:
        """Put what is due."""
        now_s = self.clock_s() + TICK_S
        while self._due and self._due[0][0] <= now_s:
            heappop(self._due)[2].release()

    async def run(self, flush: Callable[[], None]) -> None:
        """Release what becomes due, for ever; `flush` writes it away."""
        while True:
            with trio.move_on_at(self._due[0][0] if self._due else float("inf")):
                self._sooner = trio.Event()
                await self._sooner.wait()
                continue
            self.release()
            flush()


@attrs.define(eq=False)
class Paced:
    """One topic of one client with an interval.

    Args:
        next_s: when the next event may go, by the pacer's clock.
        held: what waits until then.
    """

    _pacer: Pacer
    _state: TopicState
    _outbox: Outbox
    _interval_s: float
    next_s: float = 0.0
    held: Conflated | None = None

    def offer(self, event: Event, element: bytes) -> None:
        """`event` was published: it goes, or it is held."""
        if self.held is not None:
            self._add(self.held, event)
        elif self._goes_at_once(event):
            if not is_mark(event):
                self.next_s = self._pacer.clock_s() + self._interval_s
            self._outbox.put_event(self._state, event, element)
            self._pacer.mark(self._outbox)
        else:
            self.held = Conflated(self._state, self._state.sequence, element)
            self._pacer.schedule(self)

    def _goes_at_once(self, event: Event) -> bool:
        if is_final(event) or is_mark(event) or self._outbox.conflates(self._state):
            return True
        return self._pacer.clock_s() >= self.next_s

    def _add(self, held: Conflated, event: Event) -> None:
        if is_final(event):
            self.held = None
            final = self._state.encoder.encode_general(event, self._state.sequence, first_sequence=held.first_sequence)
            for element in held.around(final, self._pacer.now_ns()):
                self._outbox.put(element, self._state)
            self._outbox.events_missed += held.count
            self._pacer.mark(self._outbox)
        else:
            held.add(event)

    def release(self) -> None:
        """The time has come."""
        if self.held is not None and self._state.paced.get(self._outbox) is self:
            self._outbox.put_conflated(self.held)
            self.next_s = self._pacer.clock_s() + self._interval_s
            self._pacer.mark(self._outbox)
        self.held = None
