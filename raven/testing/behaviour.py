"""Rules over what a session makes of its scenarios as they are. Each returns how it came out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import attrs

from raven.adapter import Catalogue, Event, Kind, Output, Resync, Topic
from raven.codec.encoder import TopicEncoder
from raven.errors import AdapterFault, InvalidName, InvalidValue
from raven.model.events import BookDelta, BookSnapshot, Candle, Trade, payload_kinds
from raven.model.instrument import Instrument
from raven.model.topic import check_symbol
from raven.testing.differences import event_difference, output_difference, value_difference
from raven.testing.driver import Step, connection_of, events_of, open_session, outputs_of, play
from raven.testing.kit import KIT_GROUP, Scenario
from raven.testing.report import Outcome, failed, not_applicable, not_covered, passed
from raven.testing.subject import Subject
from raven.testing.tripwires import tripwires

__all__ = [
    "book_findings",
    "check_books",
    "check_encodable",
    "check_golden_events",
    "check_same_outputs",
    "check_times",
    "check_topics",
    "check_trespasses",
    "encoding_findings",
    "identity",
    "of_events",
    "repeats",
]

LEFT_OUT_MAX = 12  # topics of a scenario that are left out in turn
YEAR_2000_NS, YEAR_2100_NS = 946_684_800_000_000_000, 4_102_444_800_000_000_000


# ---- golden events


def check_golden_events(subject: Subject) -> Outcome:
    """The frames of the kit become the events of the kit, all of them, in order, to the last digit."""
    if subject.kit is None:
        return not_covered(f"the package offers no kit under {KIT_GROUP}")
    golden = [scenario for scenario in subject.kit.scenarios if scenario.events]
    if not golden:
        return not_covered("no scenario of the kit has events")
    findings = []
    for scenario in golden:
        found = event_difference(scenario.events, list(events_of(subject.clean(scenario))))
        findings += [f"scenario {scenario.name!r}: {found}"] if found else []
    frames, events = sum(len(one.frames) for one in golden), sum(len(one.events) for one in golden)
    return failed(findings) if findings else passed(f"{events} events of {frames} frames")


# ---- every event


def check_topics(subject: Subject) -> Outcome:
    """Every event is of a topic that the feed has at that moment, and its payload is of the topic's kind."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    findings: list[str] = []
    events = 0
    for scenario in subject.scenarios():
        found = list(events_of(subject.clean(scenario)))
        events += len(found)
        findings += _topic_findings(found, scenario.all_topics)
        for topic in _left_out(scenario):
            findings += _findings_without(subject, scenario, topic)
        findings += _catalogue_findings(subject.clean(scenario), scenario)
    return failed(findings) if findings else of_events(events)


def of_events(events: int) -> Outcome:
    """Passed, if there were any events."""
    return passed(f"{events} events") if events else not_covered("there are no events in the scenarios")


def _topic_findings(events: Iterable[Event], topics: Sequence[Topic]) -> Iterator[str]:
    carried = set(topics)
    for event in events:
        if event.topic not in carried:
            yield f"an event of {event.topic}, which is not in the feed"
        kinds = payload_kinds.get(type(event.payload))
        if kinds is None or event.topic.kind not in kinds:
            yield f"a {type(event.payload).__name__} on {event.topic}"


def _left_out(scenario: Scenario) -> Sequence[Topic]:
    return scenario.topics[:LEFT_OUT_MAX] if len(scenario.topics) > 1 else ()


def _findings_without(subject: Subject, scenario: Scenario, topic: Topic) -> Iterator[str]:
    """What a session that was not given `topic` says of it when its frames come all the same."""
    topics = [each for each in scenario.topics if each != topic]
    less = attrs.evolve(scenario, topics=topics)
    try:
        connection_of(subject.adapter, less)
    except (InvalidValue, AdapterFault):
        return  # it may refuse a feed without it, or need this connection no longer
    for event in events_of(play(open_session(subject.adapter, less), less)):
        if event.topic not in less.all_topics:
            yield f"an event of {event.topic}, in a feed that does not have it"


def _catalogue_findings(steps: Iterable[Step], scenario: Scenario) -> Iterator[str]:
    for output in outputs_of(steps):
        if isinstance(output, Catalogue):
            for instrument in output.instruments:
                yield from _instrument_findings(instrument, scenario.topics[0].venue)
            names = [instrument.symbol for instrument in output.instruments]
            yield from (f"a catalogue has {name} twice" for name in sorted({n for n in names if names.count(n) > 1}))


def _instrument_findings(instrument: Instrument, venue: str) -> Iterator[str]:
    if instrument.venue != venue:
        yield f"instrument {instrument.symbol} has the venue {instrument.venue!r}; it is the feed's name, {venue!r}"
    try:
        check_symbol(instrument.symbol)
    except InvalidName as error:
        yield str(error)


