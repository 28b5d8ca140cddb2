"""What a raw reader says first, by protocol, and how it knows that it is subscribed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from _counters import Shape
from _trades import VENUE
from hpack import Encoder

from raven.codec.generated.raven import v1
from raven.model.topic import Topic

__all__ = ["CHANNEL", "Greeting", "grpc", "nats", "raven", "redis", "selectors_of"]

CHANNEL = "bench"
WINDOW = 2**31 - 1  # the largest there is: no need to open it again within a run
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS_ENABLE_PUSH, SETTINGS_INITIAL_WINDOW_SIZE = 2, 4
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4


@dataclass(frozen=True)
class Greeting:
    """One reader's beginning.

    Args:
        request: what it sends, as hex.
        grpc: whether the answer is gRPC over HTTP/2; otherwise events stand in fixed bytes.
        messages: gRPC messages that come before it is subscribed.
        answer: the end of what the server says before the first event, as hex; not for gRPC.
        size: of an event with the bytes around it; not for gRPC.
        before: bytes in front of each event; not for gRPC.
    """

    request: str
    grpc: bool = False
    messages: int = 0
    answer: str = ""
    size: int = 0
    before: int = 0

    @property
    def facts(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def raven(
    selectors: Sequence[tuple[str, str]], *, window: int = WINDOW, client_id: str = "", bookmark: bytes = b""
) -> Greeting:
    """StreamMarketData with a Subscribe: Welcome, SubscribeResponse and the statuses come first.

    Args:
        selectors: venue and symbol of each subscription, of trades.
        bookmark: of an earlier stream, to go on behind it; then what was missed comes before the statuses.
    """
    subscriptions = [
        v1.Subscription(selector=v1.TopicSelector(venue, symbol, [v1.Kind.TRADE]), bookmark=bookmark)
        for venue, symbol in selectors
    ]
    requests = (
        v1.StreamMarketDataRequest(hello=v1.Hello(client_id=client_id)),
        v1.StreamMarketDataRequest(subscribe=v1.SubscribeRequest(subscriptions=subscriptions)),
    )
    call = _call("/raven.v1.MarketDataService/StreamMarketData", [bytes(request) for request in requests], window)
    return Greeting(call.hex(), grpc=True, messages=3)


def selectors_of(topics: Sequence[Topic]) -> list[tuple[str, str]]:
    """Exact ones."""
    return [(VENUE, topic.symbol) for topic in topics]


def grpc() -> Greeting:
    """WatchMarketData, one request: for servers that need not know what is asked for. Subscribed when headers come."""
    request = v1.WatchMarketDataRequest([v1.Subscription(selector=v1.TopicSelector(VENUE, "*", [v1.Kind.TRADE]))])
    call = _call("/raven.v1.MarketDataService/WatchMarketData", [bytes(request)], WINDOW, end=True)
    return Greeting(call.hex(), grpc=True)


def redis(shape: Shape) -> Greeting:
    """SUBSCRIBE; RESP 2 push messages."""
    answer = f"*3\r\n$9\r\nsubscribe\r\n${len(CHANNEL)}\r\n{CHANNEL}\r\n:1\r\n".encode()
    before = f"*3\r\n$7\r\nmessage\r\n${len(CHANNEL)}\r\n{CHANNEL}\r\n${shape.size}\r\n".encode()
    return _fixed(f"SUBSCRIBE {CHANNEL}\r\n".encode(), answer, before, shape)


def nats(shape: Shape) -> Greeting:
    """CONNECT and SUB; PONG says that both were taken."""
    connect = json.dumps({"verbose": False, "pedantic": False})
    before = f"MSG {CHANNEL} 1 {shape.size}\r\n".encode()
    return _fixed(f"CONNECT {connect}\r\nSUB {CHANNEL} 1\r\nPING\r\n".encode(), b"PONG\r\n", before, shape)


def _fixed(request: bytes, answer: bytes, before: bytes, shape: Shape) -> Greeting:
    size = len(before) + shape.size + len(b"\r\n")
    return Greeting(request.hex(), answer=answer.hex(), size=size, before=len(before))


def _call(path: str, requests: Sequence[bytes], window: int, *, end: bool = False) -> bytes:
    headers = Encoder().encode(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
    )
    settings = _setting(SETTINGS_ENABLE_PUSH, 0) + _setting(SETTINGS_INITIAL_WINDOW_SIZE, window)
    opened = _frame(WINDOW_UPDATE, 0, 0, (WINDOW - 65_535).to_bytes(4, "big"))
    body = b"".join(b"\0" + len(request).to_bytes(4, "big") + request for request in requests)
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, settings)
        + opened
        + _frame(HEADERS, END_HEADERS, 1, headers)
        + _frame(DATA, END_STREAM if end else 0, 1, body)
    )


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
