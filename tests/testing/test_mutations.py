"""Bad frames from good ones, and frames in another order."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raven.testing.mutations import DISORDERS, FAULTS, TELLING_FRAMES_MAX, is_json, telling_frames
from raven.testing.recording import Frame

GOOD = b'{"id":17,"p":"64000.12","l":[["1.5","2"], [3,-4e5]],"s":"x 7","t":1700000000100,"ok":true}'


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_the_same_twice_and_never_the_good_frame(fault: str) -> None:
    first, again = list(FAULTS[fault](GOOD, Random(1))), list(FAULTS[fault](GOOD, Random(1)))
    assert first == again
    assert len(first) >= 5
    assert GOOD not in first


@pytest.mark.parametrize("fault", ["truncated", "split"])
def test_parts_of_a_json_text_are_none(fault: str) -> None:
    assert not any(is_json(part) for part in FAULTS[fault](GOOD, Random(1)))


def test_halves_make_the_whole() -> None:
    parts = list(FAULTS["split"](GOOD, Random(1)))
    assert [one + other for one, other in zip(parts[::2], parts[1::2], strict=True)] == [GOOD] * 3


def test_each_number_is_made_bad_in_its_place() -> None:
    bad = set(FAULTS["NaN and infinite"](GOOD, Random(1)))
    assert GOOD.replace(b"17,", b"NaN,", 1) in bad
    assert GOOD.replace(b"64000.12", b"Infinity") in bad
    assert GOOD.replace(b"-4e5", b"1e400") in bad
    assert GOOD.replace(b"1700000000100", b"-1e400") in bad
    assert not any(b'"x 7"' not in frame for frame in bad)
    assert len(bad) == 7 * 5
    empty = set(FAULTS["empty and endless numbers"](GOOD, Random(1)))
    assert GOOD.replace(b'"64000.12"', b'""') in empty
    assert GOOD.replace(b"17,", b"9" * 30 + b",") in empty


def test_bad_utf8_is_no_utf8() -> None:
    for frame in FAULTS["empty and no UTF-8"](GOOD, Random(1)):
        with pytest.raises((UnicodeDecodeError, json.JSONDecodeError)):
            json.loads(frame.decode())


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=30)
@given(frame=st.binary(max_size=60))
def test_frames_of_any_kind(fault: str, frame: bytes) -> None:
    assert all(isinstance(bad, bytes) for bad in FAULTS[fault](frame, Random(1)))


ORDERED = [b"%d" % number for number in range(20)]


def test_disorders() -> None:
    made = {name: arrange(ORDERED, Random(1)) for ways in DISORDERS.values() for name, arrange in ways.items()}
    for name in ("swapped", "shuffled", "backwards"):
        assert sorted(made[name]) == sorted(ORDERED)
        assert made[name] != ORDERED
    assert made["swapped"][:4] == [b"1", b"0", b"3", b"2"]
    assert made["doubled"][:4] == [b"0", b"0", b"1", b"1"]
    assert made["all again"] == ORDERED * 2
    assert set(made["echoed"]) == set(ORDERED)
    assert len(made["echoed"]) > len(ORDERED)
    assert 0 < len(made["thinned"]) < len(ORDERED)


def test_telling_frames() -> None:
    shapes = [Frame(place, b'{"kind":"%s","n":%d}' % (b"abc"[place % 3 : place % 3 + 1], place)) for place in range(300)]
    assert telling_frames(shapes) == [0, 1, 2, 3, 4, 5]
    different = [Frame(place, b"x" * (place % 80) + b"y" * (place // 80)) for place in range(400)]
    assert 0 < len(telling_frames(different)) <= TELLING_FRAMES_MAX
    assert telling_frames([]) == []


@pytest.mark.parametrize(("data", "json_text"), [(b"1", True), (b"NaN", False), (b"\xff", False), (b"[" * 200_000, False)])
def test_what_json_is(data: bytes, json_text: bool) -> None:
    assert is_json(data) is json_text
