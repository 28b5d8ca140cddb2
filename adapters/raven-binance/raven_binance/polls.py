"""What is had over REST alone, again and again: open interest, and the intervals of funding; pure."""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import partial
from typing import Any

from raven.adapter import Count, Event, Fetch, Output, Reply, Topic
from raven.errors import FrameError
from raven.model.events import OpenInterest, State, StatusCause, TopicStatus
from raven_binance.rest import RestQueue
from raven_binance.schedule import SECOND_NS, Schedule
from raven_binance.streams_usdm import interval_key
from raven_binance.wire import time_ns
from raven_binance.wire_usdm import parse_funding_info, parse_open_interest

__all__ = ["FUNDING_INFO", "OPEN_INTEREST", "FundingIntervals", "OpenInterestPolls", "silent_event"]

OPEN_INTEREST = "interest:"
FUNDING_INFO = "funding:"
WEIGHT = 1
SILENT_AFTER_POLLS = 3
FUNDING_INFO_EVERY_S = 3600.0


def silent_event(topic: Topic, text: str, now_ns: int) -> Event:
    """Says that nothing comes of `topic` though it should; the next event makes it live again."""
    return Event(topic, TopicStatus(State.STALE, StatusCause.VENUE_SILENT, text, now_ns), now_ns)


class OpenInterestPolls:
    """Asks for the open interest of each topic, every so often after the last answer.

    Args:
        url: of the endpoint, without a query.
        every_s: the pause.
        rest: its budget makes the pauses longer where there are too many symbols.
    """

    def __init__(self, url: str, every_s: float, rest: RestQueue, schedule: Schedule, memory: MutableMapping[str, Any]) -> None:
        self._url = url
        self._every_s = every_s
        self._rest = rest
        self._schedule = schedule
        self._memory = memory

    def start(self, topic: Topic, symbol: str, now_ns: int) -> list[Output]:
        """Ask now, and from now on."""
        self._watch(topic, now_ns)
        return self._ask(topic, symbol, now_ns)

    def stop(self, topic: Topic, symbol: str) -> None:
        """Ask no more."""
        self._rest.done(OPEN_INTEREST + symbol)
        self._schedule.drop(OPEN_INTEREST + symbol)
        self._schedule.drop(f"silent:{topic}")
        self._memory.pop(str(topic), None)

    def on_reply(self, request: Fetch, reply: Reply) -> list[Output]:
        """The answer: an event if it is a new one; then the next request, in its time."""
        topic, now_ns = request.topic, reply.received_ts_ns
        assert topic is not None  # each request was made for one
        if not reply.ok:
            return self._rest.failed(request.purpose, reply)
        try:
            message = parse_open_interest(reply.body)
        except FrameError:
            return [Count("unreadable_reply"), *self._rest.failed(request.purpose, reply)]
        self._rest.done(request.purpose)
        self._watch(topic, now_ns)
        symbol = request.purpose.removeprefix(OPEN_INTEREST)
        again = partial(self._ask, topic, symbol)
        self._schedule.put(request.purpose, now_ns, round(self._every_s * SECOND_NS), again)
        if message.time <= self._memory.get(str(topic), -1):
            return []
        self._memory[str(topic)] = message.time
        return [Event(topic, OpenInterest(message.amount), now_ns, time_ns(message.time))]

    def _ask(self, topic: Topic, symbol: str, now_ns: int) -> list[Output]:
        fetch = Fetch(f"{self._url}?symbol={symbol}", OPEN_INTEREST + symbol, topic)
        return self._rest.ask(fetch, WEIGHT, now_ns)

    def _watch(self, topic: Topic, now_ns: int) -> None:
        wait_s = SILENT_AFTER_POLLS * self._every_s

        def silent(then_ns: int) -> list[Output]:
            self._memory.pop(str(topic), None)  # the next answer is an event, whatever it says
            return [Count("silent_poll"), silent_event(topic, f"no answer of use for {wait_s:g} s", then_ns)]

        self._schedule.put(f"silent:{topic}", now_ns, round(wait_s * SECOND_NS), silent)


class FundingIntervals:
    """How often funding is paid, asked for each hour, and left in the session's memory for the streams.

    The venue names only those symbols whose terms were changed at some time; of the others nothing is said.
    """

    def __init__(self, url: str, rest: RestQueue, schedule: Schedule, memory: MutableMapping[str, Any]) -> None:
        self._url = url
        self._rest = rest
        self._schedule = schedule
        self._memory = memory
        self._started = False

    def start(self, now_ns: int) -> list[Output]:
        """Ask now and each hour; nothing where it is asked for already."""
        if self._started:
            return []
        self._started = True
        return self._ask(now_ns)

    def on_reply(self, request: Fetch, reply: Reply) -> list[Output]:
        """The answer."""
        try:
            intervals = parse_funding_info(reply.body) if reply.ok else None
        except FrameError:
            return [Count("unreadable_reply"), *self._rest.failed(request.purpose, reply)]
        if intervals is None:
            return self._rest.failed(request.purpose, reply)
        self._rest.done(request.purpose)
        self._memory.update({interval_key(symbol): seconds for symbol, seconds in intervals.items()})
        return []

    def _ask(self, now_ns: int) -> list[Output]:
        self._schedule.put(FUNDING_INFO, now_ns, round(FUNDING_INFO_EVERY_S * SECOND_NS), self._ask)
        return self._rest.ask(Fetch(self._url, FUNDING_INFO), WEIGHT, now_ns)
