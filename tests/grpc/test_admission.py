"""The line in which new streams wait."""

from __future__ import annotations

import pytest

from raven.errors import RequestError
from raven.grpc.admission import BURST, Admission


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    clock = Clock()
    line = Admission(10.0, 5.0, clock)
    clock.now_s += 60
    waits = [line.delay_s() for _ in range(BURST + 4)]
    assert waits[:BURST] == [0.0] * BURST
    assert waits[BURST:] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_who_would_wait_too_long_is_refused_and_takes_no_place() -> None:
    clock = Clock()
    line = Admission(10.0, 0.5, clock)
    waits = [line.delay_s() for _ in range(6)]
    assert waits[-1] == pytest.approx(0.5)
    for _ in range(3):
        with pytest.raises(RequestError, match="the line is") as caught:
            line.delay_s()
        assert caught.value.code == "UNAVAILABLE"
    clock.now_s += 0.2
    assert line.delay_s() == pytest.approx(0.4)
