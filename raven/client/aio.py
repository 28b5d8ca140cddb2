"""The client library on asyncio, also under uvloop."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from raven.client.backoff import Reconnect
from raven.client.client import Client
from raven.client.quiet import quiet_interrupt
from raven.client.runtime import Address, Dialler, Socket, Wakeup
from raven.client.selectors import address_of

__all__ = ["AsyncioRuntime", "Client", "connect", "run"]

CLOSE_S = 0.2
"""What is left to be sent may take so long, and a peer to end TLS, which it need not."""
READ_BYTES = 256 * 1024

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in a new asyncio loop. Ctrl-C raises KeyboardInterrupt; one that nobody catches ends the program quietly."""
    with quiet_interrupt():
        return asyncio.run(main())


@asynccontextmanager
async def connect(
    target: str = "localhost:50051",
    *,
    tls: bool | ssl_module.SSLContext = False,
    metadata: Mapping[str, str] | None = None,
    reconnect: Reconnect | None = None,
    dial: Dialler | None = None,
) -> AsyncIterator[Client]:
    """A client of the server at `target` ("host:port"). Its streams end with the block.

    Args:
        target: "host:port", "host" or "[::1]:port".
        tls: True = with the certificates that the system trusts; or a context.
        metadata: sent with each call, as {"authorization": "Bearer ..."}.
        reconnect: how streams come back.
        dial: how to connect, for tests.

    Raises:
        ServerUnavailable: nothing answers there.
        InvalidValue: `target` is no address.
    """
    runtime = AsyncioRuntime()
    client = Client(runtime, address_of(target, tls, metadata), reconnect or Reconnect(), dial)
    try:
        await client.open()
        yield client
    finally:
        await runtime.aclose()
        await client.aclose()


class AsyncioRuntime:
    """See `raven.client.runtime.Runtime`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""
        await asyncio.sleep(seconds)

    def wakeup(self) -> Wakeup:
        """A new one."""
        return _Wakeup()

    def spawn(self, run: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run a task until it ends or `aclose`."""
        task = asyncio.ensure_future(_awaited(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return partial(_cancel, task)

    async def open_socket(self, address: Address, timeout_s: float) -> Socket:
        """Connect."""
        if address.tls is not None:
            address.tls.set_alpn_protocols(["h2"])
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                address.host,
                address.port,
                limit=READ_BYTES,
                ssl=address.tls,
                server_hostname=address.host if address.tls else None,
            )
        return _Socket(reader, writer)

    async def aclose(self) -> None:
        """Cancel all tasks and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception):
                raise done


def _cancel(task: asyncio.Task[None]) -> None:
    with suppress(RuntimeError):  # the loop is closed
        task.get_loop().call_soon_threadsafe(task.cancel)


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


class _Wakeup:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        async with asyncio.timeout(timeout_s):
            await self._event.wait()
        self._event.clear()


class _Socket:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send_all(self, data: bytes) -> None:
        if self._writer.is_closing():  # uvloop would raise RuntimeError
            raise ConnectionResetError("the connection was closed")
        self._writer.write(data)
        await self._writer.drain()

    async def receive_some(self, timeout_s: float | None) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await self._reader.read(READ_BYTES)

    async def aclose(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()
        except OSError:  # also after CLOSE_S
            self._writer.transport.abort()
            await asyncio.sleep(0)
