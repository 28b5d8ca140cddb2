"""From what a store has to what the broker begins with, or, when the store was away then, to what it lacks since.

Late, a value is taken only by a topic of which nothing newer has come. The topic says so with an event, because an image is one
of a sequence: with its status, or, where it is LIVE already, with the Gap that would have stood before that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import attrs
import structlog
import trio

from raven.adapter.batch import Batch
from raven.broker import Broker
from raven.broker.directory import Directory
from raven.broker.restoring import TEXT, restore_topic
from raven.broker.ring import RingLimits
from raven.broker.topics import TopicState
from raven.client.decode import Decoder
from raven.client.events import Unknown
from raven.client.wire import DecodeError
from raven.errors import InvalidValue
from raven.model.events import Event, Gap, GapCause, State, TopicStatus
from raven.model.instrument import Instrument
from raven.model.topic import Topic
from raven.store.latest.values import ClientSubscriptions, LatestStore, LatestValue

__all__ = ["Loaded", "Places", "Restored", "load", "restore", "restore_late"]

Places = Mapping[Topic, tuple[int, int]]
"""Epoch and sequence of topics."""

_ONE_EVENT = RingLimits(events_max=1)

log = structlog.stdlib.get_logger("raven.store")


@attrs.frozen
class Loaded:
    """What a store had, decoded.

    Args:
        values: the events of the images, each with its epoch and sequence.
        dropped: topics whose value makes no sense.
        unknown: topics that are not carried any more.
    """

    values: list[tuple[Event, int, int]]
    clients: list[ClientSubscriptions]
    dropped: list[Topic]
    unknown: list[Topic]


@attrs.frozen
class Restored:
    """How much of it the broker took.

    Args:
        dropped: values that make no sense, or are not what the server before left.
        late: values and clients that were not taken because the store came back late, and there is news of them.
    """

    topics: int = 0
    clients: int = 0
    dropped: int = 0
    late: int = 0


def load(store: LatestStore, carried: Mapping[str, Collection[Topic]], now_s: float) -> Loaded:
    """Read and decode, in a worker thread. What makes no sense is removed from the store, and so is what is not carried any
    more, if no other server can carry it.

    Args:
        carried: the topics of each feed.

    Raises:
        StoreError: the store does not answer.
    """
    loaded = Loaded([], store.load_clients(now_s), [], [])
    for venue, topics in carried.items():
        for value in store.load([venue]):
            if value.topic in topics:
                _decode(value, loaded)
            else:
                loaded.unknown.append(value.topic)
    over = [*loaded.dropped, *([] if store.shared else loaded.unknown)]
    if over:
        store.remove(over)
    return loaded


def _decode(value: LatestValue, loaded: Loaded) -> None:
    try:
        loaded.values.append((_event(value), value.epoch, value.sequence))
    except (DecodeError, ValueError, TypeError) as error:
        log.warning("a latest value cannot be read: it is left out", topic=str(value.topic), error=str(error))
        loaded.dropped.append(value.topic)


def _event(value: LatestValue) -> Event:
    """Raises DecodeError, ValueError or TypeError: the image is none of this topic."""
    events = Decoder().decode(value.image).events
    if len(events) != 1:
        raise ValueError(f"an image of {len(events)} events")
    (image,) = events
    if (image.topic, image.epoch, image.sequence) != (value.topic, value.epoch, value.sequence):
        raise ValueError(f"an image of {image.topic} at ({image.epoch}, {image.sequence})")
    if isinstance(image.payload, Unknown):
        raise TypeError(f"a payload that this Raven does not know ({image.payload.number})")
    return Event(value.topic, image.payload, image.received_ts_ns, image.venue_ts_ns, image.flags)


async def restore(broker: Broker, loaded: Loaded, now_ns: int) -> Restored:
    """Have the broker begin with it. To be called before anything is published; health is asked meanwhile."""
    topics = 0
    for event, epoch, sequence in loaded.values:
        topics += _restored(broker, event, epoch, sequence, now_ns)
        await trio.lowlevel.checkpoint()
    _restore_clients(broker, loaded.clients, now_ns)
    return Restored(topics, len(loaded.clients), len(loaded.dropped) + len(loaded.values) - topics)


def _restored(broker: Broker, event: Event, epoch: int, sequence: int, now_ns: int) -> bool:
    topic = event.topic
    try:
        restore_topic(broker.directory, topic.venue, event, epoch, sequence, now_ns)
    except InvalidValue as error:
        log.warning("a latest value is left out", topic=str(topic), error=str(error))
        return False
    if isinstance(event.payload, Instrument):
        broker.directory.learn(event.payload)
    return True


async def restore_late(broker: Broker, loaded: Loaded, handed: Places, now_ns: int) -> Restored:
    """Give the broker what it has nothing newer of, while it serves.

    Args:
        handed: where the topics stood that a server before handed over, when this one began.
    """
    topics = dropped = late = 0
    for event, epoch, sequence in loaded.values:
        if _has_news(broker.directory.find(event.topic)):
            late += 1
        elif handed.get(event.topic, (epoch, sequence)) != (epoch, sequence):
            log.warning("a latest value is left out: it is not what the server before left", topic=str(event.topic))
            dropped += 1
        elif _restored_late(broker, event, epoch, sequence, now_ns):
            topics += 1
        else:
            dropped += 1
        await trio.lowlevel.checkpoint()
    away = [one for one in loaded.clients if not (broker.clients.get(one.client_id) or broker.clients.kept(one.client_id))]
    _restore_clients(broker, away, now_ns)
    late += len(loaded.clients) - len(away)
    return Restored(topics, len(away), len(loaded.dropped) + dropped, late)


def _has_news(state: TopicState | None) -> bool:
    return state is not None and (state.last is not None or state.status.state == State.CLOSED)


def _restored_late(broker: Broker, event: Event, epoch: int, sequence: int, now_ns: int) -> bool:
    state = broker.directory.find(event.topic)
    # a topic that is there is held against the same rules in a directory of its own
    directory = broker.directory if state is None else Directory(lambda: now_ns, _ONE_EVENT)
    try:
        restored = restore_topic(directory, event.topic.venue, event, epoch, sequence, now_ns)
    except InvalidValue as error:
        log.warning("a latest value is left out", topic=str(event.topic), error=str(error))
        return False
    if state is None:
        broker.clients.match_newborn([restored])
        broker.clients.place()
    else:
        assert restored.last is not None
        state.keep(restored.last)
        broker.publish(Batch(state.feed, [_said(state, now_ns)]))
        broker.flush()
    if isinstance(event.payload, Instrument):
        broker.directory.learn(event.payload)
    return True


def _said(state: TopicState, now_ns: int) -> Event:
    """That the topic has a value now, which is an old one."""
    if state.live:
        return Event(state.topic, Gap(GapCause.VENUE, state.epoch), now_ns)
    status = state.status
    text = f"{status.text}; {TEXT}" if status.text else TEXT
    return Event(state.topic, TopicStatus(status.state, status.cause, text, status.since_ts_ns), now_ns)


def _restore_clients(broker: Broker, clients: Iterable[ClientSubscriptions], now_ns: int) -> None:
    for client in clients:
        broker.clients.remember(client.client_id, client.subscriptions, client.expires_s - now_ns / 1e9)
