"""The circuit breaker of an endpoint, as a state machine without a clock of its own. Pure.

CLOSED: everything goes through; a failure makes the next try wait a little. OPEN, after several failures in a row, or one that
trying again cannot mend soon: nothing goes through until a pause is over. HALF_OPEN: one try, which closes it or opens it for
a longer pause.
"""

from __future__ import annotations

from enum import IntEnum

import attrs

__all__ = ["Breaker", "BreakerLimits", "BreakerState"]


class BreakerState(IntEnum):
    """How it stands."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def label(self) -> str:
        """As it stands in metrics and health."""
        return self.name.lower()


@attrs.frozen
class BreakerLimits:
    """Limits of a breaker.

    Args:
        failures_max: so many in a row open it.
        retry_s: the pause after the first failure; it doubles with each.
        open_s: the first pause when it has opened; it doubles each time that the try after it fails.
        open_s_max: the longest pause.
    """

    failures_max: int = 3
    retry_s: float = 0.1
    open_s: float = 1.0
    open_s_max: float = 30.0


@attrs.frozen
class Breaker:
    """A breaker at one moment. Times are seconds of a clock that never goes back.

    Args:
        failures: in a row.
        openings: in a row.
        until_s: nothing is tried before.
    """

    limits: BreakerLimits = BreakerLimits()
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    openings: int = 0
    until_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long nothing may be tried; 0 = now."""
        return max(0.0, self.until_s - now_s)

    def trying(self, now_s: float) -> Breaker:
        """When something is tried, which `wait_s` must allow."""
        if self.state is BreakerState.OPEN and now_s >= self.until_s:
            return attrs.evolve(self, state=BreakerState.HALF_OPEN)
        return self

    def succeeded(self) -> Breaker:
        """After a try that succeeded."""
        return Breaker(self.limits) if self.failures else self

    def failed(self, now_s: float, *, at_once: bool = False, pause_s: float = 0.0, spread: float = 1.0) -> Breaker:
        """After a try that failed.

        Args:
            at_once: open now, whatever was before.
            pause_s: what the other side asked for, within `open_s_max`.
            spread: 0.5 to 1, so that servers do not come back in step.
        """
        limits, failures = self.limits, self.failures + 1
        asked_s = min(pause_s, limits.open_s_max)
        if self.state is BreakerState.CLOSED and failures < limits.failures_max and not at_once:
            pause = max(asked_s, limits.retry_s * 2 ** (failures - 1) * spread)
            return attrs.evolve(self, failures=failures, until_s=now_s + pause)
        pause = min(limits.open_s_max, limits.open_s * 2 ** min(self.openings, 16)) * spread
        until_s = now_s + max(asked_s, pause)
        return Breaker(limits, BreakerState.OPEN, failures, self.openings + 1, until_s)
