"""How the server is, as pure functions from what its parts report to documents and HTTP status codes.

Live: the loop turns. Ready: clients may be sent here. Healthy: everything does its work; degraded: something does not, and
the rest does.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from http import HTTPStatus
from typing import Any

import attrs

__all__ = [
    "Component",
    "Condition",
    "FeedHealth",
    "Phase",
    "ServerHealth",
    "aggregate",
    "health_document",
    "live_document",
    "not_ready_because",
    "ready_document",
]

Document = tuple[HTTPStatus, dict[str, Any]]


class Condition(IntEnum):
    """How a part does. The worst is the highest."""

    OK = 0
    DEGRADED = 1
    FAILED = 2

    @property
    def label(self) -> str:
        """As it stands in documents."""
        return "healthy" if self is Condition.OK else self.name.lower()


class Phase(IntEnum):
    """Where the server is in its life."""

    STARTING = 0
    SERVING = 1
    DRAINING = 2


@attrs.frozen
class Component:
    """The report of one part.

    Args:
        name: "broker", "grpc".
        condition: how it does.
        text: why, for people; empty when all is well.
    """

    name: str
    condition: Condition = Condition.OK
    text: str = ""


@attrs.frozen
class FeedHealth:
    """The report of one feed.

    Args:
        name: the venue.
        state: of the feed, in lower case ("live").
        reason: why it is not live; empty when it is.
        condition: OK; DEGRADED while it is being brought back; FAILED when nobody will try again.
    """

    name: str
    state: str
    reason: str = ""
    condition: Condition = Condition.OK


@attrs.frozen
class ServerHealth:
    """Everything that the documents are made from, at one moment.

    Args:
        version: of Raven.
        uptime_s: since the process began to serve.
        phase: where the server is in its life.
        clients: how many are connected.
        components, feeds: their reports.
    """

    version: str
    uptime_s: float
    phase: Phase
    clients: int = 0
    components: tuple[Component, ...] = ()
    feeds: tuple[FeedHealth, ...] = ()


def aggregate(components: Iterable[Component], feeds: Iterable[FeedHealth]) -> Condition:
    """The whole from its parts: as bad as its worst component, but one feed that failed degrades it only.

    Feeds fail it when every one of them has failed: then there is nothing to serve.
    """
    parts = max((component.condition for component in components), default=Condition.OK)
    conditions = [feed.condition for feed in feeds]
    if conditions and min(conditions) is Condition.FAILED:
        return Condition.FAILED
    return max(parts, min(max(conditions, default=Condition.OK), Condition.DEGRADED))


def live_document(health: ServerHealth) -> Document:
    """Whoever reads this answer knows that the loop turns."""
    return HTTPStatus.OK, {"status": "live", "version": health.version, "uptime_s": round(health.uptime_s, 3)}


def not_ready_because(health: ServerHealth) -> list[str]:
    """Why no client should be sent here; empty when they should. Feeds are no reason: statuses tell of them topic by topic."""
    phase = [] if health.phase is Phase.SERVING else [health.phase.name.lower()]
    failed = [component for component in health.components if component.condition is Condition.FAILED]
    return phase + [f"{component.name}: {component.text or 'failed'}" for component in failed]


def ready_document(health: ServerHealth) -> Document:
    """200, or 503 with the reasons."""
    reasons = not_ready_because(health)
    code = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return code, {"status": "not ready" if reasons else "ready", "reasons": reasons}


def health_document(health: ServerHealth) -> Document:
    """All that is known; 503 when the server failed, has not started yet, or is on its way out."""
    condition = aggregate(health.components, health.feeds)
    serving = health.phase is Phase.SERVING
    bad = condition is Condition.FAILED or not serving
    return HTTPStatus.SERVICE_UNAVAILABLE if bad else HTTPStatus.OK, {
        "status": condition.label if serving or condition is Condition.FAILED else health.phase.name.lower(),
        "version": health.version,
        "uptime_s": round(health.uptime_s, 3),
        "ready": not not_ready_because(health),
        "draining": health.phase is Phase.DRAINING,
        "clients": health.clients,
        "components": {part.name: _entry(part.condition.label, part.text) for part in health.components},
        "feeds": {feed.name: _entry(feed.state, feed.reason) | {"status": feed.condition.label} for feed in health.feeds},
    }


def _entry(state: str, reason: str) -> dict[str, str]:
    return {"state": state, "reason": reason}
