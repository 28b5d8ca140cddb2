"""One client's floods, and what the stream of an honest one feels of them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import trio
from structlog.testing import capture_logs

from raven.adapter import Established, Event
from raven.codec.generated.raven import v1
from raven.grpc import GrpcConfig
from raven.model.events import Trade
from tests.grpc.serving import SERVICE, Serving, serving, subscription
from tests.grpc.strangers.settling import resident_bytes
from tests.grpc.strangers.stranger import TRADE

ATTACK = Path(__file__).with_name("attack.py")
MEASURED_S = 1.5
PAUSE_S = 0.004
ROUNDS_MAX = 4
P99_S = 0.1
"""Generous: the flood takes a core of the machine, and what reads here is Python."""


class Reader(threading.Thread):
    """A client of grpcio in a thread, which notes how old each event is when it comes."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.ages_s: list[float] = []
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        call = self._channel.unary_stream(
            SERVICE + "WatchMarketData", request_serializer=bytes, response_deserializer=v1.WatchMarketDataResponse.FromString
        )
        self._call = call(v1.WatchMarketDataRequest([subscription("sim/BTC-USDT", v1.Kind.TRADE)]))
        self.start()

    def run(self) -> None:
        try:
            for message in self._call:
                now = time.time_ns()
                self.ages_s += [(now - event.received_ts_ns) / 1e9 for event in message.events if event.trade is not None]
        except grpc.RpcError:
            pass

    def close(self) -> None:
        self._call.cancel()
        self._channel.close()
        self.join(5)


@asynccontextmanager
async def publishing(raven: Serving) -> AsyncIterator[None]:
    async def publish() -> None:
        while True:
            raven.publish(Event(TRADE, Trade(1.0, 1.0, 1, "1"), time.time_ns(), time.time_ns()))
            await trio.sleep(PAUSE_S)

    raven.publish(Established([TRADE]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def attacking(port: int, connections: int) -> Iterator[None]:
    with subprocess.Popen([sys.executable, ATTACK, str(port), str(connections)], stdout=subprocess.PIPE, text=True) as attack:
        assert attack.stdout is not None
        assert attack.stdout.readline() == "attacking\n"
        yield
        attack.kill()


def p99(ages_s: list[float]) -> float:
    return sorted(ages_s)[len(ages_s) * 99 // 100]


async def test_floods_of_one_leave_the_stream_of_another_undisturbed() -> None:
    """The best of a few rounds counts: the machine may be busy with something else, a defect is there in each."""
    rounds = []
    while len(rounds) < ROUNDS_MAX and (not rounds or min(rounds) >= P99_S):
        with capture_logs():
            rounds.append(await measure())
    assert min(rounds) < P99_S


async def measure() -> float:
    """p99 of the age of an event at its reader while somebody else floods, in seconds."""
    async with serving([TRADE], config=GrpcConfig()) as raven, publishing(raven):
        reader = Reader(raven.port)
        await trio.sleep(MEASURED_S / 2)
        quiet, reader.ages_s = reader.ages_s, []
        memory = resident_bytes()
        with attacking(raven.port, connections=2):
            await trio.sleep(MEASURED_S)
        flooded, memory = reader.ages_s, resident_bytes() - memory
        await trio.to_thread.run_sync(reader.close)
        names = ("ping", "settings", "reset", "window", "unknown", "priority")
        floods = sum(raven.metric("raven_connections_ended_total", reason=f"{name}_flood") for name in names)
    print(
        f"p99: quiet {p99(quiet) * 1e3:.1f} ms, under {floods:.0f} floods {p99(flooded) * 1e3:.1f} ms; {memory / 2**20:.1f} MiB"
    )
    assert floods > 0
    assert memory < 16 * 2**20
    return p99(flooded)
