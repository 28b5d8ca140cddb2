"""Raven's own rules for adapters, each as a test. `raven adapter check example` runs the same once the package is installed."""

from __future__ import annotations

from collections.abc import Callable

from raven.testing import Subject
from raven_example import ExampleAdapter
from raven_example.conformance import KIT

pytest_plugins = ["raven.testing.plugin"]

SUBJECT = Subject("example", ExampleAdapter(), KIT)


def test_conformance(adapter_rule: Callable[[Subject], None]) -> None:
    adapter_rule(SUBJECT)
