"""The parts of `resume.py`, which must see what is lost and what comes twice, and that it runs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from raven.adapter import Event
from raven.codec.encoder import TopicEncoder, sent_ts
from raven.codec.generated.raven import v1
from raven.model.events import Flag, Gap, GapCause, State, StatusCause, TopicStatus, Trade
from raven.model.topic import Kind, Topic
from tests.bench import test_benches_run
from tests.bench.test_benches_run import run

pytestmark = test_benches_run.pytestmark

record = import_module("_storm_record")
clients = import_module("_storm_clients")

A = Topic("bench", "A-USDT", Kind.TRADE)
EPOCH = 1_700_000_000_000
ENCODER = TopicEncoder(A, EPOCH)
LIVE = TopicStatus(State.LIVE, StatusCause.UNSPECIFIED, "", 1)


def trade(sequence: int, flags: int = 0) -> bytes:
    event = Event(A, Trade(1.0, 1.0, 1, str(sequence)), 5, 4)
    return ENCODER.encode_general(event, sequence, flags=Flag(flags)) if flags else ENCODER.encode(event, sequence)


def local(payload: Any, sequence: int) -> bytes:
    return ENCODER.encode_general(Event(A, payload, 5), sequence, flags=Flag.LOCAL)


def elements(*parts: bytes) -> Any:
    return record.TopicReader().read(b"".join(parts) + sent_ts(1))


def findings(end: int, *streams: list[bytes]) -> Any:
    kept, found = record.Record(), record.Findings()
    for stream in streams:
        kept.begin()
        kept.put(elements(*stream))
    kept.check({"A-USDT": end}, found)
    return found


def test_elements_are_told_apart() -> None:
    gap = Gap(GapCause.RESUME_TOO_OLD, EPOCH, 1, 2)
    told = elements(trade(1, Flag.IMAGE), local(LIVE, 1), trade(2), local(gap, 2))
    assert [(one.sequence, one.mark) for one in told.elements] == [(1, "image"), (1, "status"), (2, ""), (2, "gap")]
    assert {(one.symbol, one.epoch) for one in told.elements} == {("A-USDT", EPOCH)}


def test_controls_are_read() -> None:
    read = record.TopicReader().read
    results = [
        v1.SubscribeResponseResult("a", accepted=True, topics=3, recovered=True),
        v1.SubscribeResponseResult("b", accepted=True, topics=2),
    ]
    subscribed = v1.StreamMarketDataResponse(subscribed=v1.SubscribeResponse(results))
    assert read(bytes(subscribed)).answer == (5, True, False)
    heartbeat = v1.StreamMarketDataResponse(heartbeat=v1.Heartbeat(1, bookmark=b"here"))
    assert read(bytes(heartbeat)).bookmark == b"here"
    goodbye = v1.StreamMarketDataResponse(goodbye=v1.Goodbye(text="go away"))
    assert read(bytes(goodbye)).goodbye == "go away"


def test_a_whole_record_has_nothing_lost_and_nothing_twice() -> None:
    found = findings(6, [trade(2, Flag.IMAGE), trade(3), trade(4)], [trade(4), trade(5), trade(6), local(LIVE, 6)])
    assert (found.events, found.lost, found.twice, found.again) == (4, 0, 0, 1)
    assert found.faults == []


@pytest.mark.parametrize(
    ("end", "streams", "lost", "twice"),
    [
        (5, [[trade(1), trade(2), trade(4), trade(5)]], 1, 0),
        (5, [[trade(1), trade(2)], [trade(4), trade(5)]], 1, 0),
        (5, [[trade(2, Flag.IMAGE), trade(4), trade(5)]], 1, 0),
        (5, [[trade(1), trade(2), trade(3)]], 2, 0),
        (3, [[trade(1), trade(2), trade(3), trade(3)]], 0, 1),
        (3, [[trade(1), trade(2)], [trade(2), trade(3), trade(2)]], 0, 1),
        (2, [[trade(1), trade(2), local(Gap(GapCause.RESUME_TOO_OLD, EPOCH), 2)]], 1, 0),
    ],
)
def test_what_is_lost_or_comes_twice_is_seen(end: int, streams: list[list[bytes]], lost: int, twice: int) -> None:
    found = findings(end, *streams)
    assert (found.lost, found.twice) == (lost, twice)
    assert found.faults


def test_percentiles() -> None:
    assert clients.percentiles([float(number) for number in range(1, 201)]) == {"p50": 101, "p90": 181, "p99": 199, "max": 200}
    assert clients.percentiles([]) == {"p50": 0, "p90": 0, "p99": 0, "max": 0}


def test_resume(tmp_path: Path) -> None:
    (found,) = run("resume", tmp_path)["runs"]["quick"]
    assert found["recovered"] == 40
    assert (found["lost"], found["twice"], found["refused"], found["gone"]) == (0, 0, 0, [])
    assert found["events"] > 40
