"""Rules over what a session makes of bad frames, of frames in another order, and of replies that are of no use."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import attrs

from raven.adapter import Count, Event, Fetch, Kind, Output
from raven.model.events import Trade
from raven.testing.behaviour import book_findings, encoding_findings, identity, repeats
from raven.testing.differences import event_difference
from raven.testing.driver import Driver, Step, events_of, open_session, outputs_of, play
from raven.testing.kit import Answer, Scenario
from raven.testing.mutations import DISORDERS, FAULTS, is_json, telling_frames
from raven.testing.recording import Frame
from raven.testing.report import Outcome, failed, not_applicable, not_covered, passed
from raven.testing.subject import Subject

__all__ = ["check_bad_frames", "check_bad_replies", "check_disorder", "check_memory"]

SEED = 1
ROUNDS_MAX = 64  # about as many as there are bad numbers of one frame
CULPRITS_MAX = 300  # bad frames that are tried alone, once a rule has failed
NESTED_PLACES_MAX = 3  # half a megabyte each
AFTER_BAD_REPLIES_S = 180.0  # long enough for a session that asks again after growing pauses
HEAVY = "nested and huge"
HALF_A_TEXT = ("truncated", "split", "garbage", HEAVY)
# Whether a field may be empty the venue knows. Where a frame makes no event (a delta that is held), nobody could see it taken.
MAY_BE_FINE = "empty and endless numbers"

Plan = Mapping[int, Sequence[bytes]]
"""Place of a frame to the bad frames that come in front of it."""


# ---- bad frames


def check_bad_frames(subject: Subject, fault: str) -> Outcome:
    """Each bad frame is a FrameError or becomes outputs that can be encoded, and the events that follow are as without it."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    if not subject.hears():
        return not_applicable("no connection has an address, so no frames come")
    findings: list[str] = []
    given = 0
    for scenario in subject.scenarios():
        plan = plan_faults(scenario, fault, subject.clean(scenario))
        given += sum(map(len, plan.values()))
        findings += _fault_findings(subject, scenario, plan, fault)
    if findings:
        return failed(findings)
    return passed(f"{given} bad frames") if given else not_covered("there are no frames in the scenarios")


