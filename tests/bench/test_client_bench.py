"""The parts of `client.py`, and that it runs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.bench import test_benches_run
from tests.bench.parts import trades, verdict
from tests.bench.test_benches_run import run

pytestmark = test_benches_run.pytestmark

client = import_module("client")
reading = import_module("_read_stream")
messages = import_module("_serve_messages")
board = import_module("_board")


def test_prepared_messages_stay_within_the_windows_of_who_reads() -> None:
    element = trades.encode_trade(0, 1)
    message = b"\0" + len(element).to_bytes(4, "big") + element
    server = messages.Messages(message, 2_000)
    reader = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    reader.initiate_connection()
    reader.send_headers(
        1, [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "localhost")], end_stream=True
    )
    got = b""
    while to_send := reader.data_to_send():
        room = reader.inbound_flow_control_window  # h2 would raise FlowControlError beyond it
        for event in reader.receive_data(server.receive(to_send)):
            if isinstance(event, h2.events.DataReceived):
                got += event.data
                reader.acknowledge_received_data(event.flow_controlled_length, 1)
        assert room > 0
    assert got == message * 2_000


def test_the_board_is_told_whole_bursts(tmp_path: Path) -> None:
    shared = board.Board.make(tmp_path / "board")
    meter = reading.BoardMeter(shared)
    told = [shared.received for number in range(1, 35) if number >= meter.mark and not meter.reach(number)]
    assert told == [10, 20, 30]
    assert not meter.reach(57)
    assert (shared.received, meter.mark) == (57, 60)


def test_goals_are_of_the_columns_and_ratios_are_made_within_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"aio": [210e3, 90e3], "records": [499e3, 500e3], "grpcio.aio": [20e3, 30e3]}
    runs = {name: [{"rate": rate} for rate in of_column] for name, of_column in rates.items()}
    verdicts = verdict.Verdicts()
    client.judge(runs, {"uvloop": "pip install uvloop"}, verdicts)
    lines = {line["what"]: line for line in verdicts.lines}
    assert lines["aio, thousand events/s"]["met"]
    assert not lines["records, thousand events/s"]["met"]
    assert lines["aio to grpcio.aio"]["values"] == [10.5, 3.0]
    assert lines["uvloop, thousand events/s"]["missing"]
    assert "MISSED" in capsys.readouterr().out


def test_client(tmp_path: Path) -> None:
    found = run("client", tmp_path, "--only", "aio", "bare socket", "--events", "2000")
    assert all(found["runs"][name][0]["rate"] > 0 for name in ("aio", "bare socket"))
