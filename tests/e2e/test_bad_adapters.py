"""Adapters that cannot be used, that raise, that hold the event loop: said clearly, and everybody else is served.

They are packages as strangers would install them: a module and its metadata in a folder on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from tests.e2e.processes import Server, run_command
from tests.e2e.test_server import sample

MODULE = """
import time
from raven.adapter import Adapter, Capabilities, Connection, Kind, Session, Wakeup


class Raising(Session):
    def on_connect(self, now_ns):
        return [Wakeup(1)]

    def on_wakeup(self, now_ns):
        raise ZeroDivisionError("a bug")


class Holding(Session):
    held = False

    def on_connect(self, now_ns):
        return [Wakeup(1)]

    def on_wakeup(self, now_ns):
        if not Holding.held:
            Holding.held = True
            time.sleep(2)  # what a blocking library would do
        return ()


class RaisingAdapter(Adapter):
    api = 1
    capabilities = Capabilities(frozenset({Kind.TRADE}))
    sessions = Raising

    def connections(self, feed):
        return [Connection("main", None, feed.topics)]

    def session(self, feed, connection, memory):
        return self.sessions()


class HoldingAdapter(RaisingAdapter):
    sessions = Holding


class OldAdapter(RaisingAdapter):
    api = 0
"""
GOOD = """
[[feeds]]
name = "good"
adapter = "sim"
symbols = ["BTC-USDT"]
kinds = ["trade"]
[feeds.options]
rate = 50
"""
PATIENCE_S = 60.0


def installed(folder: Path, package: str, **offers: str) -> str:
    """A package that offers adapters, by name; the folder that makes it one that is installed."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in offers.items()]
    (info / "entry_points.txt").write_text("\n".join(("[raven.adapters]", *lines, "")))
    (folder / "bad_adapters.py").write_text(MODULE)
    return str(folder)


def configured(folder: Path, *adapters: str) -> Path:
    """A feed of the simulated venue, and one of each of these."""
    feeds = [f'[[feeds]]\nname = "{name}"\nadapter = "{name}"\nsymbols = ["BTC-USD"]\nkinds = ["trade"]\n' for name in adapters]
    path = folder / "raven.toml"
    path.write_text("\n".join((f'[log]\nfile = "{folder / "log"}"\n', *feeds, GOOD)))
    return path


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


async def asked(server: Server, path: str, until: Callable[[Any], bool]) -> Any:
    """What a page of the server says, as soon as it says what is waited for: it has no other way to tell."""
    with trio.fail_after(PATIENCE_S):
        while not until(said := (await server.get(path)).json()):
            await trio.lowlevel.checkpoint()
    return said


