"""What every record of a client must be like, whatever happened to it (faults-and-bad-input, "What keeps the tests honest").

Ordered: within an epoch a topic's sequences go up by one. Unique: none comes twice. Complete or told: `first_sequence`, an
image or a Gap says what stands for those between. Consistent: a delta comes only to a book that is there, and no delta while
its status is not LIVE.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raven.codec.generated.raven import v1
from raven.model.events import Flag

__all__ = ["faults"]

LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)
Name = tuple[str, str, int, str]


def faults(events: Iterable[v1.MarketEvent]) -> list[str]:
    """What is wrong with the record of one stream, or of several that each resume the one before; empty if nothing is."""
    records: dict[Name, list[v1.MarketEvent]] = {}
    for event in events:
        assert event.topic is not None
        name = (event.topic.venue, event.topic.symbol, int(event.topic.kind), event.topic.variant)
        records.setdefault(name, []).append(event)
    return [f"{name}: {fault}" for name, record in records.items() for fault in (*_holes(record), *_doubtful_deltas(record))]


def _holes(record: list[v1.MarketEvent]) -> Iterator[str]:
    last: tuple[int, int] | None = None  # epoch and sequence
    told = False
    for event in record:
        if event.flags & LOCAL:
            if event.gap is not None:
                told = True
                if last is not None and event.gap.epoch == last[0] and event.gap.last_sequence:
                    last, told = (last[0], event.gap.last_sequence), False
            continue
        first = event.sequence if event.flags & IMAGE else event.first_sequence or event.sequence
        if last is not None and event.epoch == last[0] and not event.flags & IMAGE:
            if first <= last[1]:
                yield f"{first} came behind {last[1]}"
            elif first > last[1] + 1 and not told:
                yield f"{last[1] + 1} to {first - 1} are missing, and nobody said so"
        last, told = (event.epoch, event.sequence), False


def _doubtful_deltas(record: list[v1.MarketEvent]) -> Iterator[str]:
    whole, live = False, True
    for event in record:
        if event.status is not None:
            live = event.status.state == v1.TopicStatusState.LIVE
        elif event.book_snapshot is not None:
            whole = live = True  # LIVE follows it
        elif event.book_delta is not None and not (whole and live):
            yield f"a delta ({event.sequence}) came to a book that is {'in doubt' if whole else 'not there'}"
