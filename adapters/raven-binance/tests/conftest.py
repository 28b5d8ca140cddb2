"""Where recordings are, and what the tests of this package share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from raven.adapter import Adapter, FeedSpec, Fetch, Kind, Output, Reply, Send, Topic, Wakeup
from raven_binance import BinanceSpotAdapter, BinanceUsdmAdapter
from raven_binance.session import BinanceSession

VENUE = "binance-spot"
START_NS = 1_723_161_253_000_000_000
DATA = Path(__file__).parent / "data"
RECORDED = Path(__file__).parents[4] / "shared" / "frames"


def topics_of(*symbols: str, kinds: Sequence[Kind] = (Kind.TRADE, Kind.QUOTE, Kind.BOOK)) -> tuple[Topic, ...]:
    """The topics of these symbols."""
    return tuple(Topic(VENUE, symbol, kind) for symbol in symbols for kind in kinds)


class Driver:
    """A session and the short way to speak to it. Of several connections of a feed it is the last one's."""

    venue: ClassVar[str] = VENUE
    adapter: ClassVar[type[Adapter]] = BinanceSpotAdapter

    def __init__(self, *topics: Topic, memory: dict[str, object] | None = None, **options: object) -> None:
        self.memory: dict[str, object] = {} if memory is None else memory
        adapter = self.adapter()
        feed = FeedSpec(self.venue, topics, adapter.options_type(**options))
        session = adapter.session(feed, adapter.connections(feed)[-1], self.memory)
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

    def quiet(self, seconds: int) -> list[Output]:
        """Nothing comes but answers to the probes; all outputs, without the probes and without wakeups."""
        outputs: list[Output] = []
        for output in (output for _ in range(seconds) for output in self.after(1)):
            if isinstance(output, Send) and "LIST_SUBSCRIPTIONS" in output.data:
                self.frame(json.dumps({"result": [], "id": json.loads(output.data)["id"]}))
            elif not isinstance(output, Wakeup):
                outputs.append(output)
        return outputs

    def stand(self) -> Fetch | None:
        """Connected and confirmed; the depth request, if there is one."""
        self.connect()
        outputs = self.frame('{"result":null,"id":1}')
        return next((output for output in outputs if isinstance(output, Fetch)), None)


class UsdmDriver(Driver):
    """The same of USD-M."""

    venue = "binance-usdm"
    adapter = BinanceUsdmAdapter


@pytest.fixture
def driver() -> type[Driver]:
    return Driver


@pytest.fixture
def usdm() -> type[UsdmDriver]:
    return UsdmDriver


@pytest.fixture
def topics() -> object:
    return topics_of


@pytest.fixture
def synthetic() -> Path:
    return DATA / "synthetic-spot.frames.gz"


@pytest.fixture
def synthetic_usdm() -> Path:
    return DATA / "synthetic-usdm.frames.gz"


def _recorded(name: str) -> Path:
    path = RECORDED / name
    if not path.is_file():
        pytest.skip(f"the recorded frames are not beside the checkout: {name} in ../shared/frames")
    return path


@pytest.fixture
def recorded() -> Path:
    return _recorded("binance-spot-btcusdt.frames.gz")


@pytest.fixture
def recorded_usdm() -> Path:
    return _recorded("binance-usdm-btcusdt.frames.gz")
