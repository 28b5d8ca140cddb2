"""A small venue with trades, books and a REST snapshot: an adapter that keeps every rule, for others to break."""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar

import attrs
import msgspec

from raven.adapter import (
    Adapter,
    Capabilities,
    Connection,
    Count,
    Established,
    Event,
    FeedSpec,
    Fetch,
    FrameError,
    Kind,
    Output,
    Reply,
    Resync,
    Send,
    Session,
    Topic,
    Wakeup,
)
from raven.model.events import BookDelta, BookSnapshot, Side, StatusCause, Trade
from raven.testing import Answer, ConformanceKit, Frame, LateSubscription, Scenario

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
BTC = Topic("toy", "BTC-USD", Kind.TRADE)
BOOK = Topic("toy", "BTC-USD", Kind.BOOK)
ETH = Topic("toy", "ETH-USD", Kind.TRADE)
KEEP_ALIVE_NS = 5_000 * MS
RETRY_NS = 1_000 * MS

Levels = list[tuple[float, float]]


class Ok(msgspec.Struct, tag_field="ch", tag="ok"):
    topic: str


class TradeFrame(msgspec.Struct, tag_field="ch", tag="trade"):
    sym: str
    id: int
    p: float
    q: float
    t: int


class DeltaFrame(msgspec.Struct, tag_field="ch", tag="delta"):
    sym: str
    seq: int
    b: Levels
    a: Levels


class Snapshot(msgspec.Struct):
    seq: int
    b: Levels
    a: Levels


frame_decoder: Any = msgspec.json.Decoder(Ok | TradeFrame | DeltaFrame, strict=False)
snapshot_decoder: Any = msgspec.json.Decoder(Snapshot, strict=False)


class ToySession(Session):
    """Subscribes; trades pass on, a book waits for its snapshot."""

    def __init__(self, topics: Sequence[Topic], memory: MutableMapping[str, Any]) -> None:
        self.topics = {str(topic): topic for topic in topics}
        self.last: dict[str, int] = memory.setdefault("last", {})
        self.seq: dict[str, int] = {}
        self.asked: set[str] = set()

    def decode(self, data: bytes, decoder: Any = frame_decoder) -> Any:
        try:
            message = decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(str(error)) from error
        self.check(message)
        return message

    def check(self, message: Any) -> None:
        levels = [number for level in (*getattr(message, "b", ()), *getattr(message, "a", ())) for number in level]
        if not all(map(math.isfinite, (*levels, getattr(message, "p", 0.0), getattr(message, "q", 0.0)))):
            raise FrameError("a number is not finite")
        if not 0 <= max(getattr(message, name, 0) for name in ("id", "seq", "t")) < 2**53:
            raise FrameError("an id or a time is too large")

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        return [*(Send(f"+{name}") for name in self.topics), Wakeup(KEEP_ALIVE_NS)]

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        return [
            Send("ping"),
            *(self.fetch(topic) for topic in self.topics.values() if topic.symbol in self.asked),
            Wakeup(KEEP_ALIVE_NS),
        ]

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        new = {str(topic): topic for topic in topics if str(topic) not in self.topics}
        self.topics |= new
        return [Send(f"+{name}") for name in new]

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        gone = [name for name in map(str, topics) if self.topics.pop(name, None)]
        for topic in topics:
            if topic.kind is Kind.BOOK:
                self.seq.pop(topic.symbol, None)
                self.asked.discard(topic.symbol)
        return [Send(f"-{name}") for name in gone]

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        match self.decode(frame):
            case Ok() as ok if ok.topic in self.topics:
                return self.confirmed(self.topics[ok.topic])
            case TradeFrame() as trade:
                return self.on_trade(trade, received_ts_ns)
            case DeltaFrame() as delta:
                return self.on_delta(delta, received_ts_ns)
        return []

    def confirmed(self, topic: Topic) -> list[Output]:
        if topic.kind is not Kind.BOOK:
            return [Established([topic])]
        self.asked.add(topic.symbol)
        return [Established([topic]), self.fetch(topic)]

    def fetch(self, topic: Topic) -> Fetch:
        return Fetch(f"https://toy.invalid/book?symbol={topic.symbol}", f"book:{topic.symbol}", topic)

    def on_trade(self, trade: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        topic = self.topics.get(f"toy/{trade.sym}/trade")
        if topic is None:
            return [Count("unknown_topic")]
        if self.is_repeat(trade):
            return [Count("repeated_event")]
        self.last[trade.sym] = trade.id
        return [Event(topic, Trade(trade.p, trade.q, Side.BUY, str(trade.id)), received_ts_ns, trade.t * MS)]

    def is_repeat(self, trade: TradeFrame) -> bool:
        return trade.id <= self.last.get(trade.sym, 0)

    def on_delta(self, delta: DeltaFrame, received_ts_ns: int) -> Sequence[Output]:
        topic = self.topics.get(f"toy/{delta.sym}/book")
        seq = self.seq.get(delta.sym)
        if topic is None or seq is None or delta.seq <= seq:
            return [Count("unwanted")]
        if delta.seq > seq + 1:
            del self.seq[delta.sym]
            self.asked.add(delta.sym)
            return [Resync(topic, StatusCause.SEQUENCE_GAP, f"{delta.seq} after {seq}"), self.fetch(topic)]
        self.seq[delta.sym] = delta.seq
        return [Event(topic, BookDelta(*columns(delta.b), *columns(delta.a), delta.seq), received_ts_ns)]

    def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
        topic = request.topic
        if topic is None or topic.symbol not in self.asked or str(topic) not in self.topics:
            return []
        if not reply.ok:
            return [Wakeup(RETRY_NS)]
        try:
            book = self.decode(reply.body, snapshot_decoder)
        except FrameError:
            return [Wakeup(RETRY_NS)]
        self.asked.discard(topic.symbol)
        self.seq[topic.symbol] = book.seq
        return [Event(topic, BookSnapshot(*columns(book.b), *columns(book.a), book.seq), reply.received_ts_ns)]


def columns(levels: Levels) -> tuple[list[float], list[float]]:
    return [price for price, _ in levels], [size for _, size in levels]


@attrs.frozen
class ToyOptions:
    depth: int = 10


class ToyAdapter(Adapter):
    """Makes sessions of `session_type`."""

    api: ClassVar[int] = 1
    title: ClassVar[str] = "Toy"
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({Kind.TRADE, Kind.BOOK}))
    options_type: ClassVar[type] = ToyOptions
    session_type: ClassVar[type[ToySession]] = ToySession

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        return (Connection("main", "wss://toy.invalid/ws", feed.topics),)

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        return self.session_type(connection.topics, memory)


