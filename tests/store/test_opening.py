"""Which history a server has, and that it has one without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from raven.app import App, _history_health
from raven.config import Config, HealthConfig, MetricsConfig, ServerConfig
from raven.errors import StartupError
from raven.ops.health import Condition
from raven.store.config import HistoryConfig
from raven.store.opening import HISTORY_DIR, open_history
from raven.store.recorder import RecorderStatistics
from raven.store.sqlite import SqliteHistory


async def test_the_embedded_one_without_a_word(tmp_path: Path) -> None:
    async with open_history(HistoryConfig(), tmp_path) as history:
        assert isinstance(history, SqliteHistory)
        assert (tmp_path / HISTORY_DIR).is_dir()


async def test_none_without_a_place_or_when_none_is_wanted(tmp_path: Path) -> None:
    async with open_history(HistoryConfig(), None) as history:
        assert history is None
    async with open_history(HistoryConfig("none"), tmp_path) as history:
        assert history is None
    assert not (tmp_path / HISTORY_DIR).exists()


async def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / HISTORY_DIR).write_text("a file")
    with pytest.raises(StartupError, match=HISTORY_DIR):
        async with open_history(HistoryConfig(), tmp_path):
            pass


async def test_a_server_says_how_its_history_does(tmp_path: Path) -> None:
    server = ServerConfig(port=0)
    app = App(Config(server, health=HealthConfig(port=0), metrics=MetricsConfig(port=0)), (), tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(app.run)
        assert [part.condition for part in app.health().components if part.name == "history"] == [Condition.OK]
        assert app.history is not None
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("statistics", "condition", "said"),
    [
        (RecorderStatistics(), Condition.OK, ""),
        (RecorderStatistics(failing_s=12.0, error="disk full", behind=7), Condition.DEGRADED, "12 s, 7 events wait: disk full"),
        (RecorderStatistics(losing=True), Condition.DEGRADED, "events are lost"),
    ],
)
def test_its_health(statistics: RecorderStatistics, condition: Condition, said: str) -> None:
    component = _history_health(statistics)
    assert component.condition is condition
    assert said in component.text
