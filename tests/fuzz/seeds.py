"""The corpus: valid requests and valid sessions, small, a file each. `python -m tests.fuzz.seeds` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import betterproto2
from grpclib.health.v1.health_pb2 import HealthCheckRequest
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest
from h2.connection import H2Connection
from h2.settings import SettingCodes

from raven.codec.generated.raven import v1
from tests.grpc.raw_calls import Headers, call_headers, framed
from tests.grpc.serving import subscription

__all__ = ["CORPUS", "requests", "sessions"]

CORPUS = Path(__file__).parent / "corpus"

TRADES = subscription("sim/BTC-USDT", v1.Kind.TRADE, id="t")
BOOKS = subscription("sim/*", v1.Kind.BOOK, v1.Kind.BOOK_TOP, variant="20", bookmark=b"forged")
RESUMED = subscription(
    "*/BTC-*",
    v1.Kind.TRADE,
    resume=[v1.ResumePoint(v1.Topic("sim", "BTC-USDT", v1.Kind.TRADE), 7, 9)],
    slow_consumer_policy=v1.SlowConsumerPolicy.DISCONNECT,
)
SELECTORS = [v1.TopicSelector("sim", "BTC-*", [v1.Kind.TRADE, v1.Kind.CANDLE], "1m"), v1.TopicSelector("*", "*")]
SUBSCRIBE = v1.SubscribeRequest(subscriptions=[TRADES, BOOKS, RESUMED], request_id=5)
UNSUBSCRIBE = v1.UnsubscribeRequest(ids=["t", "x"], selectors=SELECTORS, request_id=6)
HELLO = v1.Hello("fuzz", restore=True, bookmark=b"\1\2\3")
HISTORY = v1.GetHistoricalDataRequest(SELECTORS, 1, 2, 3, "p", 0.5, True, v1.GetHistoricalDataRequestClock.VENUE)

MESSAGES: dict[str, betterproto2.Message] = {
    "hello": v1.StreamMarketDataRequest(hello=HELLO),
    "subscribe": v1.StreamMarketDataRequest(subscribe=SUBSCRIBE),
    "unsubscribe": v1.StreamMarketDataRequest(unsubscribe=UNSUBSCRIBE),
    "ping": v1.StreamMarketDataRequest(ping=v1.Ping(2**63)),
    "authenticate": v1.StreamMarketDataRequest(authenticate=v1.Authenticate("token")),
    "watch": v1.WatchMarketDataRequest([TRADES, RESUMED]),
    "subscribe-away": v1.SubscribeRequest("fuzz", [TRADES, BOOKS], 7),
    "unsubscribe-away": v1.UnsubscribeRequest("fuzz", ["t"], SELECTORS, 8),
    "list-subscriptions": v1.ListSubscriptionsRequest("fuzz", 10, "eA=="),
    "latest": v1.GetLatestRequest(SELECTORS),
    "history": HISTORY,
    "instruments": v1.ListInstrumentsRequest("sim", "BTC-*", 5, ""),
    "topics": v1.ListTopicsRequest(SELECTORS, 2, ""),
    "start-feed": v1.StartFeedRequest("sim", SELECTORS, "x"),
    "clients": v1.ListClientsRequest(3, "eA==", "x"),
    "disconnect": v1.DisconnectClientRequest("fuzz", "why", "x"),
}


def _calls(*calls: tuple[Headers, list[bytes], bool]) -> bytes:
    """What a client sends that makes these calls, one after the other: headers, messages, whether it half closes."""
    h2 = H2Connection()
    h2.initiate_connection()
    h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2**20, SettingCodes.ENABLE_PUSH: 0})
    h2.increment_flow_control_window(2**20)
    for headers, messages, end in calls:
        stream_id = h2.get_next_available_stream_id()
        h2.send_headers(stream_id, headers, end_stream=end and not messages)
        for number, message in enumerate(messages, 1):
            h2.send_data(stream_id, framed(message), end_stream=end and number == len(messages))
    return h2.data_to_send()


def _frames_of_other_kinds() -> bytes:
    """A call, and what else a client may say."""
    h2 = H2Connection()
    h2.initiate_connection()
    h2.ping(b"12345678")
    h2.send_headers(1, call_headers("StreamMarketData", x_bin="YQ", grpc_timeout="1S"))
    h2.send_data(1, framed(bytes(MESSAGES["hello"])), pad_length=20)
    h2.prioritize(3, weight=8, depends_on=1)
    h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10, SettingCodes.MAX_FRAME_SIZE: 20_000})
    h2.send_data(1, framed(bytes(MESSAGES["subscribe"])))
    h2.increment_flow_control_window(1, 1)
    h2.send_headers(3, call_headers("ListTopics"))
    h2.reset_stream(3, 8)
    h2.send_headers(1, [("x-trailer", "1")], end_stream=True)
    h2.close_connection()
    return h2.data_to_send()


def requests() -> Iterator[tuple[str, bytes]]:
    """Names, the first part of which is the request's type, and valid bytes."""
    for name, message in MESSAGES.items():
        yield f"{type(message).__name__}.{name}", bytes(message)


def sessions() -> Iterator[tuple[str, bytes]]:
    """Names and what a client sends from its preface on."""
    stream = [bytes(MESSAGES[name]) for name in ("hello", "subscribe", "ping", "unsubscribe", "authenticate")]
    market = "/raven.v1.MarketDataService/"
    unary = {"ListTopics": "topics", "ListInstruments": "instruments", "ListSubscriptions": "list-subscriptions"}
    health, reflection = "/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    symbol = ServerReflectionRequest(file_containing_symbol="raven.v1.MarketDataService").SerializeToString()
    yield "stream", _calls((call_headers("StreamMarketData"), stream, False))
    yield "stream-ends", _calls((call_headers("StreamMarketData"), stream[:2], True))
    yield "watch", _calls((call_headers("WatchMarketData"), [bytes(MESSAGES["watch"])], True))
    yield "latest", _calls((call_headers("GetLatest"), [bytes(MESSAGES["latest"])], True))
    yield "unary", _calls(*((call_headers(path=market + path), [bytes(MESSAGES[name])], True) for path, name in unary.items()))
    away = [("Subscribe", "subscribe-away"), ("Unsubscribe", "unsubscribe-away")]
    yield "away", _calls(*((call_headers(path), [bytes(MESSAGES[name])], True) for path, name in away))
    checks = [HealthCheckRequest(service="").SerializeToString()]
    yield "health", _calls(*((call_headers(path=health + name), checks, True) for name in ("Check", "Watch")))
    yield "reflection", _calls((call_headers(path=reflection), [symbol, symbol], True))
    yield "other-frames", _frames_of_other_kinds()


def write() -> None:
    """The whole corpus."""
    for folder, made in (("requests", requests()), ("connections", sessions())):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, data in made:
            (CORPUS / folder / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    write()
