"""Drives one session by hand: no socket, no clock but the one that the frames show, no task.

It does what a feed's runner does, in memory: gives frames their receipt time, answers Fetches from what it was given, moves the
clock on to each Wakeup, and keeps what came of every call.
"""

from __future__ import annotations

import heapq
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, get_args

import attrs

from raven.adapter import (
    Adapter,
    Connection,
    Event,
    Fetch,
    FrameError,
    Output,
    Reconnect,
    Refused,
    Reply,
    Session,
    Topic,
    Wakeup,
)
from raven.errors import AdapterFault, shown
from raven.testing.kit import Answer, Scenario
from raven.testing.recording import Frame

__all__ = ["Driver", "Step", "connection_of", "events_of", "open_session", "outputs_of", "play", "raised"]

CALLS_MAX = 200_000  # of one drive: a session that never lets time go on would not end
SECOND_NS = 1_000_000_000

_OUTPUTS = frozenset(get_args(Output))
_MAY_REFUSE = ("on_frame", "on_reply")  # what arrived can be wrong; elsewhere nothing did

Before = Callable[[int, "Driver"], None]
"""Called before each frame with its place, and once more behind the last one."""


@attrs.frozen
class Step:
    """One call of a session, and what came of it.

    Args:
        method, arguments: the call.
        now_ns: the clock.
        outputs: what was returned.
        refusal: the FrameError, as text; None without one.
        injected: whether it is no part of the scenario.
    """

    method: str
    arguments: tuple[Any, ...]
    now_ns: int
    outputs: tuple[Output, ...] = ()
    refusal: str | None = None
    injected: bool = False


class Driver:
    """One session, and the world around it.

    Args:
        answers: to its Fetches.
        now_ns: where the clock stands at first.
        topics: what the session carries at first.
    """

    def __init__(self, session: Session, answers: Sequence[Answer], now_ns: int, topics: Iterable[Topic] = ()) -> None:
        self.session = session
        self.now_ns = now_ns
        self.steps: list[Step] = []
        self.carried = dict.fromkeys(topics)
        self.ended: Reconnect | None = None
        self._answers = answers
        self._given: Counter[int] = Counter()
        self._replies: list[tuple[int, int, Fetch, Reply]] = []
        self._wake_at_ns: int | None = None

    def connect(self) -> Step:
        """The connection stands."""
        return self._call("on_connect", self.now_ns)

    def frame(self, data: bytes, *, injected: bool = False) -> Step:
        """A frame arrives now."""
        return self._call("on_frame", data, self.now_ns, injected=injected)

    def subscribe(self, topics: Sequence[Topic], *, injected: bool = False) -> Step:
        """Topics are asked for."""
        self.carried.update(dict.fromkeys(topics))
        return self._call("on_subscribe", tuple(topics), injected=injected)

    def unsubscribe(self, topics: Sequence[Topic], *, injected: bool = False) -> Step:
        """Topics are wanted no longer."""
        for topic in topics:
            self.carried.pop(topic, None)
        return self._call("on_unsubscribe", tuple(topics), injected=injected)

    def advance(self, to_ns: int) -> None:
        """Let the clock go on; replies and the wakeup come when they are due."""
        while self.ended is None and (due := self._next_due_ns()) is not None and due <= to_ns:
            self.now_ns = max(self.now_ns, due)
            if self._replies and self._replies[0][0] == due:
                _, _, fetch, reply = heapq.heappop(self._replies)
                self._call("on_reply", fetch, reply)
            else:
                self._wake_at_ns = None
                self._call("on_wakeup", self.now_ns)
        self.now_ns = max(self.now_ns, to_ns)

    def _next_due_ns(self) -> int | None:
        due = [self._replies[0][0]] if self._replies else []
        return min(due if self._wake_at_ns is None else [*due, self._wake_at_ns], default=None)

    def _call(self, method: str, *arguments: Any, injected: bool = False) -> Step:
        if len(self.steps) >= CALLS_MAX:
            raise AdapterFault(f"after {CALLS_MAX} calls there is no end: it wakes up or fetches without a pause")
        outputs, refusal = self._outputs(method, arguments)
        step = Step(method, arguments, self.now_ns, outputs, refusal, injected)
        self.steps.append(step)
        for output in outputs:
            self._carry_out(output, injected=injected)
        return step

    def _outputs(self, method: str, arguments: tuple[Any, ...]) -> tuple[tuple[Output, ...], str | None]:
        try:
            outputs = tuple(getattr(self.session, method)(*arguments))
        except FrameError as error:
            if method in _MAY_REFUSE:
                return (), str(error)
            raise AdapterFault(f"{method} raised FrameError, and nothing had arrived: {error}") from error
        except Exception as error:  # an adapter's bug may be anything
            raise AdapterFault(_fault(method, arguments, error)) from error
        for output in outputs:
            if type(output) not in _OUTPUTS:
                raise AdapterFault(f"{method} returned {shown(output)}, which is no output: see raven.adapter.outputs")
        return outputs, None

    def _carry_out(self, output: Output, *, injected: bool) -> None:
        match output:
            case Wakeup():
                self._wake_at_ns = self.now_ns + max(0, output.after_ns)
            case Fetch():
                self._answer(output)
            case Refused():
                self.carried.pop(output.topic, None)
            case Reconnect() if not injected:
                self.ended = output

    def _answer(self, fetch: Fetch) -> None:
        fitting = [
            place for place, answer in enumerate(self._answers) if answer.match == fetch.purpose or answer.match in fetch.url
        ]
        if not fitting:
            return
        place = next((place for place in fitting if not self._given[place]), fitting[-1])
        self._given[place] += 1
        answer = self._answers[place]
        at_ns = self.now_ns + answer.after_ns
        reply = Reply(answer.status, answer.body, at_ns, answer.headers, answer.error, answer.retry_after_s)
        heapq.heappush(self._replies, (at_ns, self._given.total(), fetch, reply))  # in the order of the Fetches