def trade(trade_id: int, price: str, symbol: str = "BTC-USD") -> str:
    return f'{{"ch":"trade","sym":"{symbol}","id":{trade_id},"p":"{price}","q":"0.5","t":1700000000100,"x":"é","y":7.25}}'


def delta(seq: int, price: str) -> str:
    return f'{{"ch":"delta","sym":"BTC-USD","seq":{seq},"b":[["{price}","2"]],"a":[]}}'


FRAMES = (
    (10, '{"ch":"ok","topic":"toy/BTC-USD/trade"}'),
    (10, '{"ch":"ok","topic":"toy/BTC-USD/book"}'),
    (110, trade(1, "64000.1")),
    (115, trade(7, "3200.01", "ETH-USD")),
    (120, delta(101, "63999.5")),
    (130, trade(2, "64000.2")),
    (140, delta(103, "63999.4")),
    (200, delta(104, "63999.3")),
    (300, '{"ch":"ok","topic":"toy/ETH-USD/trade"}'),
    (310, trade(8, "3200.02", "ETH-USD")),
    (320, delta(106, "63999.2")),
)

ANSWERS = (
    Answer("book:BTC-USD", b'{"seq":100,"b":[["63999","1"]],"a":[["64001","1"]]}', after_ns=20 * MS),
    Answer("/book?", b'{"seq":105,"b":[["63998","1"]],"a":[]}', after_ns=100 * MS),
)


def at(milliseconds: int) -> int:
    return START_NS + milliseconds * MS


EVENTS = (
    Event(BOOK, BookSnapshot([63999.0], [1.0], [64001.0], [1.0], 100), at(30)),
    Event(BTC, Trade(64000.1, 0.5, Side.BUY, "1"), at(110), at(100)),
    Event(BOOK, BookDelta([63999.5], [2.0], venue_sequence=101), at(120)),
    Event(BTC, Trade(64000.2, 0.5, Side.BUY, "2"), at(130), at(100)),
    Event(BOOK, BookSnapshot([63998.0], [1.0], (), (), 105), at(240)),
    Event(ETH, Trade(3200.02, 0.5, Side.BUY, "8"), at(310), at(100)),
    Event(BOOK, BookDelta([63999.2], [2.0], (), (), 106), at(320)),
)

SCENARIO = Scenario(
    topics=[BTC, BOOK],
    frames=[Frame(at(at_ms), text.encode()) for at_ms, text in FRAMES],
    events=EVENTS,
    options={"depth": 5},
    answers=ANSWERS,
    late=[LateSubscription(at(250), (ETH,))],
    run_s=6.0,
)

KIT = ConformanceKit([SCENARIO])
