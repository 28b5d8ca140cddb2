"""The examples over broken connections and a restart of the server: nothing that they print is missing or comes twice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.client.balancer import Balancer, balancing
from tests.clients.conversation import Conversation, open_conversation
from tests.clients.programs import COMING_BACK, Example
from tests.clients.seen import check_record, seen_in_line
from tests.e2e.processes import Server

CONFIG = """
[[feeds]]
name = "sim"
adapter = "sim"
symbols = ["BTC-USDT", "ETH-USDT"]
kinds = ["trade", "quote"]
[feeds.options]
rate = 200
"""

EVENTS = 300
"""Of a step of the example: enough for what happens in it."""

BETWEEN = 40
"""Events that are printed from one break to the next."""


@pytest.fixture(params=COMING_BACK)
def resuming(request: pytest.FixtureRequest, examples: Callable[[str], Example]) -> Example:
    """Each example that comes back."""
    return examples(request.param)


async def test_nothing_is_missing_and_nothing_comes_twice(resuming: Example, tmp_path: Path) -> None:
    config = tmp_path / "raven.toml"
    config.write_text(CONFIG)
    server = Server()
    kept = {"RAVEN_DATA_DIR": str(tmp_path / "data"), "RAVEN_SERVER_DRAIN_S": "2", "RAVEN_SERVER_HEARTBEAT_S": "0.2"}
    async with balancing(server.port) as balancer, AsyncExitStack() as first:
        await first.enter_async_context(server.running(config, **kept))
        command = [*resuming.command, f"127.0.0.1:{balancer.port}", str(EVENTS)]
        async with open_conversation(command, resuming.env) as talk:
            lines = await broken_off(talk, balancer)  # before a bookmark came, perhaps
            lines += await talk.receive_lines_until("subscribed quotes")
            lines += await broken_off(talk, balancer)
            await first.aclose()  # it drains, and ends
            async with server.running(config, **kept):
                code, rest = await talk.finish()
    lines += rest
    assert code == 0
    numbers = check_record(lines)
    assert set(numbers) == {f"sim/{symbol}/KIND_{kind}" for symbol in ("BTC-USDT", "ETH-USDT") for kind in ("TRADE", "QUOTE")}
    told = [line for line in lines if seen_in_line(line) is None]
    assert sum(line.startswith("welcome") for line in told) == 4
    answers = [line for line in told if line.startswith("subscribed")]
    assert [line for line in answers if not line.endswith(", recovered")] == [
        f"subscribed {s} 2 topics" for s in ("trades", "quotes")
    ]
    assert len(answers) >= 2 + 1 + 2 + 1  # behind the restart the trades may be unsubscribed already
    assert sum(line.startswith("draining") for line in told) == 1
    assert sum(line == "unsubscribed trades" for line in told) == 1


async def broken_off(talk: Conversation, balancer: Balancer) -> list[str]:
    """What is printed until the connection is cut, and until the first event behind that."""
    lines: list[str] = []
    while sum(line.startswith("event") for line in lines) < BETWEEN:
        lines += await talk.receive_lines_until("event")
    balancer.cut()
    lines += await talk.receive_lines_until("lost")
    return lines + await talk.receive_lines_until("event")
