"""What a client may do to its connection, by kind, as token buckets.

A bucket is sized so that an honest client never meets it, flat out: `nox -s honest` drives unmodified clients of gRPC and
asserts that none goes below half of any. Floods of the same frames are over within a moment.

What is an answer to us is free. A client that measures the bandwidth of a fast stream (grpc-go) sends a PING for every read,
hundreds a second: one is free for every time that we have sent data since the one before. One that reads small messages
(grpcio) may send a WINDOW_UPDATE for each, thousands a second, long after they were sent: one is free for so many bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from raven.grpc.limits import Offence

__all__ = [
    "BUDGETS",
    "BYTES_PER_WINDOW_UPDATE",
    "REFUND_PER_ANSWER",
    "UNANSWERED_BYTES_MAX",
    "Budget",
    "Budgets",
    "least",
]


@attrs.frozen
class Budget:
    """One bucket.

    Args:
        burst: what it holds.
        rate_s: what comes back in a second.
        text: what a client did that spent it.
    """

    burst: float
    rate_s: float
    text: str


BUDGETS: Mapping[str, Budget] = {
    "ping": Budget(1_000, 100, "too many PINGs"),
    "settings": Budget(100, 10, "too many SETTINGS"),
    "window": Budget(10_000, 1_000, "too many WINDOW_UPDATEs for what was sent"),
    "empty_data": Budget(1_000, 100, "too many DATA frames without data"),
    "continuation": Budget(1_000, 100, "too many CONTINUATIONs"),
    "metadata": Budget(10_000, 1_000, "too many calls with very long headers"),
    "priority": Budget(1_000, 100, "too many PRIORITYs"),
    "unknown": Budget(1_000, 100, "too many frames of unknown types"),
    "reset": Budget(100, 10, "too many calls that were reset, by the client or for its mistakes"),
    "refused": Budget(1_000, 100, "too many calls above the limit of concurrent ones"),
    "late_data": Budget(256 * 1024, 32 * 1024, "DATA of calls that were reset goes on"),
}

BYTES_PER_WINDOW_UPDATE = 16
"""Of data that we have sent: the smallest message has 30 bytes, and may be answered for its call and for the connection."""

UNANSWERED_BYTES_MAX = 4 * 1024 * 1024
"""Sent data that WINDOW_UPDATEs may still answer to: about the largest window that a client opens."""

REFUND_PER_ANSWER = 10
"""Resets that one answered call makes good: who works with the server may change his mind more often."""


class Bucket:
    """Tokens that come back with time. `lowest` is the smallest share that was ever left."""

    __slots__ = ("_at", "_budget", "_tokens", "lowest")

    def __init__(self, budget: Budget, now_s: float) -> None:
        self._budget = budget
        self._tokens = budget.burst
        self._at = now_s
        self.lowest = 1.0

    def spend(self, now_s: float, amount: float) -> bool:
        """Take `amount`; whether it was there."""
        budget = self._budget
        self._tokens = min(budget.burst, self._tokens + (now_s - self._at) * budget.rate_s) - amount
        self._at = now_s
        self.lowest = min(self.lowest, self._tokens / budget.burst)
        return self._tokens >= 0

    def refund(self, amount: float) -> None:
        """Put `amount` back."""
        self._tokens = min(self._budget.burst, self._tokens + amount)


class Budgets:
    """All buckets of one connection. One is made when it is first spent from: most connections never need most of them."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def spend(self, name: str, now_s: float, amount: float = 1.0) -> None:
        """Take `amount` from one budget.

        Raises:
            Offence: it is spent.
        """
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(BUDGETS[name], now_s)
        if not bucket.spend(now_s, amount):
            raise Offence(f"{name}_flood", BUDGETS[name].text)

    def answered(self) -> None:
        """A call of this client was answered to its end."""
        bucket = self._buckets.get("reset")
        if bucket is not None:
            bucket.refund(REFUND_PER_ANSWER)

    def lowest(self) -> dict[str, float]:
        """The smallest share of each budget that was ever left, of those that were spent from."""
        return {name: bucket.lowest for name, bucket in self._buckets.items()}


def least(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Of each name the smaller one."""
    return {name: min(one.get(name, 1.0), other.get(name, 1.0)) for name in {*one, *other}}
