"""Raven's own rules for adapters, each as a test."""

from __future__ import annotations

from collections.abc import Callable

from raven.testing import Subject
from raven_binance import BinanceSpotAdapter
from raven_binance.conformance import SPOT_KIT

pytest_plugins = ["raven.testing.plugin"]

SUBJECT = Subject("binance-spot", BinanceSpotAdapter(), SPOT_KIT)


def test_conformance(adapter_rule: Callable[[Subject], None]) -> None:
    adapter_rule(SUBJECT)
