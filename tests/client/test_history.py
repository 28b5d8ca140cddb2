"""client.history against a real server over a store in memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import trio

import raven.client
import raven.client.sync
from raven.client.backoff import Reconnect
from raven.client.history import to_ns
from raven.client.link import dial as dial_grpc
from raven.client.runtime import Address, Link, Runtime
from raven.errors import InvalidValue, ServerUnavailable, StreamEnded, SubscriptionRefused
from raven.model.topic import Kind, Topic
from raven.store import query as query_module
from tests.client.shells import SHELLS
from tests.grpc.serving import serving
from tests.grpc.test_history import history_of
from tests.store.memory_history import BTC, ETH, MemoryHistory, trades

SECOND = 10**9
COUNT = 2_000
QUICK = Reconnect(base_s=0.001, cap_s=0.01)


def large() -> MemoryHistory:
    store = MemoryHistory()
    for number in range(0, COUNT, 100):
        store.write([trades(BTC, 1, 1 + number, [((1 + number + n) * SECOND, None) for n in range(100)])])
    store.write([trades(ETH, 3, 1, [(5 * SECOND + 1, 7 * SECOND), (9 * SECOND + 1, None)])])
    return store


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server that runs in a thread, as long as the module does; its messages are small."""
    started, stop, there = threading.Event(), trio.Event(), list[Any]()

    async def run() -> None:
        async with history_of(large()) as server:
            there.extend((server.port, trio.lowlevel.current_trio_token()))
            started.set()
            await stop.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_module, "CHUNK_BYTES_MAX", 10_000)
        thread = threading.Thread(target=trio.run, args=(run,))
        thread.start()
        started.wait(10)
        yield there[0]
        trio.from_thread.run_sync(stop.set, trio_token=there[1])
        thread.join(10)


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_range_to_its_end(shell: str, port: int) -> None:
    async def program(connect: Callable[..., Any]) -> None:
        async with connect(f"127.0.0.1:{port}") as client:
            stream = client.history("sim/*", start=0)
            assert stream.complete is None
            events = [event async for event in stream]
            assert len(events) == COUNT + 2
            assert [event.received_ts_ns for event in events] == sorted(event.received_ts_ns for event in events)
            assert events[0].trade.price == 1.5
            assert stream.complete is True
            points = {(point.topic.symbol, point.epoch, point.sequence) for point in stream.resume_points()}
            assert points == {("BTC-USDT", 1, COUNT), ("ETH-USDT", 3, 2)}

    await SHELLS[shell](program)


async def on_trio(port: int, program: Callable[[raven.client.Client], Awaitable[None]], **options: Any) -> None:
    async def run(connect: Callable[..., Any]) -> None:
        async with connect(f"127.0.0.1:{port}", **options) as client:
            await program(client)

    await SHELLS["trio"](run)


async def test_every_argument(port: int) -> None:
    async def program(client: raven.client.Client) -> None:
        start, end = datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC), 9 * SECOND
        assert [e.sequence async for e in client.history("sim/BTC-USDT", start=start, end=end)] == [5, 6, 7, 8]
        assert [e.sequence async for e in client.history("sim/ETH-USDT/trade", clock="venue", end=8 * SECOND)] == [1]
        assert len([e async for e in client.history("sim/*", kinds="trade,quote", limit=333)]) == 333
        images = [e async for e in client.history("sim/*", start=start, limit=1, include_image=True)]
        assert [(e.is_image, e.topic.symbol) for e in images] == [(True, "BTC-USDT"), (False, "BTC-USDT")]
        assert [e.sequence async for e in client.history("sim/BTC-USDT", limit=3, speed=1000.0)] == [1, 2, 3]
        assert [e async for e in client.history("sim/*", kinds="book")] == []

    await on_trio(port, program)


class Breaking:
    """A link that breaks after a few messages."""

    def __init__(self, link: Link, messages: int) -> None:
        self._link = link
        self._left = messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def receive(self, timeout_s: float | None = None) -> list[bytes]:
        if not self._left:
            raise ConnectionResetError("the cable was cut")
        messages = (await self._link.receive(timeout_s))[: self._left]
        self._left -= len(messages)
        return messages


@pytest.mark.parametrize("limit", [0, 1_234])
async def test_a_broken_connection_is_gone_on_with(port: int, limit: int) -> None:
    dialled = 0

    async def dial(runtime: Runtime) -> Any:
        nonlocal dialled
        dialled += 1
        link = await dial_grpc(runtime, Address("127.0.0.1", port), 5.0)
        return Breaking(link, dialled % 3)

    async def program(client: raven.client.Client) -> None:
        nonlocal dialled
        stream = client.history("sim/BTC-USDT", limit=limit)
        assert [event.sequence async for event in stream] == list(range(1, 1 + (limit or COUNT)))
        assert dialled > 8

    await on_trio(port, program, dial=dial, reconnect=QUICK)


