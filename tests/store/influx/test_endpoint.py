"""An endpoint with a sender that answers as it is told: order, breaker, poison, full disks, and what is counted."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from raven.store.config import InfluxConfig
from raven.store.influx.breaker import BreakerState
from raven.store.influx.endpoint import CHOKES_MAX, MEMORY_BYTES_MAX, Endpoint
from raven.store.influx.rejected import FILES_MAX, RejectedLines
from raven.store.influx.sending import Answer, Verdict, compressed
from raven.store.influx.spool import Record

TAKEN = Answer(Verdict.TAKEN)
REFUSED = Answer(Verdict.REFUSED, "400 Bad Request: unable to parse")
FAILED = Answer(Verdict.FAILED, "502 Bad Gateway")
CHOKED = Answer(Verdict.FAILED, "500 Internal Server Error", of_batch=True)
UNAUTHORIZED = Answer(Verdict.MISCONFIGURED, "401 Unauthorized")


class Server:
    """Takes lines, but for those that `answer` says otherwise of."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.requests = 0
        self.answer: Callable[[list[str]], Answer] = lambda lines: TAKEN

    def send(self, body: bytes) -> Answer:
        self.requests += 1
        lines = gzip.decompress(body).decode().split("\n")
        answer = self.answer(lines)
        if answer is TAKEN:
            self.lines += lines
        return answer

    def close(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def endpoint(directory: Path, server: Server, clock: Clock | None = None) -> Iterator[Endpoint]:
    made = Endpoint(InfluxConfig("http://x", name="e"), directory, server, clock or Clock())
    try:
        yield made
    finally:
        made.close()


def record(*lines: str, at: int = 1000) -> Record:
    return Record(compressed(lines), at, at + 5, len(lines))


def test_what_is_put_is_written_in_order_and_gone(tmp_path: Path) -> None:
    server = Server()
    with endpoint(tmp_path, server) as made:
        made.put([record("a", "b"), record("c")])
        assert made.statistics().spool_points == 3
        assert made.missing() == [(1000, 1005)]
        assert made.turn() is None
        assert server.lines == ["a", "b", "c"]
        statistics = made.statistics()
        assert (statistics.points_written, statistics.spool_points, statistics.waits) == (3, 0, False)
        assert made.missing() == []


def test_a_dead_server_is_tried_less_and_less_and_loses_nothing(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    server.answer = lambda lines: FAILED
    with endpoint(tmp_path, server, clock) as made:
        made.put([record("a")])
        for _ in range(20):
            wait_s = made.turn()
            assert wait_s is not None
            assert 0 < wait_s <= 30
            clock.now_s += wait_s
        statistics = made.statistics()
        assert statistics.breaker is BreakerState.OPEN
        assert statistics.reason == "502 Bad Gateway"
        assert statistics.requests_failed == server.requests == 20
        assert clock.now_s > 100 + 15 * 14  # the long pauses, at half of 30 s at least
        server.answer = lambda lines: TAKEN
        made.put([record("b")])
        assert made.turn() is None
        assert server.lines == ["a", "b"]
        statistics = made.statistics()
        assert (statistics.breaker, statistics.reason) == (BreakerState.CLOSED, "")


def test_an_open_breaker_tries_nothing(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    server.answer = lambda lines: UNAUTHORIZED
    with endpoint(tmp_path, server, clock) as made:
        made.put([record("a")])
        assert (made.turn() or 0) > 0
        assert made.statistics().breaker is BreakerState.OPEN  # at once: trying again mends nothing
        for _ in range(5):
            assert (made.turn() or 0) > 0
        assert server.requests == 1


def test_a_poison_line_is_set_aside_and_the_batch_goes_on(tmp_path: Path) -> None:
    server = Server()
    server.answer = lambda lines: REFUSED if "poison 1" in lines else TAKEN
    lines = [f"good {number}" for number in range(500)]
    with endpoint(tmp_path, server) as made:
        made.put([record(*lines[:300], "poison 1", *lines[300:]), record("after")])
        assert made.turn() is None
        assert sorted(server.lines) == sorted([*lines, "after"])
        statistics = made.statistics()
        assert (statistics.points_written, statistics.points_rejected) == (501, 1)
        assert statistics.breaker is BreakerState.CLOSED
        assert server.requests < 30
        assert made.missing() == []  # it was no block
    [file] = (tmp_path / "rejected").iterdir()
    comment, line = file.read_text().splitlines()
    assert comment.startswith("# ")
    assert comment.endswith("unable to parse")
    assert line == "poison 1"


def test_a_block_that_is_refused_is_a_hole(tmp_path: Path) -> None:
    server = Server()
    server.answer = lambda lines: REFUSED
    with endpoint(tmp_path, server) as made:
        made.put([record("raven_blocks,kind=trade x=1i 1")])
        assert made.turn() is None
        assert made.missing() == [(1000, 1005)]


def test_many_poison_lines_cost_a_bounded_number_of_requests(tmp_path: Path) -> None:
    server = Server()
    server.answer = lambda lines: REFUSED if any("poison" in line for line in lines) else TAKEN
    lines = [f"{'poison' if number % 10 == 0 else 'good'} {number}" for number in range(5_000)]
    with endpoint(tmp_path, server) as made:
        made.put([record(*lines)])
        assert made.turn() is None
        assert server.requests <= 70
        statistics = made.statistics()
        assert statistics.points_written == len(server.lines)
        assert statistics.points_written + statistics.points_rejected == 5_000
    kept = [line for file in (tmp_path / "rejected").iterdir() for line in file.read_text().splitlines() if line[0] != "#"]
    assert sorted(kept + server.lines) == sorted(lines)


def test_a_request_that_is_too_large_is_written_in_pieces(tmp_path: Path) -> None:
    server = Server()
    server.answer = lambda lines: Answer(Verdict.TOO_LARGE, "413") if len(lines) > 4 else TAKEN
    with endpoint(tmp_path, server) as made:
        made.put([record(*map(str, range(20)))])
        assert made.turn() is None
        assert sorted(server.lines, key=int) == [str(number) for number in range(20)]
        assert made.statistics().points_rejected == 0


def test_a_server_that_dies_while_a_poison_line_is_looked_for(tmp_path: Path) -> None:
    """Nothing is set aside for good before the batch is through; it is done again, which writes the same points."""
    server, clock = Server(), Clock()
    answers = iter([REFUSED, TAKEN, FAILED])
    server.answer = lambda lines: next(answers)
    with endpoint(tmp_path, server, clock) as made:
        made.put([record("a", "poison", at=5)])
        wait_s = made.turn()
        assert wait_s
        assert made.statistics().points_rejected == 0
        server.answer = lambda lines: REFUSED if "poison" in lines else TAKEN
        clock.now_s += wait_s
        assert made.turn() is None
        assert made.statistics().points_rejected == 1
        assert set(server.lines) == {"a"}


# ---- a server that fails on what it is sent


def turn_until_idle(made: Endpoint, clock: Clock, turns_max: int = 40) -> int:
    """Let time pass; how many turns it took until nothing waits."""
    for turns in range(turns_max):
        wait_s = made.turn()
        if wait_s is None:
            return turns
        clock.now_s += wait_s
    return turns_max


def choking(server: Server, lines: list[str]) -> Answer:
    return CHOKED if any("poison" in line for line in lines) else TAKEN


def test_a_line_on_which_a_server_fails_is_set_aside_after_a_while(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    server.answer = lambda lines: choking(server, lines)
    good = [f"good {number}" for number in range(50)]
    with endpoint(tmp_path, server, clock) as made:
        made.put([record(*good, "poison 1", *good), record("after")])
        for _ in range(CHOKES_MAX - 1):
            clock.now_s += made.turn() or 0
        assert (made.statistics().points_rejected, server.lines) == (0, [])
        assert clock.now_s > 110  # it was given a while to recover
        turn_until_idle(made, clock)
        statistics = made.statistics()
        assert (statistics.points_written, statistics.points_rejected, statistics.spool_points) == (101, 1, 0)
        assert statistics.breaker is BreakerState.CLOSED
    assert set(server.lines) == {*good, "after"}
    [file] = (tmp_path / "rejected").iterdir()
    assert file.read_text().splitlines()[1:] == ["poison 1"]


@pytest.mark.parametrize("behind", [["after"], ["poison 3", "after"]])
def test_batches_on_which_a_server_fails_hold_up_nobody(tmp_path: Path, behind: list[str]) -> None:
    server, clock = Server(), Clock()
    server.answer = lambda lines: choking(server, lines)
    with endpoint(tmp_path, server, clock) as made:
        made.put([record("poison 1", "good"), record(*behind), record("last")])
        turn_until_idle(made, clock)
        assert made.statistics().spool_points == 0
    assert {"good", "after", "last"} == set(server.lines)


def test_a_batch_of_one_line_waits_for_another_that_shows_that_the_server_is_well(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    server.answer = lambda lines: choking(server, lines)
    with endpoint(tmp_path, server, clock) as made:
        made.put([record("poison")])
        assert turn_until_idle(made, clock) == 40
        assert made.statistics().points_rejected == 0
        made.put([record("good")])
        turn_until_idle(made, clock)
        assert made.statistics().points_rejected == 1
        assert made.statistics().spool_points == 0


@pytest.mark.parametrize("answer", [CHOKED, FAILED])
def test_a_server_that_takes_nothing_is_down_and_loses_nothing(tmp_path: Path, answer: Answer) -> None:
    server, clock = Server(), Clock()
    server.answer = lambda lines: answer
    with endpoint(tmp_path, server, clock) as made:
        made.put([record("a", "b", "c"), record("d")])
        assert turn_until_idle(made, clock) == 40
        assert server.requests <= 4 * 40  # and is not asked much more often for it
        statistics = made.statistics()
        assert (statistics.points_rejected, statistics.spool_points) == (0, 4)
        server.answer = lambda lines: TAKEN
        clock.now_s += 60
        assert made.turn() is None
    assert server.lines == ["a", "b", "c", "d"]


@pytest.mark.parametrize("dies_at", range(1, 12))
def test_a_server_that_dies_while_it_is_looked_for_what_it_fails_on(tmp_path: Path, dies_at: int) -> None:
    """From then on it answers as a proxy does that stands before it."""
    server, clock = Server(), Clock()
    server.answer = lambda lines: choking(server, lines)
    lines = [f"good {number}" for number in range(8)]
    with endpoint(tmp_path, server, clock) as made:
        made.put([record(*lines, "poison"), record("after")])
        for _ in range(CHOKES_MAX - 1):
            clock.now_s += made.turn() or 0
        dead_from = server.requests + dies_at
        server.answer = lambda lines: CHOKED if server.requests > dead_from else choking(server, lines)
        made.turn()
        assert set(lines) & rejected(tmp_path) == set()
        server.answer = lambda lines: choking(server, lines)
        clock.now_s += 60
        turn_until_idle(made, clock)
    assert set(server.lines) == {*lines, "after"}
    assert rejected(tmp_path) == {"poison"}


def rejected(directory: Path) -> set[str]:
    files = (directory / "rejected").glob("*.lp")
    return {line for file in files for line in file.read_text().splitlines() if line[0] != "#"}


def test_failures_of_different_batches_are_no_sign(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    with endpoint(tmp_path, server, clock) as made:
        for number in range(3 * CHOKES_MAX):
            answers = iter([CHOKED])
            server.answer = lambda lines, answers=answers: next(answers, TAKEN)  # type: ignore[misc]
            made.put([record(f"line {number}"), record(f"behind {number}")])
            turn_until_idle(made, clock)
        assert made.statistics().points_rejected == 0
        assert server.lines == [f"{what} {number}" for number in range(3 * CHOKES_MAX) for what in ("line", "behind")]


class Choking(BaseHTTPRequestHandler):
    """What stands for InfluxDB: it is well, and fails on whatever has a poisonous point in it."""

    protocol_version = "HTTP/1.1"
    lines: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        lines = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))).decode().split("\n")
        poisoned = any(line.startswith("poison") for line in lines)
        body = b'{"code":"internal error","message":"panic: runtime error: index out of range"}' if poisoned else b""
        if not poisoned:
            self.lines.extend(lines)
        self.send_response(500 if poisoned else 204)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


def test_a_real_answer_of_500_is_found_out(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Choking) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        clock = Clock()
        made = Endpoint(InfluxConfig(f"http://127.0.0.1:{http.server_port}", name="e"), tmp_path, clock=clock)
        made.put([record("good f=1i 1", "poison f=1i 2", "good f=1i 3"), record("good f=1i 4")])
        turn_until_idle(made, clock)
        statistics = made.statistics()
        made.close()
        http.shutdown()
        thread.join()
    assert (statistics.points_written, statistics.points_rejected, statistics.spool_points) == (3, 1, 0)
    assert set(Choking.lines) == {"good f=1i 1", "good f=1i 3", "good f=1i 4"}
    assert rejected(tmp_path) == {"poison f=1i 2"}
    assert "500 Internal Server Error: panic" in (tmp_path / "rejected" / "000001.lp").read_text()


# ---- across runs, and full disks


def test_the_next_run_goes_on_where_this_one_ended(tmp_path: Path) -> None:
    server = Server()
    server.answer = lambda lines: FAILED
    with endpoint(tmp_path, server) as made:
        made.put([record(str(number)) for number in range(10)])
        assert made.turn()
    later = Server()
    with endpoint(tmp_path, later) as made:
        made.put([record("10")])
        assert made.turn() is None
    assert later.lines == [str(number) for number in range(11)]


def test_a_full_disk_is_told_and_memory_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    server = Server()
    with endpoint(tmp_path, server) as made:
        made.put([record("a")])
        with monkeypatch.context() as patch:
            patch.setattr("raven.store.influx.spool.os.write", full)
            made.put([record("b"), record("c")])
            statistics = made.statistics()
            assert (statistics.disk, statistics.spool_points) == ("No space left on device", 3)
            assert made.turn() is None
            assert server.lines == ["a", "b", "c"]
            big = Record(bytes(MEMORY_BYTES_MAX // 2), 7, 8, 4)
            made.put([record("dropped", at=3), big, big])
            assert made.statistics().points_dropped == 5  # the oldest: one line, and one of the big ones
            assert made.missing() == [(3, 8), (7, 8), (7, 8)]
        made.put([])
        assert made.statistics().disk == ""


def test_catching_up_is_told_of_every_few_seconds(tmp_path: Path) -> None:
    server, clock = Server(), Clock()

    def slowly(lines: list[str]) -> Answer:
        clock.now_s += 2.0
        return TAKEN

    server.answer = slowly
    with endpoint(tmp_path, server, clock) as made, capture_logs() as logs:
        noise = Random(0)
        made.put([record(noise.randbytes(200_000).hex()) for _ in range(20)])
        while made.turn() is not None:
            pass
    told = [entry for entry in logs if entry["event"] == "a history endpoint catches up"]
    assert [entry["left_points"] for entry in told] == sorted((entry["left_points"] for entry in told), reverse=True)
    assert 3 <= len(told) <= 8  # 40 s of work, of which the last MiB is not worth a word
    assert all(entry["left_bytes"] > 0 and entry["points_per_s"] >= 0 for entry in told)


def test_rejected_lines_are_bounded(tmp_path: Path) -> None:
    rejected = RejectedLines(tmp_path / "r")
    for number in range(FILES_MAX + 4):
        rejected.add([f"{number} {'x' * 1024 * 1024}"], "why\nnot")
    files = sorted((tmp_path / "r").iterdir())
    assert len(files) == FILES_MAX
    assert files[0].name == "000005.lp"
    assert files[-1].read_text().splitlines()[0].endswith("why not")
