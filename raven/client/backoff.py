"""How long to wait before the next attempt: capped exponential backoff with full jitter. Pure."""

from __future__ import annotations

from random import Random

import attrs

__all__ = ["Backoff", "Reconnect"]


@attrs.frozen
class Reconnect:
    """How a client comes back.

    Args:
        base_s, cap_s: a pause is anywhere between 0 and a ceiling that doubles from `base_s` to `cap_s`. The whole range is
            drawn from, so that many clients that lost one server do not come back in step.
        stable_s: a stream that has lasted so long, and brought something, makes the ceiling `base_s` again.
        give_up_s: a client that had no stream for so long raises what kept it from one; None = never.
        connect_s: for a connection, and then for the server's Welcome.
        refused_s: a subscription that was in force and is refused after coming back is tried again for so long: a server that
            has just started may not know its topics yet.
    """

    base_s: float = 0.25
    cap_s: float = 20.0
    stable_s: float = 5.0
    give_up_s: float | None = None
    connect_s: float = 5.0
    refused_s: float = 60.0


class Backoff:
    """The pauses of one client."""

    def __init__(self, settings: Reconnect, random: Random) -> None:
        self._settings = settings
        self._random = random
        self.attempts = 0

    def next_s(self) -> float:
        """The next pause."""
        doublings = min(self.attempts, 32)
        self.attempts += 1
        return self._random.uniform(0.0, min(self._settings.base_s * 2**doublings, self._settings.cap_s))

    def reset(self) -> None:
        """Things are well again."""
        self.attempts = 0
