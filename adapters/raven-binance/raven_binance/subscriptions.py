"""SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS on one connection: what was asked, what was answered; pure.

An answer is matched by its id. Some errors carry none, so they belong to the request that has waited longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs
import msgspec

from raven.adapter import Send

__all__ = ["LIST", "STREAMS_PER_MESSAGE_MAX", "SUBSCRIBE", "UNSUBSCRIBE", "Request", "Requests"]

STREAMS_PER_MESSAGE_MAX = 200
SUBSCRIBE, UNSUBSCRIBE, LIST = "SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS"


@attrs.frozen
class Request:
    """One message that the venue is to answer.

    Args:
        streams: their names; none where it lists what there is.
    """

    id: int
    method: str
    streams: tuple[str, ...]

    @property
    def subscribes(self) -> bool:
        """Whether it is a SUBSCRIBE."""
        return self.method == SUBSCRIBE

    @property
    def message(self) -> Send:
        """As it goes over the socket."""
        params = {} if self.method == LIST else {"params": self.streams}
        return Send(msgspec.json.encode({"method": self.method, **params, "id": self.id}).decode())


class Requests:
    """The requests of one connection that have no answer yet, oldest first."""

    def __init__(self) -> None:
        self._last_id = 0
        self._open: dict[int, Request] = {}

    @property
    def waiting(self) -> bool:
        """Whether the venue owes an answer."""
        return bool(self._open)

    def subscribe(self, streams: Iterable[str]) -> list[Request]:
        """New requests for these streams, as few as can be."""
        return [self._new(SUBSCRIBE, part) for part in _parts(tuple(streams))]

    def unsubscribe(self, streams: Iterable[str]) -> list[Request]:
        """New requests to end these streams."""
        return [self._new(UNSUBSCRIBE, part) for part in _parts(tuple(streams))]

    def probe(self) -> Request:
        """A new request that changes nothing."""
        return self._new(LIST, ())

    def halves(self, refused: Request) -> list[Request]:
        """`refused`, which had several streams, asked again in two: one bad stream must not take the rest along."""
        middle = len(refused.streams) // 2
        return [self._new(refused.method, part) for part in (refused.streams[:middle], refused.streams[middle:])]

    def answered(self, request_id: int | str | None) -> Request | None:
        """The request that an answer with this id belongs to, no longer open; None where there is none."""
        if request_id is None and self._open:
            request_id = next(iter(self._open))
        return self._open.pop(request_id, None) if isinstance(request_id, int) else None

    def _new(self, method: str, streams: tuple[str, ...]) -> Request:
        self._last_id += 1
        request = self._open[self._last_id] = Request(self._last_id, method, streams)
        return request


def _parts(streams: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(streams), STREAMS_PER_MESSAGE_MAX):
        yield streams[start : start + STREAMS_PER_MESSAGE_MAX]
