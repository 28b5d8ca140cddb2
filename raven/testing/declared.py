"""Rules over the adapter object: what it declares, and how it divides a feed. Each returns how it came out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

import attrs

from raven.adapter import ADAPTER_API, Adapter, Catalogue, Connection, Event, FeedSpec, Kind, Topic
from raven.errors import InvalidName, RavenError, shown
from raven.model.topic import check_symbol, check_variant
from raven.structure import structure
from raven.testing.driver import Step
from raven.testing.kit import KIT_GROUP, Scenario
from raven.testing.report import Outcome, failed, not_covered, passed
from raven.testing.subject import Subject
from raven.testing.tripwires import tripwires

__all__ = ["check_api", "check_capabilities", "check_connections", "check_options", "check_shown_kinds"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def check_api(subject: Subject) -> Outcome:
    """The API level is the one that this Raven has, and it is written in the class, so that a later Raven can tell."""
    adapter = subject.adapter
    findings = []
    if adapter.api != ADAPTER_API:
        findings.append(f"api is {shown(adapter.api)}, this Raven has {ADAPTER_API}")
    if not any("api" in vars(cls) for cls in type(adapter).__mro__ if cls is not Adapter):
        findings.append(f"api is not written in the class: add `api: ClassVar[int] = {ADAPTER_API}`")
    return failed(findings) if findings else passed(f"API {ADAPTER_API}")


def check_options(subject: Subject) -> Outcome:
    """`options_type` is a frozen attrs class that can be made from a table; what a kit gives for it fits."""
    kind = subject.adapter.options_type
    if not (isinstance(kind, type) and attrs.has(kind)):
        return failed([f"options_type is {shown(kind)}, not an attrs class: use @attrs.frozen"])
    findings = [] if _is_frozen(kind) else [f"{kind.__name__} can be changed: use @attrs.frozen"]
    for scenario in subject.kit.scenarios if subject.kit else ():
        try:
            structure(kind, scenario.options, "options")
        except RavenError as error:
            findings.append(f"scenario {scenario.name!r}: {error}")
    return failed(findings) if findings else passed(", ".join(field.name for field in attrs.fields(kind)) or "none")


def _is_frozen(kind: type) -> bool:
    try:
        setattr(object.__new__(kind), "x", 0)  # noqa: B010  # whatever its fields are: a frozen class refuses any
    except attrs.exceptions.FrozenInstanceError:
        return True
    except AttributeError:
        return False
    return False


def check_capabilities(subject: Subject) -> Outcome:
    """The kinds are some, and none that the core makes; intervals come with candles and only with them."""
    capabilities = subject.adapter.capabilities
    findings = list(_capability_findings(capabilities.kinds, capabilities.intervals))
    shown_kinds = ", ".join(kind.label for kind in sorted(capabilities.kinds))
    return failed(findings) if findings else passed(shown_kinds)


def _capability_findings(kinds: frozenset[Kind], intervals: Sequence[str]) -> Iterator[str]:
    if not kinds:
        yield "no kinds are declared"
    if Kind.BOOK_TOP in kinds:
        yield "BOOK_TOP is declared: the core derives it from books, leave it out"
    if (Kind.CANDLE in kinds) != bool(intervals):
        yield f"intervals {shown(intervals)} do not go with the kinds: they belong to CANDLE, and CANDLE needs them"
    if len(set(intervals)) != len(intervals):
        yield f"intervals {shown(intervals)} has one twice"
    for interval in intervals:
        try:
            check_variant(interval, "intervals")
        except InvalidName as error:
            yield str(error)


# ---- connections


def check_connections(subject: Subject) -> Outcome:
    """`connections` is pure, names its connections the same each time, and gives each topic to exactly one of them."""
    scenarios = subject.scenarios()
    if not scenarios:
        return not_covered(subject.obstacle)
    findings = []
    for scenario in scenarios:
        feed = scenario.feed(subject.adapter)
        with tripwires(subject.package) as trips:
            first, again = list(subject.adapter.connections(feed)), list(subject.adapter.connections(feed))
        findings += [f"it is not pure: {call}" for call in trips.calls]
        if first != again:
            findings.append("two calls for the same feed give different connections")
        findings += _division_findings(feed, first)
        findings += [finding for connection in first for finding in _connection_findings(connection)]
    names = dict.fromkeys(one.name for scenario in scenarios for one in _connections(subject, scenario))
    return failed(findings) if findings else passed(", ".join(names))


def _connections(subject: Subject, scenario: Scenario) -> Sequence[Connection]:
    return subject.adapter.connections(scenario.feed(subject.adapter))


def _division_findings(feed: FeedSpec, connections: Sequence[Connection]) -> Iterator[str]:
    names = [connection.name for connection in connections]
    if not names:
        yield "the feed has no connection"
    if len(set(names)) != len(names):
        yield f"two connections of the feed have one name: {', '.join(names)}"
    given = [topic for connection in connections for topic in connection.topics]
    for topic in feed.topics:
        if given.count(topic) != 1:
            yield f"{topic} is given to {given.count(topic)} connections"
    yield from (f"{topic} is given to a connection and is not in the feed" for topic in set(given) - set(feed.topics))


def _connection_findings(connection: Connection) -> Iterator[str]:
    if not NAME.fullmatch(connection.name):
        yield f"connection name {shown(connection.name)}: it is a metric label, use a few letters, digits and '._-'"
    if connection.url is not None:
        parts = urlsplit(connection.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            yield f"connection {connection.name!r}: url {shown(connection.url)} is no ws:// or wss:// address"
    for name in ("idle_timeout_s", "sends_per_s_max", "frame_bytes_max"):
        if not getattr(connection, name) > 0:
            yield f"connection {connection.name!r}: {name} is {getattr(connection, name)!r}, not above 0"


# ---- what is declared, held against what is seen


def check_shown_kinds(subject: Subject) -> Outcome:
    """Every kind and interval that is declared is seen in the scenarios, and nothing else is."""
    capabilities = subject.adapter.capabilities
    if not subject.scenarios():
        return not_covered(subject.obstacle)
    seen = set(_seen(subject))
    findings = [
        *(f"{kind.label} is sent and not declared" for kind in sorted({kind for kind, _ in seen} - capabilities.kinds)),
        *(
            f"candles of interval {variant!r} are sent and not declared"
            for kind, variant in sorted(seen)
            if kind is Kind.CANDLE and variant not in capabilities.intervals
        ),
    ]
    if findings:
        return failed(findings)
    missing = [kind.label for kind in sorted(capabilities.kinds - {kind for kind, _ in seen})]
    missing += [f"candle {interval}" for interval in capabilities.intervals if (Kind.CANDLE, interval) not in seen]
    if missing:
        return not_covered(f"declared, and not seen in {_where(subject)}: {', '.join(missing)}")
    return passed(f"all {len(capabilities.kinds)} kinds are seen")


def _where(subject: Subject) -> str:
    return "the kit" if subject.kit else f"a made-up feed (no kit is offered under {KIT_GROUP})"


def _seen(subject: Subject) -> Iterator[tuple[Kind, str]]:
    for scenario in subject.scenarios():
        for topic in _topics_seen(subject.clean(scenario)):
            yield topic.kind, topic.variant


def _topics_seen(steps: Iterable[Step]) -> Iterator[Topic]:
    for step in steps:
        for output in step.outputs:
            if isinstance(output, Event):
                yield output.topic
            elif isinstance(output, Catalogue):
                for instrument in output.instruments:
                    yield Topic(instrument.venue, check_symbol(instrument.symbol), Kind.INSTRUMENT)
