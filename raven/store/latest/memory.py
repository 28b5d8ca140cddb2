"""Latest values in memory: what the other stores are held against, and what a test can look into."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from raven.model.topic import Topic
from raven.store.latest.values import ClientSubscriptions, LatestValue

__all__ = ["MemoryLatest"]


class MemoryLatest:
    """Keeps nothing beyond the process."""

    name = "memory"
    shared = False

    def __init__(self) -> None:
        self._values: dict[Topic, LatestValue] = {}
        self._clients: dict[str, ClientSubscriptions] = {}

    def put(self, values: Sequence[LatestValue]) -> None:
        """Keep them."""
        for value in values:
            kept = self._values.get(value.topic)
            if kept is None or (value.epoch, value.sequence) >= (kept.epoch, kept.sequence):
                self._values[value.topic] = value

    def remove(self, topics: Sequence[Topic]) -> None:
        """Forget them."""
        for topic in topics:
            self._values.pop(topic, None)

    def load(self, venues: Collection[str]) -> list[LatestValue]:
        """All values of some venues."""
        return [self._values[topic] for topic in sorted(self._values) if topic.venue in venues]

    def put_clients(self, clients: Sequence[ClientSubscriptions]) -> None:
        """Keep them."""
        for client in clients:
            kept = self._clients.get(client.client_id)
            if kept is not None and client.expires_s < kept.expires_s:
                continue
            if client.subscriptions:
                self._clients[client.client_id] = client
            else:
                self._clients.pop(client.client_id, None)

    def load_clients(self, now_s: float) -> list[ClientSubscriptions]:
        """All that have not expired."""
        self._clients = {name: client for name, client in self._clients.items() if client.expires_s > now_s}
        return sorted(self._clients.values(), key=lambda client: client.expires_s)

    def close(self) -> None:
        """Nothing is held."""
