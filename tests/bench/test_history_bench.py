"""The parts of the history's benchmark that are pure, and what its raw reader counts of a real answer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from raven.client.decode import Decoder
from raven.codec.generated.raven import v1
from raven.store.cutting import cut
from raven.store.elements import split
from tests.bench.parts import counters, verdict

history_trades = import_module("_history_trades")
history_read = import_module("_history_read")
history_runs = import_module("_history_runs")
history_verdicts = import_module("_history_verdicts")
history_write = import_module("_history_write")
history_replay = import_module("_history_replay")


def test_trades_are_what_the_encoder_makes_of_them() -> None:
    stream = history_trades.TradeStream(history_trades.make_topics(1)[0], 1_000.0)
    blocks = [stream.block(7), stream.block(3)]
    events = Decoder().decode(blocks[0].elements + blocks[1].elements).events
    assert [event.sequence for event in events] == list(range(1, 11))
    assert {event.topic for event in events} == {stream.topic}
    payloads = history_trades.make_payloads()
    assert [event.payload.price for event in events] == [payloads[number].price for number in range(1, 11)]
    times = [event.received_ts_ns for event in events]
    assert times == sorted(times)
    assert all(event.venue_ts_ns < event.received_ts_ns for event in events)


def test_a_block_says_of_itself_what_the_recorder_would_say() -> None:
    block = history_trades.TradeStream(history_trades.make_topics(1)[0], 1_000.0).block(100)
    assert list(cut(block.topic, block.epoch, list(split(block.elements)))) == [block]


def test_a_slow_topic_gives_what_came_until_then() -> None:
    stream = history_trades.TradeStream(history_trades.make_topics(1)[0], 5.0)
    start_ns = history_trades.START_NS
    found = [stream.block_until(start_ns + second * 10**9) for second in range(1, 101)]
    assert 400 < sum(block.count for block in found if block) < 600
    for second, block in enumerate(found, 1):
        assert (
            block is None
            or start_ns + (second - 1) * 10**9 <= block.first_ts_ns <= block.last_ts_ns < start_ns + second * 10**9
        )


def test_blocks_in_turn_and_by_commits() -> None:
    blocks = list(history_trades.blocks_in_turn(4, 80, 10, 1_000.0))
    assert [block.topic.symbol for block in blocks[:5]] == [
        "TK000-USDT",
        "TK001-USDT",
        "TK002-USDT",
        "TK003-USDT",
        "TK000-USDT",
    ]
    assert [len(group) for group in history_write.groups(blocks, 30)] == [3, 3, 2]
    assert sum(block.count for block in blocks) == 80


def message(elements: bytes, token: str = "a token", *, end: bool = False) -> bytes:
    return elements + bytes(v1.GetHistoricalDataResponse(next_page_token=token, end=end, complete=end))


@pytest.mark.parametrize("token", ["", "t" * 5, "t" * 97, "t" * 300])
def test_even_elements_are_counted_whatever_stands_behind_them(token: str) -> None:
    size = history_trades.element_size()
    block = history_trades.TradeStream(history_trades.make_topics(1)[0], 1.0).block(9)
    head = block.elements[:2]
    assert history_read.count_even(message(block.elements, token), head, size) == 9
    assert history_read.count_even(message(b"", token, end=True), head, size) == 0
    other = bytes((head[0], head[1] + 1)) + bytes(size - 1)
    assert history_read.count_even(message(block.elements + other, token), head, size) is None


def test_an_answer_is_counted_frame_by_frame() -> None:
    block = history_trades.TradeStream(history_trades.make_topics(1)[0], 1.0).block(300)
    shape = counters.Shape(history_trades.element_size(), 0, block.elements[:2])
    counter = history_read.HistoryCounter(shape, lambda _: None)
    messages = [message(block.elements), message(b"", end=True)]
    body = b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages)
    frames = [frame(0, 0, body[at : at + 16_384]) for at in range(0, len(body), 16_384)]
    data = b"".join([frame(1, 4, b""), *frames, frame(1, 5, b"")])
    counted = sum(counter.feed(memoryview(data)[at : at + 7_000]) for at in range(0, len(data), 7_000))
    assert (counted, counter.messages, counter.last) == (300, 2, history_read.END_COMPLETE)
    assert counter.ended


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + (1).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    ("path", "kind"), [("/tmp/x", "tmpfs"), ("/var/x", "ext4"), ("/tmpx", "ext4"), ("/tmp/disk/y", "xfs")]
)  # fmt: skip
def test_the_file_system_of_a_directory(path: str, kind: str) -> None:
    mounts = "/dev/a / ext4 rw 0 0\nnone /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n"
    assert history_runs.file_system_of(Path(path), mounts) == kind


def test_memory_is_flat_or_grows() -> None:
    flat, growing = history_runs.Memory(0, [0.0, 9.0, 9.0, 9.0] * 5), history_runs.Memory(0, [float(n) for n in range(40)])
    assert (flat.highest, flat.growth) == (9.0, 0.0)
    assert (growing.highest, growing.growth) == (39.0, 20.0)


def latencies(p99: float, **report: int) -> dict[str, Any]:
    return {"p99": p99, "cpu": 0.5, "report": {"slow": 0, **report}}


@pytest.mark.parametrize(
    ("with_it", "again", "lost", "met"),
    [(119, 100, 0, True), (130, 100, 0, False), (130, 140, 0, True), (100, 100, 1, False)],
)
def test_the_ratio_is_held_against_the_goal_or_the_noise(with_it: float, again: float, lost: int, met: bool) -> None:
    verdicts = verdict.Verdicts()
    runs = {"off": [latencies(100)], "on": [latencies(with_it, lost=lost)], "off again": [latencies(again)]}
    history_verdicts.judge_latency("it", runs, verdicts)
    assert verdicts.met is met


def test_writing_is_held_against_its_rates_and_influxdb() -> None:
    runs = {f"{what} {topics}": [{"events": 700_000, "wall_s": wall_s, "cpu_s": wall_s}]
            for topics in (1, 1_000) for what, wall_s in (("blocks", 1.0), ("ring", 1.2), ("influx", 3.0))}  # fmt: skip
    verdicts = verdict.Verdicts()
    history_verdicts.judge_write(runs, "", verdicts)
    assert verdicts.met
    runs["influx 1"] = [{"events": 700_000, "wall_s": 1.5}]
    history_verdicts.judge_write(runs, "", verdicts)
    assert not verdicts.met


def test_a_replayed_trade_has_the_size_that_is_counted() -> None:
    size = history_replay.replay_shape()["size"]
    assert size == history_trades.element_size() + len("-replay")
