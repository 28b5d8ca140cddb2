"""Honest clients flat out, unmodified, of three implementations: none of them comes near a budget.

A moment of grpcio and grpc-go in the default run; `nox -s honest` gives a minute to each, and to grpc-js. A stream is published
as fast as its readers take it, in bursts of changing sizes: small ones make the most WINDOW_UPDATEs and PINGs for the bytes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import pytest
import trio

from raven.adapter import Established, Event
from raven.broker import BrokerLimits
from raven.grpc import GrpcConfig
from raven.model.events import Quote, Trade
from raven.model.topic import Kind, Topic
from tests.clients.programs import EXAMPLES_BY_LANGUAGE, Example
from tests.e2e.processes import environment
from tests.grpc.serving import Serving, serving

LONG = "HONEST_S" in os.environ
SECONDS = float(os.environ.get("HONEST_S", "0.5"))
PROGRAM = Path(__file__).with_name("honest_grpcio.py")
TOPICS = [Topic("sim", symbol, kind) for symbol in ("BTC-USDT", "ETH-USDT") for kind in (Kind.TRADE, Kind.QUOTE)]
BURSTS = (1, 1, 1, 5, 50, 500)
ORDINARY = ("client", "server", "lost")
EVENTS_MIN = 100 if LONG else 10  # a busy machine that has but a second for it


@asynccontextmanager
async def publishing() -> AsyncIterator[Serving]:
    """A server whose topics move as fast as everybody takes it."""
    async with serving(TOPICS, BrokerLimits(), GrpcConfig(heartbeat_s=1)) as raven, trio.open_nursery() as nursery:
        raven.publish(Established(TOPICS))
        nursery.start_soon(publish, raven)
        yield raven
        nursery.cancel_scope.cancel()


async def publish(raven: Serving) -> None:
    payloads = {Kind.TRADE: Trade(61837.63, 0.02, 2, "77"), Kind.QUOTE: Quote(1.0, 2.0, 3.0, 4.0)}
    number = 0
    for burst in cycle(BURSTS):
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            while any(not client.outbox.empty for client in raven.broker.clients):  # noqa: ASYNC110  as fast as they take it
                await trio.sleep(0.0005)
            topic = TOPICS[number % len(TOPICS)]
            number += 1
            raven.publish(*[Event(topic, payloads[topic.kind], number, number)] * burst)
            await trio.lowlevel.checkpoint()


async def run(command: Sequence[str | Path], env: dict[str, str] | None = None, *, stop_s: float | None = None) -> str:
    """What a program says on its standard output; with `stop_s`, until Ctrl-C after so long."""
    process = await trio.lowlevel.open_process(
        [str(part) for part in command],
        stdout=subprocess.PIPE if stop_s is None else subprocess.DEVNULL,
        env=environment(PYTHONPATH=os.pathsep.join([".", *sys.path]), **(env or {})),
    )
    try:
        with trio.fail_after(SECONDS + 30):
            if stop_s is not None:
                await trio.sleep(stop_s)
                process.send_signal(signal.SIGINT)
                await process.wait()
                return ""
            assert process.stdout is not None
            said = b"".join([chunk async for chunk in process.stdout])
            assert await process.wait() == 0
            return said.decode()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):  # it is dead
            await process.wait()
            if process.stdout is not None:
                await process.stdout.aclose()


def check(raven: Serving, events: float) -> None:
    """Nobody was sent away, and no budget was spent beyond half."""
    lowest = raven.server.budgets_lowest()
    print(f"{events:.0f} events sent, lowest shares { ({name: round(share, 3) for name, share in sorted(lowest.items())}) }")
    assert events > EVENTS_MIN
    assert all(share >= 0.5 for share in lowest.values()), lowest
    ended = {
        sample.labels["reason"]: sample.value
        for metric in raven.registry.collect()
        for sample in metric.samples
        if sample.name == "raven_connections_ended_total"
    }
    assert set(ended) <= set(ORDINARY), ended


@pytest.mark.parametrize("what", ["watch", "watch_many", "call", "subscribe"])
async def test_grpcio_flat_out_meets_no_budget(what: str) -> None:
    async with publishing() as raven:
        said = await run([sys.executable, PROGRAM, f"127.0.0.1:{raven.port}", str(SECONDS), what])
        assert int(said) > 20
        check(raven, sent(raven) if what != "call" else EVENTS_MIN + int(said))


@pytest.mark.parametrize("language", ["go", "node"] if LONG else ["go"])
async def test_others_flat_out_meet_no_budget(language: str, tmp_path: Path) -> None:
    example: Example = await trio.to_thread.run_sync(EXAMPLES_BY_LANGUAGE[language], tmp_path)
    async with publishing() as raven:
        await run([*example.command, f"127.0.0.1:{raven.port}", "1000000000"], example.env, stop_s=SECONDS + 1)
        check(raven, sent(raven))


def sent(raven: Serving) -> int:
    return raven.broker.statistics().events_sent
