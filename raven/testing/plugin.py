"""Each conformance rule as a test of its own, for an adapter's own suite. Opt in with `-p raven.testing.plugin`, or:

    pytest_plugins = ["raven.testing.plugin"]

    SUBJECT = Subject("example", ExampleAdapter(), KIT)

    def test_conformance(adapter_rule):
        adapter_rule(SUBJECT)

A rule that fails shows its findings; one that the kit does not cover is skipped with the reason; one that does not apply to the
adapter passes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raven.testing.conformance import RULES, check_rule
from raven.testing.report import Verdict
from raven.testing.subject import Subject

__all__ = ["adapter_rule"]


@pytest.fixture(params=RULES, ids=lambda rule: rule.name.replace(" ", "-"))
def adapter_rule(request: pytest.FixtureRequest) -> Callable[[Subject], None]:
    """One rule: call it with the Subject."""

    def check(subject: Subject) -> None:
        outcome = check_rule(request.param, subject)
        if outcome.verdict is Verdict.FAILED:
            pytest.fail("\n".join(outcome.findings), pytrace=False)
        if outcome.verdict is Verdict.NOT_COVERED:
            pytest.skip(f"not covered: {outcome.text}")

    return check
