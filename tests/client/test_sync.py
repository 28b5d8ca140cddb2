"""The client without async."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
import trio

from raven.adapter import Established
from raven.client import Event, Replaced, ServerUnavailable
from raven.client.sync import connect
from raven.client.testing import QUICK, FakeServer
from raven.model.events import BookDelta, BookSnapshot, Trade
from tests.e2e.processes import environment
from tests.grpc.serving import serving
from tests.grpc.test_stream import TOPICS, TRADE, trades

NAME = "sim/BTC-USDT/trade"


def test_events_and_questions_in_plain_loops() -> None:
    server = FakeServer()
    server.publish(NAME, *[Trade(float(number), 1.0) for number in range(3)])
    with connect("fake", reconnect=QUICK, dial=server.dial) as client:
        assert [event.sequence for event in client.latest("sim/*")] == [3, 3]
        assert [entry.sequence for entry in client.topics()] == [3]
        with client.stream("sim/BTC-USDT") as stream:
            event = next(event for event in stream if isinstance(event, Event))
            assert (event.sequence, event.is_image) == (3, True)
        batch = next(client.batches("sim/BTC-USDT"))
        assert [event.sequence for event in batch.events] == [3, 3]


def test_a_book_is_a_copy_that_nothing_changes() -> None:
    server = FakeServer()
    server.publish("sim/A/book", BookSnapshot((1.0,), (1.0,), (2.0,), (1.0,)))
    with connect("fake", reconnect=QUICK, dial=server.dial) as client, client.book("sim/A") as books:
        first = next(book for book in books if not book.in_doubt)
        client._call(_publish, server, "sim/A/book", BookDelta((1.5,), (1.0,)))
        second = next(books)
        assert (first.best_bid, second.best_bid) == (1.0, 1.5)


async def _publish(server: FakeServer, topic: str, delta: BookDelta) -> None:
    server.publish(topic, delta)


def test_errors_are_those_of_the_client_and_no_thread_stays() -> None:
    with pytest.raises(ServerUnavailable, match="no server at"), connect("127.0.0.1:1"):
        pass
    server = FakeServer()
    server.publish(NAME, Trade(1.0, 1.0))
    with connect("fake", reconnect=QUICK, dial=server.dial) as client:
        stream = client.stream("sim/BTC-USDT")
        next(stream)

        async def say_goodbye() -> None:
            server.goodbye("REPLACED", reconnect=False)

        client._call(say_goodbye)
        with pytest.raises(Replaced):
            list(stream)
    assert [thread for thread in threading.enumerate() if thread.name == "raven.client"] == []


async def test_against_a_server() -> None:
    async with serving(TOPICS) as server:
        server.publish(Established([TRADE]), *trades(1, 3))

        def program() -> list[int]:
            with connect(f"127.0.0.1:{server.port}") as client:
                return [event.sequence for _, event in zip(range(2), client.stream("sim/BTC-USDT"), strict=False)]

        assert await trio.to_thread.run_sync(program) == [4, 4]


PROGRAMS = {
    "asyncio": """
import raven.client

async def main():
    async with raven.client.connect({target!r}) as client:
        async for event in client.stream("sim/BTC-USDT"):
            print(event.sequence, flush=True)

raven.client.run(main)
""",
    "sync": """
from raven.client.sync import connect

with connect({target!r}) as client:
    for event in client.stream("sim/BTC-USDT"):
        print(event.sequence, flush=True)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_ctrl_c_in_a_program_of_ten_lines_is_quiet(name: str) -> None:
    async with serving(TOPICS) as server:
        server.publish(Established([TRADE]), *trades(1, 3))
        command = [sys.executable, "-c", PROGRAMS[name].format(target=f"127.0.0.1:{server.port}")]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(20):
            assert (await process.stdout.receive_some()).startswith(b"4")
            process.send_signal(signal.SIGINT)
            code = await process.wait()
            said = await process.stderr.receive_some()
        assert (code, said) == (-signal.SIGINT, b"")
