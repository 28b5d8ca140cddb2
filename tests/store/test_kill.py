"""A server that is killed at any moment leaves a history that opens and has everything up to its last commit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

from raven.codec.generated.raven import v1
from raven.model.events import Flag
from raven.store.blocks import TimeRange
from raven.store.elements import split, stamps
from raven.store.sqlite import SqliteHistory
from tests.store.writing_history import BOOK, TOPICS

KILLS = int(os.environ.get("TORTURE_KILLS", "10"))
ALL = TimeRange(-(2**62), 2**62)

Committed = list[tuple[int, int]]


def write_until_killed(directory: Path, after_s: float) -> Committed:
    """(epoch, sequence) of each commit that a writer says it has made before it is killed, `after_s` behind its first."""
    command = [sys.executable, "-m", "tests.store.writing_history", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        timer = Timer(after_s, writer.send_signal, [signal.SIGKILL])
        timer.start()
        said = [first, *writer.stdout]
        timer.join()
    assert writer.returncode == -signal.SIGKILL
    return [(int(epoch), int(sequence)) for epoch, sequence in (line.split() for line in said if line.endswith("\n"))]


def check(directory: Path, committed: Committed) -> None:
    """Every epoch that was begun is there from its first event to at least its last commit: no hole, no double, no damage."""
    history = SqliteHistory(directory)
    assert not history.holes(ALL)
    for topic in (*TOPICS, BOOK):
        last: dict[int, int] = {}
        for block in history.blocks(topic, ALL):
            for element in split(block.elements):
                sequence, _, _ = stamps(element)
                assert sequence == last.get(block.epoch, 0) + 1, (topic, block.epoch)
                last[block.epoch] = sequence
        if topic == TOPICS[0]:
            for epoch, sequence in committed:
                assert last[epoch] >= sequence
    check_images(history)
    history.close()


def check_images(history: SqliteHistory) -> None:
    image = history.image(BOOK, ALL.end_ns)
    assert image is not None
    event = v1.StreamMarketDataResponse.parse(image.element).events[0]
    assert event.flags & Flag.IMAGE
    assert (event.epoch, event.sequence) == (image.epoch, image.sequence)
    assert any(
        block.epoch == image.epoch and block.first_sequence <= image.sequence <= block.last_sequence
        for block in history.blocks(BOOK, ALL)
    )


def test_kills(tmp_path: Path) -> None:
    """Fault 20, of the history: 10 kills; 100 by `nox -s torture`."""
    made, committed = random.Random(KILLS), Committed()
    for _ in range(KILLS):
        committed += write_until_killed(tmp_path, made.random() * 0.25)
        check(tmp_path, committed)
    assert len({epoch for epoch, _ in committed}) == KILLS
