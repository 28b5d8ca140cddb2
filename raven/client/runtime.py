"""What the library needs of Trio or asyncio, as protocols; `raven.client.aio` and `raven.client.trio` provide them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import attrs

__all__ = ["Address", "CallOver", "Dial", "Dialler", "Link", "Runtime", "Socket", "Wakeup", "reason_of"]


@attrs.frozen
class Address:
    """Where a server is, and how it is spoken to."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class CallOver(Exception):  # how every call ends
    """A call has ended, with the name of its gRPC status."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class Socket(Protocol):
    """A connected stream of bytes."""

    async def send_all(self, data: bytes) -> None:
        """Send everything; calls from several tasks are served one after the other. OSError when it is broken."""

    async def receive_some(self, timeout_s: float | None) -> bytes:
        """What has come; empty at the end. TimeoutError after `timeout_s`, with nothing lost. OSError when it is broken."""

    async def aclose(self) -> None:
        """Close it."""


class Wakeup(Protocol):
    """Wakes the one task that waits, or lets its next wait through."""

    def set(self) -> None:
        """Wake it."""

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait for that. TimeoutError after `timeout_s`."""


class Runtime(Protocol):
    """Tasks and time."""

    def now(self) -> float:
        """Seconds of a clock that never jumps."""

    async def sleep(self, seconds: float) -> None:
        """Wait so long; 0 lets others run."""

    def wakeup(self) -> Wakeup:
        """A new one."""

    def spawn(self, run: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run a task until it ends or the client is closed; what is returned cancels it.

        It may be called from any thread, and when nothing runs any more: a stream that was left by `break` is ended by the
        garbage collector, which calls from wherever it is.
        """

    async def open_socket(self, address: Address, timeout_s: float) -> Socket:
        """Connect. OSError or TimeoutError when that cannot be."""


class Link(Protocol):
    """One connection to a server, one call at a time."""

    async def start(self, path: str, timeout_s: float | None = None) -> None:
        """Begin a call."""

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message of the call, `end`: the last. OSError when the connection is broken."""

    async def receive(self, timeout_s: float | None = None) -> list[bytes]:
        """The messages that have come, at least one. CallOver at the end, TimeoutError after `timeout_s`, OSError."""

    async def aclose(self) -> None:
        """Give up the call and the connection; who waits in `receive` gets an OSError. A second time it does nothing."""

    @property
    def usable(self) -> bool:
        """Whether another call can be begun."""


Dial = Callable[[], Awaitable[Link]]
"""A new connection. OSError or TimeoutError when there is none to be had."""

Dialler = Callable[[Runtime], Awaitable[Link]]
"""The same, told what runs it."""


UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})
"""OpenSSL's X509_V_ERR_ codes where the certificate may be good, and nobody that is trusted here says so.

Source: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
"""

NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"})
"""OpenSSL's reasons where what came was no TLS at all."""


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message or str(error)
        known = error.verify_code not in UNKNOWN_AUTHORITY
        return said if known else f"{said}: trust who signed it (an SSLContext in Python, --ca on the command line)"
    if error.reason in NO_TLS:
        return f"what answers there speaks none ({error.reason})"
    return error.reason or str(error)


def reason_of(error: OSError) -> str:
    """Why there is no connection, in words."""
    cause: BaseException | None = error.__cause__
    if isinstance(cause, BaseExceptionGroup):  # Trio has tried several addresses
        cause = next((one for one in cause.exceptions if isinstance(one, OSError)), None)
    cause = cause if isinstance(cause, OSError) else error
    if isinstance(cause, ssl.SSLError):
        return f"TLS: {_tls_reason(cause)}"
    if cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
