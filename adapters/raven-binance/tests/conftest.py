"""Where recordings are, and what the tests of this package share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from raven.adapter import FeedSpec, Fetch, Kind, Output, Reply, Topic
from raven_binance import BinanceSpotAdapter, SpotOptions
from raven_binance.session import BinanceSession

VENUE = "binance-spot"
START_NS = 1_723_161_253_000_000_000
SYNTHETIC = Path(__file__).parent / "data" / "synthetic-spot.frames.gz"
RECORDED = Path(__file__).parents[4] / "shared" / "frames" / "binance-spot-btcusdt.frames.gz"


def topics_of(*symbols: str, kinds: Sequence[Kind] = (Kind.TRADE, Kind.QUOTE, Kind.BOOK)) -> tuple[Topic, ...]:
    """The topics of these symbols."""
    return tuple(Topic(VENUE, symbol, kind) for symbol in symbols for kind in kinds)


class Driver:
    """A session and the short way to speak to it."""

    def __init__(self, *topics: Topic, memory: dict[str, object] | None = None, **options: object) -> None:
        self.memory: dict[str, object] = {} if memory is None else memory
        adapter = BinanceSpotAdapter()
        feed = FeedSpec(VENUE, topics, SpotOptions(**options))  # type: ignore[arg-type]
        session = adapter.session(feed, adapter.connections(feed)[0], self.memory)
        assert isinstance(session, BinanceSession)
        self.session = session
        self.now_ns = START_NS

    def connect(self) -> list[Output]:
        return list(self.session.on_connect(self.now_ns))

    def frame(self, text: str | bytes) -> list[Output]:
        frame = text.encode() if isinstance(text, str) else text
        return list(self.session.on_frame(frame, self.now_ns))

    def reply(self, request: Fetch, status: int = 200, body: str = "", **more: object) -> list[Output]:
        reply = Reply(status, body.encode(), self.now_ns, **more)  # type: ignore[arg-type]
        return list(self.session.on_reply(request, reply))

    def after(self, seconds: float) -> list[Output]:
        self.now_ns += round(seconds * 1e9)
        return list(self.session.on_wakeup(self.now_ns))

    def stand(self) -> Fetch | None:
        """Connected and confirmed; the depth request, if there is one."""
        self.connect()
        outputs = self.frame('{"result":null,"id":1}')
        return next((output for output in outputs if isinstance(output, Fetch)), None)


@pytest.fixture
def driver() -> type[Driver]:
    return Driver


@pytest.fixture
def topics() -> object:
    return topics_of


@pytest.fixture
def synthetic() -> Path:
    return SYNTHETIC


@pytest.fixture
def recorded() -> Path:
    if not RECORDED.is_file():
        pytest.skip(f"the recorded frames are not beside the checkout: {RECORDED.name} in ../shared/frames")
    return RECORDED