async def test_a_server_that_does_not_come_back_is_told(port: int) -> None:
    alive = True

    async def dial(runtime: Runtime) -> Any:
        if not alive:
            raise ConnectionRefusedError(111, "refused")
        return Breaking(await dial_grpc(runtime, Address("127.0.0.1", port), 5.0), 2)

    async def program(client: raven.client.Client) -> None:
        nonlocal alive
        stream = client.history("sim/BTC-USDT")
        await anext(stream)
        alive = False
        with pytest.raises(ServerUnavailable, match="no server at"):
            async for _ in stream:
                pass
        assert stream.complete is None

    await on_trio(port, program, dial=dial, reconnect=Reconnect(base_s=0.001, cap_s=0.01, give_up_s=0.05))


async def test_a_page_token_goes_on_in_another_program(port: int) -> None:
    async def program(client: raven.client.Client) -> None:
        stream = client.history("sim/BTC-USDT")
        seen: dict[int, None] = {}
        async for event in stream:
            seen[event.sequence] = None
            if event.sequence == 700:
                break
        token = stream.page_token
        async for event in client.history("sim/BTC-USDT", page_token=token):
            seen[event.sequence] = None
        assert list(seen) == list(range(1, COUNT + 1))
        rest = client.history("sim/BTC-USDT", page_token=token)
        assert len([event async for event in rest]) < COUNT - 500
        assert [event async for event in client.history("sim/BTC-USDT", page_token=rest.page_token)] == []

    await on_trio(port, program)


@pytest.mark.parametrize("shell", ["trio", "asyncio"])
async def test_a_loop_that_is_left_ends_the_call(shell: str, port: int) -> None:
    async def program(connect: Callable[..., Any]) -> None:
        async with connect(f"127.0.0.1:{port}") as client:
            async for _ in client.history("sim/*"):
                break
            gc.collect()
            async with client.history("sim/*") as stream:
                await anext(stream)
            with pytest.raises(StopAsyncIteration):  # noqa: PT012  what was read already still comes
                while True:
                    await anext(stream)

    await SHELLS[shell](program)


def test_without_async(port: int) -> None:
    with raven.client.sync.connect(f"127.0.0.1:{port}") as client:
        stream = client.history("sim/BTC-USDT", limit=10)
        assert [event.sequence for event in stream] == list(range(1, 11))
        assert stream.complete is True
        again = client.history("sim/BTC-USDT", page_token=stream.page_token, limit=2)
        assert [event.sequence for event in again] == [11, 12]


async def test_a_server_without_history_says_so() -> None:
    async def program(client: raven.client.Client) -> None:
        with pytest.raises(StreamEnded, match=r"FAILED_PRECONDITION: .*\[history\] backend"):
            await anext(client.history("sim/*"))

    async with serving([Topic("sim", "BTC-USDT", Kind.TRADE)]) as server:
        await on_trio(server.port, program)


async def test_what_the_server_refuses_is_raised(port: int) -> None:
    async def program(client: raven.client.Client) -> None:
        with pytest.raises(SubscriptionRefused, match=r"page_token: 'x' is not valid"):
            await anext(client.history("sim/*", page_token="x"))
        with pytest.raises(SubscriptionRefused, match="replay_speed"):
            await anext(client.history("sim/*", speed=1e9))

    await on_trio(port, program)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": datetime(2026, 1, 1)}, "start: '2026-01-01T00:00:00' is not valid: a datetime with a time zone"),  # noqa: DTZ001
        ({"start": -1}, "start: -1 is not valid"),
        ({"end": 2**63}, "end: 9223372036854775808 is not valid"),
        ({"start": 5, "end": 4}, "end: '4' is not valid: not before start"),
        ({"limit": -1}, "limit: -1 is not valid"),
        ({"speed": -1.0}, "speed: -1.0 is not valid"),
        ({"speed": float("nan")}, "speed: nan is not valid"),
        ({"clock": "wall"}, "clock: 'wall' is not valid: valid are received, venue"),
        ({"kinds": "trades"}, "kinds: 'trades' is not valid: did you mean 'trade'?"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(port: int, options: dict[str, Any], text: str) -> None:
    async def program(client: raven.client.Client) -> None:
        with pytest.raises(InvalidValue) as caught:
            client.history("sim/*", **options)
        assert str(caught.value).startswith(text)

    await on_trio(port, program)


def test_times() -> None:
    assert to_ns(None, "start") == 0
    assert to_ns(5, "start") == 5
    there = timezone(timedelta(hours=2))
    assert to_ns(datetime(2026, 1, 1, 2, 0, 0, 123_456, tzinfo=there), "start") == 1_767_225_600_123_456_000