async def trades_come(server: Server) -> None:
    """The other feed is served as if nothing were."""
    arguments = ("tail", "good/*", "--kind", "trade", "--json", "--limit", "10", "--server", server.target)
    done = await run_command(*arguments)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    numbers = [event["sequence"] for event in events if event["type"] == "trade"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers


REFUSED: Mapping[str, str] = {
    "old": "adapter 'old' of raven-bad 1.0 is written for adapter API 0, this Raven has 1: install a version of it that fits",
    "gone": "adapter 'gone' of raven-bad 1.0 fails to import: ModuleNotFoundError: No module named 'not_there'",
    "twice": "adapter 'twice' is offered by more than one package (raven-bad, raven-other): uninstall all but one",
}


async def test_what_cannot_be_used_is_a_line_each_and_the_rest_starts(tmp_path: Path) -> None:
    offers = {"old": "bad_adapters:OldAdapter", "gone": "not_there:X", "twice": "bad_adapters:RaisingAdapter"}
    other = {"twice": "bad_adapters:RaisingAdapter"}
    folders = installed(tmp_path / "bad", "raven-bad", **offers), installed(tmp_path / "other", "raven-other", **other)
    path = os.pathsep.join(folders)
    server, config = Server(), configured(tmp_path, *REFUSED)
    async with server.running(config, PYTHONPATH=path):
        errors = [line for line in logged(tmp_path) if line["level"] == "error"]
        assert {line["feed"]: line["reason"] for line in errors} == REFUSED
        assert len(errors) == len(REFUSED)
        assert not any("exception" in line for line in errors)
        health = await asked(server, "/health", lambda said: said["feeds"]["good"]["state"] == "live")
        assert (health["status"], health["ready"]) == ("degraded", True)
        assert {name: health["feeds"][name] for name in REFUSED} == {
            name: {"state": "failed", "reason": reason, "status": "failed"} for name, reason in REFUSED.items()
        }
        latest = await run_command("latest", "old/BTC-USD", "--json", "--server", server.target)
        (status,) = [json.loads(line)["status"] for line in latest.stdout.splitlines()]
        assert (status["state"], status["cause"], status["text"]) == ("closed", "adapter_failed", REFUSED["old"])
        again = await run_command("feeds", "--server", server.target, "start", "old")
        assert (again.returncode, REFUSED["old"] in again.stderr.decode()) == (1, True)
        await trades_come(server)


async def test_with_nothing_else_there_is_no_start(tmp_path: Path) -> None:
    path = installed(tmp_path, "raven-bad", old="bad_adapters:OldAdapter", gone="not_there:X")
    config = configured(tmp_path, "old", "gone")
    config.write_text(config.read_text().replace(GOOD, ""))
    done = await run_command("serve", "--config", str(config), "--port", "0", PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [f"raven: {REFUSED[name]}" for name in ("old", "gone")]


async def test_checks_name_each_of_them(tmp_path: Path) -> None:
    path = installed(tmp_path, "raven-bad", old="bad_adapters:OldAdapter", gone="not_there:X")
    config = configured(tmp_path, "old", "gone")
    for command in (("config", "check"), ("doctor",)):
        done = await run_command(*command, "--config", str(config), PYTHONPATH=path)
        lines = done.stdout.decode().splitlines()
        assert done.returncode == 1
        assert {f"✗ feed {name}: {REFUSED[name]}" for name in ("old", "gone")} <= set(lines)


async def test_fault_09_one_that_raises_five_times_in_a_minute_is_parked_and_health_degrades(tmp_path: Path) -> None:
    path = installed(tmp_path, "raven-bad", raising="bad_adapters:RaisingAdapter")
    server, config = Server(), configured(tmp_path, "raising")
    async with server.running(config, PYTHONPATH=path):
        health = await asked(server, "/health", lambda said: said["feeds"]["raising"]["state"] == "failed")
        assert (health["status"], health["ready"]) == ("degraded", True)
        assert health["feeds"]["raising"]["reason"] == "Raising raised ZeroDivisionError: a bug"
        assert health["feeds"]["good"]["state"] == "live"
        await trades_come(server)
        metrics = (await server.get("/metrics")).text
        assert sample(metrics, "raven_feed_state", 'venue="raising"', 'state="failed"') == 1
    told = [line["event"] for line in logged(tmp_path) if line.get("feed") == "raising" and line["level"] == "error"]
    assert told == ["adapter failed"] * 4 + ["adapter failed, the feed is parked"]


async def test_fault_10_one_that_holds_the_loop_is_named_by_its_stack_and_measured(tmp_path: Path) -> None:
    path = installed(tmp_path, "raven-bad", holding="bad_adapters:HoldingAdapter")
    server, config = Server(), configured(tmp_path, "holding")
    async with server.running(config, PYTHONPATH=path):
        said = await asked(server, "/health/ready", lambda said: said["status"] == "not ready")
        assert said["reasons"][0].startswith("loop: it was held ")
        metrics = (await server.get("/metrics")).text
        assert sample(metrics, "raven_loop_stalls_total") >= 1
        assert sample(metrics, "raven_loop_stalled_seconds_total") > 1.8
        stacks = [line["stack"] for line in logged(tmp_path) if line["event"] == "the event loop is held"]
        assert any("bad_adapters.py" in stack and "time.sleep(2)" in stack for stack in stacks)
        await trades_come(server)
        await asked(server, "/health/ready", lambda said: said["status"] == "ready")
