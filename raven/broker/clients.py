"""The clients of one server, connected and away, and their subscriptions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import attrs
import trio

from raven.broker.audience import Audiences
from raven.broker.bookmark import Resume, format_bookmark
from raven.broker.client import Client, Ended, Result, Subscription
from raven.broker.directory import Directory
from raven.broker.kept import KeptSubscriptions
from raven.broker.outbox import Outbox, OutboxLimits
from raven.broker.pacing import Pacer
from raven.broker.replay import Replay
from raven.broker.resume import NO_PLAN, plan_resume
from raven.broker.ring import RingLimits
from raven.broker.topics import TopicState
from raven.errors import InvalidValue
from raven.model.topic import Selector

__all__ = ["BrokerLimits", "ClientStatistics", "Clients"]


@attrs.frozen
class BrokerLimits:
    """What clients may ask for.

    Args:
        outbox: what may wait for one client.
        ring: how much of each feed is kept for clients that come back.
        clients_max: clients at once.
        subscriptions_max: subscriptions of one client.
        topics_max: topics of one client, after wildcards.
        kept_clients_max: clients that are away and whose subscriptions are remembered.
        kept_s: for how long they are remembered.
    """

    outbox: OutboxLimits = attrs.field(factory=OutboxLimits)
    ring: RingLimits = attrs.field(factory=RingLimits)
    clients_max: int = 10_000
    subscriptions_max: int = 1_000
    topics_max: int = 10_000
    kept_clients_max: int = 10_000
    kept_s: float = 3600.0


@attrs.frozen
class ClientStatistics:
    """Counts over all clients since the start.

    Args:
        clients: connected now.
        clients_total: ever connected.
        events_sent, bytes_sent, messages_sent: taken by clients' writers.
        slow_consumers: clients that were ended because they did not read.
        events_missed: events that clients did not get because they were conflated or dropped.
    """

    clients: int
    clients_total: int
    events_sent: int
    bytes_sent: int
    messages_sent: int
    slow_consumers: int
    events_missed: int


class Clients:
    """Clients and their subscriptions.

    Args:
        now_ns: wall clock.
    """

    def __init__(self, limits: BrokerLimits, directory: Directory, now_ns: Callable[[], int]) -> None:
        self.limits = limits
        self._directory = directory
        self._now_ns = now_ns
        self.pacer = Pacer(now_ns=now_ns)
        self._audiences = Audiences(now_ns)
        self._moved: dict[Client, None] = {}  # whose topics have changed since they were placed
        self._clients: dict[str, Client] = {}
        self._by_outbox: dict[Outbox, Client] = {}
        self._kept = KeptSubscriptions(limits.kept_clients_max, limits.kept_s, time.monotonic)
        self._empty = trio.Event()
        self._total = 0
        self._slow_consumers = 0
        self._sent_by_gone = Counter[str]()

    def __iter__(self) -> Iterator[Client]:
        """Those connected now; they may come and go meanwhile."""
        return iter(list(self._clients.values()))

    def __len__(self) -> int:
        return len(self._clients)

    # ---- coming and going

    def attach(
        self, client_id: str, peer: str, on_end: Callable[[Ended], None], *, controls: bool = True, named: bool = False
    ) -> Client:
        """A new client. One that has the same id is ended: the new stream takes over.

        Raises:
            InvalidValue: there are as many clients as there may be.
        """
        older = self._clients.pop(client_id, None)
        if older is not None:
            self._forget(older)
            older.end(Ended("REPLACED", "another stream took over this client_id", "ABORTED", reconnect=False))
        if len(self._clients) >= self.limits.clients_max:
            raise InvalidValue("clients", len(self._clients), f"at most {self.limits.clients_max} at once")
        client = Client(
            client_id,
            Outbox(self.limits.outbox, self._now_ns),
            self.pacer,
            peer,
            on_end,
            self._now_ns(),
            controls,
            named,
        )
        client.outbox.place = partial(self._place_of, client)
        self._clients[client_id] = self._by_outbox[client.outbox] = client
        self._total += 1
        return client

    def detach(self, client: Client) -> None:
        """The client is gone."""
        if self._clients.get(client.client_id) is client:
            del self._clients[client.client_id]
            self._forget(client)
            if not self._clients:
                self._empty.set()

    def _forget(self, client: Client) -> None:
        if client.named:
            self._kept.put(client.client_id, client.subscriptions.values())
        client.detach_all()
        self._moved.pop(client, None)
        self._audiences.place(client.outbox, ())
        del self._by_outbox[client.outbox]
        sent = client.outbox.statistics()
        self._sent_by_gone.update(
            events=sent.events_sent, bytes=sent.bytes_sent, messages=sent.messages_sent, missed=sent.events_missed
        )

    def restore(self, client: Client, wanted: bool, resume: Resume | None = None) -> list[Subscription]:
        """Take up what was kept of the client's subscriptions, or, when that is not wanted, forget it.

        Args:
            resume: where all of them continue.

        Returns:
            Those in force again; one that cannot be any more is not among them.
        """
        kept = self._kept.take(client.client_id)
        if not wanted:
            return []
        restored = [attrs.evolve(subscription, resume=resume) for subscription in kept]
        return [subscription for subscription in restored if self.subscribe(client, subscription).accepted]

    async def wait_no_clients(self) -> None:
        """Wait until the last client has gone."""
        while self._clients:
            self._empty = trio.Event()
            await self._empty.wait()

    # ---- subscriptions

    def subscribe(self, client: Client, subscription: Subscription) -> Result:
        """Check one subscription and, if it can be, take it. Its images are put by `put_images`, behind the answer."""
        selector = subscription.selector
        field, error = self._directory.explain_missing(selector)
        if error:
            return Result(subscription.id, accepted=False, field=f"selector.{field}", error=error)
        replaced = subscription.id in client.subscriptions
        if not replaced and len(client.subscriptions) >= self.limits.subscriptions_max:
            limit = self.limits.subscriptions_max
            return Result(subscription.id, accepted=False, field="id", error=f"a client has at most {limit} subscriptions")
        states = self._directory.matching_one(selector)
        if len(client.topics.keys() | set(states)) > self.limits.topics_max:
            limit = self.limits.topics_max
            error = f"it matches {len(states)} topics, and a client has at most {limit}: choose a narrower selector"
            return Result(subscription.id, accepted=False, field="selector", error=error)
        if replaced:
            client.detach(subscription.id)
            del client.subscriptions[subscription.id]  # the one that was added last holds, and this one is
        client.subscriptions[subscription.id] = subscription
        fresh = [state for state in states if state not in client.topics]
        client.attach(states, subscription)
        self._moved[client] = None
        client.outbox.bookmark = b""  # until it has the images, or what it missed
        client.imageless.add(subscription.id)
        if subscription.resume is None:
            return Result(subscription.id, accepted=True, topics=len(states))
        plan = client.plans[subscription.id] = plan_resume(subscription.resume, fresh, self._directory.rings, client.outbox)
        client.subscriptions[subscription.id] = attrs.evolve(subscription, resume=None)  # it is for this once
        return Result(subscription.id, accepted=True, topics=len(states), recovered=not plan.too_old)

    def get(self, client_id: str) -> Client | None:
        """The connected client of that id."""
        return self._clients.get(client_id)

    def kept(self, client_id: str) -> list[Subscription]:
        """The subscriptions that a client that is away would take up."""
        return self._kept.get(client_id)

    def remembered(self) -> Iterator[tuple[str, Mapping[str, Subscription], float]]:
        """Of every client that may come back its subscriptions, and for how many seconds they are kept from now on."""
        for client in self:
            if client.named:
                yield client.client_id, client.subscriptions, self.limits.kept_s
        yield from self._kept.remaining()

    def remember(self, client_id: str, subscriptions: Iterable[Subscription], remaining_s: float) -> None:
        """`KeptSubscriptions.restore`."""
        self._kept.restore(client_id, subscriptions, remaining_s)

    def keep(self, client_id: str, subscription: Subscription) -> Result:
        """Check one subscription of a client that is away, and keep it for its return."""
        field, error = self._directory.explain_missing(subscription.selector)
        if error:
            return Result(subscription.id, accepted=False, field=f"selector.{field}", error=error)
        others = [other for other in self._kept.get(client_id) if other.id != subscription.id]
        if len(others) >= self.limits.subscriptions_max:
            limit = self.limits.subscriptions_max
            return Result(subscription.id, accepted=False, field="id", error=f"a client has at most {limit} subscriptions")
        self._kept.put(client_id, [*others, attrs.evolve(subscription, resume=None)])
        return Result(subscription.id, accepted=True, topics=len(self._directory.matching_one(subscription.selector)))

    def unkeep(self, client_id: str, ids: Iterable[str], selectors: Iterable[Selector]) -> tuple[list[str], list[str]]:
        """`unsubscribe` for a client that is away."""
        kept = {subscription.id: subscription for subscription in self._kept.get(client_id)}
        removed, unknown = _to_remove(kept, ids, selectors)
        self._kept.put(client_id, [subscription for subscription in kept.values() if subscription.id not in removed])
        return removed, unknown

    def ids(self) -> list[str]:
        """Of the clients that are connected and of those whose subscriptions are kept, in order."""
        return sorted({*(client.client_id for client in self._clients.values() if client.controls), *self._kept})

    def put_images(self, client: Client, subscription: Subscription) -> None:
        """Put the status and the latest state of each of its topics; events that follow come behind them."""
        now_ns = self._now_ns()
        client.imageless.discard(subscription.id)
        outbox, plan = client.outbox, client.plans.pop(subscription.id, NO_PLAN).leaving_out_paced(client.outbox)
        for state in self._directory.matching_one(subscription.selector):
            wanted = subscription.id in client.topics.get(state, ())  # not if another has taken its id meanwhile
            if not wanted or state in client.catching_up or state in plan.continued:
                continue
            elements = [state.status_element(now_ns)]
            if (gap := plan.too_old.get(state)) is not None:
                elements.append(state.local_element(gap, now_ns, state.sequence))
            image = state.image()
            if image is not None and (gap is not None or state.book is not None or not subscription.skip_image):
                elements.append(image)
            outbox.put_state(state, elements)
        for start in plan.starts():
            replay = outbox.replay_at_end
            if replay is None or not replay.join(start.ring, start.position, start.after):
                replay = Replay(start.ring, start.position, start.after, partial(self._caught_up, client))
                outbox.put_replay(replay)
            client.catching_up.update(dict.fromkeys(start.after, replay))

    def _caught_up(self, client: Client, states: Iterable[TopicState]) -> None:
        client.caught_up(states)
        self._moved[client] = None

    def _place_of(self, client: Client) -> bytes:
        """How far a client is to which everything that was put for it has been written."""
        return b"" if client.imageless else self.bookmark()

    def bookmark(self) -> bytes:
        """Behind everything that has been published."""
        return format_bookmark(self._directory.rings.values())

    def unsubscribe(self, client: Client, ids: Iterable[str], selectors: Iterable[Selector]) -> tuple[list[str], list[str]]:
        """End subscriptions by id or by exactly their selector.

        Returns:
            The ids that were removed, and what was asked for and is not there.
        """
        removed, unknown = _to_remove(client.subscriptions, ids, selectors)
        for subscription_id in removed:
            client.detach(subscription_id)
            del client.subscriptions[subscription_id]
        self._moved[client] = None
        return removed, unknown

    def match_newborn(self, states: Iterable[TopicState]) -> None:
        """Give new topics to the clients whose subscriptions match them."""
        states = list(states)
        found: dict[Selector, list[TopicState]] = {}  # many clients have the same selectors
        for client in self._clients.values():
            for subscription in client.subscriptions.values():
                selector = subscription.selector
                if selector not in found:
                    found[selector] = [state for state in states if selector.matches(state.topic)]
                if found[selector]:
                    client.attach(found[selector], subscription)
                    self._moved[client] = None

    # ---- the way out

    def place(self) -> None:
        """Have every client in the audience of its topics: what is published from now on goes to them."""
        if not self._moved:
            return
        moved, self._moved = self._moved, {}
        for client in moved:
            self._audiences.place(client.outbox, client.unpaced())

    def flush(self) -> None:
        """Write away what was published, and end the clients for which too much waits."""
        for outbox in (*self._audiences.flush(), *self.pacer.flush()):
            if full := outbox.overfull():
                self.end_slow(outbox, full)

    # ---- slow ones

    def end_slow(self, outbox: Outbox, text: str) -> None:
        """End the client whose outbox this is: it does not read fast enough."""
        client = self._by_outbox.get(outbox)
        if client is not None:
            self._slow_consumers += 1
            self.detach(client)
            client.end(Ended("SLOW_CONSUMER", text, "RESOURCE_EXHAUSTED"))

    def end_stalled(self, client: Client, stall_s: float) -> None:
        """End a client that took next to nothing for `stall_s` seconds though something waits for it."""
        self.end_slow(client.outbox, f"next to nothing was read for {stall_s:g} s though something waits")

    def statistics(self) -> ClientStatistics:
        """Counts since the start."""
        sent = self._sent_by_gone.copy()
        for client in self:
            one = client.outbox.statistics()
            sent.update(events=one.events_sent, bytes=one.bytes_sent, messages=one.messages_sent, missed=one.events_missed)
        return ClientStatistics(
            len(self._clients),
            self._total,
            sent["events"],
            sent["bytes"],
            sent["messages"],
            self._slow_consumers,
            sent["missed"],
        )


def _to_remove(
    subscriptions: Mapping[str, Subscription], ids: Iterable[str], selectors: Iterable[Selector]
) -> tuple[list[str], list[str]]:
    """The ids that are named by id or by exactly their selector, and what names none."""
    removed: list[str] = []
    unknown: list[str] = []
    for subscription_id in ids:
        (removed if subscription_id in subscriptions else unknown).append(subscription_id)
    for selector in selectors:
        same = [subscription.id for subscription in subscriptions.values() if subscription.selector == selector]
        removed.extend(same)
        unknown.extend([] if same else [str(selector)])
    return list(dict.fromkeys(removed)), unknown
