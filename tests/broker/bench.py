"""What the tests of the broker share: topics, a clock that goes up by one, and a client whose messages can be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import inf

from raven.adapter.batch import Batch, BatchItem, Carry
from raven.broker import Broker, BrokerLimits, Client, OutboxLimits, Subscription
from raven.broker.client import Ended
from raven.codec.generated.raven import v1
from raven.model.topic import Kind, Selector, Topic

VENUE = "sim"
TRADE = Topic(VENUE, "BTC-USDT", Kind.TRADE)
QUOTE = Topic(VENUE, "BTC-USDT", Kind.QUOTE)
BOOK = Topic(VENUE, "BTC-USDT", Kind.BOOK)
TOPICS = (TRADE, QUOTE, BOOK, Topic(VENUE, "ETH-USDT", Kind.TRADE), Topic(VENUE, "BTC-USDT", Kind.CANDLE, "1m"))


class Pipe:
    """A way to a client that takes so many messages at once.

    Args:
        room: how many it still takes.
    """

    def __init__(self, client: Client, room: float = inf) -> None:
        self.messages: list[bytes] = []
        self.room = room
        self.lane = self
        self.closed = False
        self._outbox = client.outbox
        client.outbox.writer = self
        client.outbox.flush()

    def send(self, message: bytes, shared: dict[int, bytes]) -> bool:
        return self.room > 1 and self.begin(message)

    def begin(self, message: bytes) -> bool:
        self.messages.append(message)
        self.room -= 1
        return self.room > 0

    def drain(self) -> bool:
        while self.room > 0 and (message := self._outbox.take(b"")) is not None:
            self.messages.append(message)
            self.room -= 1
        return self.room > 0 and self._outbox.empty

    def open(self, room: float = inf) -> None:
        """The client reads again."""
        self.room = room
        self._outbox.flush()


class Bench:
    """A broker with the topics above, and the ends of its clients."""

    def __init__(self, limits: BrokerLimits, *, book_top: bool = False) -> None:
        clock: Iterator[int] = count(1_700_000_000_000_000_000)
        self.faults: list[tuple[str, str]] = []
        self.ended: dict[str, Ended] = {}
        self.broker = Broker(
            limits,
            book_top_feeds=[VENUE] if book_top else [],
            now_ns=lambda: next(clock),
            on_fault=lambda feed, _topic, reason: self.faults.append((feed, reason)),
        )
        self.publish(Carry(TOPICS))

    def publish(self, *items: BatchItem, feed: str = VENUE) -> None:
        self.broker.publish(Batch(feed, list(items)))
        self.broker.flush()

    def client(self, client_id: str = "c", peer: str = "peer") -> Client:
        client = self.broker.clients.attach(client_id, peer, lambda ended: self.ended.update({client_id: ended}))
        Pipe(client)
        return client

    def subscribed(self, *kinds: Kind, symbol: str = "BTC-USDT", client_id: str = "c", skip_image: bool = False) -> Client:
        client = self.client(client_id)
        subscription = Subscription("s", Selector(VENUE, symbol, frozenset(kinds)), skip_image)
        result = self.broker.clients.subscribe(client, subscription)
        assert result.accepted, result
        self.broker.clients.put_images(client, subscription)
        client.outbox.flush()
        return client


def pipe_of(client: Client) -> Pipe:
    """The way to `client`."""
    pipe = client.outbox.writer
    assert isinstance(pipe, Pipe)
    return pipe


def read(client: Client) -> list[v1.MarketEvent]:
    """The events that `client` was given since the last time; controls are passed over."""
    client.outbox.flush()
    messages, pipe_of(client).messages = pipe_of(client).messages, []
    return [event for message in messages for event in v1.StreamMarketDataResponse.parse(message).events]


def make_bench(*, book_top: bool = False, **limits: int) -> Bench:
    """A bench whose broker has the given limits, of the broker's or the outbox's names."""
    outbox = {name: limits.pop(name) for name in ("events_max", "bytes_max", "control_bytes_max") if name in limits}
    return Bench(BrokerLimits(OutboxLimits(**outbox), **limits), book_top=book_top)
