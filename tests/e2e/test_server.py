"""`raven serve` on the simulated venue, and the commands that ask it, as processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trio

from raven.cli.main import COMMANDS
from raven.codec.generated.raven import v1
from tests.e2e.processes import Server, environment, process, raven_command, run_command
from tests.grpc.serving import Peer


def lines_of(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def open_process(command: list[str], **streams: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment(), **streams)


def sample(text: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples that have all of `labels` ('kind="trade"')."""
    pattern = re.compile(rf"^{name}(?:{{(.*)}})? (\S+)$", re.MULTILINE)
    return sum(float(value) for found, value in pattern.findall(text) if all(label in found for label in labels))


async def until(server: Server, condition: Callable[[str], bool]) -> str:
    """The metrics, scraped again and again until they say so: a server has no other way to tell."""
    with trio.fail_after(15):
        while not condition(text := (await server.get("/metrics")).text):
            await trio.lowlevel.checkpoint()
    return text


async def test_tail_has_lines_at_once_and_every_command_answers() -> None:
    server = Server()
    async with server.running():
        began = time.monotonic()
        tail = lines_of(await run_command("tail", "--limit", "6", "--server", server.target))
        assert time.monotonic() - began < 5
        assert len(tail) == 6
        assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  sim +BTC-USDT +trade +(buy|sell) ", tail[0])

        one = lines_of(
            await run_command("tail", "ETH-USDT", "--kind", "book", "--json", "--limit", "4", RAVEN_SERVER=server.target)
        )
        events = [json.loads(line) for line in one]
        assert {(event["venue"], event["symbol"], event["kind"]) for event in events} == {("sim", "ETH-USDT", "book")}
        assert [event["type"] for event in events] == ["status", "book_snapshot", "book_delta", "book_delta"]
        assert events[3]["sequence"] == events[2]["sequence"] + 1 == events[1]["sequence"] + 2

        topics = lines_of(await run_command("topics", "BTC-*", "--server", server.target))
        assert topics[0].split() == ["TOPIC", "STATUS", "SINCE", "SEQUENCE", "SUBSCRIBERS"]
        assert {line.split()[0] for line in topics[1:]} >= {
            "sim/BTC-USDT/trade",
            "sim/BTC-USDT/book_top/20",
            "sim/BTC-USDT/candle/1m",
        }
        assert all(" LIVE " in line for line in topics[1:])

        latest = lines_of(await run_command("latest", "BTC-USDT", "--kind", "trade", "--json", "--server", server.target))
        assert [json.loads(line)["type"] for line in latest] == ["status", "trade"]

        instruments = lines_of(await run_command("instruments", "--server", server.target))
        assert [line.split()[:2] for line in instruments[1:]] == [["sim", "BTC-USDT"], ["sim", "ETH-USDT"], ["sim", "SOL-USDT"]]

        health = await run_command("health", "--url", f"http://127.0.0.1:{server.health_port}/health")
        assert "feed sim" in "".join(lines_of(health))


async def test_tail_is_quiet_when_whoever_reads_it_goes_away() -> None:
    server = Server()
    async with server.running():
        command = [*raven_command("tail", "--server", server.target)]
        with open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as pipe:
            assert pipe.stdout is not None
            assert pipe.stderr is not None
            await trio.to_thread.run_sync(pipe.stdout.readline)
            pipe.stdout.close()
            assert await trio.to_thread.run_sync(lambda: pipe.wait(timeout=20)) == 0
            assert pipe.stderr.read() == b""


async def test_tail_says_when_it_waits_for_what_does_not_match_yet() -> None:
    server = Server()
    command = raven_command("tail", "NIX-*", "--server", server.target)
    async with server.running(), process(command, lambda line: line.startswith("raven: nothing matches yet")) as tail:
        tail.send_signal(signal.SIGINT)
        assert await tail.wait() == 130


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["tail", "sim/BTC-USDX"], "'BTC-USDX' is not carried: did you mean 'BTC-USDT'?"),
        (["tail", "--venue", "simm"], "'simm' is not served: did you mean 'sim'?"),
        (["tail", "--kind", "trades"], "kinds: 'trades' is not valid: did you mean 'trade'?"),
        (["latest", "btc"], "symbol: 'btc' is not valid"),
        (["topics", "--venue", "Sim"], "venue: 'Sim' is not valid"),
    ],
)
async def test_what_cannot_be_asked_for_is_said_in_one_line(arguments: list[str], error: str) -> None:
    server = Server()
    async with server.running():
        done = await run_command(*arguments, "--server", server.target)
    assert done.returncode == 1
    assert error in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


async def test_no_server_is_said_in_one_line() -> None:
    done = await run_command("tail", "--server", Server().target)
    assert done.returncode == 1
    assert re.fullmatch(rb"raven: no server at 127\.0\.0\.1:\d+: .*\n", done.stderr)


