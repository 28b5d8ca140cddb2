"""The validators find what they are for."""

from __future__ import annotations

from raven.codec.generated.raven import v1
from raven.model.events import Flag
from tests.validators import faults

TOPIC = v1.Topic("sim", "BTC-USDT", v1.Kind.BOOK)
LOCAL, IMAGE = int(Flag.LOCAL), int(Flag.IMAGE)


def event(sequence: int, flags: int = 0, first: int = 0, **payload: object) -> v1.MarketEvent:
    payload = payload or {"trade": v1.Trade(1.0)}
    return v1.MarketEvent(TOPIC, 1, sequence, flags=flags, first_sequence=first, **payload)  # type: ignore[arg-type]


def slow_gap(first: int, last: int) -> v1.MarketEvent:
    return event(first - 1, LOCAL, gap=v1.Gap(v1.GapCause.SLOW_CONSUMER, 1, first, last))


def test_a_record_without_faults() -> None:
    record = [event(4, IMAGE), event(5), event(8, first=6), slow_gap(9, 12), event(13)]
    assert faults(record) == []
    assert faults([event(4, IMAGE), event(5), event(9, LOCAL, gap=v1.Gap(v1.GapCause.RESUME_TOO_OLD)), event(20)]) == []


def test_each_fault_is_found() -> None:
    name = "('sim', 'BTC-USDT', 3, ''): "
    assert faults([event(4), event(6)]) == [name + "5 to 5 are missing, and nobody said so"]
    assert faults([event(4), event(4)]) == [name + "4 came behind 4"]
    assert faults([event(4), event(9, first=6)]) == [name + "5 to 5 are missing, and nobody said so"]
    assert faults([event(4), slow_gap(5, 7), event(9)]) == [name + "8 to 8 are missing, and nobody said so"]
    delta = {"book_delta": v1.BookDelta([1.0], [1.0])}
    assert faults([event(1, **delta)]) == [name + "a delta (1) came to a book that is not there"]
    doubt = event(2, status=v1.TopicStatus(v1.TopicStatusState.RESYNCING))
    assert faults([event(1, book_snapshot=v1.BookSnapshot()), doubt, event(3, **delta)]) == [
        name + "a delta (3) came to a book that is in doubt"
    ]
