"""`raven doctor`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raven.cli import main
from raven.ops.sockets import bind_socket
from tests.disks import fill, small_tmpfs

TLS = Path(__file__).parents[1] / "data" / "tls"
FREE = "[server]\nport = 0\n[health]\nport = 0\n[metrics]\nport = 0\n"


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main.run(["doctor"])
    return code, capsys.readouterr().out.splitlines()


def test_all_is_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "raven.toml").write_text(FREE + f"[log]\nfile = '{here / 'raven.log'}'\n")
    code, lines = doctor(capsys)
    assert [line for line in lines if not line.startswith("✓ ")] == []
    assert code == 0
    words = [line.split()[1] for line in lines]
    assert words[0] == "Python"
    assert words[-6:] == ["feeds:", "gRPC", "health", "metrics", "data", "log"]
    assert sorted(file.name for file in here.iterdir()) == ["raven.toml"]


def test_a_data_directory_that_may_not_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    (here / "raven.toml").write_text(FREE + f"[data]\ndir = '{here / 'file'}'\n")
    code, lines = doctor(capsys)
    assert code == 1
    (bad,) = [line for line in lines if line.startswith("✗")]
    assert bad.startswith(
        f"✗ data directory {here / 'file'}: data.dir: {here / 'file'} cannot be used: Not a directory; valid: a"
    )


def test_a_data_directory_on_a_full_disk(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_tmpfs(here / "disk", 64) as disk:
        fill(disk)
        (here / "raven.toml").write_text(FREE + f"[data]\ndir = '{disk / 'data'}'\n")
        code, lines = doctor(capsys)
    assert code == 1
    (bad,) = [line for line in lines if line.startswith("✗")]
    assert bad.startswith(f"✗ data directory {disk / 'data'}: its disk is full")


def test_a_taken_port(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bind_socket("127.0.0.1", 0, "test", "health.port") as sock:
        port = sock.getsockname()[1]
        (here / "raven.toml").write_text(FREE.replace("[health]\nport = 0", f"[health]\nport = {port}"))
        code, lines = doctor(capsys)
    assert code == 1
    (bad,) = [line for line in lines if line.startswith("✗")]
    assert bad.startswith(f"✗ health on 127.0.0.1:{port}: port {port} (health) is taken: set [health] port or HEALTH_PORT")


def test_the_certificate(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tls = f"[server.tls]\ncert_file = '{TLS / 'cert.pem'}'\nkey_file = '{TLS / 'key.pem'}'\n"
    (here / "raven.toml").write_text(FREE + tls)
    code, lines = doctor(capsys)
    assert code == 0
    assert f"✓ TLS: {TLS / 'cert.pem'}" in lines
    (here / "raven.toml").write_text(FREE + tls.replace("/key.pem", "/other_key.pem"))
    code, lines = doctor(capsys)
    assert code == 1
    (bad,) = [line for line in lines if line.startswith("✗")]
    assert f"[server.tls] key_file: '{TLS / 'other_key.pem'}' is not the key of the certificate" in bad


def test_two_that_share_a_port(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bind_socket("127.0.0.1", 0, "test", "health.port") as sock:
        port = sock.getsockname()[1]
    (here / "raven.toml").write_text(f"[server]\nport = 0\n[health]\nport = {port}\n[metrics]\nport = {port}\n")
    code, lines = doctor(capsys)
    assert code == 1
    assert any(line.startswith(f"✗ metrics on 127.0.0.1:{port}: port {port} (metrics) is taken") for line in lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[server]\nprot = 1\n",
            "✗ config: raven.toml: server.prot: 1 is not valid: there is no such key: did you mean 'port'?",
        ),
        (
            FREE + "[[feeds]]\nname='x'\nadapter='nope-at-all'\nsymbols=['A']\nkinds=['trade']\n",
            "✗ feeds: raven.toml: feeds[0].adapter: 'nope-at-all' is not valid: no installed package offers it: valid are ",
        ),
        (
            FREE + "[log]\nfile = '/nowhere/at/all'\n",
            "✗ log file /nowhere/at/all: /nowhere/at cannot be written: set [log] file",
        ),
    ],
)
def test_each_trouble_is_a_line_with_its_fix(text: str, line: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "raven.toml").write_text(text)
    code, lines = doctor(capsys)
    assert code == 1
    (bad,) = [each for each in lines if each.startswith("✗")]
    assert bad.startswith(line)
    assert os.linesep not in bad
