"""What a client's record of a topic must be like: ordered, unique, complete or told."""

from __future__ import annotations

from collections.abc import Iterable

from raven.client.events import GapEvent, StreamEvent
from raven.model.events import Flag, GapCause
from raven.model.topic import Topic


def faults(events: Iterable[StreamEvent]) -> list[str]:
    """What is wrong with a record of several topics; empty if nothing is."""
    records: dict[Topic, list[StreamEvent]] = {}
    for event in events:
        records.setdefault(event.topic, []).append(event)
    return [f"{topic}: {fault}" for topic, record in records.items() for fault in _faults_of(record)]


def _faults_of(record: list[StreamEvent]) -> list[str]:
    found: list[str] = []
    epoch: int | None = None
    sequence = 0  # the last that was told, as an event or as missing
    told = ""  # whether a gap stands right before: "range", or "open" = it does not say up to where
    for event in record:
        if event.flags & Flag.LOCAL:
            if isinstance(event, GapEvent) and epoch is not None:
                gap = event.payload
                if gap.last_sequence and gap.cause != GapCause.NEW_EPOCH:
                    if (gap.epoch, gap.first_sequence) != (epoch, sequence + 1):
                        found.append(f"a gap from {gap.first_sequence} stands behind {sequence}")
                    sequence, told = gap.last_sequence, "range"
                else:
                    told = "open"
            continue
        image = bool(event.flags & Flag.IMAGE)
        if epoch is not None and event.epoch != epoch:
            if not told:
                found.append(f"epoch {event.epoch} begins without a word")
        elif epoch is not None:
            if event.sequence < sequence or (event.sequence == sequence and not (image and told)):
                found.append(f"{event.sequence} came behind {sequence}")
            missing_to = event.sequence if image else (event.first_sequence or event.sequence) - 1
            if missing_to > sequence and told != "open":
                found.append(f"{sequence + 1} to {missing_to} are missing, and nobody said so")
        epoch, sequence, told = event.epoch, event.sequence, ""
    return found
