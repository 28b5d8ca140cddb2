"""What a report looks like."""

from __future__ import annotations

from raven.testing.report import Report, Result, Verdict, failed, format_report, not_applicable, not_covered, passed

RESULTS = (
    Result("encodable", passed("7 events")),
    Result("golden events", not_covered("no kit")),
    Result("books", not_applicable("no books are declared")),
    Result("times", failed(["late", "late", *map(str, range(6))])),
)


def test_lines() -> None:
    assert format_report(Report("toy", "Toy venue", "raven-toy 0.1.0", RESULTS, 12345.6)) == [
        "toy: Toy venue (raven-toy 0.1.0)",
        "  ✓ encodable      7 events",
        "  ? golden events  not covered: no kit",
        "  - books          not applicable: no books are declared",
        "  ✗ times          7 findings",
        "      late",
        "      0",
        "      1",
        "      2",
        "      3",
        "      and 2 more",
        "",
        "1 passed, 1 failed, 1 not covered, 1 not applicable",
        "events/s 12,346 on this machine",
    ]


def test_a_report_passes_unless_something_failed() -> None:
    assert not Report("toy", "", "", RESULTS).passed
    good = Report("toy", "", "", RESULTS[:3])
    assert good.passed
    assert format_report(good)[-2:] == [
        "1 passed, 0 failed, 1 not covered, 1 not applicable",
        "events/s unknown: there are no events in the scenarios",
    ]


def test_style() -> None:
    lines = format_report(Report("toy", "T", "", RESULTS), lambda text, verdict: f"<{verdict.name}>{text}")
    assert [line.partition(">")[0] for line in lines if line.startswith("<")] == [
        "<PASSED",
        "<NOT_COVERED",
        "<NOT_APPLICABLE",
        "<FAILED",
    ]
    assert Verdict.FAILED.value == "failed"
