"""The rules that every adapter keeps, and the check of one adapter by all of them. No pytest, no network, no clock.

Each rule is a function of a Subject. A rule that the kit has nothing for is "not covered", never passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import EntryPoint
from typing import Any

import attrs

from raven.adapter import GROUP, AdapterEntry, find_adapters
from raven.adapter.registry import import_adapter
from raven.errors import AdapterFault, AdapterNotFound, FrameError, nearest
from raven.testing import behaviour, declared, resilience, statuses, subscriptions
from raven.testing.driver import Step, events_of, open_session, raised
from raven.testing.kit import find_kit
from raven.testing.mutations import DISORDERS, FAULTS
from raven.testing.report import Outcome, Report, Result, failed, once_each
from raven.testing.subject import Subject

__all__ = ["RULES", "Rule", "adapters_of", "check_adapter_package", "check_rule", "check_subject", "measure_events_per_s"]

MEASURE_S = 0.25
MEASURE_ROUNDS_MAX = 2_000


@attrs.frozen
class Rule:
    """One rule.

    Args:
        name: as reports have it.
        check: holds an adapter against it.
    """

    name: str
    check: Callable[[Subject], Outcome]


RULES: tuple[Rule, ...] = (
    Rule("API level", declared.check_api),
    Rule("options", declared.check_options),
    Rule("capabilities", declared.check_capabilities),
    Rule("connections", declared.check_connections),
    Rule("golden events", behaviour.check_golden_events),
    Rule("declared kinds are seen", declared.check_shown_kinds),
    Rule("topics and payloads", behaviour.check_topics),
    Rule("encodable", behaviour.check_encodable),
    Rule("times", behaviour.check_times),
    Rule("books", behaviour.check_books),
    Rule("nothing before its subscription", subscriptions.check_before_subscription),
    Rule("statuses", statuses.check_statuses),
    Rule("resubscribing", subscriptions.check_resubscribing),
    Rule("unsubscribing", subscriptions.check_unsubscribing),
    Rule("a book begins anew", subscriptions.check_renewing),
    Rule("same frames, same outputs", behaviour.check_same_outputs),
    Rule("no clock, socket or file", behaviour.check_trespasses),
    *(Rule(f"bad frames: {fault}", partial(resilience.check_bad_frames, fault=fault)) for fault in FAULTS),
    *(Rule(f"frames {disorder}", partial(resilience.check_disorder, disorder=disorder)) for disorder in DISORDERS),
    Rule("a delta is lost", statuses.check_lost_deltas),
    Rule("next connection", resilience.check_memory),
    Rule("bad replies", resilience.check_bad_replies),
)


def check_rule(rule: Rule, subject: Subject) -> Outcome:
    """How `rule` comes out. What the adapter raises is a finding."""
    try:
        return rule.check(subject)
    except AdapterFault as fault:
        return failed([str(fault)])
    except Exception as error:  # an adapter's bug may be anything
        return failed([raised(error)])


def check_subject(subject: Subject, package: str = "") -> Report:
    """All rules over one adapter.

    Args:
        package: distribution and version, for the report.
    """
    results = once_each([Result(rule.name, check_rule(rule, subject)) for rule in RULES])
    return Report(subject.name, subject.adapter.title, package, results, measure_events_per_s(subject))


def check_adapter_package(name: str, points: Sequence[EntryPoint] | None = None) -> Report:
    """All rules over the installed adapter `name`.

    Args:
        points: entry points that stand in for what is installed.

    Raises:
        AdapterNotFound: nothing installed offers it.
        AdapterRefused: it, or its kit, cannot be used; says why.
    """
    entry = _entry(name, points)
    subject = Subject(name, import_adapter(entry), find_kit(name, points))
    return check_subject(subject, f"{entry.distribution} {entry.version}")


def adapters_of(name: str, points: Sequence[EntryPoint] | None = None) -> tuple[str, ...]:
    """The adapters that `name` stands for: itself, or those of the package of that name ("raven-sim", "raven_sim").

    Raises:
        AdapterNotFound: it is neither.
    """
    found = find_adapters(_of_group(points))
    if name in found:
        return (name,)
    offered = tuple(each for each, entry in found.items() if _same_package(entry.distribution, name))
    if not offered:
        packages = {entry.distribution for entry in found.values()}
        raise AdapterNotFound(f"no installed package offers the adapter {name!r}: {nearest(name, {*found, *packages})}")
    return offered


def measure_events_per_s(subject: Subject, seconds: float = MEASURE_S) -> float | None:
    """How many events a second the sessions make of their scenarios, from `on_connect` on; None where they make none.

    Args:
        seconds: how long to measure.
    """
    try:
        played = [(scenario, subject.clean(scenario)) for scenario in subject.scenarios()]
    except Exception:  # the rules have said what it is
        return None
    events = sum(1 for _, steps in played for _ in events_of(steps[1:]))
    if not events:
        return None
    spent, rounds = 0.0, 0
    while spent < seconds and rounds < MEASURE_ROUNDS_MAX:
        spent += sum(_time_calls(open_session(subject.adapter, scenario).session, steps) for scenario, steps in played)
        rounds += 1
    return events * rounds / spent


def _time_calls(session: Any, steps: Sequence[Step]) -> float:
    """Seconds for the calls of a drive, made again; without the first one, which connects."""
    connect, *calls = [(getattr(session, step.method), step.arguments) for step in steps]
    connect[0](*connect[1])
    begin = time.perf_counter()
    for call, arguments in calls:
        try:
            call(*arguments)
        except FrameError:
            continue
    return time.perf_counter() - begin


def _entry(name: str, points: Sequence[EntryPoint] | None) -> AdapterEntry:
    found = find_adapters(_of_group(points))
    if name not in found:
        raise AdapterNotFound(f"no installed package offers the adapter {name!r}: {nearest(name, found)}")
    return found[name]


def _of_group(points: Sequence[EntryPoint] | None) -> list[EntryPoint] | None:
    return None if points is None else [point for point in points if point.group == GROUP]


def _same_package(distribution: str, name: str) -> bool:
    return distribution.replace("_", "-").lower() == name.replace("_", "-").lower()
