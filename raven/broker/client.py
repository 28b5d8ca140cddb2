"""One client: its subscriptions, the topics that they match, and its outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from raven.broker.bookmark import Resume
from raven.broker.outbox import Outbox
from raven.broker.pacing import Pacer
from raven.broker.policy import Delivery, Policy, delivery_of
from raven.broker.replay import Replay
from raven.broker.resume import ResumePlan
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
        policy: what is done when the client does not read fast enough.
        conflate_ms: at most one event a topic in so many milliseconds; 0 = every event.
        resume: where it continues; None = it begins with the latest state.
    """

    id: str
    selector: Selector
    skip_image: bool = False
    resume: Resume | None = None
    policy: Policy = Policy.DEFAULT
    conflate_ms: int = 0

    def delivery(self, state: TopicState) -> Delivery:
        """How it wants one of its topics."""
        return delivery_of(state.topic.kind, self.policy, self.conflate_ms)


@attrs.frozen
class Result:
    """What became of one subscription: accepted, with how many topics it matches now and whether all could be continued where
    the client wanted it, or refused, with the reason."""

    id: str
    accepted: bool
    topics: int = 0
    recovered: bool = False
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
        retry_after_ms: how long to wait before that.
    """

    reason: str
    text: str
    status: str
    reconnect: bool = True
    retry_after_ms: int = 0


@attrs.define(eq=False)
class Client:
    """A client of the broker.

    Args:
        client_id: unique among those connected.
        outbox: what waits for it.
        pacer: who gives it what it wants at a pace of its own.
        peer: its address, for people.
        on_end: called once, when the server ends the client; the owner says Goodbye and ends the stream.
        connected_since_ts_ns: wall clock.
        controls: whether its stream has control messages (WatchMarketData has none).
        named: whether it chose its client_id, so that its subscriptions are kept for a while when it is gone.
        plans: by the id of a subscription that was just taken, where it continues.
        catching_up: the topics whose events still come from the ring.
        imageless: the ids of subscriptions whose images have not been put yet.
        topics: to what each subscription that matches wants of it, the one that was added last at the end.
    """

    client_id: str
    outbox: Outbox
    pacer: Pacer
    peer: str
    on_end: Callable[[Ended], None]
    connected_since_ts_ns: int
    controls: bool = True
    named: bool = False
    subscriptions: dict[str, Subscription] = attrs.field(factory=dict)
    topics: dict[TopicState, dict[str, Delivery]] = attrs.field(factory=dict)
    plans: dict[str, ResumePlan] = attrs.field(factory=dict)
    catching_up: dict[TopicState, Replay] = attrs.field(factory=dict)
    imageless: set[str] = attrs.field(factory=set)
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

    def attach(self, states: Iterable[TopicState], subscription: Subscription) -> None:
        """Have the events of `states` from the next placing on, as `subscription` wants them."""
        topics, policies, outbox, name = self.topics, self.outbox.policies, self.outbox, subscription.id
        for state in states:
            delivery = subscription.delivery(state)
            wants = topics.get(state)
            if wants is None:
                topics[state] = {name: delivery}
                state.subscribers += 1
                if not delivery.conflate_ms and state not in policies and outbox not in state.paced:
                    policies[state] = delivery.policy  # as `_deliver`, for a topic that is new to the client
                    continue
            else:
                wants[name] = delivery
            self._deliver(state, delivery)

    def detach(self, subscription_id: str) -> None:
        """Have no longer what only this subscription brought, and the rest as the others want it."""
        for state in [state for state, wants in self.topics.items() if subscription_id in wants]:
            wants = self.topics[state]
            del wants[subscription_id]
            if wants:
                self._deliver(state, next(reversed(wants.values())))
            else:
                del self.topics[state]
                self._forget(state)

    def detach_all(self) -> None:
        """Have nothing any more."""
        for state in self.topics:
            self._forget(state)
        self.topics.clear()
        self.subscriptions.clear()

    def caught_up(self, states: Iterable[TopicState]) -> None:
        """Their events come as they are published from the next placing on."""
        for state in states:
            if self.catching_up.pop(state, None) is not None:
                self._deliver(state, next(reversed(self.topics[state].values())))

    def unpaced(self) -> list[TopicState]:
        """The topics of which it wants every event as it comes."""
        return [state for state in self.topics if self.outbox not in state.paced and state not in self.catching_up]

    def _deliver(self, state: TopicState, delivery: Delivery) -> None:
        self.pacer.hasten(state, self.outbox)
        if self.outbox.policies.get(state) not in (None, delivery.policy):
            self.outbox.fix(state)
        self.outbox.policies[state] = delivery.policy
        if delivery.conflate_ms and state not in self.catching_up:
            self.pacer.pace(state, self.outbox, delivery.conflate_ms / 1000)
        else:
            state.paced.pop(self.outbox, None)

    def _forget(self, state: TopicState) -> None:
        state.subscribers -= 1
        if (replay := self.catching_up.pop(state, None)) is not None:
            replay.forget(state)
        self.outbox.policies.pop(state, None)
        self.outbox.forget(state)
        state.paced.pop(self.outbox, None)
