"""Which clients take nothing, or next to nothing, though something waits for them."""

from __future__ import annotations

from collections.abc import Iterable

from raven.broker.client import Client

__all__ = ["PROGRESS_BYTES_MIN", "ProgressCheck"]

PROGRESS_BYTES_MIN = 8 * 1024
"""Less than this in the time that a client may stall is no reading: one byte a second opens windows too."""


class ProgressCheck:
    """Remembers how far each client had come.

    Args:
        stall_s: how long a client may stall, in seconds.
    """

    def __init__(self, stall_s: float) -> None:
        self.stall_s = stall_s
        self._seen: dict[Client, tuple[int, float]] = {}  # what had passed, and when that was

    def stalled(self, clients: Iterable[Client], now_s: float) -> list[Client]:
        """Those that took less than `PROGRESS_BYTES_MIN` for `stall_s` seconds with something waiting all the time."""
        seen = {client: self._look(client, now_s) for client in clients if client.outbox.waits}
        self._seen = seen
        return [client for client, (_, since_s) in seen.items() if now_s - since_s >= self.stall_s]

    def _look(self, client: Client, now_s: float) -> tuple[int, float]:
        passed, before = client.outbox.bytes_passed, self._seen.get(client)
        if before is None or passed - before[0] >= PROGRESS_BYTES_MIN:
            return passed, now_s
        return before
