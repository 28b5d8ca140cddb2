"""Which topics of a subscription can be continued where a client left them, and what is told of those that cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from raven.broker.bookmark import Resume
from raven.broker.outbox import Outbox
from raven.broker.replay import UNKNOWN
from raven.broker.ring import Ring
from raven.broker.topics import TopicState
from raven.model.events import Gap, GapCause

__all__ = ["NO_PLAN", "ResumePlan", "Start", "plan_resume"]


@attrs.frozen
class Start:
    """Where a cursor begins in one ring: a position, and the sequence behind which each topic continues."""

    ring: Ring
    position: int
    after: dict[TopicState, int]


@attrs.frozen
class ResumePlan:
    """What becomes of the topics of one subscription.

    Args:
        continued: the sequence behind which they continue, and the position from which on their ring has all that follows.
        too_old: what is told of those that cannot be continued, in front of their latest state.
    """

    continued: dict[TopicState, tuple[int, int]] = attrs.field(factory=dict)
    too_old: dict[TopicState, Gap] = attrs.field(factory=dict)
    rings: Mapping[str, Ring] = attrs.field(factory=dict)

    def leaving_out_paced(self, outbox: Outbox) -> ResumePlan:
        """Without the topics that another subscription of the same request wants at a pace: those begin with their state."""
        continued = {state: place for state, place in self.continued.items() if outbox not in state.paced}
        return attrs.evolve(self, continued=continued)

    def starts(self) -> Iterator[Start]:
        """For each ring a cursor for the topics of a bookmark, which begin at its position, and one for those of points."""
        cursors: dict[tuple[str, bool], dict[TopicState, tuple[int, int]]] = {}
        for state, place in self.continued.items():
            cursors.setdefault((state.feed, place[0] == UNKNOWN), {})[state] = place
        for (feed, _), places in cursors.items():
            position = min(position for _, position in places.values())
            yield Start(self.rings[feed], position, {state: after for state, (after, _) in places.items()})


NO_PLAN = ResumePlan()


def plan_resume(resume: Resume, states: Iterable[TopicState], rings: Mapping[str, Ring], outbox: Outbox) -> ResumePlan:
    """Decide for each topic.

    Args:
        states: the topics that the client does not have yet.
        outbox: the client's; a topic that it wants at a pace of its own is a state, and needs its latest one only.
    """
    plan = ResumePlan(rings=rings)
    for state in states:
        if outbox in state.paced:
            continue
        place = _place(state, resume, rings[state.feed])
        if isinstance(place, Gap):
            plan.too_old[state] = place
        elif place is not None:
            plan.continued[state] = place
    return plan


def _place(state: TopicState, resume: Resume, ring: Ring) -> tuple[int, int] | Gap | None:
    """Sequence and position to continue after, or what is missing; None when the client named nothing for the topic."""
    point = resume.points.get(state.topic)
    if point is not None:
        return _place_of_point(state, point, ring)
    if resume.places is None:
        return None
    epoch, position = resume.places.get(state.feed, (0, 0))
    if epoch == ring.epoch and ring.first <= position <= ring.next:
        return UNKNOWN, position
    return Gap(GapCause.RESUME_TOO_OLD, state.epoch)


def _place_of_point(state: TopicState, point: tuple[int, int], ring: Ring) -> tuple[int, int] | Gap:
    epoch, sequence = point
    if epoch == state.epoch and state.forgotten <= sequence <= state.sequence:
        return sequence, ring.first
    if epoch == state.epoch and sequence < state.sequence:
        return Gap(GapCause.RESUME_TOO_OLD, epoch, sequence + 1, state.sequence, state.sequence - sequence)
    return Gap(GapCause.RESUME_TOO_OLD, epoch, min(sequence, 2**64 - 2) + 1)
