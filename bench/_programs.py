"""Starting the programs of a run, talking to them in lines of JSON, and ending them. What each used of the processor."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _meter import pin

__all__ = ["LOAD_CORE", "SERVER_CORE", "Program", "allow_files", "get_ready", "open_program", "python", "resident_bytes"]

HERE = Path(__file__).resolve().parent
SERVER_CORE, LOAD_CORE = 0, 1
ANSWER_S = 120.0
FILES = 4096  # open ones, which 1,000 connections need on either side


class Program:
    """One started program."""

    def __init__(self, process: subprocess.Popen[str], errors: Any) -> None:
        self.process = process
        self._errors = errors

    def tell(self, **facts: object) -> None:
        """One line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(facts) + "\n")
        self.process.stdin.flush()

    def hear(self, word: str, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """What it tells under that word; everything before is skipped.

        Raises:
            RuntimeError: it ended without, or took too long; with the end of what it wrote to standard error.
        """
        assert self.process.stdout is not None
        alarm = threading.Timer(timeout_s, self.process.kill)
        alarm.start()
        try:
            for line in self.process.stdout:
                told: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
                if told.get("word") == word:
                    return told
        finally:
            alarm.cancel()
        self._errors.seek(0)
        raise RuntimeError(f"{self.process.args!r} ended without {word!r}:\n{self._errors.read()[-3000:]}")

    def ask(self, word: str, **facts: object) -> dict[str, Any]:
        """Tell it a word and hear the answer."""
        self.tell(word=word, **facts)
        return self.hear("answer")

    @property
    def cpu_s(self) -> float:
        """User and system time so far; 0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def writes(self) -> int:
        """Calls of `write` so far, which message servers use where Raven has `send`; 0 where the system does not say."""
        try:
            facts = Path(f"/proc/{self.process.pid}/io").read_text().splitlines()
        except OSError:
            return 0
        return next((int(fact.partition(": ")[2]) for fact in facts if fact.startswith("syscw")), 0)


def python(name: str, *arguments: object) -> list[str]:
    """The command of one of our own programs."""
    return [sys.executable, str(HERE / f"{name}.py"), *map(str, arguments)]


@contextmanager
def open_program(command: Sequence[str], core: int) -> Iterator[Program]:
    """A program on one core. On leaving it is killed: all that it had to say was heard."""
    with tempfile.TemporaryFile("w+") as errors:
        pin(core)  # it inherits that, with all threads that it will have; we share the load's core
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        pin(LOAD_CORE)
        program = Program(process, errors)
        try:
            yield program
        finally:
            process.kill()
            process.communicate()


def resident_bytes(process_id: int) -> int:
    """The memory of a process that is in RAM."""
    rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    return 1024 * int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Rss:")))


def get_ready() -> None:
    """As many open files as the runs need, for this process and those that it starts; and SIGTERM ends those too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    allow_files(FILES)


def allow_files(count: int) -> None:
    """So many open files for this process, as far as the system's own limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard) if hard > 0 else count, hard))
