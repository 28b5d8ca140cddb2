"""Subscriptions that outlive their client's stream for a while, by client_id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from raven.broker.client import Subscription

__all__ = ["KeptSubscriptions"]


@attrs.define
class _Kept:
    subscriptions: dict[str, Subscription]
    until_s: float


class KeptSubscriptions:
    """What clients that are away had subscribed to. Bounded in number and in time; the oldest goes first.

    Args:
        clients_max: how many clients are remembered.
        keep_s: for how long, from the last change on.
        clock_s: a clock that never jumps, in seconds.
    """

    def __init__(self, clients_max: int, keep_s: float, clock_s: Callable[[], float]) -> None:
        self._clients_max = clients_max
        self._keep_s = keep_s
        self._clock_s = clock_s
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def put(self, client_id: str, subscriptions: Iterable[Subscription]) -> None:
        """Remember them in place of what was remembered for that client; none = forget it."""
        self._kept.pop(client_id, None)
        by_id = {subscription.id: subscription for subscription in subscriptions}
        if by_id:
            self._kept[client_id] = _Kept(by_id, self._clock_s() + self._keep_s)
        self._expire()

    def get(self, client_id: str) -> list[Subscription]:
        """What is remembered of a client, in the order in which it came."""
        self._expire()
        kept = self._kept.get(client_id)
        return list(kept.subscriptions.values()) if kept is not None else []

    def take(self, client_id: str) -> list[Subscription]:
        """The same, and forget it."""
        found = self.get(client_id)
        self._kept.pop(client_id, None)
        return found

    def remaining(self) -> list[tuple[str, Mapping[str, Subscription], float]]:
        """Of each client its subscriptions, and for how many seconds they are still kept; the one that goes first in front."""
        self._expire()
        now_s = self._clock_s()
        return [(client_id, kept.subscriptions, kept.until_s - now_s) for client_id, kept in self._kept.items()]

    def restore(self, client_id: str, subscriptions: Iterable[Subscription], remaining_s: float) -> None:
        """What an earlier server kept, for what was left of its time. To be called in that order, before anything is put."""
        by_id = {subscription.id: subscription for subscription in subscriptions}
        if by_id and remaining_s > 0:
            self._kept[client_id] = _Kept(by_id, self._clock_s() + min(remaining_s, self._keep_s))
            self._expire()

    def __iter__(self) -> Iterator[str]:
        """The client_ids that are remembered."""
        self._expire()
        return iter(list(self._kept))

    def _expire(self) -> None:
        """Insertion order is order of age, because every change puts anew."""
        now_s = self._clock_s()
        while self._kept:
            client_id, kept = next(iter(self._kept.items()))
            if len(self._kept) <= self._clients_max and kept.until_s > now_s:
                return
            del self._kept[client_id]
