"""The data directory, and the recent events across a clean restart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from raven.adapter import Established, Event
from raven.adapter.batch import Carry
from raven.broker import BrokerLimits, Subscription
from raven.broker.bookmark import Resume, parse_bookmark
from raven.broker.carryover import adopt, hand_over
from raven.errors import StartupError
from raven.model.events import BookSnapshot, Flag, GapCause, Trade
from raven.model.topic import Kind, Selector
from raven.store import open_data_dir, save_recent, take_recent
from raven.store.recent import FILE_NAME, MAGIC
from tests.broker.bench import BOOK, TOPICS, TRADE, Bench, read

LOCAL = int(Flag.LOCAL)


def trade(number: int) -> Event:
    return Event(TRADE, Trade(100.0, 1.0, 1, str(number)), 5, 4)


def restarted(old: Bench, directory: Path, symbols: Sequence[str] = ("BTC-USDT", "ETH-USDT")) -> Bench:
    """A broker that comes after another, by way of a file."""
    save_recent(directory, hand_over(old.broker.directory))
    new = Bench(BrokerLimits(), book_top=True)
    new.broker.directory._topics.clear()
    new.broker.directory.rings.clear()
    for feed in take_recent(directory):
        adopt(new.broker.directory, feed, symbols, list(Kind))
    return new


def test_a_client_that_comes_back_to_the_restarted_server_misses_nothing(tmp_path: Path) -> None:
    old = Bench(BrokerLimits(), book_top=True)
    old.publish(Established([TRADE]), Event(BOOK, BookSnapshot([1.0], [1.0], [2.0], [1.0]), 1), trade(1))
    bookmark = old.broker.clients.bookmark()
    old.publish(trade(2), trade(3))
    new = restarted(old, tmp_path)
    client = new.client()
    wanted = Subscription("s", Selector("sim", "*", frozenset({Kind.TRADE})), resume=Resume(parse_bookmark(bookmark)))
    assert new.broker.clients.subscribe(client, wanted).recovered
    new.broker.clients.put_images(client, wanted)
    events = [event for event in read(client) if event.topic and event.topic.symbol == "BTC-USDT"]
    assert [(event.sequence, event.flags) for event in events] == [(3, 0), (4, 0), (4, LOCAL)]
    assert events[-1].status is not None
    new.publish(Carry(TOPICS))
    new.publish(Established([TRADE]), trade(4))
    events = read(client)
    assert [event.sequence for event in events] == [5, 6, 7]
    assert events[0].gap is not None
    assert events[0].gap.cause == GapCause.VENUE
    old_state, new_state = old.broker.directory.find(TRADE), new.broker.directory.find(TRADE)
    assert old_state is not None
    assert new_state is not None
    assert old_state.epoch == new_state.epoch


def test_derived_tops_go_on_too(tmp_path: Path) -> None:
    old = Bench(BrokerLimits(), book_top=True)
    old.publish(Event(BOOK, BookSnapshot([1.0], [1.0], [2.0], [1.0]), 1))
    new = restarted(old, tmp_path)
    new.publish(Carry(TOPICS))
    new.publish(Event(BOOK, BookSnapshot([1.0], [2.0], [2.0], [1.0]), 1))
    top = new.broker.directory.find(BOOK._replace(kind=Kind.BOOK_TOP, variant="5"))
    assert top is not None
    assert top.live
    assert top.sequence > 2
    assert len(new.broker.directory) == len(old.broker.directory)


def test_what_is_not_carried_any_more_is_forgotten(tmp_path: Path) -> None:
    old = Bench(BrokerLimits())
    old.publish(Established([TRADE]), trade(1))
    new = restarted(old, tmp_path, ["ETH-USDT"])
    assert [view.topic.symbol for view in new.broker.directory.views([Selector("*", "*")])] == ["ETH-USDT"]
    assert new.broker.directory.ring("sim").next == old.broker.directory.ring("sim").next


def test_the_file_is_taken_once(tmp_path: Path) -> None:
    bench = Bench(BrokerLimits())
    assert save_recent(tmp_path, hand_over(bench.broker.directory)) == (tmp_path / FILE_NAME).stat().st_size
    assert take_recent(tmp_path)
    assert take_recent(tmp_path) == []


@pytest.mark.parametrize("data", [b"", b"x", MAGIC, MAGIC + bytes(40), MAGIC + bytes(32) + b"\xc1"])
def test_a_damaged_file_is_said_and_passed_over(tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    assert take_recent(tmp_path) == []
    assert "clients begin anew" in capsys.readouterr().out
    assert not (tmp_path / FILE_NAME).exists()


HOLD = """
import sys
from pathlib import Path
from raven.store import open_data_dir
with open_data_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_server_is_refused_by_name(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "d")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(StartupError, match=rf"d belongs to another running server \(process {holder.pid}\)"),
            open_data_dir(tmp_path / "d"),
        ):
            pass
        holder.communicate()
    with open_data_dir(tmp_path / "d") as path:
        assert path.is_dir()


def test_a_place_that_cannot_be_written_is_refused_by_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StartupError, match=r"data\.dir: .*file/d cannot be used: Not a directory"),
        open_data_dir(tmp_path / "file" / "d"),
    ):
        pass
