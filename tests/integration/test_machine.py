"""The serving side driven at random against a model: whatever clients, feeds, the network and operators do, every client is
told all that was published, once and in order, or what it is not told.

The real server runs (tests/integration/machine_wire.py) down to the bytes of HTTP/2; the model is a list of events for each
topic (machine_world.py), and each client holds what it reads against it (machine_reader.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from itertools import count

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from raven.adapter import Established, Event, Resync
from raven.adapter.batch import Batch, BatchItem, Carry, Down
from raven.broker import BrokerLimits, OutboxLimits, audience, outbox
from raven.broker.carryover import FeedCarryover, adopt, hand_over
from raven.broker.ring import RingLimits
from raven.codec.generated.raven import v1
from raven.grpc.server import DRAINED
from raven.model.events import State, StatusCause
from raven.model.topic import Kind, Selector, Topic
from tests.integration.machine_clients import (
    NOTHING,
    ONE,
    SELECTORS,
    SUBS,
    TOPICS,
    TWO,
    Asked,
    Slot,
    Stream,
    all_in,
    asked_for,
    check_outbox,
    expect,
    flow_again,
    selector_message,
    subscription_message,
    valid,
)
from tests.integration.machine_reader import Expected, Reader, Sub
from tests.integration.machine_wire import OPEN, Clock, Host, Peer
from tests.integration.machine_world import World, news_of
from tests.validators import faults

NAMES = ("a", "b", "c", "")
STATUS = {"SLOW_CONSUMER": 8, "REPLACED": 10, "DRAINED": 0, "OPERATOR": 14, "PROTOCOL": 3}

ENDS_MAX = 2
"""So often a server ends in one run."""

MANY = st.lists(st.integers(0, 20), min_size=1, max_size=15)
PICKS = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 20)), min_size=1, max_size=6)
SLOTS = st.integers(0, len(NAMES) - 1)
HOWS = st.sampled_from(["new", "restore", "restore at bookmark", "bookmark", "points", "both"])
WINDOWS = st.sampled_from([OPEN, OPEN, OPEN, 0, 40, 300])


def _somebody_there(machine: Serving) -> bool:
    return bool(machine.there())


class Serving(RuleBasedStateMachine):
    """Clients, feeds and one server after the other."""

    @initialize(
        ring=st.sampled_from([6, 25, 2000]),
        events_max=st.sampled_from([4, 12]),
        bytes_max=st.sampled_from([1500, 10**6]),
        message_max=st.sampled_from([2**20, 2**20, 500]),
        begun=st.booleans(),
        first=st.lists(st.lists(SUBS, min_size=1, max_size=2), min_size=1, max_size=3),
    )
    def begin(self, ring: int, events_max: int, bytes_max: int, message_max: int, begun: bool, first: list[list[Sub]]) -> None:
        audience.MESSAGE_BYTES_MAX = outbox.MESSAGE_BYTES_MAX = message_max  # type: ignore[misc]
        self.clock = Clock()
        self.limits = BrokerLimits(OutboxLimits(events_max, bytes_max), RingLimits(ring))
        self.slots = [Slot(name) for name in NAMES]
        self.ghosts: list[Stream] = []  # streams that others took over, or that were ended
        self.numbers = count(1)
        self.draining = False
        self.host = Host(self.limits, self.clock)
        self.world = World(ring)
        self.carry(TOPICS)
        self.ends = 0
        if begun:
            self.publish_on_all(0)
        for slot, subs in zip(self.slots, first, strict=False):
            self.join(slot, "new")
            self.request(slot, [(sub, NOTHING) for sub in subs])

    # ---- feeds

    def carry(self, topics: Iterable[Topic]) -> None:
        for feed in (ONE, TWO):
            if mine := [topic for topic in topics if topic.venue == feed]:
                self.host.publish_items(feed, Carry(mine))
        directory = self.host.broker.directory
        for topic in topics:
            if topic not in self.world.topics:
                state = directory.find(topic)
                assert state is not None
                self.world.born(topic, state.epoch, directory.rings[topic.venue].epoch)

    @rule(feed=st.sampled_from([ONE, ONE, TWO]), picks=PICKS)
    def publish(self, feed: str, picks: list[tuple[int, int]]) -> None:
        self.host.publish(*self._batches(feed, picks))

    @rule(which=st.integers(0, 15), hows=st.lists(st.integers(0, 20), min_size=1, max_size=9))
    def publish_on_one(self, which: int, hows: list[int]) -> None:
        topic = list(self.world.topics)[which % len(self.world.topics)]
        place = self.world.of_feed(topic.venue).index(topic)
        self.publish(topic.venue, [(place, how) for how in hows])

    @rule(how=st.integers(0, 20))
    def publish_on_all(self, how: int) -> None:
        for feed in (ONE, TWO):
            self.publish(feed, [(place, how) for place in range(len(self.world.of_feed(feed)))])

    def _batches(self, feed: str, picks: list[tuple[int, int]]) -> Sequence[Batch]:
        topics = self.world.of_feed(feed)
        items = [self._happens(topics[which % len(topics)], how) for which, how in picks]
        half = len(items) // 2
        return [Batch(feed, list(part)) for part in (items[:half], items[half:]) if part]

    def _happens(self, topic: Topic, how: int) -> BatchItem:
        """Something at the venue, and what the world knows of it."""
        history, number = self.world.topics[topic], next(self.numbers)
        what, payload = news_of(history, number, how)
        self.world.news(topic, what)
        return Event(topic, payload, number, number)

    @rule(feed=st.sampled_from([ONE, TWO]))
    def establish(self, feed: str) -> None:
        topics = [topic for topic in self.world.of_feed(feed) if not self.world.topics[topic].closed]
        for topic in topics:
            self.world.established(topic)
        self.host.publish_items(feed, Established(topics))

    @rule(which=st.integers(0, 15))
    def doubt(self, which: int) -> None:
        topic = list(self.world.topics)[which % len(self.world.topics)]
        if not self.world.topics[topic].closed:
            self.world.doubt(topic)
            self.host.publish_items(topic.venue, Resync(topic, StatusCause.SEQUENCE_GAP, "hole"))

    @rule(feed=st.sampled_from([ONE, TWO]), final=st.sampled_from([False, False, False, True]))
    def down(self, feed: str, final: bool) -> None:
        cause = StatusCause.OPERATOR if final else StatusCause.FEED_DOWN
        topics = self.world.of_feed(feed)[: 2 if final else None]
        for topic in topics:
            if not self.world.topics[topic].closed:
                self.world.set_status(topic, State.CLOSED if final else State.DOWN, cause)
        self.host.publish_items(feed, Down(topics, cause, "gone", final))

    @rule(feed=st.sampled_from([ONE, TWO]))
    def carry_again(self, feed: str) -> None:
        """What was closed may come back."""
        topics = self.world.of_feed(feed)
        for topic in topics:
            if self.world.topics[topic].closed:
                self.world.set_status(topic, State.DOWN, StatusCause.STARTING)
        self.host.publish_items(feed, Carry(topics))

    @precondition(lambda self: len(self.world.topics) < len(TOPICS) + 6)
    @rule(feed=st.sampled_from([ONE, TWO]))
    def bear(self, feed: str) -> None:
        number = len(self.world.topics) - len(TOPICS) + 1
        self.carry([Topic(feed, f"NEW{number}", kind) for kind in (Kind.TRADE, Kind.QUOTE)])

    @rule(feed=st.sampled_from([ONE, TWO]))
    def forget(self, feed: str) -> None:
        """So much time passes that nothing is remembered for those who come back."""
        ring = self.host.broker.directory.rings[feed]
        ring.expire(self.clock.s)
        self.clock.s += self.limits.ring.age_s + 0.001
        ring.expire(self.clock.s)
        self.world.forget(feed)
        self.host.tick()

    # ---- clients come and go

    @precondition(lambda self: not self.draining)
    @rule(which=SLOTS, how=HOWS, window=WINDOWS, subs=st.lists(SUBS, max_size=2))
    def connect(self, which: int, how: str, window: int, subs: list[Sub]) -> None:
        """Also while an older stream is there: the new one takes over."""
        slot = self.slots[which]
        self.join(slot, how, window)
        if subs and slot.stream is not None and slot.stream.alive:
            self.request(slot, [(sub, NOTHING) for sub in subs])

    def join(self, slot: Slot, how: str, window: int = OPEN) -> None:
        self._part(slot, "REPLACED" if slot.name else "")
        mark = slot.mark if how == "restore at bookmark" and all_in(slot.kept, slot.mark) else None
        kept = list(slot.kept.values()) if how.startswith("restore") else []
        slot.kept = {}
        known = set(self.host.broker.clients)
        peer = Peer(self.host, slot.name or "anonymous", window)
        peer.send(hello=v1.Hello(slot.name, how.startswith("restore"), mark.bookmark if mark else b""))
        (client,) = set(self.host.broker.clients) - known
        wanted: dict[str, Sub] = {}
        welcome = expect(self.world, slot, wanted, [(sub, Asked(mark)) for sub in kept], 0)
        welcome.subs = [sub for sub in kept if sub.id in wanted]
        reader = Reader(self.world, slot.name, welcome, slot.record)
        reader.stalled = window < OPEN
        slot.stream = Stream(peer, reader, client, wanted)
        self.pump()
        if how in ("bookmark", "points", "both") and slot.subs:
            self.request(slot, [(sub, asked_for(slot, sub, how)) for sub in slot.subs.values()])

    def _part(self, slot: Slot, end: str) -> None:
        """The stream that it has is its last no more."""
        stream, slot.stream = slot.stream, None
        if stream is None:
            return
        if stream.alive:
            self._remember(slot, stream)
            if end:
                stream.end = end
            else:
                stream.peer.cut()
        slot.subs, slot.places = dict(stream.reader.subs), dict(stream.reader.places)
        slot.mark = stream.reader.mark or slot.mark
        slot.record = {topic: list(events) for topic, events in stream.reader.record.items()}
        if stream.end and not stream.peer.lost:
            self.ghosts.append(stream)

    def _remember(self, slot: Slot, stream: Stream) -> None:
        if slot.name:
            slot.kept = dict(stream.wanted)

    @precondition(lambda self: not self.draining and self.there())
    @rule(which=SLOTS, how=HOWS, feed=st.sampled_from([ONE, ONE, TWO]), picks=PICKS)
    def miss_some_and_return(self, which: int, how: str, feed: str, picks: list[tuple[int, int]]) -> None:
        """Most do as docs/clients.md tells them: they come back with what the last heartbeat brought."""
        slot, stream = self.pick(which)
        self.beat()
        self.pump()
        self.publish(feed, picks)
        self.pump()
        if stream.alive:
            self.cut(which, politely=False)
        self.publish(feed, picks)
        self.join(slot, how)

    @precondition(_somebody_there)
    @rule(which=SLOTS, politely=st.booleans())
    def cut(self, which: int, politely: bool) -> None:
        slot, stream = self.pick(which)
        if politely:
            stream.peer.reset()
        self._remember(slot, stream)
        self._part(slot, "")

    @precondition(_somebody_there)
    @rule(which=SLOTS)
    def disconnect(self, which: int) -> None:
        """As an operator does it."""
        slot, stream = self.pick(which)
        peer = Peer(self.host, "operator", OPEN, "ListTopics")
        request = v1.DisconnectClientRequest(client_id=stream.client.client_id)
        stream.end = "OPERATOR"
        self._remember(slot, stream)
        peer.call("DisconnectClient", request, "ControlService")
        peer.cut()

    # ---- subscriptions

    @precondition(_somebody_there)
    @rule(which=SLOTS, subs=st.lists(SUBS, min_size=1, max_size=3), unary=st.booleans())
    def subscribe(self, which: int, subs: list[Sub], unary: bool) -> None:
        self.request(self.pick(which)[0], [(sub, NOTHING) for sub in subs], unary=unary)

    @precondition(_somebody_there)
    @rule(which=SLOTS, one=st.integers(0, 2), other=SUBS, skip_image=st.booleans(), unary=st.booleans())
    def overlap(self, which: int, one: int, other: Sub, skip_image: bool, unary: bool) -> None:
        """The same once more, wanted otherwise."""
        slot, stream = self.pick(which)
        if stream.wanted:
            known = list(stream.wanted.values())[one % len(stream.wanted)]
            sub = attrs.evolve(other, selector=known.selector, skip_image=skip_image)
            self.request(slot, [(sub, NOTHING)], unary=unary)

    def there(self) -> list[tuple[Slot, Stream]]:
        """Those that have a stream."""
        return [(slot, slot.stream) for slot in self.slots if slot.stream is not None and slot.stream.alive]

    def pick(self, which: int) -> tuple[Slot, Stream]:
        """One of them."""
        there = self.there()
        return there[which % len(there)]

    def request(self, slot: Slot, subs: Sequence[tuple[Sub, Asked]], *, unary: bool = False) -> None:
        stream, number = slot.stream, next(self.numbers)
        assert stream is not None
        stream.reader.answers.append(expect(self.world, slot, stream.wanted, subs, number))
        message = v1.SubscribeRequest(
            stream.client.client_id, [subscription_message(sub, asked) for sub, asked in subs], number
        )
        if unary:
            stream.peer.call("Subscribe", message)
        else:
            stream.peer.send(subscribe=message)
        self.pump()

    @precondition(_somebody_there)
    @rule(
        which=SLOTS,
        ids=st.lists(st.sampled_from(["x", "y", "z"]), max_size=2, unique=True),
        selector=st.sampled_from([None, *SELECTORS]),
        unary=st.booleans(),
    )
    def unsubscribe(self, which: int, ids: list[str], selector: Selector | None, unary: bool) -> None:
        (_, stream), number = self.pick(which), next(self.numbers)
        same = [sub.id for sub in stream.wanted.values() if sub.selector == selector]
        expected = Expected(number, removed=list(dict.fromkeys([*(i for i in ids if i in stream.wanted), *same])))
        expected.unknown = [i for i in ids if i not in stream.wanted] + ([str(selector)] if selector and not same else [])
        for sub_id in expected.removed:
            del stream.wanted[sub_id]
        stream.reader.answers.append(expected)
        request = v1.UnsubscribeRequest(stream.client.client_id, ids, [selector_message(selector)] if selector else [], number)
        if unary:
            stream.peer.call("Unsubscribe", request)
        else:
            stream.peer.send(unsubscribe=request)

    @rule(which=SLOTS, sub=SUBS)
    def subscribe_away(self, which: int, sub: Sub) -> None:
        """For a client that is not there, from outside."""
        slot = self.slots[which]
        if slot.name and not (slot.stream is not None and slot.stream.alive):
            if valid(self.world, sub, NOTHING, restored=False):
                slot.kept.pop(sub.id, None)
                slot.kept[sub.id] = sub
            peer = Peer(self.host, "other", OPEN, "ListTopics")
            peer.call("Subscribe", v1.SubscribeRequest(slot.name, [subscription_message(sub, NOTHING)], 1))
            peer.cut()

    # ---- how a client reads

    @precondition(_somebody_there)
    @rule(which=SLOTS, socket=st.booleans())
    def stall(self, which: int, socket: bool) -> None:
        _, stream = self.pick(which)
        stream.reader.stalled = True
        if socket:
            stream.peer.reading = False
        else:
            stream.peer.stall()

    @precondition(_somebody_there)
    @rule(
        which=SLOTS,
        topic=st.integers(0, 15),
        hows=MANY,
        stalled=st.sampled_from(["", "socket", "window"]),
        size=st.sampled_from([0, 200, OPEN]),
    )
    def crowd(self, which: int, topic: int, hows: list[int], stalled: str, size: int) -> None:
        """Of a topic that the client wants comes much, maybe more than it takes."""
        _, stream = self.pick(which)
        wanted = [one for one in self.world.topics if any(sub.selector.matches(one) for sub in stream.wanted.values())]
        if stalled:
            self.stall(which, stalled == "socket")
        if wanted:
            chosen = wanted[topic % len(wanted)]
            place = self.world.of_feed(chosen.venue).index(chosen)
            self.publish(chosen.venue, [(place, how) for how in hows])
        if stream.alive and size == OPEN:
            flow_again(stream)
        elif stream.alive and size:
            stream.peer.drip(size)

    @precondition(_somebody_there)
    @rule(which=SLOTS, size=st.sampled_from([1, 30, 100, 400, 3000]))
    def drip(self, which: int, size: int) -> None:
        self.pick(which)[1].peer.drip(size)

    @rule(which=SLOTS)
    def flow(self, which: int) -> None:
        ended = [ghost for ghost in self.ghosts if not ghost.peer.lost]
        streams = [*(slot.stream for slot in self.slots if slot.stream is not None and not slot.stream.peer.lost), *ended]
        if streams:
            flow_again(streams[which % len(streams)])

    @precondition(_somebody_there)
    @rule(which=SLOTS)
    def ping(self, which: int) -> None:
        _, stream = self.pick(which)
        number = next(self.numbers)
        stream.reader.pings.append(number)
        stream.peer.send(ping=v1.Ping(number))

    # ---- the server

    @rule()
    def beat(self) -> None:
        self.host.beat()

    @rule(ms=st.sampled_from([1, 60, 150, 2500]))
    def advance(self, ms: int) -> None:
        self.clock.s += ms / 1000
        self.host.tick()

    @precondition(lambda self: not self.draining and self.ends < ENDS_MAX)
    @rule()
    def drain(self) -> None:
        self.draining = True
        self.host.ask_to_go()

    @precondition(lambda self: self.draining)
    @rule()
    def restart(self) -> None:
        self.end_server(clean=True)

    @precondition(lambda self: self.ends < ENDS_MAX)
    @rule()
    def crash(self) -> None:
        self.end_server(clean=False)

    def end_server(self, *, clean: bool) -> None:
        """And begin the next one, with what the first has left."""
        self.ends += 1
        if clean:
            self.put_out()
            self.advance(2500)
            self.is_told()
        for slot in self.slots:
            self._part(slot, "")
            slot.kept = {}
        for ghost in self.ghosts:
            ghost.peer.lost = True
        self.ghosts = []
        carried = [msgspec.msgpack.encode(one) for one in hand_over(self.host.broker.directory)]
        self.host.close()
        self.clock.s += 1.0
        self.draining = False
        self.host = Host(self.limits, self.clock)
        if not clean:
            self.world = World(self.world.kept_max)
            self.carry(TOPICS)
            return
        self.world.restarted()
        symbols, kinds = {topic.symbol for topic in self.world.topics}, {topic.kind for topic in self.world.topics}
        for one in carried:
            adopt(self.host.broker.directory, msgspec.msgpack.decode(one, type=FeedCarryover), symbols, kinds)
        self.carry(list(self.world.topics))

    @precondition(lambda self: self.draining)
    @rule()
    def put_out(self) -> None:
        """The deadline of the clients has come; feeds run on."""
        for slot in self.slots:
            if slot.stream is not None and slot.stream.alive:
                slot.stream.end = "DRAINED"
                self._remember(slot, slot.stream)
        for client in self.host.broker.clients:
            client.end(DRAINED)

    # ---- what must always be so

    def pump(self) -> None:
        """Have every client read what comes."""
        moved = True
        while moved:
            self.host.loop.spin()
            moved = False
            for stream in [*(slot.stream for slot in self.slots if slot.stream is not None), *self.ghosts]:
                for message in (messages := stream.peer.take()):
                    stream.reader.read(message)
                moved = moved or bool(messages)
        for slot in self.slots:
            if slot.stream is not None and slot.stream.alive and slot.stream.client.ended is not None:
                self._slow(slot, slot.stream)

    def _slow(self, slot: Slot, stream: Stream) -> None:
        """The server has ended a client that the test has not: it may do so for one reason."""
        assert stream.client.ended is not None
        assert stream.client.ended.reason == "SLOW_CONSUMER", stream.client.ended
        assert stream.reader.stalled, stream.client.ended
        stream.end = "SLOW_CONSUMER"
        self._remember(slot, stream)

    @invariant()
    def is_told(self) -> None:
        """Who reads has everything."""
        if not hasattr(self, "host"):
            return
        self.pump()
        assert not self.host.loop.failed, self.host.loop.failed
        for slot in self.slots:
            if (stream := slot.stream) is not None:
                self._check(slot, stream)
        for ghost in self.ghosts:
            self._check_end(ghost)

    def _check(self, slot: Slot, stream: Stream) -> None:
        if stream.alive:
            assert stream.peer.ending is None, "it was ended, and nobody knows why"
            check_outbox(stream)
            if stream.flows:
                assert not list(stream.reader.lacks()), (slot.name, list(stream.reader.lacks()))
        else:
            self._check_end(stream)

    def _check_end(self, stream: Stream) -> None:
        """It is told why, unless it does not read."""
        ending, goodbye = stream.peer.ending, stream.reader.goodbye
        if goodbye is not None:
            assert goodbye.reason.name == stream.end, (goodbye, stream.end)
            assert goodbye.reconnect == (stream.end not in ("REPLACED", "PROTOCOL"))
        if stream.peer.transport.gone:  # its socket was full for too long: it hears nothing any more
            assert stream.reader.stalled or stream.peer.lost
        elif stream.flows:
            assert ending is not None, f"{stream.end}: it does not end"
        if ending is not None:
            assert ending.status == STATUS[stream.end], (ending, stream.end)
            assert goodbye is not None or stream.reader.stalled, "no goodbye"

    # ---- the end

    def teardown(self) -> None:
        """All reads again, and then the server restarts: whoever comes back to it has missed nothing."""
        if not hasattr(self, "host"):
            return
        if sys.exc_info()[0] is not None:
            self.host.abandon()
            return
        try:
            self._end()
        except BaseException:
            self.host.abandon()
            raise
        self.host.close()

    def _end(self) -> None:
        self._heal()
        if not self.draining:
            self.drain()
        self.publish(ONE, [(which, 0) for which in range(8)])
        self.is_told()
        self.restart()
        for slot in self.slots:
            self.join(slot, "bookmark")
        for feed in (ONE, TWO):
            self.establish(feed)
            self.publish(feed, [(which, 3) for which in range(10)])
        self._heal()

    def _heal(self) -> None:
        for slot in self.slots:
            if slot.stream is not None and not slot.stream.peer.lost:
                flow_again(slot.stream)
        for ghost in self.ghosts:
            if not ghost.peer.lost:
                flow_again(ghost)
        self.is_told()
        for _ in range(3):
            self.advance(2500)
        self.is_told()
        for slot in self.slots:
            if slot.stream is not None and slot.stream.alive:
                lacks = list(slot.stream.reader.lacks(paced_too=True))
                assert not lacks, lacks
                record = [event for events in slot.stream.reader.record.values() for event in events]
                assert not faults(record), faults(record)


def _settings() -> settings:
    """For the suite a few examples, always the same ones; `nox -s torture` sets how many, and takes others every time."""
    examples = int(os.environ.get("TORTURE_EXAMPLES", "0"))
    common = settings(
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=[Phase.explicit, Phase.generate, Phase.shrink],  # what explains would take as long as all of it
        report_multiple_bugs=False,
        print_blob=True,
    )
    if not examples:
        return settings(common, max_examples=30, stateful_step_count=22, derandomize=True)
    return settings(common, max_examples=examples, stateful_step_count=int(os.environ.get("TORTURE_STEPS", "40")))


def test_every_client_is_told_everything_or_what_it_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (audience, outbox):
        monkeypatch.setattr(module, "MESSAGE_BYTES_MAX", module.MESSAGE_BYTES_MAX)  # the machine changes it
    with capture_logs():
        run_state_machine_as_test(Serving, settings=_settings())
