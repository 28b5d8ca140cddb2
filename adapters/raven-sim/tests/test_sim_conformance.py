"""Raven's own rules for adapters, each as a test."""

from __future__ import annotations

from collections.abc import Callable

from raven.testing import Subject
from raven_sim import SimAdapter
from raven_sim.conformance import kit

pytest_plugins = ["raven.testing.plugin"]

SUBJECT = Subject("sim", SimAdapter(), kit())


def test_conformance(adapter_rule: Callable[[Subject], None]) -> None:
    adapter_rule(SUBJECT)
