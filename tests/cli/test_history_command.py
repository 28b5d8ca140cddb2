"""`raven history` against a real server over a store in memory."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
import trio

from raven.cli import export, main
from raven.cli.columns import columns_of
from raven.cli.times import DAY_NS, parse_time
from raven.errors import StoreError
from raven.model.events import BookDelta, BookSnapshot
from raven.model.topic import Kind, Topic
from raven.store.blocks import TimeRange
from tests.grpc.test_history import history_of
from tests.store.memory_history import BOOK, BTC, ETH, MemoryHistory, events, trades

SECOND = 10**9
HOUR = 3600 * SECOND
START = time.time_ns() - HOUR // 2


def kept() -> MemoryHistory:
    store = MemoryHistory()
    store.write([trades(BTC, 1, 1, [(START + n * SECOND, START + n * SECOND - 5 if n else None) for n in range(3)])])
    store.write([trades(ETH, 1, 1, [(START, START)]), trades(ETH, 1, 4, [(START + SECOND, START)])])
    book = [(START, BookSnapshot((1.5,), (2.0,), (1.6, 1.7), (3.0, 4.0))), (START + 1, BookDelta((1.5,), (0.0,)))]
    store.write([events(BOOK, 1, 1, book)])
    store.write([trades(BTC._replace(venue="old"), 1, 1, [(DAY_NS * 365, None)])])
    return store


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(kept()) as target:
        yield target


@contextmanager
def serving(store: MemoryHistory) -> Iterator[str]:
    """A server over `store`, in a thread."""
    started, stop, there = threading.Event(), trio.Event(), list[Any]()

    async def run() -> None:
        async with history_of(store) as raven:
            there.extend((raven.port, trio.lowlevel.current_trio_token()))
            started.set()
            await stop.wait()

    before = structlog.get_config()  # it runs in this process, and what it logs would stand in the output
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    started.wait(10)
    yield f"127.0.0.1:{there[0]}"
    trio.from_thread.run_sync(stop.set, trio_token=there[1])
    thread.join(10)
    structlog.configure(**before)


def run(server: str, *arguments: str) -> int:
    return main.run(["history", "--server", server, *arguments])


def test_a_table_for_people(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "BTC-USDT", "--venue", "sim") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(time.strftime("%Y-%m-%d ", time.gmtime(START // SECOND)))
    assert "BTC-USDT" in lines[0]
    assert "1.5 x 2" in lines[0]
    assert err == ""


def test_json_lines_and_what_is_missing(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "sim/ETH-USDT", "--format", "json") == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["type"], row["sequence"]) for row in rows] == [("trade", 1), ("gap", 1), ("trade", 4)]
    assert rows[1]["gap"] == {"cause": "store", "epoch": 1, "first_sequence": 2, "last_sequence": 3, "missed": 2}
    assert err == "raven: not everything is there: 1 gaps, where the events are\n"


def test_csv_of_several_kinds(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "BTC-USDT", "--venue", "sim", "--kinds", "trade,book", "--format", "csv", "--limit", "3") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["type"], row["price"], row["bid_price"]) for row in rows] == [
        ("trade", "1.5", ""), ("book_snapshot", "", "[1.5]"), ("book_delta", "", "[1.5]")]  # fmt: skip
    assert rows[0]["received_ts_ns"] == str(START)
    assert rows[0]["venue_ts_ns"] == ""
    assert rows[1]["ask_size"] == "[3.0, 4.0]"


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_columnar_files(server: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pa = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    import pyarrow.parquet as pq

    file = tmp_path / f"out.{form}"
    assert run(server, "sim/*", "--kinds", "trade,book", "--format", form, "--output", str(file)) == 0
    table = pq.read_table(file) if form == "parquet" else pa.ipc.open_file(file).read_all()
    rows = table.to_pylist()
    assert len(rows) == 8  # with one gap
    assert [row["price"] for row in rows if row["type"] == "trade"] == [1.5] * 5
    assert [row["bid_price"] for row in rows if row["type"] == "book_snapshot"] == [[1.5]]
    assert [row["note"] for row in rows if row["type"] == "gap"] == ["missing: 2 to 3 (STORE)"]
    assert table.column("received_ts_ns").cast("int64")[0].as_py() == START
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]
    assert capsys.readouterr().out == ""


def test_a_range_and_the_state_before_it(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "old/*", "--from", "1971-01-01", "--to", "1971-01-02T00:00Z", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["received_ts_ns"] == DAY_NS * 365
    assert run(server, "sim/BTC-USDT/book", "--from", "1m ago", "--images", "--format", "json") == 0
    image = json.loads(capsys.readouterr().out)
    assert (image["flags"], image["sequence"], image["book_snapshot"]["bid_price"]) == (["image"], 2, [])


class Away(MemoryHistory):
    """As InfluxDB is when no endpoint answers."""

    def topics(self, within: TimeRange) -> list[Topic]:
        raise StoreError("influxdb: 502 Bad Gateway")


def test_a_store_that_is_away_is_not_waited_for_for_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raven.cli.history.GIVE_UP_S", 0.2)
    with serving(Away()) as target:
        assert run(target, "BTC-USDT") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "the history cannot be read: influxdb: 502 Bad Gateway" in err


def test_nothing_is_said(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "NONE-USDT") == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "raven: nothing was kept of that in this time (`raven topics` lists what there is)\n")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--from", "soon"], 2, "'--from': 'soon' is no time: valid are ISO 8601 (2026-11-23, 2026-11-23T10:00, ...Z;"),
        (["--from", "now", "--to", "-2h"], 2, "'--to': '-2h' is before --from 'now'"),
        (["--format", "xml"], 2, "'xml' is not one of 'table', 'json', 'csv', 'parquet', 'arrow'"),
        (["--kinds", "trades"], 1, "kinds: 'trades' is not valid: did you mean 'trade'?"),
        (["btc-usdt"], 1, "did you mean 'BTC-USDT'?"),
        (["--limit", "0"], 2, "'--limit'"),
        (["--format", "csv", "--output", "none/out.csv"], 1, "none/out.csv cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_is_told(
    server: str, arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, *arguments) == code
    out, err = capsys.readouterr()
    assert text in err
    assert out == ""


def test_without_pyarrow_it_says_how_to_get_it(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda _: None)
    assert run(server, "--format", "parquet", "--output", str(tmp_path / "x")) == 2
    assert '--format parquet needs pyarrow: pip install "raven-marketdata[arrow]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_not_finished_is_not_there(server: str, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    assert main.run(["history", "--server", "127.0.0.1:1", "--format", "json", "--output", str(file)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_gets_a_bar_and_no_binary(server: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "raven.cli.main", "history", "--server", server]
    file = tmp_path / "out.csv"
    try:
        subprocess.run(
            [*command, "--format", "csv", "--output", str(file)], stdout=theirs, stderr=theirs, check=True, timeout=20
        )
        assert "100%" in os.read(ours, 65_536).decode()
        done = subprocess.run([*command, "--format", "arrow"], stdout=theirs, stderr=subprocess.PIPE, timeout=20, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert len(file.read_text().splitlines()) == 7
    assert done.returncode == 2
    assert b"--format arrow is not for a terminal: name a file with --output FILE" in done.stderr


# ---- pure


NOW = 20_000 * DAY_NS + 5 * HOUR


@pytest.mark.parametrize(
    ("text", "ts_ns"),
    [
        ("now", NOW),
        ("today", 20_000 * DAY_NS),
        ("Yesterday", 19_999 * DAY_NS),
        ("2h ago", NOW - 2 * HOUR),
        ("-2h", NOW - 2 * HOUR),
        ("1.5 h ago", NOW - 3 * HOUR // 2),
        ("-90m", NOW - 3 * HOUR // 2),
        ("1w ago", NOW - 7 * DAY_NS),
        ("-250ms", NOW - SECOND // 4),
        ("1970-01-02", DAY_NS),
        ("1970-01-02T01:00", DAY_NS + HOUR),
        ("1970-01-02T01:00:00.123456Z", DAY_NS + HOUR + 123_456_000),
        ("1970-01-02T01:00+02:00", DAY_NS - HOUR),
    ],
)
def test_times(text: str, ts_ns: int) -> None:
    assert parse_time(text, NOW, "--from") == ts_ns


@pytest.mark.parametrize("text", ["", "2h", "ago", "-2x", "1969-01-01", "2026-13-01", "99999w ago"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_time(text, NOW, "--from")


def test_each_kind_has_columns_and_none_of_them_twice() -> None:
    for kind in Kind:
        names = [column.name for column in columns_of([kind])]
        assert len(names) == len(set(names)) > 11
    every = {column.name: column.form for column in columns_of(Kind)}
    assert every["bid_price"] == "float"
    assert every["book_bid_price"] == "floats"
    assert every["funding_ts_ns"] == "time"
    assert every["instrument_type"] == "text"
