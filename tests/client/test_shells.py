"""The client on Trio, on asyncio and on uvloop: against a server without sockets, and against the real one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio

import raven.client
from raven.adapter import Established
from raven.client import (
    BufferOverflow,
    Client,
    Connected,
    Event,
    GapEvent,
    Lost,
    Reconnect,
    Replaced,
    ServerUnavailable,
    StatusEvent,
    StreamEnded,
    SubscriptionRefused,
)
from raven.client.testing import QUICK, FakeServer
from raven.errors import InvalidValue
from raven.model.events import GapCause, Quote, State, Trade
from raven.model.instrument import Instrument
from tests.client.history import faults
from tests.client.shells import SHELLS, in_server, on_asyncio
from tests.grpc.serving import serving
from tests.grpc.test_stream import QUOTE, TOPICS, TRADE, trades

NAME = "sim/BTC-USDT/trade"


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> Any:
    """Runs a program that is given `connect`."""
    return SHELLS[request.param]


def some(count: int) -> list[Trade]:
    return [Trade(float(number), 1.0) for number in range(count)]


async def read(stream: Any, count: int) -> list[Any]:
    """The next so many events that have a sequence of their own, and the gaps between them."""
    found: list[Any] = []
    while len([event for event in found if not event.flags & 2]) < count:
        event = await stream.__anext__()
        if not (isinstance(event, StatusEvent) and event.flags & 2):
            found.append(event)
    return found


async def every(stream: Any) -> None:
    """To its end."""
    async for _ in stream:
        pass


class TestWithoutSockets:
    """Each shell with the same script."""

    async def play(self, shell: Any, script: Callable[[FakeServer, Client], Any], **options: Any) -> None:
        server = FakeServer(**options)

        async def program(connect: Any) -> None:
            async with connect("fake:1", reconnect=QUICK, dial=server.dial) as client:
                await script(server, client)

        await shell(program)

    async def test_it_goes_on_over_a_break_without_gap_or_duplicate(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            stream = client.stream("sim/BTC-USDT")
            record = await read(stream, 1)
            for bookmarks in (True, False, True):
                server.bookmarks = bookmarks
                server.heartbeat()
                server.publish(NAME, *some(3))
                record += await read(stream, 2)
                server.cut()
                server.publish(NAME, *some(3))
                record += await read(stream, 4)
            assert [event.sequence for event in record] == list(range(2, 21))
            assert faults(record) == []
            assert {type(event) for event in record} == {Event}

        await self.play(shell, script)

    async def test_what_the_ring_has_no_more_is_a_gap(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            stream = client.stream("sim/BTC-USDT")
            await read(stream, 1)
            server.cut()
            server.publish(NAME, *some(3))
            server.forget()
            gap, image = await read(stream, 1)
            assert isinstance(gap, GapEvent)
            assert (gap.payload.cause, gap.payload.first_sequence, gap.payload.last_sequence) == (GapCause.RESUME_TOO_OLD, 3, 5)
            assert (image.sequence, image.is_image) == (5, True)

        await self.play(shell, script)

    async def test_a_server_that_drains_is_left_when_the_next_stream_stands(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            changes: list[Any] = []
            server.publish(NAME, *some(2))
            stream = client.stream("sim/BTC-USDT", on_change=changes.append)
            record = await read(stream, 1)
            for round_number in range(2, 5):
                server.bookmarks = round_number % 2 == 0  # else it goes on behind each topic
                server.drain(deadline_s=10.0, retry_after_s=0.0)
                while not any(isinstance(change, Connected) and change.streams == round_number for change in changes):
                    server.publish(NAME, *some(3))
                    record += await read(stream, 3)
            server.publish(NAME, *some(3))
            record += await read(stream, 3)
            assert [event.sequence for event in record] == list(range(2, record[-1].sequence + 1))
            assert [change for change in changes if isinstance(change, Lost)] == []
            while len(server._streams()) > 1:  # the old ones are closed
                await client.latest("sim/*")

        await self.play(shell, script)

    async def test_where_every_server_drains_the_old_stream_is_read_to_its_end(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            changes: list[Any] = []
            server.publish(NAME, *some(2))
            stream = client.stream("sim/BTC-USDT", on_change=changes.append)
            record = await read(stream, 1)
            server.draining = True
            server.drain(deadline_s=10.0, retry_after_s=0.0)
            tried = server.connections
            while server.connections < tried + 3:
                server.publish(NAME, *some(1))
                record += await read(stream, 1)
            assert not any(isinstance(change, Lost) for change in changes)
            server.publish(NAME, *some(2))
            server.goodbye()
            record += await read(stream, 2)
            server.draining = False
            server.publish(NAME, *some(2))
            record += await read(stream, 2)
            assert [event.sequence for event in record] == list(range(2, record[-1].sequence + 1))
            assert any(isinstance(change, Lost) for change in changes)

        await self.play(shell, script)

    async def test_what_is_subscribed_to_during_a_move_is_there_behind_it(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            changes: list[Any] = []
            server.publish(NAME, *some(2))
            server.publish("sim/ETH-USDT/trade", *some(1))
            stream = client.stream("sim/BTC-USDT", on_change=changes.append)
            await read(stream, 1)
            server.draining = True  # attempts are made and refused, until the subscription has been added
            server.drain(deadline_s=10.0, retry_after_s=0.0)
            tried = server.connections
            while server.connections == tried:
                server.publish(NAME, *some(1))
                await read(stream, 1)
            result = await stream.subscribe("sim/ETH-USDT/trade")
            server.draining = False
            assert [event.topic.symbol for event in await read(stream, 1)] == ["ETH-USDT"]
            while not any(isinstance(change, Connected) and change.streams == 2 for change in changes):
                server.publish(NAME, *some(1))
                await read(stream, 1)
            server.publish("sim/ETH-USDT/trade", *some(1))
            assert [(event.topic.symbol, event.sequence) for event in await read(stream, 1)] == [("ETH-USDT", 2)]
            await stream.unsubscribe(result.id)

        await self.play(shell, script)

    async def test_a_connection_that_is_dead_and_says_nothing_is_made_again(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            stream = client.stream("sim/BTC-USDT", on_change=lambda change: setattr(server, "silent", False))
            await read(stream, 1)
            server.silent = True
            server.publish(NAME, *some(2))
            assert [event.sequence for event in await read(stream, 2)] == [3, 4]
            assert server.connections == 2

        await self.play(shell, script, heartbeat_s=0.02)

    async def test_a_goodbye_for_good_ends_it_with_an_error_of_its_kind(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            stream = client.stream("sim/BTC-USDT")
            await read(stream, 1)
            server.goodbye("REPLACED", "another", reconnect=False, status="ABORTED")
            with pytest.raises(Replaced, match="REPLACED: another"):
                await read(stream, 1)
            with pytest.raises(Replaced):
                await read(stream, 1)

        await self.play(shell, script)

    async def test_subscriptions_come_and_go_while_it_runs(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(1))
            server.publish("sim/ETH-USDT/trade", *some(1))
            stream = client.stream("sim/BTC-USDT")
            await read(stream, 1)
            result = await stream.subscribe("sim/ETH-USDT/trade")
            assert result.topics == 1
            assert [event.topic.symbol for event in await read(stream, 1)] == ["ETH-USDT"]
            server.cut()
            server.publish("sim/ETH-USDT/trade", *some(1))
            assert [(event.topic.symbol, event.sequence) for event in await read(stream, 1)] == [("ETH-USDT", 2)]
            await stream.unsubscribe(result.id)
            server.publish("sim/ETH-USDT/trade", *some(1))
            server.publish(NAME, *some(1))
            assert [event.topic.symbol for event in await read(stream, 1)] == ["BTC-USDT"]

        await self.play(shell, script)

    async def test_a_bookmark_carries_over_to_another_program(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            batches = client.batches("sim/BTC-USDT")
            seen = [await batches.__anext__()]
            server.heartbeat()
            server.publish(NAME, *some(1))
            seen.append(await batches.__anext__())
            assert batches.bookmark == b"at:2"
            await batches.aclose()
            server.publish(NAME, *some(2))
            later = client.stream("sim/BTC-USDT", bookmark=batches.bookmark)
            assert [event.sequence for event in await read(later, 3)] == [3, 4, 5]

        await self.play(shell, script)

    async def test_a_slow_program_waits_errs_drops_or_merges(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            quote = "sim/BTC-USDT/quote"
            server.publish(quote, Quote(1.0))
            streams = {
                choice: client.batches("sim/BTC-USDT", kinds="quote", on_slow=choice, buffer_max=10)
                for choice in ("wait", "error", "drop_oldest", "conflate")
            }
            for stream in streams.values():
                await stream.__anext__()
            for number in range(30):
                server.publish(quote, Quote(float(number)))
                await client.latest("sim/*")  # gives the others their turn
            with pytest.raises(BufferOverflow):
                await every(streams["error"])
            for choice in ("wait", "drop_oldest", "conflate"):
                record: list[Any] = []
                while not record or record[-1].sequence < 31:
                    record += (await streams[choice].__anext__()).events
                assert faults(record) == []
                assert len(record) == 30 if choice == "wait" else len(record) < 30

        await self.play(shell, script)

    async def test_an_error_of_on_change_is_the_programs_and_ends_the_stream(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            def fail(_: Any) -> None:
                raise BrokenPipeError("mine")

            with pytest.raises(BrokenPipeError, match="mine"):
                await read(client.stream("sim/BTC-USDT", on_change=fail), 1)
            assert server.connections == 1

        await self.play(shell, script)

    async def test_questions(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            server.instruments.append(Instrument("sim", "BTC-USDT", "btcusdt", price_increment="0.1"))
            status, image = await client.latest("sim/BTC-USDT")
            assert isinstance(status, StatusEvent)
            assert (image.trade, image.sequence) == (Trade(1.0, 1.0), 2)
            assert [entry.sequence for entry in await client.topics()] == [2]
            assert [one.price_increment for one in await client.instruments()] == ["0.1"]
            with pytest.raises(StreamEnded, match="UNIMPLEMENTED"):
                await client.feeds()

        await self.play(shell, script)

    async def test_a_loop_that_is_left_leaves_the_server_too(self, shell: Any) -> None:
        async def script(server: FakeServer, client: Client) -> None:
            server.publish(NAME, *some(2))
            async for _ in client.stream("sim/BTC-USDT"):
                break
            for _ in range(20):
                await client.latest("sim/*")
            assert server._streams() == []

        await self.play(shell, script)


class TestOverSockets:
    """The server as it is."""

    async def test_events_come_in_order_and_questions_are_answered(self, shell: Any) -> None:
        async with serving(TOPICS) as server:
            server.publish(Established([TRADE]), *trades(1, 3))

            async def program(connect: Any) -> list[Any]:
                async with connect(f"127.0.0.1:{server.port}") as client:
                    assert len(await client.topics("sim/*")) == 4
                    assert [event.trade.trade_id for event in await client.latest(NAME) if event.trade] == ["3"]
                    stream = client.stream("sim/BTC-USDT", kinds=["trade"])
                    record = await read(stream, 1)
                    in_server(token, server.publish, *trades(4, 2_000))
                    return record + await read(stream, 1_997)

            token = trio.lowlevel.current_trio_token()
            record = await shell(program)
            assert [event.sequence for event in record] == list(range(4, 2_002))
            assert record[-1].trade == Trade(100.0, 1.0, 1, "2000")

    async def test_refusals_and_nobody_there(self, shell: Any) -> None:
        async with serving(TOPICS) as server:

            async def program(connect: Any) -> None:
                async with connect(f"127.0.0.1:{server.port}") as client:
                    with pytest.raises(SubscriptionRefused, match="did you mean 'BTC-USDT'"):
                        await read(client.stream("sim/BTC-USDX"), 1)
                    with pytest.raises(SubscriptionRefused, match="'simm'"):
                        await client.latest("simm/*")
                    with pytest.raises(InvalidValue, match="did you mean 'BTC-USDT'"):
                        client.stream("sim/btc-usdt")
                with pytest.raises(ServerUnavailable, match=r"no server at 127\.0\.0\.1:1: Connection refused"):
                    async with connect("127.0.0.1:1"):
                        pass

            await shell(program)

    async def test_it_comes_back_to_a_server_that_has_restarted(self, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        create_server = socket.create_server
        token = trio.lowlevel.current_trio_token()
        restarted = trio.Event()
        port = 0

        async def program(connect: Any) -> list[Any]:
            changes: list[Any] = []
            async with connect(f"127.0.0.1:{port}", reconnect=Reconnect(base_s=0.02, cap_s=0.05)) as client:
                stream = client.stream("sim/BTC-USDT", on_change=changes.append)
                record = await read(stream, 1)
                in_server(token, restarted.set)
                record += await read(stream, 1)
                assert any(isinstance(change, Lost) for change in changes)
                return record

        record: list[Any] = []

        done = trio.Event()

        async def run() -> None:
            record.extend(await shell(program))
            done.set()

        async with trio.open_nursery() as nursery:
            async with serving(TOPICS) as server:
                port = server.port
                server.publish(Established([TRADE]), *trades(1, 3))
                nursery.start_soon(run)
                await restarted.wait()
            monkeypatch.setattr(socket, "create_server", lambda _: create_server(("127.0.0.1", port)))
            async with serving(TOPICS) as server:
                server.publish(Established([TRADE]), *trades(1, 5))
                await done.wait()
        assert faults(record) == []
        assert [type(event) for event in record] == [Event, GapEvent, Event]
        assert record[0].epoch != record[2].epoch

    async def test_two_with_one_client_id_are_one_too_many(self, shell: Any) -> None:
        async with serving(TOPICS) as server:
            server.publish(Established([TRADE]), *trades(1, 3))

            async def program(connect: Any) -> None:
                async with connect(f"127.0.0.1:{server.port}") as client:
                    older = client.stream(NAME, client_id="me")
                    await read(older, 1)
                    await read(client.stream(NAME, client_id="me"), 1)
                    with pytest.raises(Replaced):
                        await read(older, 1)

            await shell(program)

    async def test_a_program_that_does_not_read_is_told_what_it_missed(self, shell: Any) -> None:
        async with serving(TOPICS) as server:
            server.publish(Established([QUOTE]), quote(1))

            async def program(connect: Any) -> list[Any]:
                async with connect(f"127.0.0.1:{server.port}", reconnect=QUICK) as client:
                    stream = client.stream("sim/BTC-USDT", kinds="quote", on_slow="drop_oldest", buffer_max=50)
                    record = await read(stream, 1)
                    for first in range(2, 400, 50):
                        in_server(token, server.publish, *[quote(number) for number in range(first, first + 50)])
                        await client.latest("sim/*")
                    while record[-1].sequence < 402:
                        record.append(await stream.__anext__())
                    return record

            token = trio.lowlevel.current_trio_token()
            record = await shell(program)
            assert faults(record) == []
            assert any(isinstance(event, GapEvent) for event in record)


def quote(number: int) -> Any:
    from raven.adapter import Event as Published

    return Published(QUOTE, Quote(float(number), 1.0, number + 1.0, 1.0), number, number)


async def test_connect_finds_out_what_runs() -> None:
    server = FakeServer()
    server.publish(NAME, *some(1))

    async def program() -> int:
        async with raven.client.connect("fake", dial=server.dial) as client:
            return len(await client.latest("sim/*"))

    assert await program() == 2
    assert await on_asyncio(lambda _: program()) == 2
    assert await trio.to_thread.run_sync(lambda: raven.client.run(program)) == 2


async def test_an_error_of_the_block_goes_out_as_it_was_raised() -> None:
    server = FakeServer()
    with pytest.raises(KeyError):
        async with server.connect():
            raise KeyError("mine")


async def test_statuses_are_told_apart() -> None:
    server = FakeServer()
    server.publish(NAME, *some(1))
    with trio.fail_after(5):
        async with server.connect() as client:
            stream = client.stream(NAME)
            await read(stream, 1)
            server.set_status(NAME, State.STALE, "quiet")
            (event,) = await read(stream, 1)
            match event:
                case StatusEvent(payload=status):
                    assert (status.state, status.text) == (State.STALE, "quiet")
                case _:
                    raise AssertionError(event)


async def test_a_refusal_while_the_stream_runs_leaves_it_running() -> None:
    async with serving(TOPICS) as server:
        server.publish(Established([TRADE]), *trades(1, 3))
        with trio.fail_after(10):
            async with raven.client.connect(f"127.0.0.1:{server.port}") as client:
                stream = client.stream(NAME)
                await read(stream, 1)
                with pytest.raises(SubscriptionRefused, match="BTC-USDX"):
                    await stream.subscribe("sim/BTC-USDX/trade")
                server.publish(*trades(4, 4))
                assert (await read(stream, 1))[0].sequence == 5
