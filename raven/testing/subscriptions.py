"""Rules over subscriptions: when their events may come, and that asking again changes nothing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from functools import partial
from typing import cast

from raven.adapter import Count, Established, Event, Kind, Topic, Wakeup
from raven.testing.behaviour import book_findings, of_events
from raven.testing.differences import event_difference
from raven.testing.driver import Driver, Step, events_of, open_session, outputs_of, play
from raven.testing.kit import Scenario
from raven.testing.report import Outcome, failed, not_applicable, not_covered, passed
from raven.testing.subject import Subject

__all__ = ["check_before_subscription", "check_renewing", "check_resubscribing", "check_unsubscribing"]

TOPICS_LEFT_MAX = 12  # of a scenario, each in turn
QUIET = (Count, Wakeup)  # what a session may return for a call that changes nothing


def check_before_subscription(subject: Subject) -> Outcome:
    """No event comes before its subscription stands: confirmed, or with the first frame where nothing is confirmed."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    findings = [finding for scenario in subject.scenarios() for finding in _early_findings(scenario, subject.clean(scenario))]
    return failed(findings) if findings else of_events(sum(1 for _ in subject.clean_events()))


def _early_findings(scenario: Scenario, steps: Sequence[Step]) -> Iterator[str]:
    confirmed_ever = {topic for output in outputs_of(steps) if isinstance(output, Established) for topic in output.topics}
    confirmed: set[Topic] = set()
    asked, heard = set(scenario.topics), not scenario.frames
    for step in steps:
        heard = heard or step.method in ("on_frame", "on_reply")
        if step.method == "on_subscribe":
            asked.update(step.arguments[0])
        for output in step.outputs:
            if isinstance(output, Established):
                confirmed.update(output.topics)
            elif isinstance(output, Event) and output.topic not in asked:
                yield f"an event of {output.topic} before it was asked for"
            elif isinstance(output, Event) and output.topic in confirmed_ever - confirmed:
                yield f"an event of {output.topic} before its Established"
            elif isinstance(output, Event) and not heard:
                yield f"an event of {output.topic} before the first frame"


def check_resubscribing(subject: Subject) -> Outcome:
    """Asking for a topic that is carried changes nothing: nothing is sent or fetched, and the same events follow."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    findings: list[str] = []
    for scenario in subject.scenarios():
        places = {0, len(scenario.frames) // 2, len(scenario.frames)}
        steps = play(open_session(subject.adapter, scenario), scenario, partial(_subscribe_again, places))
        findings += _noise(steps)
        found = event_difference(list(events_of(subject.clean(scenario))), list(events_of(steps)))
        findings += [f"other events follow: {found}"] if found else []
    return failed(findings) if findings else passed("asked again at the beginning, in the middle and at the end")


def _subscribe_again(places: Container[int], place: int, driver: Driver) -> None:
    if place in places and driver.carried:
        driver.subscribe(tuple(driver.carried), injected=True)


def check_unsubscribing(subject: Subject) -> Outcome:
    """After `on_unsubscribe` no event of the topic comes; once more changes nothing."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    findings: list[str] = []
    for scenario in subject.scenarios():
        for topic in scenario.topics[:TOPICS_LEFT_MAX]:
            findings += _after_unsubscribe(subject, scenario, topic)
    return failed(findings) if findings else passed("each topic in turn")


def _after_unsubscribe(subject: Subject, scenario: Scenario, topic: Topic) -> Iterator[str]:
    middle = len(scenario.frames) // 2

    def leave(place: int, driver: Driver) -> None:
        if place == middle and topic in driver.carried:
            driver.unsubscribe((topic,))
            driver.unsubscribe((topic,), injected=True)

    steps = play(open_session(subject.adapter, scenario), scenario, leave)
    yield from _noise(steps)
    left = next((place for place, step in enumerate(steps) if step.method == "on_unsubscribe"), len(steps))
    back = next((place for place in range(left, len(steps)) if topic in _asked(steps[place])), len(steps))
    if any(event.topic == topic for event in events_of(steps[left:back])):
        yield f"an event of {topic} after its on_unsubscribe"


def check_renewing(subject: Subject) -> Outcome:
    """A book that is left and asked for again at once begins with a new snapshot: it is how the core renews one in doubt."""
    if Kind.BOOK not in subject.adapter.capabilities.kinds:
        return not_applicable("no books are declared")
    findings: list[str] = []
    books = 0
    for scenario in subject.scenarios():
        for topic in (topic for topic in scenario.topics if topic.kind is Kind.BOOK):
            books += 1
            findings += _after_renewal(subject, scenario, topic)
    if findings:
        return failed(findings)
    return passed(f"{books} books") if books else not_covered("there are no books in the scenarios")


def _after_renewal(subject: Subject, scenario: Scenario, topic: Topic) -> Iterator[str]:
    middle = len(scenario.frames) // 2

    def renew(place: int, driver: Driver) -> None:
        if place == middle and topic in driver.carried:
            driver.unsubscribe((topic,))
            driver.subscribe((topic,))

    steps = play(open_session(subject.adapter, scenario), scenario, renew)
    left = next((place for place, step in enumerate(steps) if step.method == "on_unsubscribe"), len(steps))
    asked = next((step for step in steps[left:] if topic in _asked(step)), None)
    if asked is not None and not asked.outputs:
        yield f"on_subscribe of {topic}, which it had just left, returns nothing: how is the book to come back?"
    since = [output for output in outputs_of(steps[left:]) if getattr(output, "topic", None) == topic]
    yield from (f"{finding}, after it was left and asked for again" for finding in book_findings(since))


def _asked(step: Step) -> tuple[Topic, ...]:
    return cast(tuple[Topic, ...], step.arguments[0]) if step.method == "on_subscribe" else ()


def _noise(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        if step.injected:
            for output in step.outputs:
                if not isinstance(output, QUIET):
                    yield f"{step.method} of what it {_STANDS[step.method]} returns {output!r:.100}"


_STANDS = {"on_subscribe": "carries already", "on_unsubscribe": "does not carry"}
