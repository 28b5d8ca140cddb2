"""One client: its subscriptions, the topics that they match, and its outbox."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from raven.broker.outbox import Outbox
from raven.broker.topics import TopicState
from raven.model.topic import Selector

__all__ = ["Client", "Ended", "Result", "Subscription"]


@attrs.frozen
class Subscription:
    """One subscription, checked.

    Args:
        id: unique within the client.
        selector: the topics.
        skip_image: leave out the latest state.
        resuming: the client named a point to continue after. There is no history to continue from, so every topic begins with
            Gap(RESUME_TOO_OLD) and its image.
    """

    id: str
    selector: Selector
    skip_image: bool = False
    resuming: bool = False


@attrs.frozen
class Result:
    """What became of one subscription: accepted, with how many topics it matches now, or refused, with the reason."""

    id: str
    accepted: bool
    topics: int = 0
    field: str = ""
    error: str = ""


@attrs.frozen
class Ended:
    """Why the server ended a client.

    Args:
        reason: the name of a raven.v1.Goodbye.Reason without its prefix.
        text: for people.
        status: the name of the gRPC status that the stream ends with.
        reconnect: whether trying again makes sense.
    """

    reason: str
    text: str
    status: str
    reconnect: bool = True


@attrs.define(eq=False)
class Client:
    """A client of the broker.

    Args:
        client_id: unique among those connected.
        outbox: what waits for it.
        peer: its address, for people.
        on_end: called once, when the server ends the client; the owner says Goodbye and ends the stream.
        connected_since_ts_ns: wall clock.
        controls: whether its stream has control messages (WatchMarketData has none).
        named: whether it chose its client_id, so that its subscriptions are kept for a while when it is gone.
    """

    client_id: str
    outbox: Outbox
    peer: str
    on_end: Callable[[Ended], None]
    connected_since_ts_ns: int
    controls: bool = True
    named: bool = False
    subscriptions: dict[str, Subscription] = attrs.field(factory=dict)
    topics: dict[TopicState, set[str]] = attrs.field(factory=dict)  # to the ids of the subscriptions that match
    ended: Ended | None = None
    names_given: int = 0

    def name_subscription(self) -> str:
        """An id for a subscription that its client did not name."""
        while True:
            self.names_given += 1
            name = f"sub-{self.names_given}"
            if name not in self.subscriptions:
                return name

    def end(self, ended: Ended) -> None:
        """End the client; a second time does nothing."""
        if self.ended is None:
            self.ended = ended
            self.on_end(ended)

    def attach(self, state: TopicState, subscription_id: str) -> None:
        """Have the events of `state` from now on."""
        ids = self.topics.get(state)
        if ids is None:
            ids = self.topics[state] = set()
            state.subscribers[self.outbox] = None
        ids.add(subscription_id)

    def detach(self, subscription_id: str) -> None:
        """Have no longer what only this subscription brought."""
        for state in [state for state, ids in self.topics.items() if subscription_id in ids]:
            ids = self.topics[state]
            ids.discard(subscription_id)
            if not ids:
                del self.topics[state]
                del state.subscribers[self.outbox]
