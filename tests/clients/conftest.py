"""One `raven serve` on the simulated venue, and the clients."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from anyio.from_thread import start_blocking_portal

from tests.clients.programs import EXAMPLES_BY_LANGUAGE, TOOLS, Example, Tool
from tests.e2e.processes import Server

CONFIG = """
[[feeds]]
name = "sim"
adapter = "sim"
symbols = ["BTC-USDT", "ETH-USDT"]
kinds = ["trade", "quote", "candle", "instrument"]
[feeds.options]
rate = 50
"""


@pytest.fixture(scope="module")
def raven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in a process of its own."""
    config = tmp_path_factory.mktemp("raven") / "raven.toml"
    config.write_text(CONFIG)
    server = Server()
    with start_blocking_portal("trio") as portal, portal.wrap_async_context_manager(server.running(config)):
        yield server


@pytest.fixture(scope="session", params=list(TOOLS))
def tool(request: pytest.FixtureRequest) -> Tool:
    """Each command line client."""
    return TOOLS[request.param]()


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Example]:
    """The example in a language, made ready outside of the repository, once."""
    return cache(lambda language: EXAMPLES_BY_LANGUAGE[language](tmp_path_factory.mktemp(language)))


@pytest.fixture(scope="session", params=list(EXAMPLES_BY_LANGUAGE))
def example(request: pytest.FixtureRequest, examples: Callable[[str], Example]) -> Example:
    """Each example."""
    return examples(request.param)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs that SIGINT reaches: without job control a shell starts its background with it ignored, which is inherited."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
