"""The rules as tests of an adapter's own suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from raven.testing import RULES

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
SUITE = """
from raven.testing import ConformanceKit, Subject
from tests.testing.toy import KIT, ToyAdapter
{plugins}
class Broken(ToyAdapter):
    api = 2

SUBJECT = Subject("toy", {adapter}(), {kit})

def test_conformance(adapter_rule):
    adapter_rule(SUBJECT)
"""
IN_THE_MODULE = 'pytest_plugins = ["raven.testing.plugin"]'


@pytest.fixture(autouse=True)
def toy_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


def suite(pytester: pytest.Pytester, *arguments: str, **parts: str) -> pytest.RunResult:
    filled = {"plugins": IN_THE_MODULE, "adapter": "ToyAdapter", "kit": "KIT"} | parts
    pytester.makepyfile(SUITE.format(**filled))
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error", *arguments)


def test_each_rule_is_a_test(pytester: pytest.Pytester) -> None:
    result = suite(pytester, "-v")
    result.assert_outcomes(passed=len(RULES))
    result.stdout.fnmatch_lines(["*::test_conformance?golden-events? PASSED*"])


def test_by_option_and_findings_and_what_is_not_covered(pytester: pytest.Pytester) -> None:
    kit = "ConformanceKit([s.__class__(s.topics, s.frames, options=s.options) for s in KIT.scenarios])"
    result = suite(pytester, "-p", "raven.testing.plugin", "-rs", plugins="", adapter="Broken", kit=kit)
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert outcomes["skipped"] >= 1
    result.stdout.fnmatch_lines(["*api is 2, this Raven has 1*", "*not covered: no scenario of the kit has events*"])
