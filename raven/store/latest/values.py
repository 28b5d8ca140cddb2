"""What a store of latest values is given and gives back, and the Protocol that every one of them keeps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import attrs

from raven.broker.client import Subscription
from raven.model.topic import Topic

__all__ = ["KEEP_S", "ClientSubscriptions", "LatestStore", "LatestValue"]

KEEP_S = 7 * 24 * 3600
"""A value that nobody has written for so long is forgotten: its topic is carried by nobody. Writers write all of theirs anew
far more often (raven.store.latest.writer.REWRITE_S)."""


@attrs.frozen(slots=True)
class LatestValue:
    """A topic after its event `sequence`, as GetLatest would answer.

    Args:
        status: an `events` element that is flagged LOCAL.
        image: an `events` element that is flagged IMAGE.
    """

    topic: Topic
    epoch: int
    sequence: int
    status: bytes
    image: bytes

    @property
    def size(self) -> int:
        """Bytes, next to all of them."""
        return len(self.status) + len(self.image)


@attrs.frozen(slots=True)
class ClientSubscriptions:
    """What a client that may come back had subscribed to.

    Args:
        subscriptions: in the order in which they came; none = the client is to be forgotten.
        expires_s: until when they are kept, in seconds since 1970. It grows with every change, so of two the greater is later.
    """

    client_id: str
    subscriptions: tuple[Subscription, ...]
    expires_s: float


class LatestStore(Protocol):
    """A place that keeps latest values and subscriptions. Methods block and are called in a worker thread, one at a time."""

    @property
    def name(self) -> str:
        """What it is, for logs and health: "sqlite", "redis"."""

    @property
    def shared(self) -> bool:
        """Whether other servers write here too, so that what this one does not know is not its own to remove."""

    def put(self, values: Sequence[LatestValue]) -> None:
        """Keep them. One with a lower (epoch, sequence) than what is kept of its topic changes nothing.

        Raises:
            StoreError: some are not kept; the same call may be made again later.
        """

    def remove(self, topics: Sequence[Topic]) -> None:
        """Forget them.

        Raises:
            StoreError: some are still there.
        """

    def load(self, venues: Collection[str]) -> list[LatestValue]:
        """All values of some venues, in the order of their topics. What cannot be a value is left out, and logged.

        Raises:
            StoreError: the store does not answer.
        """

    def put_clients(self, clients: Sequence[ClientSubscriptions]) -> None:
        """Keep them. One that expires earlier than what is kept of its client changes nothing.

        Raises:
            StoreError: some are not kept.
        """

    def load_clients(self, now_s: float) -> list[ClientSubscriptions]:
        """All that have not expired, the one that expires first in front. The others are forgotten.

        Raises:
            StoreError: the store does not answer.
        """

    def close(self) -> None:
        """Give everything back."""
