"""Bytes of a request stream, in-process: prefix, compression, the wire form, the fields. No socket, no loop."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from raven.codec.generated.raven import v1
from raven.errors import InvalidValue
from raven.grpc import requests as checks
from raven.grpc.calls import Refused, read_headers
from raven.grpc.codec import MessageCodec
from raven.grpc.receiving import RavenStream, RequestBuffer
from tests.codec.reference import assert_agrees, mutated, type_of
from tests.grpc.raw_calls import call_headers, framed

__all__ = ["Requests"]

EXPECTED = {Status.INTERNAL, Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED, Status.UNIMPLEMENTED}
ENCODERS: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": bytes,
}


class Requests:
    """One execution after the other.

    Args:
        corpus: valid requests, with the names of their types.
    """

    def __init__(self, corpus: Sequence[tuple[str, bytes]]) -> None:
        self._corpus = corpus
        self._codec = MessageCodec()

    def make(self, random: Random) -> bytes:
        """An input: the number of its type, how it says it is compressed, and what the stream carries."""
        number = random.randrange(len(self._corpus))
        encoding = random.choice((None, None, None, *ENCODERS))
        message = self._corpus[number][1]
        if random.random() < 0.9:
            message = mutated(message, random)
        stream = framed(ENCODERS[encoding](message), int(encoding is not None))
        if random.random() < 0.3:
            stream = mutated(stream, random)
        return bytes((number, list(ENCODERS).index(encoding))) + stream

    def run(self, data: bytes) -> None:
        """What a call does with it.

        Raises:
            AssertionError: it is accepted and should not be.
            Exception: anything that is no refusal.
        """
        name = self._corpus[data[0]][0]
        encoding = list(ENCODERS)[data[1]]
        try:
            for message in read_all(data[2:], encoding):
                assert_agrees(name, message)
                check(self._codec.decode(message, type_of(name)))
        except GRPCError as error:
            assert_refusal(error)
        try_headers(data[2:])


def read_all(data: bytes, encoding: str | None) -> list[bytes]:
    """The messages of a request stream that has ended; all of it is there, so nothing waits."""
    stream = RavenStream.__new__(RavenStream)
    buffer = stream.buffer = RequestBuffer(lambda _: None)
    for at in range(0, len(data), 7):
        buffer.add(data[at : at + 7], 7)
    buffer.eof()
    found: list[bytes] = []
    while (message := _finished(stream.read_request(encoding))) is not None:
        found.append(message)
    return found


def _finished(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for more of a stream that has ended")


def try_headers(data: bytes) -> None:
    """Bytes as the value of each header that we read."""
    text = data.decode("latin-1")
    for name in ("grpc_timeout", "x_bin", "content_type", "te", "path"):
        try:
            request = read_headers(call_headers(**{name: text}), {"/raven.v1.MarketDataService/ListTopics": None})  # type: ignore[dict-item]
        except Refused as refused:
            assert_printable(*(value for _, value in refused.headers()))
        else:
            assert request.timeout_s is None or request.timeout_s >= 0


def check(message: Any) -> None:
    """The checks of raven.grpc.requests, for all that such a message has."""
    for one in getattr(message, "subscriptions", ()):
        refusal(partial(checks.parse_subscription, one, lambda: "x"))
    selectors = getattr(message, "selectors", ())
    refusal(lambda: checks.parse_selectors(selectors, empty_ok=True))
    refusal(lambda: checks.check_client_id(getattr(message, "client_id", "")))
    refusal(lambda: checks.page([], str, getattr(message, "page_size", 0), getattr(message, "page_token", "")))
    if isinstance(message, v1.StreamMarketDataRequest):
        inner = (message.hello, message.subscribe, message.unsubscribe)
        assert sum(one is not None for one in (*inner, message.ping, message.authenticate)) <= 1
        for one in inner:
            if one is not None:
                check(one)


def refusal(run: Callable[[], object]) -> None:
    """Run a check; a refusal is what it is for."""
    try:
        run()
    except InvalidValue as error:
        assert_printable(str(error))


def assert_refusal(error: GRPCError) -> None:
    """One that a stranger may get."""
    assert error.status in EXPECTED, error
    assert_printable(error.message or "")


def assert_printable(*texts: str) -> None:
    """What is said to a stranger can be shown and logged, and is not long."""
    for text in texts:
        assert text.isascii(), text
        assert text.isprintable(), text
        assert len(text) < 600, text