async def test_the_guides_five_metrics_move() -> None:
    server = Server()
    async with server.running():
        first = await until(server, lambda text: sample(text, "messages_processed_total", 'venue="sim"', 'kind="trade"') > 0)
        assert sample(first, "grpc_active_connections") == 0
        assert sample(first, "response_latency_seconds_count") == 0
        assert sample(first, "errors_total") == 0
        assert sample(first, "process_resident_memory_bytes") > 10_000_000
        bad = await run_command("latest", "--venue", "nix", "--server", server.target)
        assert bad.returncode == 1
        tail = await trio.lowlevel.open_process(
            raven_command("tail", "--server", server.target), stdout=subprocess.DEVNULL, env=environment()
        )
        second = await until(
            server, lambda text: sample(text, "grpc_active_connections") == 1 and sample(text, "raven_clients") == 1
        )
        assert sample(second, "errors_total", 'component="grpc"', 'kind="invalid_argument"') == 1
        assert sample(second, "response_latency_seconds_count", 'method="GetLatest"') == 1
        trades = sample(first, "messages_processed_total", 'kind="trade"')
        await until(server, lambda text: sample(text, "messages_processed_total", 'kind="trade"') > trades)
        tail.send_signal(signal.SIGINT)
        await tail.wait()
        await until(server, lambda text: sample(text, "grpc_active_connections") == 0)
        assert sample(second, "raven_feed_state", 'venue="sim"', 'state="live"') == 1


async def test_health_is_real_and_sigterm_drains_and_exits_0() -> None:
    server = Server()
    async with server.running(RAVEN_SERVER_DRAIN_S="30") as raven:
        for path in ("/health", "/health/live", "/health/ready"):
            assert (await server.get(path)).status_code == 200
        assert (await server.get("/health")).json()["feeds"]["sim"]["state"] == "live"
        stays = Peer(grpc.insecure_channel(server.target))  # it does not know Draining
        call = stays.stream()
        call.send(hello=v1.Hello(client_id="stays"))
        await until(server, lambda text: sample(text, "raven_clients") == 1)
        raven.send_signal(signal.SIGTERM)
        with trio.fail_after(5):
            while (await server.get("/health/ready")).status_code != 503:
                await trio.lowlevel.checkpoint()
        health = await server.get("/health")
        assert (health.status_code, health.json()["draining"]) == (503, True)
        assert (await server.get("/health/live")).status_code == 200
        assert raven.returncode is None  # the client is still there, and still served
        call.cancel()
        with trio.fail_after(5):  # long before drain_s: the last client has left
            assert await raven.wait() == 0
        await trio.to_thread.run_sync(stays.channel.close)


async def test_a_client_that_stays_is_ended_at_the_deadline_and_ctrl_c_is_the_same() -> None:
    server = Server()
    async with server.running(RAVEN_SERVER_DRAIN_S="0.5") as raven:
        stays = Peer(grpc.insecure_channel(server.target))
        call = stays.stream()
        call.send(hello=v1.Hello(client_id="stays"))
        await until(server, lambda text: sample(text, "raven_clients") == 1)
        raven.send_signal(signal.SIGINT)
        goodbye = await call.receive_control("goodbye")
        assert (goodbye.reason, goodbye.reconnect) == (v1.GoodbyeReason.DRAINED, True)
        assert (await call.outcome())[0] == "OK"
        with trio.fail_after(5):
            assert await raven.wait() == 0
        await trio.to_thread.run_sync(stays.channel.close)


class TestStartsThatCannotBe:
    async def start(self, config: str, tmp_path: Path, **env: str) -> str:
        """The one line that a start ends with."""
        file = tmp_path / "raven.toml"
        file.write_text(config)
        done = await run_command(
            "serve", "--config", str(file), "--port", "0", "--health-port", "0", "--metrics-port", "0", **env
        )
        assert done.returncode in (1, 2)
        assert done.stderr.count(b"\n") == 1
        return done.stderr.decode()

    @pytest.mark.parametrize(
        ("config", "error"),
        [
            ("[server]\nprot = 1\n", "server.prot: 1 is not valid: there is no such key: did you mean 'port'?"),
            ('[server]\ndrain_s = "10"\n', "server.drain_s: '10' is not valid: a number"),
            ('[[feeds]]\nname = "x"\nadapter = "simm"\nsymbols = ["A-B"]\nkinds = ["trade"]\n', "did you mean 'sim'?"),
            ('[[feeds]]\nname = "x"\nadapter = "sim"\nsymbols = ["A-B"]\nkinds = ["funding"]\n', "funding"),
            (
                '[[feeds]]\nname = "x"\nadapter = "sim"\nsymbols = ["A-B"]\nkinds = ["trade"]\n[feeds.options]\nrates = 3\n',
                "feeds[0].options.rates: 3 is not valid: there is no such key: did you mean 'rate'?",
            ),
            ("[server\n", "raven.toml:1:8: this is no TOML"),
        ],
    )
    async def test_is_said_in_one_line(self, config: str, error: str, tmp_path: Path) -> None:
        assert error in await self.start(config, tmp_path)

    async def test_a_taken_port_is_named_with_its_key(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ours = {"HEALTH_PORT": str(port), "RAVEN_DATA_DIR": str(tmp_path)}
            done = await run_command("serve", "--port", "0", "--metrics-port", "0", **ours)
        assert done.returncode == 1
        assert f"port {port} (health) is taken" in done.stderr.decode() or f"port {port}" in done.stderr.decode()
        assert "[health] port or HEALTH_PORT" in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1


async def test_a_variable_that_nobody_reads_is_a_warning() -> None:
    done = await run_command("config", "check", RAVEN_SERVR_PORT="1")
    assert done.returncode == 0
    assert b"RAVEN_SERVER_PORT" in done.stderr


async def test_help_lists_every_command() -> None:
    done = await run_command("--help")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert all(f"  {name} " in text for name in COMMANDS)