def connection_of(adapter: Adapter, scenario: Scenario) -> Connection:
    """The connection of the feed that the scenario is about.

    Raises:
        AdapterFault: the feed has none of that name, or several and the scenario does not say which.
    """
    connections = list(adapter.connections(scenario.feed(adapter)))
    named = [one for one in connections if scenario.connection in ("", one.name)]
    if len(named) != 1:
        names = ", ".join(one.name for one in connections) or "none"
        raise AdapterFault(f"scenario {scenario.name!r} is about connection {scenario.connection!r}, the feed has {names}")
    return named[0]


def open_session(adapter: Adapter, scenario: Scenario, memory: MutableMapping[str, Any] | None = None) -> Driver:
    """A new session of the scenario's connection, not connected yet."""
    connection = connection_of(adapter, scenario)
    session = adapter.session(scenario.feed(adapter), connection, {} if memory is None else memory)
    return Driver(session, scenario.answers, scenario.begins_ns, connection.topics)


def play(driver: Driver, scenario: Scenario, before: Before | None = None) -> list[Step]:
    """Play the scenario to its end, or to the session's Reconnect; all steps."""
    driver.connect()
    place = 0
    for at_ns, item in _timeline(scenario):
        driver.advance(at_ns)
        if driver.ended is not None:
            return driver.steps
        if isinstance(item, Frame):
            if before is not None:
                before(place, driver)
            place += 1
            driver.frame(item.data)
        else:
            driver.subscribe(item)
    if before is not None:
        before(place, driver)
    driver.advance(driver.now_ns + round(scenario.run_s * SECOND_NS))
    return driver.steps


def events_of(steps: Iterable[Step], *, injected: bool = False) -> Iterator[Event]:
    """The events of the scenario's own steps, or with `injected` those of the others."""
    for step in steps:
        if step.injected is injected:
            for output in step.outputs:
                if isinstance(output, Event):
                    yield output


def outputs_of(steps: Iterable[Step]) -> list[Output]:
    """Everything that was returned, in order."""
    return [output for step in steps for output in step.outputs]


def _timeline(scenario: Scenario) -> list[tuple[int, Frame | tuple[Topic, ...]]]:
    """Frames in their own order, and each late subscription in front of the first frame that is not before it."""
    timeline: list[tuple[int, Frame | tuple[Topic, ...]]] = [(frame.received_ts_ns, frame) for frame in scenario.frames]
    for late in scenario.late:
        place = next((place for place, (at_ns, _) in enumerate(timeline) if at_ns >= late.at_ns), len(timeline))
        timeline.insert(place, (late.at_ns, late.topics))
    return timeline


def _fault(method: str, arguments: tuple[Any, ...], error: Exception) -> str:
    return f"{method}({shown(arguments[0])}) raised {raised(error)}"


def raised(error: Exception) -> str:
    """An exception that should not be, with the line that it came from, if that is not one of this module."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if last.filename == __file__ else f" ({Path(last.filename).name}:{last.lineno})"
    return f"{type(error).__name__}: {error}{where}"
