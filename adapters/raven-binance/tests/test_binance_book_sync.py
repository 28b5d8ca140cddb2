"""Each branch of the book rule, and the property that it is there for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raven_binance.book_sync import BookSync, Delta, Snapshot


def deltas(sync: BookSync[str], *ranges: tuple[int, int]) -> list[Delta]:
    """Feed spot deltas by their (U, u)."""
    return [sync.on_delta(first - 1, last, f"{first}-{last}") for first, last in ranges]


def test_the_first_kept_delta_covers_the_id_after_the_snapshot() -> None:
    sync: BookSync[str] = BookSync()
    assert deltas(sync, (1, 5), (6, 9), (10, 20), (21, 22)) == [Delta.HELD] * 4
    assert sync.on_snapshot(9) == (Snapshot.JOINED, ["10-20", "21-22"])
    assert deltas(sync, (23, 30)) == [Delta.APPLY]


def test_the_recorded_case_a_delta_that_spans_the_snapshot() -> None:
    sync: BookSync[str] = BookSync()
    deltas(sync, (50093239189, 50093239202), (50093239203, 50093239207), (50093239208, 50093239224))
    assert sync.on_snapshot(50093239218) == (Snapshot.JOINED, ["50093239208-50093239224"])
    assert deltas(sync, (50093239225, 50093239237)) == [Delta.APPLY]


def test_a_snapshot_newer_than_everything_held() -> None:
    sync: BookSync[str] = BookSync()
    deltas(sync, (1, 5))
    assert sync.on_snapshot(8) == (Snapshot.JOINED, [])
    assert deltas(sync, (6, 7), (8, 12), (13, 13)) == [Delta.REPEATED, Delta.APPLY, Delta.APPLY]


def test_a_snapshot_while_nothing_is_held() -> None:
    sync: BookSync[str] = BookSync()
    assert sync.on_snapshot(8) == (Snapshot.JOINED, [])
    assert deltas(sync, (9, 9)) == [Delta.APPLY]


def test_a_hole_right_after_the_snapshot_breaks_the_book() -> None:
    sync: BookSync[str] = BookSync()
    sync.on_snapshot(8)
    assert deltas(sync, (10, 12)) == [Delta.BROKEN]


def test_only_the_first_delta_after_a_snapshot_may_overlap_it() -> None:
    sync: BookSync[str] = BookSync()
    sync.on_snapshot(8)
    assert deltas(sync, (5, 12), (12, 14)) == [Delta.APPLY, Delta.BROKEN]


def test_a_repeated_delta_is_dropped() -> None:
    sync: BookSync[str] = BookSync()
    sync.on_snapshot(8)
    assert deltas(sync, (9, 10), (9, 10), (11, 11)) == [Delta.APPLY, Delta.REPEATED, Delta.APPLY]


def test_a_hole_holds_what_comes_until_a_new_snapshot() -> None:
    sync: BookSync[str] = BookSync()
    sync.on_snapshot(8)
    assert deltas(sync, (9, 10), (12, 13), (14, 14)) == [Delta.APPLY, Delta.BROKEN, Delta.HELD]
    assert not sync.live
    assert sync.on_snapshot(12) == (Snapshot.JOINED, ["12-13", "14-14"])


def test_a_hole_among_the_held_drops_what_was_before_it() -> None:
    sync: BookSync[str] = BookSync()
    assert deltas(sync, (1, 2), (5, 6), (5, 6)) == [Delta.HELD, Delta.HELD, Delta.REPEATED]
    assert sync.on_snapshot(2) == (Snapshot.TOO_OLD, [])
    assert sync.on_snapshot(4) == (Snapshot.JOINED, ["5-6"])


def test_a_snapshot_is_not_wanted_while_the_book_is_whole() -> None:
    sync: BookSync[str] = BookSync()
    sync.on_snapshot(8)
    assert sync.on_snapshot(9) == (Snapshot.UNWANTED, [])
    assert sync.last_id == 8


def test_old_snapshots_end_in_giving_up_and_not_in_a_loop() -> None:
    sync: BookSync[str] = BookSync(tries_max=3)
    deltas(sync, (10, 11))
    assert [sync.on_snapshot(old)[0] for old in (1, 2, 3, 20)] == [
        Snapshot.TOO_OLD,
        Snapshot.TOO_OLD,
        Snapshot.GIVE_UP,
        Snapshot.UNWANTED,
    ]
    assert deltas(sync, (12, 13)) == [Delta.HELD]
    sync.restart()
    assert deltas(sync, (14, 15)) == [Delta.HELD]
    assert sync.on_snapshot(13) == (Snapshot.JOINED, ["14-15"])


def test_tries_are_counted_anew_for_each_doubt() -> None:
    sync: BookSync[str] = BookSync(tries_max=2)
    deltas(sync, (10, 11))
    assert sync.on_snapshot(1)[0] is Snapshot.TOO_OLD
    assert sync.on_snapshot(10)[0] is Snapshot.JOINED
    deltas(sync, (20, 21))
    assert sync.on_snapshot(1)[0] is Snapshot.TOO_OLD


def test_what_is_held_has_a_limit_and_the_oldest_goes() -> None:
    sync: BookSync[str] = BookSync(held_max=2)
    deltas(sync, (1, 1), (2, 2), (3, 3))
    assert sync.on_snapshot(0)[0] is Snapshot.TOO_OLD
    assert sync.on_snapshot(1) == (Snapshot.JOINED, ["2-2", "3-3"])


def test_the_same_rule_with_pu_as_usd_m_has_it() -> None:
    sync: BookSync[str] = BookSync()
    assert sync.on_delta(5123107831937, 5123107837557, "first") is Delta.HELD
    assert sync.on_delta(5123107837557, 5123107843344, "second") is Delta.HELD
    assert sync.on_snapshot(5123107837600) == (Snapshot.JOINED, ["second"])
    assert sync.on_delta(5123107843344, 5123107850000, "third") is Delta.APPLY
    assert sync.on_delta(5123107850001, 5123107850003, "fifth") is Delta.BROKEN


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int]]:
    """Sizes set one after the other (the index + 1 is the update id), and where deltas end."""
    changes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3)), min_size=1, max_size=30))
    ends = draw(st.sets(st.integers(1, len(changes)), max_size=10))
    return changes, sorted({*ends, len(changes)})


def book_at(changes: list[tuple[int, int]], last_id: int) -> dict[int, int]:
    book = dict(changes[:last_id])
    return {price: size for price, size in book.items() if size}


@settings(max_examples=300, deadline=None)
@given(histories(), st.data())
def test_snapshot_and_deltas_in_any_split_give_the_book(
    history: tuple[list[tuple[int, int]], list[int]], data: st.DataObject
) -> None:
    """Whenever snapshots come, however old, whatever is lost or repeated: a live book is exactly the venue's at its id."""
    changes, ends = history
    sync: BookSync[tuple[int, int]] = BookSync(held_max=4)
    book: dict[int, int] = {}

    def apply(span: tuple[int, int]) -> None:
        book.update(changes[span[0] : span[1]])  # a delta carries the last size of each price in it

    previous = 0
    for end in ends:
        for _ in range(data.draw(st.sampled_from([1, 1, 1, 1, 2, 0]))):  # now and then one is repeated or lost
            if sync.on_delta(previous, end, (previous, end)) is Delta.APPLY:
                apply((previous, end))
        if data.draw(st.booleans()):
            last_id = data.draw(st.integers(0, min(len(changes), end + 3)))
            outcome, held = sync.on_snapshot(last_id)
            if outcome is Snapshot.JOINED:
                book.clear()
                book.update(book_at(changes, last_id))
                for span in held:
                    apply(span)
            if outcome is Snapshot.GIVE_UP:
                sync.restart()
        if sync.live:
            assert {price: size for price, size in book.items() if size} == book_at(changes, sync.last_id)
        previous = end
