"""A talk with a client program over its standard input and output."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.e2e.processes import environment

PATIENCE_S = 30.0
"""For the next piece of output, and for the end of a program."""


class Conversation:
    """A running program. Its standard error goes to ours."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._text = ""

    async def send(self, **request: Any) -> None:
        """A request as a JSON object."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps(request).encode() + b"\n")

    async def receive_line(self) -> str | None:
        """The next line; None at the end of the output."""
        while "\n" not in self._text:
            if not await self._read():
                return None
        line, _, self._text = self._text.partition("\n")
        return line

    async def receive_lines_until(self, start: str) -> list[str]:
        """Lines up to the first one that begins so."""
        lines: list[str] = []
        while not lines or not lines[-1].startswith(start):
            line = await self.receive_line()
            assert line is not None, f"the program ended before a line began with {start!r}: {lines}"
            lines.append(line)
        return lines

    async def receive(self) -> dict[str, Any]:
        """The next JSON object."""
        while True:
            self._text = self._text.lstrip()
            try:
                answer, end = json.JSONDecoder().raw_decode(self._text)
            except json.JSONDecodeError:
                assert await self._read(), f"the program ended: {self._text!r}"
            else:
                self._text = self._text[end:]
                assert isinstance(answer, dict)
                return answer

    async def interrupt(self) -> tuple[int, list[str]]:
        """Ctrl-C: exit code, and the lines that still came."""
        self.process.send_signal(signal.SIGINT)
        return await self.finish()

    async def finish(self) -> tuple[int, list[str]]:
        """Read to the end: exit code, and the lines."""
        lines: list[str] = []
        while (line := await self.receive_line()) is not None:
            lines.append(line)
        with trio.fail_after(PATIENCE_S):
            return await self.process.wait(), lines

    async def _read(self) -> bool:
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE_S):
            chunk = await self.process.stdout.receive_some()
        self._text += chunk.decode()
        return bool(chunk)


@asynccontextmanager
async def open_conversation(command: Sequence[str], env: Mapping[str, str] | None = None) -> AsyncIterator[Conversation]:
    """A program for as long as the block lasts; then it is killed, if it has not ended before."""
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(**(env or {})),
    )
    try:
        yield Conversation(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def run_program(command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A program to its end."""
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env=environment(**(env or {}))
        )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
