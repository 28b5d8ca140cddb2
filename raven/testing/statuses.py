"""Rules over what a session says of its topics beside events: confirmed, refused, in doubt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import attrs

from raven.adapter import Established, Event, Kind, Output, Reconnect, Refused, Resync, Topic
from raven.errors import shown
from raven.model.events import BookDelta, BookSnapshot, StatusCause
from raven.testing.differences import output_difference
from raven.testing.driver import Step, connection_of, open_session, outputs_of, play
from raven.testing.kit import KIT_GROUP, Scenario, StatusOutput
from raven.testing.report import Outcome, failed, not_applicable, not_covered, passed
from raven.testing.subject import Subject

__all__ = ["check_lost_deltas", "check_statuses"]

LOST_MAX = 12  # deltas of a scenario that are left out, each in turn
REFUSED_CAUSES = frozenset({StatusCause.VENUE_REFUSED, StatusCause.DELISTED, StatusCause.NOT_ENTITLED})
RESYNC_CAUSES = frozenset({StatusCause.SEQUENCE_GAP, StatusCause.CHECKSUM, StatusCause.CROSSED, StatusCause.CLOCK})


def check_statuses(subject: Subject) -> Outcome:
    """Every topic is confirmed before its first event, or refused; causes are those that there are; and all as the kit says."""
    if subject.kit is None:
        return not_covered(f"the package offers no kit under {KIT_GROUP}")
    findings: list[str] = []
    told = 0
    for scenario in subject.kit.scenarios:
        outputs = outputs_of(subject.clean(scenario))
        found = list(_statuses(outputs))
        told += len(found)
        where = f"scenario {scenario.name!r}: "
        findings += [where + finding for output in found for finding in _form_findings(output)]
        findings += [where + finding for finding in _unconfirmed(subject, scenario, outputs)]
        if scenario.statuses and (differing := output_difference(list(_statuses(scenario.statuses)), found)):
            findings.append(where + differing)
    return failed(findings) if findings else passed(f"{told} statuses")


def _statuses(outputs: Iterable[Output]) -> Iterator[StatusOutput]:
    """One output for each topic, in order."""
    for output in outputs:
        if isinstance(output, Established):
            yield from (Established((topic,)) for topic in output.topics)
        elif isinstance(output, Refused | Resync):
            yield output


def _form_findings(output: StatusOutput) -> Iterator[str]:
    if isinstance(output, Established):
        return
    causes = REFUSED_CAUSES if isinstance(output, Refused) else RESYNC_CAUSES
    order = "Refused(topic, text, cause)" if isinstance(output, Refused) else "Resync(topic, cause, text)"
    cause, text = cast(object, output.cause), cast(object, output.text)
    if not isinstance(cause, StatusCause) or cause not in causes:
        valid = ", ".join(sorted(cause.name for cause in causes))
        yield f"{order}: cause is {cause.name if isinstance(cause, StatusCause) else shown(cause)}, valid are {valid}"
    if not isinstance(text, str):
        yield f"{order}: text is {shown(text)}, which is no text"


def _unconfirmed(subject: Subject, scenario: Scenario, outputs: Iterable[Output]) -> Iterator[str]:
    """Topics whose events come before anything was said of them, and topics of which nothing is ever said."""
    carried = (*connection_of(subject.adapter, scenario).topics, *(topic for late in scenario.late for topic in late.topics))
    wanted = [topic for topic in dict.fromkeys(carried) if topic.kind not in scenario.unconfirmed]
    said: set[Topic] = set()
    early: set[Topic] = set()
    for output in outputs:
        if isinstance(output, Established):
            said.update(output.topics)
        elif isinstance(output, Refused):
            said.add(output.topic)
        elif isinstance(output, Event) and output.topic not in said:
            early.add(output.topic)
    rest = "return Established when the venue confirms it, or put its kind into the scenario's `unconfirmed`"
    for topic in wanted:
        if topic in early:
            yield f"events of {topic} come and nothing confirmed it: {rest}"
        elif topic not in said:
            yield f"{topic} is subscribed and neither confirmed nor refused: {rest}"


def check_lost_deltas(subject: Subject) -> Outcome:
    """A delta of a book that never arrives is told: Resync, or Reconnect, before the next delta of the book."""
    if Kind.BOOK not in subject.adapter.capabilities.kinds:
        return not_applicable("no books are declared")
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    if not subject.hears():
        return not_applicable("no connection has an address, so no frames come")
    findings: list[str] = []
    lost = 0
    for scenario in subject.scenarios():
        for place, event in _deltas(subject.clean(scenario)):
            lost += 1
            findings += _lost_findings(subject, scenario, place, event)
    if findings:
        return failed(findings)
    return (
        passed(f"{lost} deltas") if lost else not_covered("no delta with a venue_sequence has one after it, in the scenarios")
    )


def _deltas(steps: Sequence[Step]) -> Iterator[tuple[int, Event]]:
    """The places of frames that became a delta of a book, where another delta of the book follows at once or after a doubt."""
    frames = [step for step in steps if step.method == "on_frame"]
    numbered = [
        (place, output)
        for place, step in enumerate(frames)
        for output in step.outputs
        if isinstance(output, Event) and isinstance(output.payload, BookDelta) and _counts(output.payload)
    ]
    last = {event.topic: place for place, event in numbered}
    found = [(place, event) for place, event in numbered if place < last[event.topic]]
    yield from found[:: -(-len(found) // LOST_MAX)] if found else ()


def _counts(delta: BookDelta) -> bool:
    """Whether its loss can be known, and is one: an empty delta may be a sign of life."""
    return bool(delta.venue_sequence and (delta.bid_price or delta.ask_price))


def _lost_findings(subject: Subject, scenario: Scenario, place: int, event: Event) -> Iterator[str]:
    less = attrs.evolve(scenario, frames=(*scenario.frames[:place], *scenario.frames[place + 1 :]))
    steps = play(open_session(subject.adapter, less), less)
    for output in outputs_of(_after(steps, place)):
        if isinstance(output, Reconnect):
            return
        if isinstance(output, Event) and isinstance(output.payload, BookSnapshot) and output.topic == event.topic:
            return  # the venue sent a new one by itself
        if isinstance(output, Resync) and output.topic == event.topic:
            return
        if isinstance(output, Event) and isinstance(output.payload, BookDelta) and output.topic == event.topic:
            sequences = f"{output.payload.venue_sequence} follows what was before {_sequence(event)}"
            yield f"scenario {scenario.name!r}, without frame {place}: {event.topic} goes on, delta {sequences}, and no Resync"
            return


def _after(steps: Sequence[Step], place: int) -> list[Step]:
    """The steps behind the so-manieth frame."""
    frames = [number for number, step in enumerate(steps) if step.method == "on_frame"]
    return list(steps[frames[place] :]) if place < len(frames) else []


def _sequence(event: Event) -> int:
    assert isinstance(event.payload, BookDelta)
    return event.payload.venue_sequence
