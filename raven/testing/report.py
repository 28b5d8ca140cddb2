"""What a check of an adapter found, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import attrs

__all__ = [
    "Outcome",
    "Report",
    "Result",
    "Verdict",
    "failed",
    "format_report",
    "not_applicable",
    "not_covered",
    "once_each",
    "passed",
]

FINDINGS_SHOWN_MAX = 5  # of one rule


class Verdict(Enum):
    """How a rule came out. NOT_COVERED: the kit has nothing to hold it against. NOT_APPLICABLE: it is about something else."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_COVERED = "not covered"
    NOT_APPLICABLE = "not applicable"


@attrs.frozen
class Outcome:
    """How one rule came out.

    Args:
        text: what was looked at, or why nothing was; a line.
        findings: what is wrong, each a line; empty unless it failed.
    """

    verdict: Verdict
    text: str
    findings: tuple[str, ...] = ()


def passed(text: str) -> Outcome:
    """It holds."""
    return Outcome(Verdict.PASSED, text)


def failed(findings: Iterable[str]) -> Outcome:
    """It does not; the same finding is said once."""
    distinct = tuple(dict.fromkeys(findings))
    return Outcome(Verdict.FAILED, f"{len(distinct)} finding{'s' if len(distinct) > 1 else ''}", distinct)


def not_covered(reason: str) -> Outcome:
    """Nobody knows: something is missing in the kit."""
    return Outcome(Verdict.NOT_COVERED, reason)


def not_applicable(reason: str) -> Outcome:
    """The adapter has nothing that the rule is about."""
    return Outcome(Verdict.NOT_APPLICABLE, reason)


@attrs.frozen
class Result:
    """One rule and how it came out."""

    rule: str
    outcome: Outcome


_RAISED = re.compile(r" raised (\w+: .*)", re.DOTALL)


def once_each(results: Iterable[Result]) -> tuple[Result, ...]:
    """The results, with a rule that failed by nothing but what stands under another one as not covered: nobody could look.

    Exceptions are the same if they are of one text and line, whatever was being called.
    """
    told: dict[str, str] = {}
    return tuple(_told_once(result, told) for result in results)


def _told_once(result: Result, told: dict[str, str]) -> Result:
    outcome = result.outcome
    keys = [_key(finding) for finding in outcome.findings]
    again = [told[key] for key in keys if key in told]
    if outcome.verdict is Verdict.FAILED and len(again) == len(keys):
        return Result(result.rule, not_covered(f"it fails as under {again[0]!r}"))
    told |= {key: result.rule for key in keys if key not in told}
    return result


def _key(finding: str) -> str:
    raised = _RAISED.search(finding)
    return raised[1] if raised else finding


@attrs.frozen
class Report:
    """All rules over one adapter.

    Args:
        adapter: its name.
        title: for people.
        package: distribution and version; empty for one that is not installed.
        events_per_s: how fast its session makes events of the scenarios, on this machine; None without events.
    """

    adapter: str
    title: str
    package: str
    results: tuple[Result, ...]
    events_per_s: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.count(Verdict.FAILED)

    def count(self, verdict: Verdict) -> int:
        """How many rules came out so."""
        return sum(result.outcome.verdict is verdict for result in self.results)


Style = Callable[[str, Verdict], str]

_MARKS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.NOT_COVERED: "?", Verdict.NOT_APPLICABLE: "-"}


def _plain(text: str, _: Verdict) -> str:
    return text


def format_report(report: Report, style: Style = _plain) -> list[str]:
    """The report's lines: one for each rule, its findings under it, sums, and events/s.

    Args:
        style: colours a text by its verdict.
    """
    width = max((len(result.rule) for result in report.results), default=0)
    head = f"{report.adapter}: {report.title}" + (f" ({report.package})" if report.package else "")
    rules = [line for result in report.results for line in _result_lines(result, width, style)]
    return [head, *rules, "", _sums(report), f"events/s {_rate(report.events_per_s)}"]


def _result_lines(result: Result, width: int, style: Style) -> Sequence[str]:
    outcome = result.outcome
    explained = outcome.verdict in (Verdict.NOT_COVERED, Verdict.NOT_APPLICABLE)
    text = f"{outcome.verdict.value}: {outcome.text}" if explained else outcome.text
    lines = [style(f"  {_MARKS[outcome.verdict]} {result.rule:<{width}}  {text}", outcome.verdict)]
    lines += [f"      {finding}" for finding in outcome.findings[:FINDINGS_SHOWN_MAX]]
    left_out = len(outcome.findings) - FINDINGS_SHOWN_MAX
    return [*lines, f"      and {left_out} more"] if left_out > 0 else lines


def _sums(report: Report) -> str:
    counted = ((report.count(verdict), verdict.value) for verdict in Verdict)
    return ", ".join(f"{count} {name}" for count, name in counted if count or name in ("passed", "failed"))


def _rate(events_per_s: float | None) -> str:
    return "unknown: there are no events in the scenarios" if events_per_s is None else f"{events_per_s:,.0f} on this machine"
