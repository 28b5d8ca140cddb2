"""The calls of one connection, from their headers to their status: grpclib's part of it, with its edges closed.

Every call gets an answer, whatever its headers are: grpclib leaves a stream open for ever when `-bin` metadata is no base64 or
a timeout has too many digits, and answers an unknown method without the content-type that grpc-go insists on. A call that is
reset before its task could start gives back what it held. What a path says is looked up and nothing else: it becomes no label
of a metric and no line of a log.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Requests".
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import attrs
import grpclib.server
import structlog
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.metadata import Deadline, encode_grpc_message
from grpclib.protocol import Stream
from grpclib.utils import DeadlineWrapper, Wrapper
from h2.exceptions import ProtocolError
from multidict import MultiDict

from raven.grpc.receiving import RavenStream

__all__ = ["DEADLINE_MAX_S", "Call", "Calls"]

log = structlog.stdlib.get_logger("raven.grpc")

DEADLINE_MAX_S = 366 * 86_400.0
"""A longer grpc-timeout counts as this one."""

Headers = Iterable[tuple[str, str]]
Metadata = MultiDict[str | bytes]

_CONTENT_TYPE = re.compile(r"application/grpc(\+proto)?(;.*)?", re.ASCII)
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NO_METADATA = frozenset({"te", "content-type", "user-agent"})


class Refused(Exception):
    """A call that is not taken, with the HTTP status that it is answered with; gRPC's own refusals are 200."""

    def __init__(self, status: Status, text: str, http_status: int = 200) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.http_status = http_status

    def headers(self) -> list[tuple[str, str]]:
        """Of an answer that consists of nothing else."""
        return [
            (":status", str(self.http_status)),
            ("content-type", "application/grpc"),
            ("grpc-status", str(self.status.value)),
            ("grpc-message", encode_grpc_message(self.text)),
            *([("allow", "POST")] if self.http_status == 405 else []),
        ]


@attrs.frozen
class Request:
    """The headers of a call that is taken.

    Args:
        path: of the method; it is served.
        timeout_s: until its deadline; None without one.
        encoding: of compressed messages (grpc-encoding), whether or not we have it.
    """

    path: str
    method: Handler
    timeout_s: float | None
    encoding: str | None
    metadata: Metadata
    user_agent: str | None


def read_headers(headers: Headers, mapping: Mapping[str, Handler]) -> Request:
    """The request that headers make.

    Raises:
        Refused: they make none.
    """
    named = dict(headers)
    _check_http(named)
    path = named.get(":path", "")
    method = mapping.get(path)
    if method is None:
        raise Refused(Status.UNIMPLEMENTED, "this server has no such method")
    timeout_s = parse_timeout(named["grpc-timeout"]) if "grpc-timeout" in named else None
    return Request(path, method, timeout_s, named.get("grpc-encoding"), parse_metadata(headers), named.get("user-agent"))


def _check_http(named: Mapping[str, str]) -> None:
    if named.get(":method") != "POST":
        raise Refused(Status.UNKNOWN, ":method: a call is a POST", 405)
    if not _CONTENT_TYPE.fullmatch(named.get("content-type", "")):
        raise Refused(Status.UNKNOWN, "content-type: application/grpc or application/grpc+proto would be valid", 415)
    if named.get("te") != "trailers":
        raise Refused(Status.UNKNOWN, "te: a client of gRPC sends 'te: trailers'", 400)


def parse_timeout(text: str) -> float:
    """Seconds that a grpc-timeout stands for, at most `DEADLINE_MAX_S`.

    >>> parse_timeout("250m")
    0.25

    Raises:
        Refused: it stands for none.
    """
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise Refused(Status.INVALID_ARGUMENT, "grpc-timeout: 1 to 8 digits and one of H, M, S, m, u, n would be valid")
    return min(int(match[1]) * _UNITS_S[match[2]], DEADLINE_MAX_S)


def parse_metadata(headers: Headers) -> Metadata:
    """What is not gRPC's own. Names that end in -bin have values of bytes; several may stand in one header.

    Raises:
        Refused: such a value is no base64, with or without padding.
    """
    metadata: Metadata = MultiDict()
    for name, value in headers:
        if name.startswith((":", "grpc-")) or name in _NO_METADATA:
            continue
        if not name.endswith("-bin"):
            metadata.add(name, value)
            continue
        for part in value.split(","):
            metadata.add(name, _parse_base64(name, part.strip()))
    return metadata


