"""The continuity of each topic, as one client saw it: what is new, what is a duplicate, where a hole is. Pure.

The rules are those of raven.proto: within an epoch the sequence goes up by one; what is LOCAL takes no sequence; an image is
the state as of its sequence; a conflated event stands for [first_sequence, sequence]; a server that is behind sends
nothing up to what the client has. Where the server leaves a hole without a word, a Gap is made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from raven.client.decode import Origin
from raven.client.events import GapEvent, StreamEvent
from raven.model.events import Flag, Gap, GapCause
from raven.model.topic import Topic

__all__ = ["Cursor", "Tracker"]

LOOK = -1
_NOT_NEWS = int(Flag.IMAGE | Flag.LOCAL)


class Cursor:
    """Where one topic is.

    Attributes:
        expected: the sequence of the next event if nothing out of the ordinary happens; -1 = look closer.
        fresh: nothing of the topic has come since the stream was made anew.
        told: a Gap has come and nothing behind it yet: "" = no, "range" = up to `sequence`, "open" = nobody knows up to where.
    """

    __slots__ = ("epoch", "expected", "fresh", "sequence", "told", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.epoch: int | None = None
        self.sequence = 0
        self.expected = LOOK
        self.fresh = False
        self.told = ""

    def move(self, epoch: int, sequence: int) -> None:
        """Everything up to here has been told."""
        self.epoch, self.sequence, self.expected = epoch, sequence, sequence + 1
        self.fresh, self.told = False, ""


@attrs.define
class Tracker:
    """All topics of one client.

    Attributes:
        duplicates: events that had been told before and were left out.
        gaps_made: gaps that the server did not tell.
    """

    duplicates: int = 0
    gaps_made: int = 0
    _cursors: dict[Topic, Cursor] = attrs.field(factory=dict)

    def cursor(self, topic: Topic) -> Cursor:
        """Of `topic`; a new one if it has none."""
        cursor = self._cursors.get(topic)
        if cursor is None:
            cursor = self._cursors[topic] = Cursor(topic)
        return cursor

    def points(self) -> list[Cursor]:
        """The topics that have a place to continue from."""
        return [cursor for cursor in self._cursors.values() if cursor.epoch is not None]

    def forget(self, topics: Iterable[Topic]) -> None:
        """These are not followed any more; what comes of them later begins anew."""
        for topic in topics:
            cursor = self._cursors.get(topic)
            if cursor is not None:
                cursor.epoch, cursor.expected, cursor.told, cursor.fresh = None, LOOK, "", False

    def go_on(self, places: Mapping[Topic, tuple[int, int]]) -> None:
        """Of each of these topics everything up to an epoch and sequence is known. To be called before the first stream."""
        for topic, (epoch, sequence) in places.items():
            self.cursor(topic).move(epoch, sequence)
        self.reconnected()

    def reconnected(self) -> None:
        """A new stream begins."""
        for cursor in self._cursors.values():
            cursor.fresh = True
            cursor.expected = LOOK

    def admit(self, events: Sequence[StreamEvent], origins: Sequence[Origin]) -> list[StreamEvent]:
        """What of `events` is new, with the gaps that nobody told before it."""
        admitted: list[StreamEvent] = []
        add = admitted.append
        for event, origin in zip(events, origins, strict=True):
            cursor = origin.cursor
            if cursor is None:
                cursor = origin.cursor = self.cursor(origin.topic)
            sequence = event.sequence
            if sequence == cursor.expected and origin.epoch == cursor.epoch and not event.flags & _NOT_NEWS:
                cursor.sequence = sequence
                cursor.expected = sequence + 1
                add(event)
            else:
                self._look(event, cursor, admitted)
        return admitted

    def _look(self, event: StreamEvent, cursor: Cursor, admitted: list[StreamEvent]) -> None:
        if event.flags & Flag.LOCAL:
            if not isinstance(event, GapEvent) or self._told(event, cursor):
                admitted.append(event)
            return
        hole = self._hole(event, cursor)
        if hole is None:
            self.duplicates += 1
            return
        if hole is not _NO_GAP:
            self.gaps_made += 1
            admitted.append(local_gap(event, hole, cursor))
        cursor.move(event.epoch, event.sequence)
        admitted.append(event)

    def _hole(self, event: StreamEvent, cursor: Cursor) -> Gap | None:
        """The gap before `event` that nobody told, or `_NO_GAP`; None if the event is a duplicate."""
        if cursor.epoch is None:
            return _NO_GAP
        if event.epoch != cursor.epoch:
            return _NO_GAP if cursor.told else Gap(GapCause.NEW_EPOCH, cursor.epoch, cursor.sequence + 1)
        image = bool(event.flags & Flag.IMAGE)
        if event.sequence <= cursor.sequence:
            # behind a gap the image as of its last sequence is what there is to go on from
            return _NO_GAP if image and cursor.told and event.sequence == cursor.sequence else None
        if cursor.told == "open":
            return _NO_GAP
        last = event.sequence if image else (event.first_sequence or event.sequence) - 1
        if last <= cursor.sequence:
            return _NO_GAP
        cause = GapCause.RESUME_TOO_OLD if cursor.fresh else GapCause.UNSPECIFIED
        return Gap(cause, cursor.epoch, cursor.sequence + 1, last, last - cursor.sequence)

    def _told(self, event: GapEvent, cursor: Cursor) -> bool:
        """Take notice of a gap that the server tells this client alone; whether this client misses anything."""
        gap = event.payload
        if cursor.epoch is not None and gap.epoch in (0, cursor.epoch) and gap.cause != GapCause.NEW_EPOCH:
            last = gap.last_sequence
            if not last and gap.cause == GapCause.RESUME_TOO_OLD and event.epoch == cursor.epoch:
                last = event.sequence  # that of the last event before the image that follows
            if last:
                if last <= cursor.sequence:
                    return False
                first = max(gap.first_sequence, cursor.sequence + 1)
                event.payload = Gap(gap.cause, cursor.epoch, first, last, last - first + 1)
                cursor.sequence, cursor.expected, cursor.told = last, LOOK, "range"
                return True
        cursor.told, cursor.expected = "open", LOOK
        return True


_NO_GAP = Gap()


def local_gap(before: StreamEvent, gap: Gap, cursor: Cursor) -> GapEvent:
    """A gap that this client makes for itself, in front of `before`."""
    assert cursor.epoch is not None
    return GapEvent(
        before.topic, cursor.epoch, cursor.sequence, gap, before.received_ts_ns, before.venue_ts_ns, int(Flag.LOCAL)
    )
