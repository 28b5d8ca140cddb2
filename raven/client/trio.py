"""The client library on Trio. Nothing of asyncio runs."""

from __future__ import annotations

import math
import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from raven.client.backoff import Reconnect
from raven.client.client import Client
from raven.client.runtime import Address, Dialler, Socket, Wakeup
from raven.client.selectors import address_of

__all__ = ["Client", "TrioRuntime", "connect"]

READ_BYTES = 256 * 1024


@asynccontextmanager
async def connect(
    target: str = "localhost:50051",
    *,
    tls: bool | ssl_module.SSLContext = False,
    metadata: Mapping[str, str] | None = None,
    reconnect: Reconnect | None = None,
    dial: Dialler | None = None,
) -> AsyncIterator[Client]:
    """A client of the server at `target`. Arguments and errors as of `raven.client.connect`."""
    address = address_of(target, tls, metadata)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        client = Client(TrioRuntime(nursery), address, reconnect or Reconnect(), dial)
        try:
            await client.open()
            yield client
        # The nursery would put what the block raises into a group; it goes out as it was raised.
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            failure = error
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await client.aclose()
    if failure is not None:
        raise failure


class TrioRuntime:
    """See `raven.client.runtime.Runtime`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def now(self) -> float:
        """Seconds of Trio's clock."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""
        await trio.sleep(seconds)

    def wakeup(self) -> Wakeup:
        """A new one."""
        return _Wakeup()

    def spawn(self, run: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run a task until it ends or the nursery does."""
        scope = trio.CancelScope()
        self._nursery.start_soon(_run_in, scope, run)
        return partial(_cancel, trio.lowlevel.current_trio_token(), scope)

    async def open_socket(self, address: Address, timeout_s: float) -> Socket:
        """Connect."""
        with trio.move_on_after(timeout_s):
            stream: trio.abc.Stream = await trio.open_tcp_stream(address.host, address.port)
            if address.tls is not None:
                address.tls.set_alpn_protocols(["h2"])
                stream = await _with_tls(stream, address.tls, address.host)
            return _Socket(stream)
        raise TimeoutError


def _cancel(token: trio.lowlevel.TrioToken, scope: trio.CancelScope) -> None:
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(scope.cancel)


async def _run_in(scope: trio.CancelScope, run: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await run()


class _Wakeup:
    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        with trio.move_on_after(_limit(timeout_s)):
            await self._event.wait()
            self._event = trio.Event()
            return
        raise TimeoutError


async def _with_tls(stream: trio.abc.Stream, tls: ssl_module.SSLContext, host: str) -> trio.abc.Stream:
    whole = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    try:
        await whole.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise ConnectionError("the connection was lost in the TLS handshake") from error.__cause__
        raise
    return whole


def _limit(timeout_s: float | None) -> float:
    return math.inf if timeout_s is None else max(timeout_s, 0.0)


class _Socket:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._sending = trio.Lock()

    async def send_all(self, data: bytes) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionResetError("the connection was lost") from error

    async def receive_some(self, timeout_s: float | None) -> bytes:
        with trio.move_on_after(_limit(timeout_s)):
            try:
                return bytes(await self._stream.receive_some(READ_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionResetError("the connection was lost") from error
        raise TimeoutError

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)
