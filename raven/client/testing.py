"""A server for tests of programs that use the client: in this process, without a socket, scripted by its calls.

    server = FakeServer()
    server.publish("sim/BTC-USDT/trade", Trade(100.0, 1.0))
    async with server.connect() as client:
        async for event in client.stream("sim/BTC-USDT"):
            ...
            server.cut()          # the connection breaks, and the client comes back and resumes

It speaks the contract: images, sequences, heartbeats with bookmarks, resuming by bookmark and by points, Draining, Goodbye. It
has no clock: a heartbeat comes when `heartbeat` is called. It belongs to the task (or the thread) that the client runs in.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
from msgspec.structs import replace

from raven.client.anyway import connect
from raven.client.backoff import Reconnect
from raven.client.client import Client
from raven.client.runtime import CallOver, Runtime
from raven.codec.encoder import TopicEncoder
from raven.codec.generated.raven import v1
from raven.codec.payloads import encode_payload
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Gap, GapCause, Payload, State, TopicStatus
from raven.model.instrument import Instrument
from raven.model.topic import Kind, Selector, Topic, parse_topic

__all__ = ["FakeServer"]

START_NS = 1_700_000_000_000_000_000
TICK_NS = 1_000_000
STREAM = "/StreamMarketData"

QUICK = Reconnect(base_s=0.001, cap_s=0.01, stable_s=0.0)
"""How clients of a fake server come back: at once."""


@attrs.define
class _State:
    """One topic."""

    topic: Topic
    epoch: int
    sequence: int = 0
    status: TopicStatus = attrs.field(factory=lambda: TopicStatus(State.LIVE, 0, "", START_NS))
    last: Event | None = None
    book: OrderBook | None = None

    def element(self, payload: Payload, now_ns: int, flags: int = 0) -> bytes:
        encoder = TopicEncoder(self.topic, self.epoch)
        event = Event(self.topic, payload, now_ns, now_ns)
        return encoder.encode_general(event, self.sequence, flags=flags)

    def image(self) -> bytes:
        if self.last is None:
            return b""
        payload = self.book.snapshot() if self.book is not None else self.last.payload
        event = replace(self.last, payload=payload)
        return TopicEncoder(self.topic, self.epoch).encode_general(event, self.sequence, flags=int(Flag.IMAGE))


@attrs.frozen
class _Entry:
    """One event of the ring."""

    topic: Topic
    epoch: int
    sequence: int
    element: bytes


class FakeServer:
    """See the module.

    Args:
        heartbeat_s: what Welcome says; after three of these without a message clients come again. 0 = never.

    Attributes:
        requests: everything that clients have asked on their streams, in order.
        silent: whether nothing is sent on streams, as on a connection that is dead and does not say so.
        accepts: whether connections are taken.
        bookmarks: whether heartbeats have one.
        draining: whether new streams are refused with UNAVAILABLE, as where the server that drains is the only one.
    """

    def __init__(self, *, heartbeat_s: float = 0.0) -> None:
        self.requests: list[v1.StreamMarketDataRequest] = []
        self.instruments: list[Instrument] = []
        self.silent = False
        self.accepts = True
        self.bookmarks = True
        self.draining = False
        self.connections = 0
        self._heartbeat_s = heartbeat_s
        self._states: dict[Topic, _State] = {}
        self._ring: list[_Entry] = []
        self._dropped = 0  # entries that the ring had once
        self._links: list[FakeLink] = []
        self._now_ns = START_NS
        self._epoch = 1_000

    # ---- for tests

    def connect(self, *, reconnect: Reconnect = QUICK) -> AbstractAsyncContextManager[Client]:
        """A client of this server, on Trio or asyncio, whichever runs."""
        return connect("fake:1", reconnect=reconnect, dial=self.dial)

    async def dial(self, runtime: Runtime) -> FakeLink:
        """For `connect(..., dial=server.dial)` of any shell."""
        await runtime.sleep(0)
        if not self.accepts:
            raise ConnectionRefusedError(111, "the fake server takes no connections")
        self.connections += 1
        link = FakeLink(self, runtime)
        self._links.append(link)
        return link

    def publish(self, topic: str | Topic, *payloads: Payload, flags: int = 0) -> int:
        """Events of a topic ("sim/BTC-USDT/trade"), which begins to exist with them; the sequence of the last."""
        state = self._state(topic)
        elements = []
        for payload in payloads:
            self._now_ns += TICK_NS
            state.sequence += 1
            event = Event(state.topic, payload, self._now_ns, self._now_ns, flags)
            elements.append(TopicEncoder(state.topic, state.epoch).encode(event, state.sequence))
            self._ring.append(_Entry(state.topic, state.epoch, state.sequence, elements[-1]))
            _keep(state, event)
        for link in self._streams():
            if link.wants(state.topic):
                link.put(b"".join(elements))
        return state.sequence

    def set_status(self, topic: str | Topic, state: State, text: str = "") -> None:
        """Say how good a topic is from now on; it is an event of the topic."""
        self.publish(topic, TopicStatus(state, 0, text, self._now_ns))

    def lose(self, topic: str | Topic, count: int) -> None:
        """Let events happen that nobody is told of, now or later: a hole without a Gap, as from a broken server."""
        self._state(topic).sequence += count

    def heartbeat(self) -> bytes:
        """Send a heartbeat on every stream; its bookmark."""
        mark = self.bookmark
        for link in self._streams():
            link.control(heartbeat=v1.Heartbeat(self._now_ns, bookmark=mark))
        return mark

    @property
    def bookmark(self) -> bytes:
        """Of this moment; empty without `bookmarks`."""
        return b"at:%d" % (self._dropped + len(self._ring)) if self.bookmarks else b""

    def cut(self) -> None:
        """Break all connections, as a network does."""
        links, self._links = self._links, []
        for link in links:
            link.end(ConnectionResetError(104, "cut"))

    def forget(self) -> None:
        """Lose the ring: who comes back gets a Gap and an image."""
        self._dropped += len(self._ring)
        self._ring.clear()

    def restart(self) -> None:
        """Lose the ring and the connections, and begin a new epoch in which nothing has happened."""
        self.forget()
        self._epoch += 1
        for topic in self._states:
            self._states[topic] = _State(topic, self._epoch)
        self.cut()

    def drain(self, deadline_s: float = 10.0, retry_after_s: float = 0.0) -> None:
        """Ask all clients to move. Their next stream is taken, as by another server of a group, unless `draining` is set."""
        for link in self._streams():
            message = v1.Draining("drained by a test", round(deadline_s * 1000), self.bookmark, round(retry_after_s * 1000))
            link.control(draining=message)

    def goodbye(self, reason: str = "DRAINED", text: str = "", *, reconnect: bool = True, status: str = "OK") -> None:
        """End all streams."""
        for link in self._streams():
            message = v1.Goodbye(v1.GoodbyeReason.from_string(reason), text, reconnect, 0, self.bookmark)
            link.control(goodbye=message)
            link.end(CallOver(status, text))

    def send(self, **control: Any) -> None:
        """Any control of StreamMarketDataResponse, on every stream."""
        for link in self._streams():
            link.control(**control)

    # ---- for links

    def welcome(self, link: FakeLink, client_id: str) -> None:
        """Answer to Hello."""
        name = client_id or f"client-{self.connections}"
        link.control(welcome=v1.Welcome(name, "fake", "fake", round(self._heartbeat_s * 1000)))

    def subscribe(self, link: FakeLink, request: v1.SubscribeRequest) -> None:
        """Take the subscriptions of a request."""
        results, elements = [], []
        for message in request.subscriptions:
            selector = _selector(message.selector)
            link.subscriptions[message.id] = selector
            states = [state for state in self._states.values() if selector.matches(state.topic)]
            told = [self._begin(state, message) for state in states]
            recovered = bool(message.bookmark or message.resume) and all(ok for ok, _ in told)
            results.append(
                v1.SubscribeResponseResult(message.id, True, effective=message, topics=len(states), recovered=recovered)
            )
            elements += [element for _, begin in told for element in begin]
        link.control(subscribed=v1.SubscribeResponse(results, request.request_id))
        if elements:
            link.put(b"".join(elements))

    def _begin(self, state: _State, message: v1.Subscription) -> tuple[bool, list[bytes]]:
        """What a subscription says of a topic first, and whether it goes on without a gap."""
        status = state.element(state.status, self._now_ns, int(Flag.LOCAL))
        missed = self._missed(state, message)
        if missed is not None:
            return True, [*missed, status]
        image = b"" if message.skip_image and state.book is None else state.image()
        if message.bookmark or any(_topic(point.topic) == state.topic for point in message.resume):
            gap = state.element(Gap(GapCause.RESUME_TOO_OLD, state.epoch), self._now_ns, int(Flag.LOCAL))
            return False, [status, gap, state.image()]
        return True, [status, image]

    def _missed(self, state: _State, message: v1.Subscription) -> list[bytes] | None:
        """The events after where the client was; None where the ring does not reach back to that."""
        if message.bookmark:
            position = int(message.bookmark.removeprefix(b"at:")) - self._dropped
            return None if position < 0 else [e.element for e in self._ring[position:] if e.topic == state.topic]
        for point in message.resume:
            if _topic(point.topic) == state.topic and point.epoch == state.epoch:
                after = [e for e in self._ring if e.topic == state.topic and e.sequence > point.sequence]
                whole = len(after) == state.sequence - point.sequence
                return [entry.element for entry in after] if whole else None
        return None

    def answer(self, path: str, request: bytes) -> bytes:
        """A call that is no stream.

        Raises:
            CallOver: it is not played.
        """
        method = path.rpartition("/")[2]
        if method == "GetLatest":
            selectors = [_selector(one, "*") for one in v1.GetLatestRequest.parse(request).selectors]
            matching = [s for s in self._states.values() if any(one.matches(s.topic) for one in selectors)]
            return b"".join(s.element(s.status, self._now_ns, int(Flag.LOCAL)) + s.image() for s in matching)
        if method == "ListTopics":
            return bytes(v1.ListTopicsResponse([_entry(state) for state in self._states.values()]))
        if method == "ListInstruments":
            found = [v1.MarketEvent.parse(encode_payload(one)).instrument for one in self.instruments]
            return bytes(v1.ListInstrumentsResponse([one for one in found if one is not None]))
        raise CallOver("UNIMPLEMENTED", f"the fake server does not play {method}")

    def left(self, link: FakeLink) -> None:
        """A connection was closed by its client."""
        if link in self._links:
            self._links.remove(link)

    def _streams(self) -> list[FakeLink]:
        return [link for link in self._links if link.streaming]

    def _state(self, topic: str | Topic) -> _State:
        topic = parse_topic(topic) if isinstance(topic, str) else topic
        state = self._states.get(topic)
        if state is None:
            state = self._states[topic] = _State(topic, self._epoch)
        return state


class FakeLink:
    """A connection to a `FakeServer`; see `raven.client.runtime.Link`."""

    def __init__(self, server: FakeServer, runtime: Runtime) -> None:
        self.subscriptions: dict[str, Selector] = {}
        self.streaming = False
        self._server = server
        self._runtime = runtime
        self._wakeup = runtime.wakeup()
        self._messages: deque[bytes] = deque()
        self._over: Exception | None = None
        self._path = ""

    @property
    def usable(self) -> bool:
        """Whether another call can be begun."""
        return not self.streaming and not isinstance(self._over, OSError)

    async def start(self, path: str, timeout_s: float | None = None) -> None:  # noqa: ARG002  # it answers at once
        """Begin a call."""
        await self._runtime.sleep(0)
        self._path, self.streaming = path, path.endswith(STREAM)
        self._over = self._over if isinstance(self._over, OSError) else None

    async def send(self, message: bytes, *, end: bool = False) -> None:  # noqa: ARG002
        """Take a request."""
        await self._runtime.sleep(0)
        if isinstance(self._over, OSError):
            raise self._over
        if not self.streaming:
            if self._path.endswith(STREAM):
                return  # it was refused
            try:
                self._messages.append(self._server.answer(self._path, message))
                self.end(CallOver("OK", ""))
            except CallOver as over:
                self.end(over)
            return
        request = v1.StreamMarketDataRequest.parse(message)
        self._server.requests.append(request)
        self._answer(request)

    def _answer(self, request: v1.StreamMarketDataRequest) -> None:
        if request.hello is not None and self._server.draining:
            self.end(CallOver("UNAVAILABLE", "the fake server is shutting down"))
        elif request.hello is not None:
            self._server.welcome(self, request.hello.client_id)
        elif request.subscribe is not None:
            self._server.subscribe(self, request.subscribe)
        elif request.unsubscribe is not None:
            removed = [name for name in request.unsubscribe.ids if self.subscriptions.pop(name, None)]
            self.control(unsubscribed=v1.UnsubscribeResponse(removed, [], request.unsubscribe.request_id))

    async def receive(self, timeout_s: float | None = None) -> list[bytes]:
        """What has come."""
        await self._runtime.sleep(0)
        while not self._messages or self._server.silent:
            if self._over is not None:
                raise self._over
            await self._wakeup.wait(timeout_s)
        messages = list(self._messages)
        self._messages.clear()
        return messages

    async def aclose(self) -> None:
        """Leave."""
        self.end(ConnectionResetError(104, "closed"))
        self._server.left(self)

    # ---- for the server

    def wants(self, topic: Topic) -> bool:
        """Whether a subscription matches."""
        return any(selector.matches(topic) for selector in self.subscriptions.values())

    def put(self, message: bytes) -> None:
        """Send a message."""
        if not self._server.silent:
            self._messages.append(message)
            self._wakeup.set()

    def control(self, **control: Any) -> None:
        """Send a control."""
        self.put(bytes(v1.StreamMarketDataResponse(**control)))

    def end(self, over: Exception) -> None:
        """End the call or the connection, behind what was sent."""
        self.streaming = False
        self._over = over
        self._wakeup.set()


def _keep(state: _State, event: Event) -> None:
    payload = event.payload
    if isinstance(payload, TopicStatus):
        state.status = payload
    elif not isinstance(payload, Gap):
        state.last = event
        if isinstance(payload, BookSnapshot) and state.topic.kind is Kind.BOOK:
            state.book = OrderBook(payload)
        elif isinstance(payload, BookDelta) and state.book is not None:
            state.book.apply(payload)


def _selector(message: v1.TopicSelector | None, variant: str = "") -> Selector:
    message = message or v1.TopicSelector("*", "*")
    return Selector(
        message.venue, message.symbol, frozenset(Kind(int(kind)) for kind in message.kinds), message.variant or variant
    )


def _topic(message: v1.Topic | None) -> Topic | None:
    return Topic(message.venue, message.symbol, Kind(int(message.kind)), message.variant) if message else None


def _entry(state: _State) -> v1.ListTopicsResponseEntry:
    topic = v1.Topic(state.topic.venue, state.topic.symbol, v1.Kind(int(state.topic.kind)), state.topic.variant)
    status = v1.TopicStatus(v1.TopicStatusState(int(state.status.state)), since_ts_ns=state.status.since_ts_ns)
    return v1.ListTopicsResponseEntry(topic, status, state.epoch, state.sequence)
