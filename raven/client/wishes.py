"""What a stream is subscribed to, and how that is asked for again after a break. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import attrs

from raven.codec.generated.raven import v1
from raven.model.topic import Kind, Selector, Topic

__all__ = ["Place", "Wishes", "subscribe_request", "subscription_message"]

POINTS_MAX = 2_000
"""Resume points of one subscription, about 60 bytes each. What is beyond begins with its image."""

REQUEST_BYTES_MAX = 200_000
SUBSCRIPTIONS_MAX = 500
"""One request has at most so many bytes (the server takes 256 KiB) and subscriptions (it takes 1,000)."""


class Place(Protocol):
    """Where a topic is."""

    topic: Topic
    epoch: int | None
    sequence: int


@attrs.define
class Wish:
    """One subscription.

    Attributes:
        accepted: the server has taken it once.
        covered: a bookmark has come since then, so the newest bookmark continues it.
        late: it was added while the stream ran, so that its refusal does not end the stream.
    """

    message: v1.Subscription
    selector: Selector
    accepted: bool = False
    covered: bool = False
    late: bool = False


class Wishes:
    """The subscriptions of one stream, by id.

    Attributes:
        version: another one after each change of what is wanted.
    """

    def __init__(self, messages: Iterable[v1.Subscription] = (), *, covered: bool = False) -> None:
        self.version = 0
        self._wishes: dict[str, Wish] = {}
        self._names = 0
        for message in messages:
            self.add(message, covered=covered)

    def __len__(self) -> int:
        return len(self._wishes)

    @property
    def names(self) -> list[str]:
        """Their ids."""
        return list(self._wishes)

    def add(self, message: v1.Subscription, *, covered: bool = False, late: bool = False) -> str:
        """One more, or, under an id that is there, another in its place; its id."""
        if not message.id:
            message.id = self._name()
        wanted = message.selector or v1.TopicSelector()
        kinds = frozenset(Kind(int(kind)) for kind in wanted.kinds)
        selector = Selector(wanted.venue, wanted.symbol, kinds, wanted.variant)
        self._wishes[message.id] = Wish(message, selector, covered=covered, late=late)
        self.version += 1
        return message.id

    def remove(self, name: str) -> Selector | None:
        """This one not any more; what it was."""
        wish = self._wishes.pop(name, None)
        self.version += wish is not None
        return wish.selector if wish is not None else None

    def accepted(self, name: str) -> None:
        """The server has taken it."""
        wish = self._wishes.get(name)
        if wish is not None:
            wish.accepted = True

    def was_accepted(self, name: str) -> bool:
        """Whether the server has taken it, in this stream or an earlier one."""
        wish = self._wishes.get(name)
        return wish is not None and wish.accepted

    def is_late(self, name: str) -> bool:
        """Whether it was added while the stream ran."""
        wish = self._wishes.get(name)
        return wish is None or wish.late

    def marked(self) -> None:
        """A bookmark has come. It covers everything that was in force when it was made."""
        for wish in self._wishes.values():
            wish.covered = wish.covered or wish.accepted

    def matches(self, topic: Topic) -> bool:
        """Whether any of them brings `topic`."""
        return any(wish.selector.matches(topic) for wish in self._wishes.values())

    def requests(self, bookmark: bytes, places: Sequence[Place]) -> Iterator[bytes]:
        """All of them as requests of a new stream: those that a bookmark covers continue behind it, others behind `places`."""
        taken: list[v1.Subscription] = []
        size = 0
        for wish in self._wishes.values():
            message = _resuming(wish, bookmark, places)
            more = len(bytes(message)) + 8
            if taken and (size + more > REQUEST_BYTES_MAX or len(taken) == SUBSCRIPTIONS_MAX):
                yield subscribe_request(taken)
                taken, size = [], 0
            taken.append(message)
            size += more
        if taken:
            yield subscribe_request(taken)

    def _name(self) -> str:
        while True:
            self._names += 1
            if str(self._names) not in self._wishes:
                return str(self._names)


def _resuming(wish: Wish, bookmark: bytes, places: Sequence[Place]) -> v1.Subscription:
    message = _bare(wish.message)
    if bookmark and wish.covered:
        message.bookmark = bookmark
    else:
        known = (place for place in places if place.epoch is not None and wish.selector.matches(place.topic))
        message.resume = [_point(place) for place, _ in zip(known, range(POINTS_MAX), strict=False)]
    return message


def _bare(message: v1.Subscription) -> v1.Subscription:
    """The same without where to continue."""
    return v1.Subscription(
        selector=message.selector,
        slow_consumer_policy=message.slow_consumer_policy,
        conflate_ms=message.conflate_ms,
        skip_image=message.skip_image,
        id=message.id,
    )


def _point(place: Place) -> v1.ResumePoint:
    topic = v1.Topic(place.topic.venue, place.topic.symbol, v1.Kind(int(place.topic.kind)), place.topic.variant)
    return v1.ResumePoint(topic, place.epoch or 0, place.sequence)


def subscribe_request(messages: Sequence[v1.Subscription], request_id: int = 0) -> bytes:
    """A request of a stream that subscribes."""
    request = v1.SubscribeRequest(subscriptions=list(messages), request_id=request_id)
    return bytes(v1.StreamMarketDataRequest(subscribe=request))


POLICIES: Mapping[str, v1.SlowConsumerPolicy] = {
    "": v1.SlowConsumerPolicy.UNSPECIFIED,
    "conflate": v1.SlowConsumerPolicy.CONFLATE,
    "drop_oldest": v1.SlowConsumerPolicy.DROP_OLDEST,
    "disconnect": v1.SlowConsumerPolicy.DISCONNECT,
}


def subscription_message(
    selector: v1.TopicSelector, *, images: bool = True, conflate_ms: int = 0, policy: str = "", name: str = ""
) -> v1.Subscription:
    """A subscription as the contract has it. `policy` is what the server does when this client does not read fast enough."""
    return v1.Subscription(
        selector=selector,
        slow_consumer_policy=POLICIES[policy],
        conflate_ms=conflate_ms,
        skip_image=not images,
        id=name,
    )
