"""The past, told to a broker's clients as if it happened now: the stored elements under names and sequences of their own.

What an element says stays as it is, to the byte: received and venue times, flags, numbers. What changes is whose event it is:
the venue has a suffix, so that nobody mistakes it, the epoch is this server's, and sequences count from 1. Statuses and gaps of
the past are told as they were. What the history itself does not have is a Gap(VENUE), because it is missing for every client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs

from raven.adapter.batch import Batch, Carry
from raven.broker import Broker
from raven.broker.topics import TopicState
from raven.client.decode import Decoder
from raven.client.events import StreamEvent, Unknown
from raven.client.wire import read_varint
from raven.codec.payloads import encode_topic
from raven.codec.varint import varint
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Gap, GapCause, State, StatusCause, TopicStatus
from raven.model.instrument import Instrument
from raven.model.topic import Topic, check_venue

__all__ = ["Relay", "replayed"]

SEQUENCE_TAG, VENUE_TAG, RECEIVED_TAG = 0x19, 0x21, 0x29
SEQUENCE_BYTES = 9
"""Of the field that stands behind topic and epoch; then come the times, of nine bytes each, the venue's not always."""

SHORTEST = 28
"""Three such fields, and the first byte of a payload: what is shorter is looked into."""

_LIVE = State.LIVE

_PLAIN = frozenset({0x52, 0x5A, 0x62, 0x6A, 0x72, 0x7A, 0x82, 0x8A, 0x92, 0x9A, 0xBA, 0xC2})
"""The first bytes of payloads that are news and name no topic: fields 10 to 19, 23 and 24 of MarketEvent. Behind times stand
flags (0x38) or one of these."""

_IMAGE, _LOCAL = int(Flag.IMAGE), int(Flag.LOCAL)  # a Flag takes ten times as long
_KEPT = ~(_IMAGE | _LOCAL)

HELD_MAX = 1024
"""Events of a topic that wait for one that belongs in front of them; then it is missing."""

HOLE = "the history has a hole here: nothing is known of the book until its next snapshot"
OVER = "the replay is over"


def replayed(topic: Topic, suffix: str) -> Topic:
    """What a topic of the past is called.

    Raises:
        InvalidName: no venue can be called so.
    """
    return topic._replace(venue=check_venue(topic.venue + suffix, "suffix"))


Held = tuple[StreamEvent, bytes, int]  # decoded, as it is, and the bytes of topic and epoch in it


class Origin:
    """A topic of the past in one of its epochs, and where its events go now.

    Attributes:
        imaged: the sequence that its image is of.
        reached: the greatest sequence of the past that was told; 0 before the first.
        held: by their sequences, events that came before one that belongs in front of them.
        passes: whether its elements need no look inside: it is no book, and the epoch that is told now.
    """

    __slots__ = ("heads", "held", "imaged", "passes", "prefix", "reached", "state")

    def __init__(self, state: TopicState) -> None:
        name = encode_topic(*state.topic)
        self.state = state
        self.prefix = b"\x0a" + varint(len(name)) + name + b"\x11" + state.epoch.to_bytes(8, "little") + b"\x19"
        self.heads: dict[int, bytes] = {}  # by the size of what follows the sequence
        self.held: dict[int, Held] = {}
        self.begin()

    def begin(self) -> None:
        """Nothing of it has been told."""
        self.imaged = self.reached = 0
        self.passes = False

    def head(self, rest: int) -> bytes:
        """What stands in front of the sequence."""
        head = self.heads.get(rest)
        if head is None:
            head = self.heads[rest] = b"\x0a" + varint(len(self.prefix) + 8 + rest) + self.prefix
        return head