def check_encodable(subject: Subject) -> Outcome:
    """Every event can be written for clients: numbers are finite, texts are texts, columns have one length."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    steps = [step for scenario in subject.scenarios() for step in subject.clean(scenario)]
    findings = list(encoding_findings(outputs_of(steps)))
    return failed(findings) if findings else of_events(sum(1 for _ in events_of(steps)))


def encoding_findings(outputs: Iterable[Output]) -> Iterator[str]:
    """What cannot be encoded among these outputs."""
    for output in outputs:
        for event in _as_events(output):
            try:
                TopicEncoder(event.topic, 1).encode(event, 1)
            except Exception as error:  # whatever a strange payload makes of the encoder
                yield f"{event.topic}: {event.payload!r:.120} cannot be encoded: {type(error).__name__}: {error}"


def _as_events(output: Output) -> Iterable[Event]:
    if isinstance(output, Event):
        return (output,)
    if isinstance(output, Catalogue):
        at_ns = output.received_ts_ns
        return [Event(Topic(one.venue, one.symbol, Kind.INSTRUMENT), one, at_ns) for one in output.instruments]
    return ()


def check_times(subject: Subject) -> Outcome:
    """Times are nanoseconds: those of receipt are of the clock that was given, the venue's are of this century."""
    findings: list[str] = []
    events = 0
    for scenario in subject.scenarios():
        for step in subject.clean(scenario):
            for event in events_of([step]):
                events += 1
                findings += _time_findings(event, scenario.begins_ns, step.now_ns)
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    return failed(findings) if findings else of_events(events)


def _time_findings(event: Event, begins_ns: int, now_ns: int) -> Iterator[str]:
    if not begins_ns <= event.received_ts_ns <= now_ns:
        yield f"{event.topic}: received_ts_ns {event.received_ts_ns} was never on the clock, which shows {now_ns}"
    payload = event.payload
    times = {"venue_ts_ns": event.venue_ts_ns}
    if isinstance(payload, Candle):
        times |= {"open_ts_ns": payload.open_ts_ns, "close_ts_ns": payload.close_ts_ns}
    for name, time_ns in times.items():
        if time_ns is not None and not YEAR_2000_NS <= time_ns < YEAR_2100_NS:
            yield f"{event.topic}: {name} {time_ns} is not of this century: it is in nanoseconds"


# ---- books and identities


def check_books(subject: Subject) -> Outcome:
    """A book begins with a snapshot, and after a Resync none of its deltas comes before the next one."""
    if Kind.BOOK not in subject.adapter.capabilities.kinds:
        return not_applicable("no books are declared")
    findings = [finding for scenario in subject.scenarios() for finding in book_findings(outputs_of(subject.clean(scenario)))]
    books = sum(isinstance(event.payload, BookSnapshot | BookDelta) for _, event in subject.clean_events())
    if findings:
        return failed(findings)
    return passed(f"{books} events of books") if books else not_covered("there are no books in the scenarios")


def book_findings(outputs: Iterable[Output]) -> Iterator[str]:
    """Deltas that nobody could apply."""
    whole: set[Topic] = set()
    for output in outputs:
        if isinstance(output, Resync):
            whole.discard(output.topic)
        elif isinstance(output, Event) and isinstance(output.payload, BookSnapshot):
            whole.add(output.topic)
        elif isinstance(output, Event) and isinstance(output.payload, BookDelta) and output.topic not in whole:
            yield f"a delta of {output.topic} without a snapshot before it"


def identity(event: Event) -> str:
    """What the venue calls this event; empty where it has no name."""
    payload = event.payload
    if isinstance(payload, Trade):
        return f"trade_id {payload.trade_id}" if payload.trade_id else ""
    if isinstance(payload, BookDelta | BookSnapshot):
        return f"{type(payload).__name__} of venue_sequence {payload.venue_sequence}" if payload.venue_sequence else ""
    return ""


def repeats(outputs: Iterable[Output]) -> Iterator[str]:
    """Events that come twice on one topic, unless after a Resync of it."""
    seen: dict[Topic, set[str]] = {}
    for output in outputs:
        if isinstance(output, Resync):
            seen.pop(output.topic, None)
        elif isinstance(output, Event) and (name := identity(output)):
            if name in seen.setdefault(output.topic, set()):
                yield f"{name} comes twice on {output.topic}"
            seen[output.topic].add(name)


# ---- purity


def check_same_outputs(subject: Subject) -> Outcome:
    """Two new sessions make the same outputs of the same scenario."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    findings = []
    calls = 0
    for scenario in subject.scenarios():
        again = play(open_session(subject.adapter, scenario), scenario)
        calls += len(again)
        for one, other in itertools.zip_longest(subject.clean(scenario), again):
            if one != other:
                findings.append(f"scenario {scenario.name!r}: {_step_difference(one, other)}")
                break
    return failed(findings) if findings else passed(f"{calls} calls")


def _step_difference(one: Step | None, other: Step | None) -> str:
    if one is None or other is None or one.method != other.method:
        return f"{one.method if one else 'no call'} and then {other.method if other else 'no call'}"
    differing = output_difference(one.outputs, other.outputs) or value_difference(one, other)
    return f"{one.method}, the first time and then: {differing}"


def check_trespasses(subject: Subject) -> Outcome:
    """A session has no clock, no chance of its own, no socket, no file and no thread."""
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    calls = 0
    for scenario in subject.scenarios():
        with tripwires(subject.package) as trips:
            try:
                calls += len(play(open_session(subject.adapter, scenario), scenario))
            except Exception:
                if not trips.calls:
                    raise
        if trips.calls:
            return failed(trips.calls)
    return passed(f"{calls} calls")
