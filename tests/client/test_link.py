"""The connection beneath a call."""

from __future__ import annotations

import trio

from raven.client.link import dial
from raven.client.runtime import Address
from raven.client.trio import TrioRuntime


async def test_a_connection_speaks_before_its_first_call() -> None:
    """A server gives up one that does not say HTTP/2, and a program may open its client long before it asks for anything."""
    heard = b""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port: int = listener.socket.getsockname()[1]
    async with listener, trio.open_nursery() as nursery:
        link = await dial(TrioRuntime(nursery), Address("127.0.0.1", port), 5.0)
        stream = await listener.accept()
        with trio.fail_after(5):
            while b"PRI * HTTP/2.0" not in heard:
                data = await stream.receive_some()
                assert data
                heard += data
        await link.aclose()
        await stream.aclose()
