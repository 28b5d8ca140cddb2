"""`connect` on whichever library runs."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from raven.client.backoff import Reconnect
from raven.client.client import Client
from raven.client.runtime import Dialler

__all__ = ["connect"]


def connect(
    target: str = "localhost:50051",
    *,
    tls: bool | ssl.SSLContext = False,
    metadata: Mapping[str, str] | None = None,
    reconnect: Reconnect | None = None,
    dial: Dialler | None = None,
) -> AbstractAsyncContextManager[Client]:
    """A client of the server at `target`, on Trio under `trio.run` and on asyncio otherwise.

    Args:
        target: "host:port", "host" or "[::1]:port".
        tls: True = with the certificates that the system trusts; or a context.
        metadata: sent with each call, as {"authorization": "Bearer ..."}.
        reconnect: how streams come back.
        dial: how to connect, for tests.

    Raises, when it is entered:
        ServerUnavailable: nothing answers there.
        InvalidValue: `target` is no address.
    """
    if _in_trio():
        from raven.client.trio import connect as on_trio

        return on_trio(target, tls=tls, metadata=metadata, reconnect=reconnect, dial=dial)
    from raven.client.aio import connect as on_asyncio

    return on_asyncio(target, tls=tls, metadata=metadata, reconnect=reconnect, dial=dial)


def _in_trio() -> bool:
    """Whether the caller is a Trio task. Under trio-asyncio, code of asyncio is none."""
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        return False
    sniffio = sys.modules.get("sniffio")
    return sniffio is None or sniffio.current_async_library() == "trio"
