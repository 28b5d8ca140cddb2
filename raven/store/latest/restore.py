"""From what a store has to what the broker begins with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import attrs
import structlog
import trio

from raven.broker import Broker
from raven.broker.restoring import restore_topic
from raven.client.decode import Decoder
from raven.client.events import Unknown
from raven.client.wire import DecodeError
from raven.errors import InvalidValue
from raven.model.events import Event
from raven.model.instrument import Instrument
from raven.model.topic import Topic
from raven.store.latest.values import ClientSubscriptions, LatestStore, LatestValue

__all__ = ["Loaded", "Restored", "load", "restore"]

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
    """

    topics: int = 0
    clients: int = 0
    dropped: int = 0


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


def _restore_clients(broker: Broker, clients: Iterable[ClientSubscriptions], now_ns: int) -> None:
    for client in clients:
        broker.clients.remember(client.client_id, client.subscriptions, client.expires_s - now_ns / 1e9)
