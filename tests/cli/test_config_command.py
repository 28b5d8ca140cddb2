"""`raven config`, and what every command does with errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from raven import __version__
from raven.cli import main
from raven.cli.style import table
from raven.errors import RavenError, StartupError

FEED = """
[server]
port = 4
[[feeds]]
name = "sim"
adapter = "sim"
symbols = ["BTC-USDT"]
kinds = ["trade", "book_top"]
"""


def test_show_aligns_key_value_and_origin(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "raven.toml").write_text(FEED)
    monkeypatch.setenv("METRICS_PORT", "5")
    assert main.run(["config", "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.index(word) for line, word in ((lines[0], "VALUE"), (lines[1], '"127.0.0.1"'), (lines[2], "4"))}) == 1
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)
    assert rows["server.port"].split() == ["4", "raven.toml"]
    assert rows["metrics.port"].split() == ["5", "environment", "METRICS_PORT"]
    assert rows["feeds[0].symbols"].split() == ['["BTC-USDT"]', "raven.toml"]


def test_show_hides_secrets(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.toml").write_text(FEED + "[feeds.options]\napi_key = 'hunter2'\nws_url = 'ws://me:hunter2@x'\n")
    assert main.run(["--config", "a.toml", "config", "show"]) == 0
    assert main.run(["config", "show", "--json", "--config", "a.toml"]) == 0
    out = capsys.readouterr().out
    assert "hunter2" not in out
    shown = json.loads(out[out.index("\n{") :])
    assert shown["feeds[0].options.api_key"] == {"value": "********", "origin": "a.toml"}
    assert shown["feeds[0].options.ws_url"]["value"] == "ws://********@x"
    assert shown["log.file"] == {"value": None, "origin": "default"}


def test_check_looks_at_the_certificate(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = Path(__file__).parents[1] / "data" / "tls"
    (here / "raven.toml").write_text(f"[server.tls]\ncert_file = '{files / 'cert.pem'}'\nkey_file = '{files / 'key.pem'}'\n")
    assert main.run(["config", "check"]) == 0
    assert f"✓ TLS: {files / 'cert.pem'}\n" in capsys.readouterr().out
    assert main.run(["config", "show"]) == 0
    assert "key.pem" in capsys.readouterr().out  # the name of a file is no secret
    (here / "raven.toml").write_text("[server.tls]\ncert_file = 'no.pem'\nkey_file = 'no.pem'\n")
    assert main.run(["config", "check"]) == 1
    assert "[server.tls] cert_file: 'no.pem' cannot be read: No such file or directory" in capsys.readouterr().err


def test_check_names_feeds_and_packages(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "raven.toml").write_text(FEED)
    assert main.run(["config", "check"]) == 0
    assert re.fullmatch(r"✓ raven.toml\n✓ feed sim: 2 topics, and book tops by raven-sim \S+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "raven: raven.toml: server.prot: 1 is not valid: there is no such key: did you mean 'port'?\n"),
        ("[server\n", "raven: raven.toml:1:8: this is no TOML: expected ']' at the end of a table declaration\n"),
        (
            FEED.replace('adapter = "sim"', 'adapter = "simm"'),
            "raven: raven.toml: feeds[0].adapter: 'simm' is not valid: no installed package offers it: did you mean 'sim'?\n",
        ),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(text: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "raven.toml").write_text(text)
    assert main.run(["config", "check"]) == 2
    assert capsys.readouterr() == ("", message)


def test_a_warning_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVEN_SERVER_PROT", "1")
    assert main.run(["config", "check"]) == 0
    out, err = capsys.readouterr()
    assert "RAVEN_SERVER_PROT" not in out
    assert err.startswith("raven: warning: environment RAVEN_SERVER_PROT: there is no such variable")


def test_a_traceback_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--debug", "--config", "none.toml", "config", "show"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("raven: --config: 'none.toml' is not valid: there is no such file\n")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (RavenError("no"), 1, "raven: no\n"),
        (ExceptionGroup("g", [ExceptionGroup("h", [StartupError("port"), StartupError("port")])]), 1, "raven: port\n"),
        (KeyboardInterrupt(), 130, "\n"),  # behind the ^C that the terminal shows
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130, ""),
    ],
)
def test_errors_of_commands(
    error: BaseException, code: int, printed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.cli, "get_command", lambda *_: click.Command("fail", callback=fail))
    assert main.run(["fail"]) == code
    assert capsys.readouterr().err == printed


def test_a_bug_stays_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ExceptionGroup("g", [RavenError("no"), ZeroDivisionError()])

    monkeypatch.setattr(main.cli, "get_command", lambda *_: click.Command("fail", callback=fail))
    with pytest.raises(ExceptionGroup):
        main.run(["fail"])


@pytest.mark.parametrize("arguments", [["no-such-command"], ["config", "show", "--nope"], ["--nope"]])
def test_wrong_use_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    assert "Usage: raven" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"raven, version {__version__}\n"


def test_every_command_that_is_listed_can_be_imported_and_says_the_same_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    context = click.Context(main.cli)
    names = main.cli.list_commands(context)
    assert {"config", "adapters", "health", "doctor", "emulate"} <= set(names)
    for name in names:
        command = main.cli.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert main.run([name, "--help"]) == 0
    assert "Usage: raven config" in capsys.readouterr().out


def test_help_imports_no_command() -> None:
    code = "import sys; from raven.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"trio", "httpx", "raven.config"} & set(done.stderr.split()) == set()
    assert "doctor" in done.stdout


def test_a_closed_pipe_is_quiet() -> None:
    code = "from raven.cli.main import main; import sys; sys.argv = ['raven', 'config', 'show']; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=20)) == (b"", 0)


def test_columns_do_not_count_styles() -> None:
    rows = [(click.style("a", fg="red"), "1"), ("long", "2")]
    assert click.unstyle(table(rows, ("K", "V"))) == "K     V\na     1\nlong  2"
