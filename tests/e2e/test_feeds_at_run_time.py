"""Symbols and whole feeds come and go without a restart and without touching the rest."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from raven.codec.generated.raven import v1
from raven.feed.statistics import FeedState
from tests.e2e.processes import Server, environment, raven_command, run_command

CONFIG = """
[[feeds]]
name = "one"
adapter = "sim"
symbols = ["BTC-USDT", "ETH-USDT"]
kinds = ["trade", "book"]
[feeds.options]
rate = 50
[[feeds]]
name = "two"
adapter = "sim"
symbols = ["BTC-USDT"]
kinds = ["trade"]
"""


async def feeds(server: Server, *arguments: str) -> str:
    done = await run_command("feeds", "--server", server.target, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def record(server: Server, where: str, kind: str, lines: int) -> list[dict[str, object]]:
    arguments = ("tail", where, "--kind", kind, "--json", "--limit", str(lines), "--server", server.target)
    done = await run_command(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


async def test_symbols_and_feeds_come_and_go_and_the_rest_is_untouched(tmp_path: Path) -> None:
    server, config = Server(), tmp_path / "raven.toml"
    config.write_text(CONFIG)
    async with server.running(config):
        watched = tmp_path / "watched"
        command = raven_command("tail", "one/BTC-USDT", "--kind", "trade,book", "--json", "--server", server.target)
        with watched.open("wb") as out:
            tail = await trio.lowlevel.open_process(command, stdout=out, env=environment())

            assert "live" in await feeds(server)
            started = await feeds(server, "start", "one", "SOL-USDT", "--kind", "trade,book")
            assert started.splitlines()[1].split()[:5] == ["one", "live", "sim", "0.1.0", "3"]
            sol = await record(server, "one/SOL-USDT", "book", 4)
            assert [event["type"] for event in sol][1:] == ["book_snapshot", "book_delta", "book_delta"]
            await feeds(server, "start", "one", "SOL-USDT", "--kind", "trade,book")  # once more changes nothing

            stopped = await feeds(server, "stop", "one", "ETH-*")
            assert stopped.splitlines()[1].split()[4] == "2"
            gone = await record(server, "one/ETH-USDT", "trade", 1)
            assert (gone[0]["type"], gone[0]["status"]["state"], gone[0]["status"]["cause"]) == ("status", "closed", "operator")  # type: ignore[index]
            await feeds(server, "start", "one", "ETH-USDT", "--kind", "trade")
            back = await record(server, "one/ETH-USDT", "trade", 3)
            assert back[-1]["type"] == "trade"

            assert "stopped" in await feeds(server, "stop", "two")
            assert "stopped" in await feeds(server, "stop", "two")
            await feeds(server, "start", "two")
            again = await record(server, "two/BTC-USDT", "trade", 4)
            assert again[-1]["type"] == "trade"
            assert "live" in (await feeds(server)).splitlines()[2]
            tail.terminate()
            await tail.wait()
        check_untouched([json.loads(line) for line in watched.read_text().splitlines()])


def check_untouched(events: list[dict[str, object]]) -> None:
    """Neither a status nor a gap, and no hole, in what nobody changed."""
    for kind in ("trade", "book"):
        mine = [event for event in events if event["kind"] == kind and not event["flags"]]
        assert len(mine) > 20
        assert {event["type"] for event in mine} <= {"trade", "book_snapshot", "book_delta"}
        sequences = [event["sequence"] for event in mine]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))  # type: ignore[operator, call-overload]


async def test_what_cannot_be_started_is_said_by_field(tmp_path: Path) -> None:
    server, config = Server(), tmp_path / "raven.toml"
    config.write_text(CONFIG)
    async with server.running(config):
        for arguments, error in (
            (("start", "on"), "there is no feed 'on': did you mean 'one'?"),
            (("start", "one", "SOL-*", "--kind", "trade"), "symbol: 'SOL-*' is a pattern"),
            (
                ("start", "one", "SOL-USDT", "--kind", "funding"),
                "kinds: 'funding' is not valid: this feed can carry trade, quote",
            ),
            (("start", "one", "SOLUSDT", "--kind", "trade"), "symbols: 'SOLUSDT' is not valid"),
        ):
            done = await run_command("feeds", "--server", server.target, *arguments)
            assert done.returncode == 1
            assert error in done.stderr.decode()


def test_the_states_are_those_of_the_contract() -> None:
    assert {state.name: int(state) for state in FeedState} == {
        state.name: int(state) for state in v1.FeedState if state.name not in ("UNSPECIFIED", "STANDBY")
    }
