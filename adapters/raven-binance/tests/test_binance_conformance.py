"""Raven's own rules for adapters, each as a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raven.testing import Subject
from raven_binance import BinanceSpotAdapter, BinanceUsdmAdapter
from raven_binance.conformance import SPOT_KIT
from raven_binance.conformance_usdm import USDM_KIT

pytest_plugins = ["raven.testing.plugin"]

SPOT = Subject("binance-spot", BinanceSpotAdapter(), SPOT_KIT)
USDM = Subject("binance-usdm", BinanceUsdmAdapter(), USDM_KIT)


@pytest.mark.parametrize("subject", [SPOT, USDM], ids=lambda subject: subject.name)
def test_conformance(adapter_rule: Callable[[Subject], None], subject: Subject) -> None:
    adapter_rule(subject)
