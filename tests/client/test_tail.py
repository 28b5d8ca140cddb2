"""`raven tail` on the client library: across a restart of the server, with topics as they are printed."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
import trio

from tests.e2e.processes import Server, environment, raven_command, run_command

PATIENCE_S = 30.0


class Lines:
    """The output of a process, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._text = ""

    async def next(self) -> str:
        with trio.fail_after(PATIENCE_S):
            while "\n" not in self._text:
                chunk = await self._stream.receive_some()
                assert chunk, "the output has ended"
                self._text += bytes(chunk).decode()
        line, _, self._text = self._text.partition("\n")
        return line

    async def until(self, part: str) -> str:
        while part not in (line := await self.next()):
            pass
        return line


async def test_tail_goes_on_over_a_restart_and_says_what_will_not_come() -> None:
    server = Server()
    tail: trio.Process | None = None
    try:
        async with server.running(RAVEN_SERVER_DRAIN_S="1"):
            command = raven_command("tail", "sim/BTC-USDT/trade", "--json", "--server", server.target)
            tail = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
            assert tail.stdout is not None
            assert tail.stderr is not None
            events, said = Lines(tail.stdout), Lines(tail.stderr)
            epoch = json.loads(await events.until('"type":"trade"'))["epoch"]
        assert "the server is going away" in await said.next()
        assert "trying again in" in await said.next()
        async with server.running():
            await said.until("connected again")
            gap = json.loads(await events.until('"type":"gap"'))
            assert gap["flags"] == ["local"]
            while json.loads(await events.until('"type":"trade"'))["epoch"] == epoch:
                pass
            tail.send_signal(signal.SIGINT)
            assert await tail.wait() == 130
    finally:
        if tail is not None and tail.returncode is None:
            tail.kill()


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["sim/btc-usdt"], "symbol: 'btc-usdt' is not valid: did you mean 'BTC-USDT'?", 1),
        (["SIM/BTC-USDT"], "venue: 'SIM' is not valid: did you mean 'sim'?", 1),
        (["sim/BTC-USDT/trades"], "kinds: 'trades' is not valid: did you mean 'trade'?", 1),
        (["--limit", "0"], "Invalid value for '--limit'", 2),
        (["--server", "127.0.0.1:1"], "raven: no server at 127.0.0.1:1: Connection refused", 1),
    ],
)
async def test_what_cannot_be_ends_with_one_line_and_its_code(arguments: list[str], said: str, code: int) -> None:
    done = await run_command("tail", *arguments)
    assert (done.returncode, said in done.stderr.decode()) == (code, True), done.stderr.decode()
    assert b"Traceback" not in done.stderr