def _parse_base64(name: str, text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise Refused(Status.INVALID_ARGUMENT, f"{name[:80]}: its value is not base64") from None


class Call(grpclib.server.Stream[Any, Any]):
    """One call, as its method's code gets it."""

    _stream: RavenStream

    def __init__(self, stream: RavenStream, request: Request, calls: Calls) -> None:
        method = request.method
        super().__init__(
            stream,
            request.path,
            method.cardinality,
            method.request_type,
            method.reply_type,
            codec=calls.codec,
            status_details_codec=calls.status_details_codec,
            dispatch=calls.dispatch,
            deadline=None if request.timeout_s is None else Deadline.from_timeout(request.timeout_s),
            user_agent=request.user_agent,
        )
        self.metadata = cast(Any, request.metadata)
        self._encoding = request.encoding
        self._received = 0

    async def recv_message(self) -> Any:
        """The next request; None behind the last of a client that streams.

        Raises:
            GRPCError: it is missing, cut off, too long, or no message.
        """
        data = await self._stream.read_request(self._encoding)
        if data is not None:
            self._received += 1
            return self._codec.decode(data, self._recv_type)
        if not self._cardinality.client_streaming and not self._received:
            raise GRPCError(Status.INVALID_ARGUMENT, "the request is missing")
        return None


class Calls(grpclib.server.Handler):
    """The calls of one connection, each a task.

    What is over is forgotten when it is over. grpclib looks through all connections at every tenth that is made, and of ten
    thousand clients that come back at once that was four fifths of the server's time.
    """

    _leave: Callable[[Calls], None]

    @classmethod
    def on(cls, server: grpclib.server.Server) -> Calls:
        """For a new connection of `server`, which ends them when it closes."""
        calls = cls(server._mapping, server._codec, server._status_details_codec, server.__dispatch__)  # noqa: SLF001
        calls._leave = server._handlers.discard  # noqa: SLF001
        server._handlers.add(calls)  # noqa: SLF001
        return calls

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], Any]) -> None:
        """The headers of a call have come."""
        assert isinstance(stream, RavenStream)
        task = self.loop.create_task(self._serve(stream, headers))
        # Not in the task's own `finally`: one that is cancelled before its first step has none.
        task.add_done_callback(partial(self._over, stream, release_stream))
        self._tasks[stream] = task

    def _over(self, stream: Stream, release_stream: Callable[[], Any], task: asyncio.Task[None]) -> None:
        self._tasks.pop(stream, None)
        self._cancelled.discard(task)
        release_stream()
        self._leave_when_over()

    def close(self) -> None:
        """The connection is over: its calls are cancelled."""
        super().close()
        self._leave_when_over()

    def _leave_when_over(self) -> None:
        if self.closing and not self._tasks and not self._cancelled:
            self._leave(self)

    def cancel(self, stream: Stream) -> None:
        """The client, or h2, has reset a call."""
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()
            self._cancelled.add(task)

    async def _serve(self, stream: RavenStream, headers: Headers) -> None:
        """One call from end to end. Nothing leaves it but cancellation."""
        try:
            await self._answer(stream, headers)
        except (StreamTerminatedError, ProtocolError, OSError) as error:
            log.debug("a call ended with its client", error=f"{type(error).__name__}: {error}")
        except Exception:
            log.exception("a call broke")
        finally:
            if stream.wrapper is not None:
                stream.wrapper._error = None  # noqa: SLF001  whose traceback has the frames that hold the wrapper

    async def _answer(self, stream: RavenStream, headers: Headers) -> None:
        try:
            request = read_headers(headers, self.mapping)
        except Refused as refused:
            await stream.send_headers(refused.headers(), end_stream=True)
            if stream.closable:
                stream.reset_nowait()
            return
        async with Call(stream, request, self) as call:
            await _serve_in_time(stream, call, request.method)


async def _serve_in_time(stream: RavenStream, call: grpclib.server.Stream[Any, Any], method: Handler) -> None:
    """The method's code, which ends at the deadline, or when the client goes.

    No context manager made of a generator: its frames would hold the exception that ends them, and a call that is over would
    wait for the garbage collector.

    Raises:
        GRPCError: DEADLINE_EXCEEDED.
        StreamTerminatedError: the client has gone.
    """
    deadline = call.deadline
    wrapper = stream.wrapper = Wrapper() if deadline is None else DeadlineWrapper()
    try:
        if deadline is None:
            with wrapper:
                await method.func(call)
        else:
            with cast(DeadlineWrapper, wrapper).start(deadline), wrapper:
                await method.func(call)
    except TimeoutError:
        if wrapper.cancelled or (deadline is not None and not deadline.time_remaining()):
            raise GRPCError(Status.DEADLINE_EXCEEDED, "the deadline of the call has passed") from None
        raise
