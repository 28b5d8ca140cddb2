"""A stranger's adapter, from nothing to a feed that is served: written, built, installed, found, checked, served, uninstalled.

It lives in a temporary folder outside of the repository. It is installed into a folder of its own that stands on PYTHONPATH, so
that the environment of the tests stays what it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio_websocket

from raven.testing import RULES
from tests.e2e.processes import Server, environment, process, raven_command

TIMEOUT_S = 60.0


@attrs.frozen
class Installed:
    """Where the stranger's package is: its sources, the wheel that was built of them, the folder that it is installed into."""

    sources: Path
    wheel: Path
    site: Path

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to find it."""
        path = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": f"{self.site}{os.pathsep}{path}" if path else str(self.site)}


def run(command: list[str], cwd: Path, **env: str) -> str:
    """The output of a command that has to succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def install(wheel: Path, site: Path) -> None:
    """Into a folder of its own; nothing is downloaded."""
    options = ["--quiet", "--offline", "--no-cache", "--no-deps", "--python", sys.executable, "--target", str(site)]
    run([sys.executable, "-m", "uv", "pip", "install", *options, str(wheel)], wheel.parent)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """`raven adapter new toy`, built as a wheel and installed."""
    folder = tmp_path_factory.mktemp("stranger")
    sources, dist, site = folder / "raven-toy", folder / "dist", folder / "site"
    run(raven_command("adapter", "new", "toy"), folder)
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)], sources)
    (wheel,) = dist.glob("raven_toy-*.whl")
    install(wheel, site)
    yield Installed(sources, wheel, site)
    shutil.rmtree(folder)


def listed(cwd: Path, **env: str) -> dict[str, dict[str, object]]:
    """What `raven adapters` finds, by name."""
    return {one["name"]: one for one in json.loads(run(raven_command("adapters", "--json"), cwd, **env))}


def test_found_beside_the_others(toy: Installed) -> None:
    found = listed(toy.site, **toy.environ)
    assert {"toy", "sim"} <= set(found)
    assert {key: found["toy"][key] for key in ("package", "version", "api", "title", "kinds")} == {
        "package": "raven-toy",
        "version": "0.1.0",
        "api": 1,
        "title": "Toy venue",
        "kinds": ["trade", "quote"],
    }


@pytest.mark.parametrize("name", ["toy", "raven-toy"])
def test_it_keeps_the_rules(toy: Installed, name: str) -> None:
    out = run(raven_command("adapter", "check", name), toy.site, **toy.environ)
    lines = out.splitlines()
    assert lines[0] == "toy: Toy venue (raven-toy 0.1.0)"
    assert sum(line.startswith("  ✓ ") for line in lines) == len(RULES) - 4
    left_out = [line[4:].partition("  ")[0] for line in lines if line.startswith("  - ")]
    assert left_out == ["books", "a book begins anew", "a delta is lost", "bad replies"]  # it has no books, and fetches nothing
    assert lines[-2] == f"{len(RULES) - 4} passed, 0 failed, 4 not applicable"
    assert float(lines[-1].split()[1].replace(",", "")) > 100


def test_its_own_tests_pass(toy: Installed) -> None:
    out = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], toy.sources, **toy.environ)
    assert " passed in " in out
    assert "failed" not in out
    assert "skipped" not in out


@attrs.define
class Venue:
    """The toy's venue, for one client: confirms what is asked for, and then has two trades of each market."""

    asked: list[str] = attrs.field(factory=list)

    async def serve(self, request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        try:
            while True:
                message = json.loads(await connection.get_message())
                self.asked += message["channels"]
                for channel in message["channels"]:
                    await connection.send_message(json.dumps({"type": "subscribed", "channel": channel}))
                for number in (101, 102):
                    await connection.send_message(json.dumps(self._trade(number)))
        except trio_websocket.ConnectionClosed:
            return

    def _trade(self, number: int) -> dict[str, object]:
        fields = {"id": number, "price": "64000.10", "size": "0.5", "taker": "buy", "time_ms": 1_700_000_000_000 + number}
        return {"type": "trade", "market": "BTCUSD", **fields}


async def test_served(toy: Installed, tmp_path: Path) -> None:
    venue, server = Venue(), Server()
    lines: list[str] = []

    def is_trade(line: str) -> bool:
        lines.append(line)
        return '"type":"trade"' in line

    async with trio.open_nursery() as nursery:
        listening = await nursery.start(trio_websocket.serve_websocket, venue.serve, "127.0.0.1", 0, None)
        config = tmp_path / "raven.toml"
        config.write_text(
            '[[feeds]]\nname = "toy"\nadapter = "toy"\nsymbols = ["BTC-USD"]\nkinds = ["trade"]\n'
            f'[feeds.options]\nws_url = "ws://127.0.0.1:{listening.port}"\n'
        )
        tail = raven_command("tail", "--kind", "trade", "--json", "--server", server.target)
        async with server.running(config, **toy.environ), process(tail, is_trade):
            nursery.cancel_scope.cancel()
    assert venue.asked == ["trades.BTCUSD"]
    event = json.loads(lines[-1])
    assert (event["venue"], event["symbol"], event["kind"]) == ("toy", "BTC-USD", "trade")
    assert event["trade"]["price"] == 64000.1


def test_uninstalled_it_is_gone_and_the_rest_is_there(toy: Installed, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(toy.wheel, site)
    here = attrs.evolve(toy, site=site)
    assert "toy" in listed(tmp_path, **here.environ)
    shutil.rmtree(site)
    found = listed(tmp_path, **here.environ)
    assert "toy" not in found
    assert "sim" in found
    done = subprocess.run(
        raven_command("adapter", "check", "toy"),
        cwd=tmp_path,
        env=environment(**here.environ),
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("raven: no installed package offers the adapter 'toy': ")


def test_a_second_package_with_the_same_name_is_refused_and_the_rest_is_there(toy: Installed, tmp_path: Path) -> None:
    other = tmp_path / "other"
    info = other / "raven_other-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: raven-other\nVersion: 2.0\n")
    offered = ("toy = old_adapter:ToyAdapter", "old = old_adapter:OldAdapter", "bad = not_there:X")
    (info / "entry_points.txt").write_text("\n".join(("[raven.adapters]", *offered, "")))
    (other / "old_adapter.py").write_text("from raven_toy import ToyAdapter\nclass OldAdapter(ToyAdapter):\n    api = 0\n")
    found = listed(tmp_path, PYTHONPATH=f"{toy.environ['PYTHONPATH']}{os.pathsep}{other}")
    refused = {name: str(one["refused"]) for name, one in found.items() if "refused" in one}
    assert set(refused) == {"toy", "old", "bad"}
    assert "is offered by more than one package (raven-toy, raven-other): uninstall all but one" in refused["toy"]
    assert "of raven-other 2.0 is written for adapter API 0, this Raven has 1" in refused["old"]
    assert "of raven-other 2.0 fails to import: ModuleNotFoundError: No module named 'not_there'" in refused["bad"]
    assert "title" in found["sim"]
