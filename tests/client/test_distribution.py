"""The client library as its own distribution: built, and run where nothing is but what it says that it needs.

The environment of the test is a folder with links to those packages of ours that its metadata asks for, and those that they ask
for; the interpreter is told to look nowhere else.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
import trio
from packaging.requirements import Requirement

from raven.adapter import Established
from tests.grpc.serving import serving
from tests.grpc.test_stream import TOPICS, TRADE, trades

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "packaging" / "raven-client"
PACE_S = 0.001
PATIENCE_S = 60.0
OF_THE_SERVER = ("click", "httpx", "hypercorn", "prometheus_client", "redis", "structlog", "trio_asyncio", "trio_websocket")

PROGRAM = """
import asyncio, importlib, importlib.util, pkgutil, sys, warnings

warnings.simplefilter("error")
import trio
import raven, raven.client, raven.client.aio, raven.client.sync, raven.client.testing, raven.client.trio

target, *others = sys.argv[1:]
assert raven.__version__ != "0.0.0"
assert not [name for name in others if importlib.util.find_spec(name)], "this environment has more than it should"
for module in pkgutil.walk_packages(raven.__path__, "raven."):
    if module.name != "raven.client.arrow":
        importlib.import_module(module.name)


async def read(connect):
    async with connect(target) as client:
        try:
            client.record_batches("sim/*", kinds="trade")
        except ModuleNotFoundError as error:
            assert "extra" in str(error), error
        else:
            raise AssertionError("Arrow is here")
        async for event in client.stream("sim/*", kinds="trade"):
            if event.trade and not event.is_image:
                return print(event.trade.price)


trio.run(read, raven.client.connect)
trio.run(read, raven.client.trio.connect)
asyncio.run(read(raven.client.connect))
asyncio.run(read(raven.client.aio.connect))
with raven.client.sync.connect(target) as client:
    print(next(event.trade.price for event in client.stream("sim/*", kinds="trade") if event.trade))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `pip install ./packaging/raven-client` makes it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("raven_client-*.whl")
    return built


def needed(name: str, extras: frozenset[str], found: dict[str, Distribution]) -> None:
    """A distribution, and all that it asks for here."""
    one = distribution(name)
    if name in found and not extras:
        return
    found[name] = one
    for text in one.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            needed(requirement.name, frozenset(requirement.extras), found)


def link(one: Distribution, site: Path) -> None:
    """Its files, where an interpreter can find them."""
    tops = {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        (site / top).symlink_to(Path(str(one.locate_file(top))))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, and what it needs, without an extra."""
    folder = tmp_path_factory.mktemp("site")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    found: dict[str, Distribution] = {}
    for text in Distribution.at(folder / Path(metadata).parent).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(requirement.name, frozenset(requirement.extras), found)
    for one in found.values():
        link(one, folder)
    return folder


def test_it_has_the_version_of_the_server_and_asks_for_no_other_versions() -> None:
    ours, server = (tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (SOURCES, ROOT))
    assert ours["version"] == server["version"]
    assert ours["requires-python"] == server["requires-python"]
    assert set(ours["dependencies"]) <= set(server["dependencies"])
    assert {name: server["optional-dependencies"][name] for name in ours["optional-dependencies"]} == ours[
        "optional-dependencies"
    ]


async def test_it_streams_where_nothing_is_but_what_it_needs(site: Path) -> None:
    async with serving(TOPICS) as server, trio.open_nursery() as nursery:
        server.publish(Established([TRADE]))

        async def market() -> None:
            number = 1
            while True:
                server.publish(*trades(number, number))
                number += 1
                await trio.sleep(PACE_S)

        nursery.start_soon(market)
        command = [sys.executable, "-S", "-c", PROGRAM, f"127.0.0.1:{server.port}", *OF_THE_SERVER]
        with trio.fail_after(PATIENCE_S):
            done = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, cwd=site, env={"PYTHONPATH": str(site)}
            )
        nursery.cancel_scope.cancel()
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.split()) == 5
