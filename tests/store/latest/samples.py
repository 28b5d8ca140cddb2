"""Values and subscriptions that tests of stores put and look for."""

from __future__ import annotations

from raven.broker import Subscription
from raven.broker.policy import Policy
from raven.codec.encoder import TopicEncoder
from raven.model.events import BookSnapshot, Event, Flag, Quote, State, StatusCause, TopicStatus
from raven.model.topic import Kind, Selector, Topic
from raven.store.latest.values import ClientSubscriptions, LatestValue

QUOTE = Topic("sim", "BTC-USDT", Kind.QUOTE)
BOOK = Topic("sim", "BTC-USDT", Kind.BOOK)
CANDLE = Topic("sim", "BTC-USDT", Kind.CANDLE, "1m")
ELSEWHERE = Topic("other-venue", "BTC-USDT", Kind.QUOTE)
EPOCH = 1_700_000_000_000
NOW_S = 1_700_000_100.0


def value(topic: Topic = QUOTE, sequence: int = 5, epoch: int = EPOCH, bid: float = 1.0) -> LatestValue:
    """A topic as its status and image stand after `sequence`."""
    encoder = TopicEncoder(topic, epoch)
    status = Event(topic, TopicStatus(State.LIVE, StatusCause.UNSPECIFIED, "", 7), 8)
    payload = BookSnapshot([bid], [1.0], [bid + 1], [2.0], 9) if topic.kind is Kind.BOOK else Quote(bid, 1.0, bid + 1, 2.0)
    return LatestValue(
        topic,
        epoch,
        sequence,
        encoder.encode_general(status, sequence, flags=Flag.LOCAL),
        encoder.encode_general(Event(topic, payload, 10, 9), sequence, flags=Flag.IMAGE),
    )


def subscription(name: str = "s", symbol: str = "BTC-*") -> Subscription:
    return Subscription(name, Selector("sim", symbol, frozenset({Kind.QUOTE, Kind.BOOK})), False, None, Policy.CONFLATE, 250)


def client(client_id: str = "desk", *names: str, expires_s: float = NOW_S + 60) -> ClientSubscriptions:
    """A client with subscriptions of such names; none = none."""
    return ClientSubscriptions(client_id, tuple(subscription(name) for name in names), expires_s)
