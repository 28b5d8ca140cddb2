"""Random messages, cuts, duplicates and epochs against a model: the core and a fake server, a message at a time."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raven.client.core import Output, Phase, StreamCore
from raven.client.events import GapEvent, StreamEvent
from raven.client.overlap import Overlap
from raven.client.selectors import selector
from raven.client.testing import FakeLink, FakeServer
from raven.client.wishes import Wishes, subscription_message
from raven.codec.generated.raven import v1
from raven.model.events import Flag, State, Trade
from raven.model.topic import Kind, Topic
from tests.client.history import faults
from tests.client.test_core import SETTINGS, events_of, requests_of


class _Still:
    """A runtime of a link that nobody waits for."""

    def wakeup(self) -> _Still:
        return self

    def set(self) -> None:
        """Nobody waits."""


TOPICS = [Topic("sim", name, Kind.TRADE) for name in ("A", "B")]


class Streaming(RuleBasedStateMachine):
    """One client and one server, a message at a time. Whatever happens, the client's record is ordered, unique, and complete or
    told; and while the server loses nothing, no gap is told."""

    @initialize(bookmarks=st.booleans())
    def begin(self, bookmarks: bool) -> None:
        self.server = FakeServer(heartbeat_s=5.0)
        self.server.bookmarks = bookmarks
        wishes = Wishes([subscription_message(selector("sim/*", "trade"))])
        self.core = StreamCore(wishes, SETTINGS, Random(0))
        self.now = 0.0
        self.record: list[StreamEvent] = []
        self.lossless = True
        self.seen_bookmarks: list[bytes] = []
        self.link: FakeLink | None = None
        self.beside: tuple[FakeLink, Overlap] | None = None  # the stream that is being made while `link` goes on
        self.connect()

    def connect(self) -> None:
        self.abandon()
        self.link = self.dial()
        for request in requests_of(self.core.opened(self.now)):
            self.link._answer(request)

    def dial(self) -> FakeLink:
        link = FakeLink(self.server, _Still())  # type: ignore[arg-type]
        self.server._links.append(link)
        link.streaming = True
        return link

    def abandon(self) -> None:
        if self.beside is not None:
            self.server.left(self.beside[0])
            self.beside = None

    def take(self, outputs: list[Output]) -> None:
        self.record += events_of(outputs)
        if not self.core.streaming and self.link is not None:
            self.server.left(self.link)
            self.link = None

    @precondition(lambda self: self.core.phase is Phase.MOVING and self.beside is None)
    @rule()
    def dial_beside(self) -> None:
        requests, overlap = self.core.overlap()
        self.beside = self.dial(), overlap
        for request in requests:
            self.beside[0]._answer(v1.StreamMarketDataRequest.parse(request))

    @precondition(lambda self: self.beside is not None)
    @rule(count=st.integers(1, 3))
    def deliver_beside(self, count: int) -> None:
        """What comes on the new stream; when it is ready, it takes over, also after the old one has ended."""
        assert self.beside is not None
        link, overlap = self.beside
        for _ in range(min(count, len(link._messages))):
            overlap.take(link._messages.popleft())
        if overlap.ready:
            old, self.link, self.beside = self.link, link, None
            if old is not None:
                self.server.left(old)
            self.take(self.core.moved(overlap, self.now))
        elif overlap.refused:
            self.abandon()
            self.core.stayed(self.now)

    @precondition(lambda self: self.link is not None)
    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            if self.link is not None and self.link._messages:
                self.take(self.core.received(self.link._messages.popleft(), self.now))

    @rule(topic=st.sampled_from(TOPICS), count=st.integers(1, 4))
    def publish(self, topic: Topic, count: int) -> None:
        self.server.publish(topic, *[Trade(1.0, 1.0)] * count)

    @rule(topic=st.sampled_from(TOPICS), state=st.sampled_from([State.LIVE, State.DOWN]))
    def change_status(self, topic: Topic, state: State) -> None:
        self.server.set_status(topic, state)

    @rule(topic=st.sampled_from(TOPICS), count=st.integers(1, 3))
    def lose(self, topic: Topic, count: int) -> None:
        self.lossless = False
        self.server.lose(topic, count)

    @rule()
    def beat(self) -> None:
        self.server.heartbeat()

    @precondition(lambda self: self.link is not None)
    @rule(back=st.integers(1, 6))
    def repeat(self, back: int) -> None:
        """What was sent before comes again."""
        assert self.link is not None
        self.link.put(b"".join(entry.element for entry in self.server._ring[-back:]))

    @precondition(lambda self: self.link is not None)
    @rule()
    def cut(self) -> None:
        assert self.link is not None
        self.server.left(self.link)  # what was under way is lost
        self.link = None
        self.take(self.core.lost("cut", self.now))

    @precondition(lambda self: self.link is not None)
    @rule()
    def drain(self) -> None:
        self.server.drain()

    @precondition(lambda self: self.link is not None)
    @rule(reconnect=st.just(True))
    def say_goodbye(self, reconnect: bool) -> None:
        self.server.goodbye(reconnect=reconnect)
        assert self.link is not None
        while self.link is not None and self.link._messages:
            self.take(self.core.received(self.link._messages.popleft(), self.now))

    @rule()
    def forget(self) -> None:
        self.lossless = False
        self.server.forget()

    @precondition(lambda self: self.link is None)
    @rule()
    def restart(self) -> None:
        self.lossless = False
        self.abandon()
        self.server.restart()

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.core.tick(self.now))

    @precondition(lambda self: not self.core.streaming)
    @rule()
    def come_back(self) -> None:
        self.now = max(self.core.wake_at or self.now, self.now)
        self.take(self.core.tick(self.now))
        self.connect()

    @invariant()
    def the_record_is_honest(self) -> None:
        if not hasattr(self, "core"):
            return
        assert faults(self.record) == []
        assert self.core.error is None
        if self.lossless:
            assert [event for event in self.record if isinstance(event, GapEvent)] == []

    def teardown(self) -> None:
        """In the end everything arrives."""
        if not hasattr(self, "core"):
            return
        if self.link is None:
            self.come_back()
        for topic in TOPICS:
            self.server.publish(topic, Trade(9.0, 9.0))
        while self.link is not None and self.link._messages:
            self.take(self.core.received(self.link._messages.popleft(), self.now))
            if self.link is None:
                self.come_back()
        self.the_record_is_honest()
        for topic in TOPICS:
            last = [event for event in self.record if event.topic == topic and not event.flags & Flag.LOCAL][-1]
            state = self.server._state(topic)
            assert (last.epoch, last.sequence) == (state.epoch, state.sequence)


Streaming.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStreaming = Streaming.TestCase
