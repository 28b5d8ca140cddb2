"""`raven emulate`: the shell over an adapter's emulator."""

from __future__ import annotations

import os
import signal
import sys
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from raven.adapter import Adapter, Capabilities, Connection, Emulator, EmulatorOptions, FeedSpec, Kind, Session, registry
from raven.cli import main
from raven.config import Config
from raven.errors import StartupError
from raven.structure import structure

seen: list[EmulatorOptions] = []


@attrs.frozen
class Options:
    ws_url: str = "wss://venue"


class Venue(Adapter):
    capabilities = Capabilities(frozenset({Kind.TRADE, Kind.BOOK, Kind.CANDLE}), ("1m", "5m"))
    options_type = Options

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return ()

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        return Session()

    def emulator(self) -> Emulator | None:
        return Fake()


class Mute(Venue):
    def emulator(self) -> Emulator | None:
        return None


class Fake:
    """Listens nowhere, and gets the signal that the test is about as soon as it is up."""

    async def run(
        self, options: EmulatorOptions, *, task_status: trio.TaskStatus[Mapping[str, str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        seen.append(options)
        if options.seed == 13:
            raise StartupError("port 13 (emulator) is taken")
        task_status.started({"ws_url": "ws://127.0.0.1:9443"})
        os.kill(os.getpid(), signal.SIGTERM if options.loop else signal.SIGINT)
        await trio.sleep_forever()


@pytest.fixture(autouse=True)
def _venue(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    monkeypatch.setitem(sys.modules, "raven_test_emulated", sys.modules[__name__])
    targets = {"venue": "Venue", "mute": "Mute"}
    points = [EntryPoint(name, f"raven_test_emulated:{target}", "raven.adapters") for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


@pytest.mark.parametrize("loop", [[], ["--loop"]])
def test_it_prints_where_it_listens_and_a_block_that_the_server_takes(
    loop: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["emulate", "venue", *loop]) == 0
    out = capsys.readouterr().out
    assert out.startswith("venue is emulated at\n  ws_url     ws://127.0.0.1:9443\n")
    block = out[out.index("[[feeds]]") : out.index("Ctrl-C")]
    (feed,) = structure(Config, tomllib.loads(block)).feeds
    assert (feed.name, feed.adapter, feed.intervals) == ("venue", "venue", ("1m",))
    assert feed.kind_set == {Kind.TRADE, Kind.BOOK, Kind.BOOK_TOP, Kind.CANDLE}
    assert feed.options == {"ws_url": "ws://127.0.0.1:9443"}


def test_options_reach_the_emulator() -> None:
    line = "emulate venue --frames f.gz --speed 0 --host ::1 --port 1 --rest-port 2 --seed 3 --loop"
    assert main.run(line.split()) == 0
    assert seen == [EmulatorOptions(Path("f.gz"), 0.0, "::1", 1, 2, 3, loop=True)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["vanue"], 1, "raven: no installed package offers the adapter 'vanue': did you mean 'venue'?\n"),
        (["mute"], 1, "raven: adapter 'mute' has no emulator\n"),
        (["venue", "--seed", "13"], 1, "raven: port 13 (emulator) is taken\n"),
        (["venue", "--speed", "-1"], 2, "-1.0 is not valid: 0 (flat out) or more\n"),
        (["venue", "--speed", "nan"], 2, "nan is not valid: 0 (flat out) or more\n"),
        (["venue", "--port", "70000"], 2, "70000 is not in the range 0<=x<=65535.\n"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["emulate", *arguments]) == code
    assert capsys.readouterr().err.endswith(message)