def plan_faults(scenario: Scenario, fault: str, steps: Sequence[Step]) -> Plan:
    """Which bad frames come where. Garbage needs no good frame to be made of.

    Args:
        steps: the scenario as it is.
    """
    random = Random(SEED)
    if not scenario.frames:
        return {0: list(FAULTS[fault](b"", random))}
    places = telling_frames(scenario.frames)
    if fault == MAY_BE_FINE:
        speaking = _speaking(steps)
        places = [place for place in places if place in speaking]
    if fault == HEAVY:
        places = places[:: -(-len(places) // NESTED_PLACES_MAX)]
    return {place: list(FAULTS[fault](scenario.frames[place].data, random)) for place in places}


def _speaking(steps: Iterable[Step]) -> set[int]:
    """The places of frames that events came of."""
    frames = [step for step in steps if step.method == "on_frame"]
    return {place for place, step in enumerate(frames) if any(isinstance(output, Event) for output in step.outputs)}


def _fault_findings(subject: Subject, scenario: Scenario, plan: Plan, fault: str) -> Iterator[str]:
    """A bad frame that is taken (an unread number may be anything) tells nothing about what follows: it is left out, and
    the rest is tried again, until none is taken. Where there is no end of them, the whole place is left out."""
    for number in itertools.count():
        steps = play(open_session(subject.adapter, scenario), scenario, partial(_inject, plan))
        yield from encoding_findings(output for step in steps if step.injected for output in step.outputs)
        if fault in HALF_A_TEXT and scenario.frames and is_json(scenario.frames[0].data):
            yield from _half_read(steps)
        taken = {step.arguments[0] for step in steps if step.injected and not _is_quiet(step)}
        if not taken:
            break
        plan = _without(plan, taken, whole_places=number >= ROUNDS_MAX)
    found = event_difference(list(events_of(subject.clean(scenario))), list(events_of(steps)))
    if found:
        yield f"after bad frames {_culprit(subject, scenario, plan)}{found}"


def _without(plan: Plan, taken: Container[bytes], *, whole_places: bool) -> Plan:
    """The plan without these frames, or without every place that has one of them."""
    if whole_places:
        return {place: frames for place, frames in plan.items() if not any(frame in taken for frame in frames)}
    return {place: [frame for frame in frames if frame not in taken] for place, frames in plan.items()}


def _inject(plan: Plan, place: int, driver: Driver) -> None:
    for frame in plan.get(place, ()):
        driver.frame(frame, injected=True)


def _is_quiet(step: Step) -> bool:
    return all(isinstance(output, Count) for output in step.outputs)


def _half_read(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        if step.injected and any(isinstance(output, Event) for output in step.outputs) and not is_json(step.arguments[0]):
            yield f"an event came of {step.arguments[0]!r:.80}, which is no JSON"


def _culprit(subject: Subject, scenario: Scenario, plan: Plan) -> str:
    """The first bad frame that alone changes what follows, for the finding; empty where it takes several."""
    clean = list(events_of(subject.clean(scenario)))
    alone = ({place: [frame]} for place, frames in plan.items() for frame in frames)
    for one in itertools.islice(alone, CULPRITS_MAX):
        steps = play(open_session(subject.adapter, scenario), scenario, partial(_inject, one))
        if event_difference(clean, list(events_of(steps))):
            ((place, (frame,)),) = one.items()
            return f"({frame!r:.60} before frame {place} is enough) "
    return ""


# ---- order


def check_disorder(subject: Subject, disorder: str) -> Outcome:
    """Frames in another order, or again, or not at all: no exception, nothing twice, no delta without its book."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    if not subject.hears():
        return not_applicable("no connection has an address, so no frames come")
    findings: list[str] = []
    frames = 0
    for scenario, (name, arrange) in itertools.product(subject.scenarios(), DISORDERS[disorder].items()):
        arranged = arrange([frame.data for frame in scenario.frames], Random(SEED))
        frames += len(arranged)
        changed = attrs.evolve(scenario, frames=_timed(arranged, scenario.frames))
        outputs = outputs_of(play(open_session(subject.adapter, changed), changed))
        findings += [f"{name}: {finding}" for finding in _disorder_findings(outputs)]
    if findings:
        return failed(findings)
    return passed(f"{frames} frames: {', '.join(DISORDERS[disorder])}") if frames else not_covered("there are no frames")


def _timed(arranged: Sequence[bytes], frames: Sequence[Frame]) -> list[Frame]:
    """The same spread of receipt times, stretched over more or fewer frames."""
    count = max(1, len(arranged))
    return [Frame(frames[place * len(frames) // count].received_ts_ns, data) for place, data in enumerate(arranged)]


def _disorder_findings(outputs: Sequence[Output]) -> Iterator[str]:
    yield from repeats(outputs)
    yield from book_findings(outputs)
    yield from encoding_findings(outputs)


def check_memory(subject: Subject) -> Outcome:
    """A trade that the venue repeats on the next connection does not come again: its id is in the session's memory."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    if not subject.hears():
        return not_applicable("no connection has an address, so no frames come")
    if Kind.TRADE not in subject.adapter.capabilities.kinds:
        return not_applicable("no trades are declared")
    findings: list[str] = []
    trades = 0
    for scenario in subject.scenarios():
        memory: dict[str, Any] = {}
        outputs = [outputs_of(play(open_session(subject.adapter, scenario, memory), scenario)) for _ in range(2)]
        first, second = ({(event.topic, identity(event)) for event in _named_trades(part)} for part in outputs)
        trades += len(first)
        findings += [f"{name} of {topic} comes again on the next connection" for topic, name in sorted(first & second)]
    if findings:
        return failed(findings)
    return passed(f"{trades} trades") if trades else not_covered("there are no trades with ids in the scenarios")


def _named_trades(outputs: Iterable[Output]) -> Iterator[Event]:
    for output in outputs:
        if isinstance(output, Event) and isinstance(output.payload, Trade) and identity(output):
            yield output


# ---- replies


def check_bad_replies(subject: Subject) -> Outcome:
    """A request that fails, is refused or is answered with nonsense makes no exception, and nothing false."""
    scenarios = subject.scenarios()
    if not scenarios:
        return not_covered(subject.obstacle)
    if not any(_fetches(subject.clean(scenario)) for scenario in scenarios):
        return not_applicable("nothing is fetched in the scenarios")
    findings: list[str] = []
    given = 0
    for scenario in scenarios:
        for answer in bad_answers(scenario, _fetches(subject.clean(scenario))):
            given += 1
            run_s = scenario.run_s + AFTER_BAD_REPLIES_S
            changed = attrs.evolve(scenario, answers=(answer, *scenario.answers), run_s=run_s)
            outputs = outputs_of(play(open_session(subject.adapter, changed), changed))
            findings += [f"after {_described(answer)}: {finding}" for finding in _disorder_findings(outputs)]
    return failed(findings) if findings else passed(f"{given} bad replies")


def bad_answers(scenario: Scenario, fetches: Sequence[Fetch]) -> Iterator[Answer]:
    """Answers of no use to each distinct Fetch, the good ones cut and changed among them."""
    random = Random(SEED)
    for purpose, url in {fetch.purpose: fetch.url for fetch in fetches}.items():
        good = next((one.body for one in scenario.answers if one.match == purpose or one.match in url), b'{"a":[1,2]}')
        yield Answer(purpose, status=0, error="timed out after 10 s")
        yield from (Answer(purpose, b"try later", status, retry_after_s=2.0) for status in (418, 429, 503))
        yield from (Answer(purpose, b"<html>no</html>", status) for status in (200, 301, 400, 404, 500))
        yield from (Answer(purpose, body, 400) for body in (b"", b"[]", b'{"code":"x","msg":1}'))
        for fault in FAULTS:
            yield from (Answer(purpose, body) for body in itertools.islice(FAULTS[fault](good, random), 16))


def _fetches(steps: Iterable[Step]) -> list[Fetch]:
    return [output for output in outputs_of(steps) if isinstance(output, Fetch)]


def _described(answer: Answer) -> str:
    return f"{answer.error or answer.status} {answer.body!r:.40} to {answer.match!r}"