class Relay:
    """Puts elements of a history into a broker: everything of them is published as soon as it is given.

    Args:
        broker: nothing else publishes the topics.
        suffix: of the venues.

    Attributes:
        events: that were published, statuses and gaps among them.
        skipped: events that were not, by why: "no book" (a change of a book of which the whole is not known), "unknown" (a
            payload of a later contract).
    """

    def __init__(self, broker: Broker, suffix: str) -> None:
        self._broker = broker
        self._suffix = suffix
        self._decoder = Decoder()
        self._origins: dict[bytes, Origin] = {}
        self._current: dict[TopicState, Origin] = {}
        self._whole: set[TopicState] = set()  # books of which all is known
        self.events = 0
        self.skipped: Counter[str] = Counter()

    def carry(self, topics: Iterable[Topic]) -> None:
        """Have the broker know topics of the past, so that clients can ask for them.

        Raises:
            InvalidName: the suffix makes no venue.
        """
        by_venue: dict[str, list[Topic]] = {}
        for topic in topics:
            renamed = replayed(topic, self._suffix)
            by_venue.setdefault(renamed.venue, []).append(renamed)
        for venue, renamed_topics in by_venue.items():
            self._broker.publish(Batch(venue, [Carry(renamed_topics)]))

    def publish(self, data: bytes) -> int:
        """Publish elements as a history gives them; how many events of the broker they became.

        Images begin their topics (raven.store.states). Nothing is flushed.

        Raises:
            DecodeError: they are no elements.
        """
        # One longer function: it runs for every event that is told.
        self._broker.clients.place()
        before = self.events
        find, plain = self._origins.get, _PLAIN
        passed: dict[Origin, tuple[int, int]] = {}  # where the last element of each stands
        at, end = 0, len(data)
        while at < end:
            begin, size, start = at, data[at + 1], at + 2
            if size > 127:
                size, start = read_varint(data, at + 1)
            at = start + size
            stamps = start + data[start + 1] + 11
            origin = find(data[start:stamps])
            if (
                origin is None
                or not origin.passes
                or origin.state.status.state != _LIVE
                or stamps + SHORTEST > at
                or data[stamps] != SEQUENCE_TAG
                or not (
                    data[stamps + 18] in plain
                    if (first := data[stamps + 9]) == RECEIVED_TAG
                    else first == VENUE_TAG and data[stamps + 18] == RECEIVED_TAG and data[stamps + 27] in plain
                )
            ):
                if origin in passed:
                    begun, ended = passed.pop(origin)
                    self._settle(origin, data[begun:ended])
                self._tell(data[begin:at], data[start:stamps])
                continue
            state = origin.state
            sequence = state.sequence = state.sequence + 1
            rest = data[stamps + 9 : at]
            element = origin.head(len(rest)) + sequence.to_bytes(8, "little") + rest
            state.ring.append(state, element)
            behind = False
            for audience in state.audiences:
                audience.pending.append(element)
                if not audience.dirty:
                    audience.mark()
                if audience.behind:
                    behind = True
            if behind or state.paced:
                self._hand_out(state, self._event(origin, self._decoded(data[begin:at])), element)
            passed[origin] = begin, at
            self.events += 1
        for origin, (begin, at) in passed.items():
            self._settle(origin, data[begin:at])
        return self.events - before

    def begin(self) -> None:
        """What is published from now on is told from its beginning, for the first time or again."""
        self._release_all()
        self._current.clear()
        self._whole.clear()
        for origin in self._origins.values():
            origin.begin()

    def end(self, ts_ns: int) -> None:
        """Everything was told: the topics are CLOSED, and say that nothing follows."""
        self._release_all()
        for state in self._broker.directory:
            if state.status.state != State.CLOSED:
                self._say(state, TopicStatus(State.CLOSED, StatusCause.UNSPECIFIED, OVER, ts_ns, final=True), ts_ns)

    # ---- what has to be looked into

    def _tell(self, raw: bytes, key: bytes) -> None:
        """Publish one element of which more is to be known than its bytes."""
        received = self._decoded(raw)
        origin = self._origins.get(key) or self._learn(key, received.topic)
        state, payload, ts_ns = origin.state, received.payload, received.received_ts_ns
        if received.flags & _IMAGE:
            self._begin_topic(origin, received)
        elif isinstance(payload, Gap) and received.flags & _LOCAL:
            if not 0 < payload.last_sequence <= origin.imaged:  # else the image has what is missing
                self._miss(state, payload.missed, ts_ns)
                origin.reached = max(origin.reached, payload.last_sequence)
                self._release(origin)
        elif received.sequence > origin.imaged:
            if self._current.get(state) is not origin:
                self._turn_to(origin, ts_ns)
            origin.held[received.sequence] = received, raw, len(key)
            self._release(origin, everything=len(origin.held) > HELD_MAX)

    def _settle(self, origin: Origin, raw: bytes) -> None:
        """`raw` is the last that was passed of its topic."""
        received = self._decoded(raw)
        origin.state.last = self._event(origin, received)
        origin.reached = max(origin.reached, received.sequence)
        self._release(origin)

    def _release(self, origin: Origin, *, everything: bool = False) -> None:
        """Tell what is held and has its turn.

        A history is in the order of times, which is not quite that of sequences: a gap or a status has the time at which it was
        published, and the event that it stands in front of that of its receipt.
        """
        held = origin.held
        while held:
            sequence = min(held)
            missed = sequence - origin.reached - 1
            if missed > 0 and origin.reached and not everything:
                return
            received, raw, key_bytes = held.pop(sequence)
            if missed > 0 and origin.reached:
                self._miss(origin.state, missed, received.received_ts_ns)
            origin.reached = max(origin.reached, sequence)
            self._tell_event(origin, received, raw, key_bytes)

    def _release_all(self) -> None:
        for origin in self._current.values():
            self._release(origin, everything=True)

    def _learn(self, key: bytes, topic: Topic) -> Origin:
        name = replayed(topic, self._suffix)
        if self._broker.directory.find(name) is None:
            self.carry([topic])
        state = self._broker.directory.find(name)
        assert state is not None
        origin = self._origins[key] = Origin(state)
        return origin

    def _turn_to(self, origin: Origin, ts_ns: int) -> None:
        """Events of another epoch than before: what was between the two nobody knows."""
        state = origin.state
        previous = self._current.get(state)
        if previous is not None:
            self._release(previous, everything=True)
            previous.passes = False
        if state.sequence:
            self._miss(state, 0, ts_ns)
        self._current[state] = origin
        origin.passes = state.book is None

    def _begin_topic(self, origin: Origin, image: StreamEvent) -> None:
        """With its state at the start. Whoever has it as a book needs all of it; of others it is no news."""
        state, ts_ns = origin.state, image.received_ts_ns
        self._turn_to(origin, ts_ns)
        origin.imaged = origin.reached = image.sequence
        event = self._event(origin, image)
        state.keep(event)
        if state.book is not None:
            self._whole.add(state)
            self._deliver(state, event, state.encoder.encode(event, state.sequence + 1))
        self._make_live(state, ts_ns)

    def _tell_event(self, origin: Origin, received: StreamEvent, raw: bytes, key_bytes: int) -> None:
        state, payload, ts_ns = origin.state, received.payload, received.received_ts_ns
        if isinstance(payload, Gap):
            self._say(state, Gap(payload.cause, state.epoch, missed=payload.missed), ts_ns)
        elif isinstance(payload, TopicStatus):
            told = (payload.state, payload.cause) == (state.status.state, state.status.cause)
            waits = payload.state == _LIVE and state.book is not None and state not in self._whole  # for its snapshot
            if not told and not waits:
                self._say(state, payload, ts_ns)
        elif isinstance(payload, Unknown):
            self.skipped["unknown"] += 1
        elif isinstance(payload, BookDelta) and state not in self._whole:
            self.skipped["no book"] += 1
        else:
            self._tell_news(origin, received, raw, key_bytes)

    def _tell_news(self, origin: Origin, received: StreamEvent, raw: bytes, key_bytes: int) -> None:
        state, event = origin.state, self._event(origin, received)
        if isinstance(event.payload, BookSnapshot) and state.book is not None:
            self._whole.add(state)  # the past says behind it that the book is live
        else:
            self._make_live(state, event.received_ts_ns)
        if isinstance(event.payload, Instrument):
            element = state.encoder.encode(event, state.sequence + 1)
        else:
            rest = raw[_body(raw) + key_bytes + SEQUENCE_BYTES :]
            element = origin.head(len(rest)) + (state.sequence + 1).to_bytes(8, "little") + rest
        state.keep(event)
        self._deliver(state, event, element)

    def _miss(self, state: TopicState, missed: int, ts_ns: int) -> None:
        """Events are missing here. A book of which some are is none until its next snapshot."""
        self._say(state, Gap(GapCause.VENUE, state.epoch, missed=missed), ts_ns)
        self._whole.discard(state)
        if state.book is not None and state.live:
            self._say(state, TopicStatus(State.RESYNCING, StatusCause.SEQUENCE_GAP, HOLE, ts_ns), ts_ns)

    def _make_live(self, state: TopicState, ts_ns: int) -> None:
        if not state.live:
            self._say(state, TopicStatus(State.LIVE, since_ts_ns=ts_ns), ts_ns)

    def _say(self, state: TopicState, payload: TopicStatus | Gap, ts_ns: int) -> None:
        event = Event(state.topic, payload, ts_ns)
        if isinstance(payload, TopicStatus):
            state.status = payload
        self._deliver(state, event, state.encoder.encode(event, state.sequence + 1))

    # ---- to the clients

    def _deliver(self, state: TopicState, event: Event, element: bytes) -> None:
        """As the broker does: `event` is the next of its topic, and `element` what it is on the wire."""
        state.sequence += 1
        self.events += 1
        state.ring.append(state, element)
        for audience in state.audiences:
            audience.pending.append(element)
            if not audience.dirty:
                audience.mark()
        self._hand_out(state, event, element)

    def _hand_out(self, state: TopicState, event: Event, element: bytes) -> None:
        """To those who need it one by one."""
        for audience in state.audiences:
            for outbox in audience.behind:
                outbox.put_event(state, event, element)
        for paced in state.paced.values():
            paced.offer(event, element)

    def _decoded(self, raw: bytes) -> StreamEvent:
        return self._decoder.decode(raw).events[0]

    def _event(self, origin: Origin, received: StreamEvent) -> Event:
        """As the broker has it."""
        topic, payload = origin.state.topic, received.payload
        assert not isinstance(payload, Unknown)
        if isinstance(payload, Instrument):
            payload = attrs.evolve(payload, venue=topic.venue)
            self._broker.directory.learn(payload)
        return Event(topic, payload, received.received_ts_ns, received.venue_ts_ns, received.flags & _KEPT)


def _body(element: bytes) -> int:
    """Where an element's MarketEvent begins."""
    return 2 if element[1] < 128 else read_varint(element, 1)[1]
