"""The REST requests of one session: their pace, and when to try again; pure.

One request per purpose is wanted at most. A refused or failed one is asked again after a pause that grows, or as long as the
venue says; the venue's 429 and 418 hold all of them back, because going on makes a ban of days out of it (`rest-api.md`).
"""

from __future__ import annotations

import attrs

from raven.adapter import Fetch, Output, Reply
from raven_binance.schedule import SECOND_NS, Pace, Schedule, growing_pause_s

__all__ = ["RestQueue"]

OVER_LIMIT = (418, 429)


@attrs.define
class _Wanted:
    fetch: Fetch
    weight: float
    failures: int = 0


class RestQueue:
    """What is wanted over REST.

    Args:
        schedule: of the session; the keys "rest:..." are this queue's.
        weight_per_s, burst_weight: how much of the venue's budget it may use, evenly and at once.
    """

    def __init__(self, schedule: Schedule, weight_per_s: float, burst_weight: float) -> None:
        self._schedule = schedule
        self._pace = Pace(burst_weight, weight_per_s)
        self._wanted: dict[str, _Wanted] = {}
        self._held_until = self._hold_ns = 0

    def ask(self, fetch: Fetch, weight: float, now_ns: int, after_s: float = 0.0) -> list[Output]:
        """Want `fetch` as soon as the budget allows, at the earliest in `after_s`; nothing when it is wanted already."""
        if fetch.purpose in self._wanted:
            return []
        self._wanted[fetch.purpose] = _Wanted(fetch, weight)
        return self._start(fetch.purpose, now_ns, after_s)

    def again(self, purpose: str, now_ns: int, after_s: float) -> list[Output]:
        """It was answered, and is wanted once more."""
        return self._start(purpose, now_ns, after_s) if purpose in self._wanted else []

    def failed(self, purpose: str, reply: Reply) -> list[Output]:
        """It was not answered, or not to any use: again after a pause."""
        wanted = self._wanted.get(purpose)
        if wanted is None:
            return []
        wanted.failures += 1
        pause_s = max(reply.retry_after_s or 0.0, growing_pause_s(wanted.failures))
        if reply.status in OVER_LIMIT:
            self._hold_ns = round(pause_s * SECOND_NS)
            self._held_until = reply.received_ts_ns + self._hold_ns
        return self._start(purpose, reply.received_ts_ns, pause_s)

    def wanted(self, purpose: str) -> bool:
        """Whether an answer to it is still of use."""
        return purpose in self._wanted

    def done(self, purpose: str) -> None:
        """It is wanted no longer."""
        self._wanted.pop(purpose, None)
        self._schedule.drop(f"rest:{purpose}")

    def _start(self, purpose: str, now_ns: int, after_s: float) -> list[Output]:
        budget_ns = self._pace.wait_ns(self._wanted[purpose].weight, now_ns)
        return self._go_or_wait(purpose, now_ns, max(round(after_s * SECOND_NS), budget_ns))

    def _go_or_wait(self, purpose: str, now_ns: int, wait_ns: int = 0) -> list[Output]:
        held_ns = min(self._held_until - now_ns, self._hold_ns)  # the clock may have gone back
        wait_ns = max(wait_ns, held_ns)
        if wait_ns <= 0:
            return [self._wanted[purpose].fetch]
        self._schedule.put(f"rest:{purpose}", now_ns, wait_ns, lambda then_ns: self._go_or_wait(purpose, then_ns))
        return []
