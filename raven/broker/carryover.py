"""What a broker hands to the next one on the same machine: the recent events of each feed, and where its topics stand.

Only a clean end hands anything over. A server that was killed begins new epochs: nobody can say what was published last.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from raven.broker.directory import Directory
from raven.broker.ring import Ring
from raven.broker.topics import TopicState
from raven.model.topic import Kind, Topic

__all__ = ["FeedCarryover", "TopicCarryover", "adopt", "hand_over"]

NOBODYS = Topic("", "", Kind.TRADE)
"""Stands for the topics that are forgotten, in the places of their events."""


class TopicCarryover(msgspec.Struct, frozen=True, array_like=True):
    """Where one topic stands. `forgotten` is its last sequence that is not among the recent events."""

    symbol: str
    kind: int
    variant: str
    epoch: int
    sequence: int
    forgotten: int


class FeedCarryover(msgspec.Struct, frozen=True, array_like=True):
    """The recent events of one feed: index into its topics, sequence, and the event's `events` element.

    The index of an event whose topic is forgotten is the number of topics: it only keeps its place.
    """

    feed: str
    epoch: int
    first: int
    topics: list[TopicCarryover]
    events: list[tuple[int, int, bytes]]


def hand_over(directory: Directory) -> list[FeedCarryover]:
    """Everything, as it stands now."""
    return [_of_feed(directory, ring) for ring in directory.rings.values()]


def _of_feed(directory: Directory, ring: Ring) -> FeedCarryover:
    states = directory.of_feed(ring.feed)
    index = {state: number for number, state in enumerate(states)}
    topics = [
        TopicCarryover(
            state.topic.symbol, int(state.topic.kind), state.topic.variant, state.epoch, state.sequence, state.forgotten
        )
        for state in states
    ]
    events = [(index.get(state, len(states)), sequence, element) for state, sequence, element in ring.read(ring.first)]
    return FeedCarryover(ring.feed, ring.epoch, ring.first, topics, events)


def adopt(directory: Directory, carried: FeedCarryover, symbols: Container[str], kinds: Container[Kind]) -> None:
    """Go on where an earlier server stopped. To be called before anything is published.

    Topics of other symbols and kinds are forgotten; their events stay in their places, and nobody asks for them. The others are
    DOWN until their feed is there again, and what happened at the venue meanwhile is a Gap then.
    """
    ring = directory.adopt_ring(carried.feed, carried.epoch, carried.first)
    states = [_adopt_topic(directory, carried.feed, topic) for topic in carried.topics]
    for state in states:
        if state.topic.symbol not in symbols or state.topic.kind not in kinds:
            directory.remove(state)
    sequences = [state.sequence for state in states]
    states.append(TopicState(NOBODYS, carried.feed, 0, 0, ring))
    for number, sequence, element in carried.events:
        states[number].sequence = sequence
        ring.append(states[number], element)
    for state, sequence, topic in zip(states, sequences, carried.topics, strict=False):
        state.sequence = sequence
        state.forgotten = max(state.forgotten, topic.forgotten)


def _adopt_topic(directory: Directory, feed: str, carried: TopicCarryover) -> TopicState:
    state = directory.add(Topic(feed, carried.symbol, Kind(carried.kind), carried.variant), feed, carried.epoch)
    state.sequence = carried.sequence
    state.adopted = True
    return state
