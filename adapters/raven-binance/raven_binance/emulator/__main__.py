"""`python -m raven_binance.emulator spot|usdm PATH` writes the synthetic recording that the tests use."""

from __future__ import annotations

import sys
from pathlib import Path

from raven_binance.emulator.contracts import synthetic_usdm_records
from raven_binance.emulator.frames import write_frames
from raven_binance.emulator.generator import synthetic_records

if __name__ == "__main__":
    market, path = sys.argv[1:]
    write_frames(Path(path), {"spot": synthetic_records, "usdm": synthetic_usdm_records}[market]())
