"""Topics as a store keeps them: what is given to it, and how a topic begins with a value that an earlier server left there.

After a clean end a topic goes on in its epoch (raven.broker.carryover), and what the store has of it is its state as of the
last sequence. After a kill nobody can say what was published last: the topic begins a new epoch, whose first event says that it
is DOWN, and has its old value as the image behind that. When the feed is live again, what happened at the venue meanwhile is a
Gap.
"""

from __future__ import annotations

from msgspec.structs import replace

from raven.broker.directory import Directory
from raven.broker.topics import TopicState
from raven.codec.payloads import encode_payload
from raven.errors import InvalidValue
from raven.model.book import OrderBook
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Gap, State, StatusCause, TopicStatus, payload_kinds

__all__ = ["EPOCH_AHEAD_MAX_MS", "TEXT", "latest_elements", "restore_topic"]

EPOCH_AHEAD_MAX_MS = 24 * 3600 * 1000
"""An epoch that began further in the future is none: clocks are not set back by more than this."""

TEXT = "the value is of before the server was started"

_NOT_KEPT = int(Flag.IMAGE | Flag.LOCAL)


def latest_elements(state: TopicState, now_ns: int) -> tuple[bytes, bytes] | None:
    """Status and image of a topic as `events` elements, as GetLatest answers them; None before its first value.

    The image is made for this once: a topic that has made it for a client keeps it, and those of all topics are many bytes.
    """
    event = state.last
    if event is None:
        return None
    if state.book is not None:
        event = replace(event, payload=state.book.snapshot())
    return state.status_element(now_ns), state.encoder.encode_general(event, state.sequence, flags=Flag.IMAGE)


def restore_topic(directory: Directory, feed: str, event: Event, epoch: int, sequence: int, now_ns: int) -> TopicState:
    """Have a topic begin with `event`, its value as of `sequence` in `epoch`. To be called before anything is published.

    Raises:
        InvalidValue: the value makes no sense, or is not that of the topic as the server before left it. Nothing has changed.
    """
    event = replace(event, flags=event.flags & ~_NOT_KEPT)
    _check_place(epoch, sequence, now_ns)
    _check_event(event)
    state = directory.find(event.topic)
    if state is None:
        state = directory.add(event.topic, feed, max(now_ns // 1_000_000, epoch + 1))
        state.keep(event)
        _announce(state, now_ns)
    elif (state.epoch, state.sequence) != (epoch, sequence):
        raise InvalidValue(
            "sequence", (epoch, sequence), f"({state.epoch}, {state.sequence}), as the server before left the topic"
        )
    else:
        state.keep(event)
        state.status = _down(now_ns)
    state.adopted = True
    return state


def _announce(state: TopicState, now_ns: int) -> None:
    """The first event of the epoch, so that the image is one of a sequence that there is."""
    state.status = _down(now_ns)
    state.sequence = 1
    state.ring.append(state, state.encoder.encode(Event(state.topic, state.status, now_ns), 1))


def _down(now_ns: int) -> TopicStatus:
    return TopicStatus(State.DOWN, StatusCause.STARTING, TEXT, now_ns)


def _check_place(epoch: int, sequence: int, now_ns: int) -> None:
    latest = now_ns // 1_000_000 + EPOCH_AHEAD_MAX_MS
    if not 0 < epoch <= latest:
        raise InvalidValue("epoch", epoch, f"1 to {latest}")
    if sequence < 1:
        raise InvalidValue("sequence", sequence, "1 or more")


def _check_event(event: Event) -> None:
    """Whether it can be a topic's value: of its kind, and with numbers that can be sent."""
    payload = event.payload
    if isinstance(payload, TopicStatus | Gap | BookDelta) or event.topic.kind not in payload_kinds.get(type(payload), ()):
        raise InvalidValue("payload", type(payload).__name__, f"a value of a {event.topic.kind.label} topic")
    try:
        if isinstance(payload, BookSnapshot):
            OrderBook(payload)
        encode_payload(payload)
    except (ValueError, TypeError, AttributeError, OverflowError, KeyError) as error:
        raise InvalidValue("payload", type(payload).__name__, f"one that can be sent: {error}") from error
