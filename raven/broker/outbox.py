"""What waits for one client: events and control messages, in the order in which they are to be read.

A client that takes everything at once has an empty outbox: its audience hands it whole messages. One that is behind has its
events put here one by one, where the policy of their topic says what becomes of them. Nothing here waits, and a full outbox is
no error: the broker asks `overfull` after each flush, which drops what may be dropped, and ends the client when that is not
enough.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from raven.broker.policy import Policy, is_final, is_mark
from raven.broker.replay import Replay
from raven.broker.topics import TopicState
from raven.broker.withheld import Backlog, Conflated
from raven.model.events import Event

__all__ = ["MESSAGE_BYTES_MAX", "Lane", "Outbox", "OutboxLimits", "OutboxStatistics", "OutboxWriter"]

MESSAGE_BYTES_MAX = 1024 * 1024
"""A message is at most this long, unless one event alone is longer (raven.proto, StreamMarketDataResponse)."""

WARN_AT, WARN_UNTIL = 0.75, 0.5
"""Parts of a limit: the client is warned at the one, and told below the other that it is over (raven.proto, SlowWarning)."""


@attrs.frozen
class OutboxLimits:
    """What may wait for one client.

    Args:
        events_max: events.
        bytes_max: bytes of events.
        control_bytes_max: bytes of control messages.
    """

    events_max: int = 16_384
    bytes_max: int = 8 * 1024 * 1024
    control_bytes_max: int = 64 * 1024


class Tally:
    """What was sent."""

    __slots__ = ("bytes", "events", "messages")

    def __init__(self) -> None:
        self.events = self.bytes = self.messages = 0

    def add(self, later: Tally, earlier: Tally) -> None:
        """What came between two others."""
        self.events += later.events - earlier.events
        self.bytes += later.bytes - earlier.bytes
        self.messages += later.messages - earlier.messages

    def copy(self) -> Tally:
        """As it is now."""
        copied = Tally()
        copied.events, copied.bytes, copied.messages = self.events, self.bytes, self.messages
        return copied


@attrs.frozen
class OutboxStatistics:
    """A view of one outbox. What was taken by the writer counts as sent; what was conflated or dropped as missed."""

    events_queued: int
    bytes_queued: int
    events_sent: int
    bytes_sent: int
    messages_sent: int
    events_missed: int


class Lane(Protocol):
    """The quick way to the client: it takes whole messages that nothing waits in front of, or does nothing.

    Attributes:
        closed: it takes nothing any more.
    """

    closed: bool

    def send(self, message: bytes, shared: dict[int, bytes]) -> bool:
        """Take one message; whether it did. Never blocks, never raises.

        Args:
            shared: what lanes have made of this very message for others.
        """


class OutboxWriter(Protocol):
    """The way to the client."""

    lane: Lane

    def begin(self, message: bytes) -> bool:
        """Take one message that the lane did not, and that nothing waits in front of; whether there is room for another. Never
        blocks, never raises.
        """

    def drain(self) -> bool:
        """Write what was begun, then what the outbox has, as far as it goes; whether nothing waits any more. Never raises."""

    @property
    def bytes_waiting(self) -> int:
        """What was taken and has not reached the network."""


class Membership(Protocol):
    """Whom an outbox tells whether it takes everything at once."""

    def settle(self) -> None:
        """Hand over what has been published for all before."""

    def fell_behind(self, outbox: Outbox) -> None:
        """It has to be given events one by one."""

    def caught_up(self, outbox: Outbox) -> None:
        """Nothing waits in it any more."""

    def remove(self, outbox: Outbox) -> None:
        """It takes nothing more."""


class Outbox:
    """Events and controls of one client.

    Args:
        now_ns: wall clock.
    """

    __slots__ = (
        "_controls_bytes",
        "_drops",
        "_events",
        "_now_ns",
        "_open",
        "_queue",
        "_sealed",
        "_sent",
        "_shared",
        "_shared_before",
        "_warned",
        "audience",
        "behind",
        "bookmark",
        "bytes_queued",
        "events_missed",
        "limits",
        "on_pressure",
        "place",
        "policies",
        "writer",
    )

    def __init__(self, limits: OutboxLimits, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.limits = limits
        self.writer: OutboxWriter | None = None
        self.audience: Membership | None = None
        self.on_pressure: Callable[[int, int, bool], None] | None = None
        self.policies: dict[TopicState, Policy] = {}
        self.place: Callable[[], bytes] = bytes  # how far everything is that has been published
        self.bookmark = b""  # how far the client has all; not known until it had all once
        self.behind = True  # until a writer has nothing to write
        self._now_ns = now_ns
        # elements of events, what stands for several, and whole control messages as memoryviews
        self._queue: deque[bytes | memoryview | Conflated | Backlog | Replay] = deque()
        self._open: dict[TopicState, Conflated | Backlog] = {}  # those in the queue that take up more
        self._drops: deque[tuple[Backlog, int]] = deque()  # what may be dropped, oldest first
        self._events = 0
        self._controls_bytes = 0
        self._warned = False
        self._sealed = False
        self.bytes_queued = 0
        self._sent = Tally()
        self._shared: Tally | None = None  # of its audience, while all in it are sent the same; and what that was at first
        self._shared_before = Tally()
        self.events_missed = 0

    def __len__(self) -> int:
        """Events that wait."""
        return self._events

    @property
    def sealed(self) -> bool:
        """Whether it takes nothing more."""
        return self._sealed

    @property
    def empty(self) -> bool:
        """Whether nothing waits, neither events nor controls."""
        return not self._queue

    # ---- in

    def put(self, element: bytes, state: TopicState | None = None) -> None:
        """Append one event as its `events` element, whatever the policy.

        Args:
            state: its topic, if more of its events are put.
        """
        self._settle()
        if self._sealed:
            return
        if state is not None:
            self.fix(state)
        self._append(element)

    def put_state(self, state: TopicState, elements: list[bytes]) -> None:
        """Append the status and the state of a topic; where its state is under way already, its status stands behind it."""
        withheld = self._open.get(state)
        if isinstance(withheld, Conflated):
            withheld.status_told = True
            return
        for element in elements:
            self.put(element, state)

    def put_event(self, state: TopicState, event: Event, element: bytes) -> None:
        """Append what was just published on `state`, as the topic's policy says: the client is behind."""
        policy = self.policies.get(state, Policy.DISCONNECT)
        if self._sealed:
            return
        if policy is Policy.DISCONNECT:
            self._append(element)
        elif policy is Policy.DROP_OLDEST:
            self._put_droppable(state, element)
        else:
            self._put_conflated(state, event, element)

    def conflates(self, state: TopicState) -> bool:
        """Whether the latest state of the topic is to be sent already."""
        return isinstance(self._open.get(state), Conflated)

    def put_conflated(self, conflated: Conflated) -> None:
        """Append what was withheld elsewhere."""
        self._settle()
        if not self._sealed:
            self._append_conflated(conflated)

    def put_replay(self, replay: Replay) -> None:
        """Append what a client that comes back has missed. It counts against no limit: it is kept in the ring."""
        self._settle()
        if not self._sealed:
            self._queue.append(replay)

    @property
    def replay_at_end(self) -> Replay | None:
        """What was put last, if that is what its client has missed."""
        last = self._queue[-1] if self._queue else None
        return last if isinstance(last, Replay) else None

    def put_control(self, message: bytes) -> None:
        """Append one whole control message."""
        self._settle()
        if not self._sealed:
            self._queue.append(memoryview(message))
            self._controls_bytes += len(message)

    def seal(self) -> None:
        """What was put last is the last: nothing that is put from now on stands behind it, or anywhere."""
        self._settle()
        self._sealed = True
        if self.audience is not None:
            self.audience.remove(self)

    def _settle(self) -> None:
        if self.audience is not None:
            self.audience.settle()

    def _append(self, element: bytes) -> None:
        self._queue.append(element)
        self._events += 1
        self.bytes_queued += len(element)

    def _append_conflated(self, conflated: Conflated) -> None:
        self._queue.append(conflated)
        self._open[conflated.state] = conflated
        self._events += 1

    def _put_droppable(self, state: TopicState, element: bytes) -> None:
        backlog = self._open.get(state)
        if not isinstance(backlog, Backlog):
            backlog = self._open[state] = Backlog(state)
            self._queue.append(backlog)
        backlog.waiting.append((state.sequence, element))
        self._drops.append((backlog, state.sequence))
        self._events += 1
        self.bytes_queued += len(element)

    def _put_conflated(self, state: TopicState, event: Event, element: bytes) -> None:
        conflated = self._open.get(state)
        if not isinstance(conflated, Conflated):
            if is_final(event) or is_mark(event):
                self._append(element)
            else:
                self._append_conflated(Conflated(state, state.sequence, element))
        elif is_final(event):
            final = state.encoder.encode_general(event, state.sequence, first_sequence=conflated.first_sequence)
            for one in conflated.around(final, self._now_ns()):
                self._append(one)
            self.events_missed += conflated.count
            self._end_conflated(conflated)
        else:
            conflated.add(event)

    def fall_behind(self, rest: Sequence[bytes]) -> None:
        """The writer could not take all of a message, and these elements, which its audience had for it too, come behind."""
        for element in rest:
            self._append(element)
        self.wrote(everything=False)

    def fix(self, state: TopicState) -> None:
        """What stands for several events of a topic takes up no more: those that follow stand behind it."""
        withheld = self._open.pop(state, None)
        if isinstance(withheld, Conflated):
            withheld.fix(self._now_ns())

    def forget(self, state: TopicState) -> None:
        """The client does not want the topic any more."""
        withheld = self._open.get(state)
        if isinstance(withheld, Conflated):
            self._end_conflated(withheld)
        self._open.pop(state, None)

    def _end_conflated(self, conflated: Conflated) -> None:
        conflated.forget()
        del self._open[conflated.state]

    # ---- limits

    def overfull(self) -> str:
        """Drop what may be dropped; which limit is passed all the same, in words, empty when none is."""
        limits = self.limits
        while self._drops and (self._events > limits.events_max or self.bytes_queued > limits.bytes_max):
            self._drop_oldest()
        if self._events > limits.events_max:
            return f"{self._events} events wait, the limit is {limits.events_max}"
        if self.bytes_queued > limits.bytes_max:
            return f"{self.bytes_queued} bytes of events wait, the limit is {limits.bytes_max}"
        if self._controls_bytes > limits.control_bytes_max:
            return f"{self._controls_bytes} bytes of control messages wait, the limit is {limits.control_bytes_max}"
        self._mind_pressure()
        return ""

    def _drop_oldest(self) -> None:
        backlog, sequence = self._drops.popleft()
        if backlog.waiting and backlog.waiting[0][0] == sequence:  # else it has been taken
            self.bytes_queued -= backlog.drop()
            self._events -= 1
            self.events_missed += 1

    def _mind_pressure(self) -> None:
        limits = self.limits
        part = max(self._events / limits.events_max, self.bytes_queued / limits.bytes_max)
        if self._warned != (part >= (WARN_UNTIL if self._warned else WARN_AT)):
            self._warned = not self._warned
            limit_bytes = round(self.bytes_queued / part) if part else limits.bytes_max  # whichever limit is the nearer one
            if self.on_pressure is not None:
                self.on_pressure(self.bytes_queued, limit_bytes, not self._warned)

    def put_in_front(self, message: bytes) -> None:
        """A control message that does not wait behind events, but behind other controls: the first of them is Welcome."""
        if self._sealed:
            return
        waiting = enumerate(self._queue)
        self._queue.insert(next((at for at, item in waiting if not isinstance(item, memoryview)), 0), memoryview(message))
        self._controls_bytes += len(message)

    # ---- out

    def take(self, trailer: bytes) -> bytes | None:
        """The next message, with `trailer` (the field sent_ts_ns) behind it; None when nothing waits.

        All events that wait in front of the next control are joined into one message, up to MESSAGE_BYTES_MAX.
        """
        queue = self._queue
        while queue:
            control = queue[0]
            if isinstance(control, memoryview):
                queue.popleft()
                self._controls_bytes -= len(control)
                return self._taken(bytes(control) + trailer)
            if elements := self._take_elements():
                self._sent.events += len(elements)
                elements.append(trailer)
                return self._taken(b"".join(elements))
        return None

    def _taken(self, message: bytes) -> bytes:
        if not self._queue:
            self.bookmark = self.place()
        self._sent.messages += 1
        self._sent.bytes += len(message)
        return message

    def _take_elements(self) -> list[bytes]:
        """Elements up to the next control, or up to the size of a message."""
        queue, room = self._queue, MESSAGE_BYTES_MAX
        elements: list[bytes] = []
        while queue:
            item = queue[0]
            if isinstance(item, bytes):
                room -= len(item)
                if room < 0 and elements:
                    break
                self.bytes_queued -= len(item)
                elements.append(item)
                self._events -= 1
            elif isinstance(item, Conflated):
                made = item.elements(self._now_ns())
                room -= sum(map(len, made))
                if room < 0 and elements:
                    break
                elements += made
                self._leave(item)
            elif isinstance(item, Replay):
                if room <= 0:
                    break
                made = item.take(room, self._now_ns())
                room -= sum(map(len, made))
                elements += made
                if not item.done:
                    break
            elif isinstance(item, Backlog):
                room = self._take_backlog(item, elements, room)
                if item.waiting:
                    break
                self._leave(item)
            else:
                break
            queue.popleft()
        return elements

    def _leave(self, item: Conflated | Backlog) -> None:
        if self._open.get(item.state) is item:
            del self._open[item.state]
        if isinstance(item, Conflated):
            self._events -= 1
            self.events_missed += item.count - 1

    def _take_backlog(self, backlog: Backlog, elements: list[bytes], room: int) -> int:
        for element in backlog.gap(self._now_ns()):
            elements.append(element)
            room -= len(element)
        while backlog.waiting:
            element = backlog.waiting[0][1]
            room -= len(element)
            if room < 0 and elements:
                break
            backlog.waiting.popleft()
            elements.append(element)
            self.bytes_queued -= len(element)
            self._events -= 1
        self._forget_taken()
        return room

    def _forget_taken(self) -> None:
        drops = self._drops
        while drops and not (drops[0][0].waiting and drops[0][0].waiting[0][0] <= drops[0][1]):
            drops.popleft()

    def share(self, tally: Tally) -> None:
        """What this one counts from now on is sent to this client too."""
        self._shared, self._shared_before = tally, tally.copy()

    def share_no_more(self) -> None:
        """This client goes its own way again."""
        if self._shared is not None:
            self._sent.add(self._shared, self._shared_before)
            self._shared = None

    @property
    def sent(self) -> Tally:
        """What the writer has taken."""
        sent = self._sent.copy()
        if self._shared is not None:
            sent.add(self._shared, self._shared_before)
        return sent

    @property
    def bytes_passed(self) -> int:
        """What has reached the network."""
        return self.sent.bytes - (self.writer.bytes_waiting if self.writer is not None else 0)

    @property
    def waits(self) -> bool:
        """Whether the client has not taken all that there is for it."""
        return self.behind or (self.writer is not None and self.writer.bytes_waiting > 0)

    def clear(self) -> None:
        """Forget all that waits: the client is gone, or is told that it is."""
        self._queue.clear()
        self._open.clear()
        self._drops.clear()
        self._events = self.bytes_queued = self._controls_bytes = 0

    def let_go(self) -> None:
        """The client is gone: refer to nothing that refers back, so that its memory is free at once, by reference counts."""
        self.writer = self.on_pressure = None
        self.place = bytes

    def flush(self) -> None:
        """Have the writer take what it can."""
        self._settle()
        if self.writer is not None:
            self.wrote(self.writer.drain())

    def wrote(self, everything: bool) -> None:
        """The writer has written what it could: did that leave nothing?"""
        if everything is self.behind:  # else nothing has changed
            self.behind = not everything
            if not self._queue:
                self.bookmark = self.place()  # either all was written, or the message that was begun has all
            if everything:
                self._drops.clear()
                if self._warned:
                    self._mind_pressure()
            if self.audience is not None:
                (self.audience.caught_up if everything else self.audience.fell_behind)(self)

    def statistics(self) -> OutboxStatistics:
        """How much waits and how much was sent."""
        sent = self.sent
        return OutboxStatistics(self._events, self.bytes_queued, sent.events, sent.bytes, sent.messages, self.events_missed)
