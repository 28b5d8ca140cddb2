"""What test_spine.py says of spot holds for USD-M: routed paths, books by `pu`, times of quotes, trades by their origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_spine import ROOT, Venue, check_recording

REAL = ROOT.parent / "shared" / "frames" / "binance-usdm-btcusdt.frames.gz"
SYNTHETIC = ROOT / "adapters" / "raven-binance" / "tests" / "data" / "synthetic-usdm.frames.gz"


@pytest.mark.parametrize(("file", "speed"), [(REAL, "0ms"), (SYNTHETIC, "100ms")], ids=["real", "synthetic"])
async def test_every_frame_arrives_once_in_order_with_its_numbers(file: Path, speed: str, tmp_path: Path) -> None:
    if not file.exists():
        pytest.skip(f"{file.name} is not here: the recorded frames lie beside the checkout, in ../shared/frames")
    await check_recording(Venue("binance-usdm", "-PERP", f'depth_speed = "{speed}"\n'), file, tmp_path)
