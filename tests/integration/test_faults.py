"""The venue misbehaves in every way that it can be made to, and no client is told anything wrong."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from raven_binance.emulator.faults import Delay, Drop, Duplicate, Fault, Fin, Fragment, Reset, Slice
from raven_binance.emulator.frames import write_frames
from raven_binance.emulator.generator import SYNTHETIC_START_NS, generate
from raven_binance.emulator.rules import SYMBOLS
from raven.model.topic import Kind
from tests.integration.feeding import BESIDE, STRUCK, feeding

FRAMES = 900
TRADES, QUOTES, DEPTHS = "btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("frames") / "three-symbols.frames.gz"
    write_frames(file, islice(generate(7, SYNTHETIC_START_NS, SYMBOLS), FRAMES))
    return file


async def test_a_venue_that_behaves_leaves_nothing_to_tell(frames: Path) -> None:
    async with feeding(frames) as running:
        await running.until_played()
        await running.check()
        running.check_untouched(STRUCK)


async def test_drop(frames: Path) -> None:
    async with feeding(frames, Fault(Drop(), DEPTHS, after=10), Fault(Drop(), TRADES, after=20, times=3)) as running:
        await running.until_played()
        await running.check()
        print(running.record.told())
        print(running.feed)
