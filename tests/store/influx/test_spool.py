"""The spool: order, bounds, what a crash leaves, and a disk that is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raven.store.influx.spool import Record, Spool

MIB = 1024 * 1024


def record(number: int, size: int = 100) -> Record:
    return Record(number.to_bytes(4, "big") + bytes(size - 4), 1_000 * number, 1_000 * number + 500, 10)


def number_of(found: Record) -> int:
    return int.from_bytes(found.body[:4], "big")


def drained(spool: Spool) -> list[int]:
    numbers = []
    while (found := spool.first()) is not None:
        numbers.append(number_of(found))
        spool.taken(found)
    return numbers


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def test_what_goes_in_comes_out_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=500)
    for number in range(20):
        spool.append(record(number))
    assert len(files(tmp_path)) == 7
    assert spool.statistics().points == 200
    assert spool.first() == record(0)
    assert spool.first() == record(0)  # until it is taken
    assert drained(spool) == list(range(20))
    assert (spool.statistics().bytes, spool.statistics().points) == (0, 0)
    spool.append(record(20))
    assert drained(spool) == [20]
    assert len(files(tmp_path)) == 1
    spool.close()


def test_a_steady_flow_needs_one_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB)
    for number in range(50):
        spool.append(record(number))
        assert drained(spool) == [number]
    [file] = files(tmp_path)
    assert file.stat().st_size == 0


def test_a_record_larger_than_a_segment_is_taken_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=500)
    for number in range(6):
        spool.append(record(number, 2_000))
        if number == 2:
            assert drained(spool) == [0, 1, 2]
    assert drained(spool) == [3, 4, 5]


def test_the_next_run_goes_on(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=500)
    for number in range(10):
        spool.append(record(number))
    for _ in range(4):
        found = spool.first()
        assert found is not None
        spool.taken(found)
    spool.close()
    with pytest.raises(OSError, match="closed"):
        spool.append(record(99))
    again = Spool(tmp_path, MIB, segment_bytes=500)
    # three records a segment: the first is gone, and of the second what was taken comes again, which is harmless
    assert again.statistics().points == 70
    again.append(record(10))
    assert drained(again) == [3, 4, 5, 6, 7, 8, 9, 10]


def test_beyond_the_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4_000, segment_bytes=500)
    for number in range(100):
        spool.append(record(number))
        assert sum(file.stat().st_size for file in files(tmp_path)) <= 4_000
    statistics = spool.statistics()
    assert statistics.points + statistics.dropped_points == 1_000
    assert statistics.dropped_points > 0
    lost = spool.times()[: -len(files(tmp_path))]
    assert lost[0][0] == 0
    spool.close()
    again = Spool(tmp_path, 4_000, segment_bytes=500)
    assert again.times()[: len(lost)] == lost
    left = drained(again)
    assert left == list(range(left[0], 100))
    assert left[0] * 10 == statistics.dropped_points


def test_what_is_dropped_while_it_is_sent_takes_no_other_with_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2_000, segment_bytes=250)
    spool.append(record(0))
    sending = spool.first()
    assert sending is not None
    for number in range(1, 30):
        spool.append(record(number))
    before = spool.statistics()
    spool.taken(sending)
    assert spool.statistics() == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.integers(0, 3 * 128), rubbish=st.binary(max_size=60))
def test_a_torn_tail_is_cut_off_and_counted(tmp_path: Path, cut: int, rubbish: bytes) -> None:
    """kill -9 or a power failure: the last file ends anywhere, or with anything."""
    for file in files(tmp_path):
        file.unlink()
    spool = Spool(tmp_path, MIB)
    for number in range(3):
        spool.append(record(number))  # without close: nothing but append has happened
    [file] = files(tmp_path)
    assert file.stat().st_size == 3 * 128
    os.truncate(file, cut)
    with file.open("ab") as torn:
        torn.write(rubbish)
    again = Spool(tmp_path, MIB)
    whole = cut // 128
    assert again.statistics().torn_bytes == cut - whole * 128 + len(rubbish)
    again.append(record(7))
    assert drained(again) == [*range(whole), 7]
    again.close()


def test_a_damaged_record_is_not_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=300)
    for number in range(6):
        spool.append(record(number))
    first = files(tmp_path)[0]
    data = bytearray(first.read_bytes())
    data[60] ^= 1
    first.write_bytes(data)
    assert drained(spool) == [2, 3, 4, 5]
    assert spool.statistics().dropped_points == 20
    assert (0, 1_500) in spool.times()


def test_a_full_disk_leaves_the_spool_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, MIB)
    spool.append(record(0))
    write, room = os.write, [50]

    def write_until_full(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(file, bytes(data[: room[0]]))
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr("raven.store.influx.spool.os.write", write_until_full)
        with pytest.raises(OSError, match="No space"):
            spool.append(record(1))
    assert spool.statistics().points == 10
    spool.append(record(2))
    assert drained(spool) == [0, 2]


def test_the_times_of_what_waits_are_known(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MIB, segment_bytes=300)
    assert spool.times() == []
    for number in (5, 3, 4):
        spool.append(record(number))
    assert spool.times() == [(3_000, 5_500), (4_000, 4_500)]
    drained(spool)
    assert spool.times() == []
    spool.lose((1, 2))
    assert Spool(tmp_path, MIB).times() == [(1, 2)]
