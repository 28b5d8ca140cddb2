"""File, environment and flags: who wins, where each value came from, and what errors say about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven.config import Config, LoadedConfig, TlsConfig, load_config
from raven.config.secrets import without_secrets
from raven.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*arguments: Any, **named: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(*arguments, **named)
    return str(caught.value)


def origins(loaded: LoadedConfig) -> dict[str, str]:
    return {row.key: row.origin for row in loaded.rows()}


def test_nothing_is_set(tmp_path: Path) -> None:
    loaded = load_config(None, directory=tmp_path)
    assert loaded.value == Config()
    assert loaded.path is None
    assert loaded.warnings == ()
    assert set(origins(loaded).values()) == {"default", "default: server.host"}


def test_raven_toml_here_is_read_and_config_goes_before_it(tmp_path: Path) -> None:
    here = write(tmp_path / "raven.toml", "[server]\nport = 1\n")
    other = write(tmp_path / "other.toml", "[server]\nport = 2\n")
    assert load_config(None, directory=tmp_path).path == here
    loaded = load_config(other, directory=tmp_path)
    assert loaded.value.server.port == 2
    assert origins(loaded)["server.port"] == str(other)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path / "raven.toml", "[server]\nhost='a'\nport=1\ndrain_s=1\n[health]\nport=1\n")
    environ = {"SERVER_PORT": "2", "HEALTH_PORT": "2"}
    loaded = load_config(path, environ, {"health.port": 3, "metrics.port": None})
    config = loaded.value
    assert (config.server.host, config.server.port, config.health.port, config.metrics.port) == ("a", 2, 3, 9090)
    told = origins(loaded)
    assert told["server.host"] == str(path)
    assert told["server.port"] == "environment SERVER_PORT"
    assert told["health.port"] == "flag --health-port"
    assert told["metrics.port"] == "default"


@pytest.mark.parametrize(
    ("environ", "key", "value"),
    [
        ({"SERVER_HOST": "0.0.0.0"}, "server.host", "0.0.0.0"),
        ({"METRICS_PORT": "1"}, "metrics.port", 1),
        ({"RAVEN_SERVER_PORT": "1", "SERVER_PORT": "2"}, "server.port", 1),
        ({"RAVEN_SERVER_DRAIN_S": "2.5"}, "server.drain_s", 2.5),
        ({"RAVEN_SERVER_OUTBOX_BYTES_MAX": "4096"}, "server.outbox_bytes_max", 4096),
        ({"RAVEN_HEALTH_HOST": "::1"}, "health.host", "::1"),
        ({"RAVEN_LOG_FILE": "x.log"}, "log.file", Path("x.log")),
        ({"RUST_LOG": "warn"}, "log.level", "warn"),
        ({"RUST_LOG": "warn", "RAVEN_LOG": "debug"}, "log.level", "debug"),
        ({"RAVEN_LOG": "debug", "RAVEN_LOG_LEVEL": "error"}, "log.level", "error"),
        ({"RUST_BACKTRACE": "0"}, "log.tracebacks", "short"),
        ({"RUST_BACKTRACE": "full"}, "log.tracebacks", "full"),
        ({"SERVER_PORT": ""}, "server.port", 50051),
        ({"REDIS_URL": "redis://cache"}, "cache.redis_url", "redis://cache"),
        ({"REDIS_URL": "redis://cache"}, "cache.backend", "redis"),
        ({"REDIS_URL": "redis://a", "RAVEN_CACHE_REDIS_URL": "redis://b"}, "cache.redis_url", "redis://b"),
        ({"REDIS_URL": "redis://cache", "RAVEN_CACHE_BACKEND": "memory"}, "cache.backend", "memory"),
        ({"REDIS_URL": ""}, "cache.backend", "sqlite"),
    ],
)
def test_variables(environ: dict[str, str], key: str, value: object, tmp_path: Path) -> None:
    loaded = load_config(None, environ, directory=tmp_path)
    assert {row.key: row.value for row in loaded.rows()}[key] == value
    assert loaded.warnings == ()


@pytest.mark.parametrize("text", ["80a", "8.0", "1_000", " 80", "٣", "0x50", "tcp://10.0.0.1:80"])
def test_a_variable_that_is_no_number_is_named(text: str, tmp_path: Path) -> None:
    message = refusal(None, {"SERVER_PORT": text}, directory=tmp_path)
    assert message == f"environment SERVER_PORT: server.port: {text!a} is not valid: a whole number"


def test_a_value_that_a_validator_refuses_names_its_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", "[server]\nport = 70000\n[health]\nport = 1\n")
    assert refusal(path).startswith(f"{path}: server.port: 70000 is not valid")
    assert refusal(path, {"SERVER_PORT": "80000"}).startswith("environment SERVER_PORT: server.port: 80000 is not valid")
    assert refusal(path, {}, {"server.port": -1}).startswith("flag --port: server.port: -1 is not valid")
    assert load_config(path, {"SERVER_PORT": "80"}).value.server.port == 80


@pytest.mark.parametrize(
    "text",
    ["[server]\nprot = 1", "srever = 1", "[srever]\nport = 1", "server = 1", "[[feeds]]\nname = 'x'", "feeds = [1]"],
)
def test_an_error_of_the_file_names_the_file(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", text)
    assert refusal(path, {"SERVER_PORT": "80"}).startswith(f"{path}: ")


def test_broken_toml_names_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", "[server]\nport = \n")
    assert refusal(path) == f"{path}:2:8: this is no TOML: invalid value"
    path = write(tmp_path / "b.toml", 'a = """x')
    assert refusal(path).startswith(f"{path}: at its end: this is no TOML: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    assert "there is no such file" in refusal(tmp_path / "none.toml")
    assert "it cannot be read: " in refusal(tmp_path)
    assert "it is no UTF-8 text: byte 5 is 0xff" in refusal(tmp_path / "latin.toml")


def test_unknown_variables_are_warnings_with_the_nearest(tmp_path: Path) -> None:
    environ = {
        "RAVEN_SERVER_PROT": "1",
        "RAVEN_SERVER": "127.0.0.1:1",  # the client's
        "RAVEN_PURE": "1",  # of raven.speedups
        "RAVEN_PORT_50051_TCP_ADDR": "10.0.0.1",  # Kubernetes
        "RAVEN_SERVICE_HOST": "10.0.0.1",
        "INFLUXDB_URL": "http://x",
        "REDIS_URL": "redis://x",
    }
    (warning,) = load_config(None, environ, directory=tmp_path).warnings
    assert warning == (
        "environment RAVEN_SERVER_PROT: there is no such variable, it is ignored: did you mean 'RAVEN_SERVER_PORT'?"
    )


def test_feeds_are_rows_with_their_origin(tmp_path: Path) -> None:
    text = "[[feeds]]\nname='a'\nadapter='sim'\nsymbols=['X']\nkinds=['trade']\noptions.rate=3\n"
    path = write(tmp_path / "a.toml", text)
    loaded = load_config(path)
    told = origins(loaded)
    assert told["feeds[0].name"] == told["feeds[0].options.rate"] == str(path)
    assert told["feeds[0].intervals"] == "default"


def test_a_secret_is_not_in_the_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", "[log]\napi_token = 'hunter2'\n")
    message = refusal(path)
    assert "hunter2" not in message
    assert "log.api_token: '********' is not valid: there is no such key" in message


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("feeds[0].options.api_key", "abc", "********"),
        ("feeds[0].options.PASSWORD", 123, "********"),
        ("feeds[0].options.secret", None, None),
        ("feeds[0].options.token", "", ""),
        ("feeds[0].options.rest_url", "https://me:pw@host/x", "https://********@host/x"),
        ("feeds[0].options.urls", ["ws://u:p@h"], ["ws://********@h"]),
        (
            "cache.redis_url",
            "redis+sentinel://u:p@h/n?sentinel_password=x%40",
            "redis+sentinel://********@h/n?sentinel_password=********",
        ),
        ("log.keep", 5, 5),
        ("server.host", "a@b", "a@b"),
    ],
)
def test_what_is_hidden(key: str, value: object, shown: object) -> None:
    assert without_secrets(key, value) == shown


@given(st.text(max_size=8) | st.integers(-10, 70_000).map(str))
def test_any_text_in_a_variable_is_taken_or_refused_by_name(text: str) -> None:
    environ = {"RAVEN_SERVER_PORT": text}
    number = int(text) if re.fullmatch("[+-]?[0-9]+", text) else -1
    if not text or 0 <= number <= 65535:
        assert load_config(None, environ, directory=Path("/nowhere")).value.server.port == (number if text else 50051)
    else:
        assert refusal(None, environ, directory=Path("/nowhere")).startswith("environment RAVEN_SERVER_PORT: server.port: ")


def test_a_table_within_a_table_has_variables_and_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "raven.toml", "[server.tls]\ncert_file = 'a.pem'\nkey_file = 'b.pem'\n")
    loaded = load_config(path, {"RAVEN_SERVER_TLS_KEY_FILE": "/secrets/c.pem"})
    assert loaded.value.server.tls == TlsConfig(Path("a.pem"), Path("/secrets/c.pem"))
    assert loaded.warnings == ()
    assert origins(loaded)["server.tls.cert_file"] == str(path)
    assert origins(loaded)["server.tls.key_file"] == "environment RAVEN_SERVER_TLS_KEY_FILE"
    message = refusal(None, {"RAVEN_SERVER_TLS_CERT_FILE": "a.pem"}, directory=tmp_path / "empty")
    assert message.startswith("environment RAVEN_SERVER_TLS_CERT_FILE: server.tls.cert_file: 'a.pem' is not valid")


def test_a_variable_of_a_table_that_is_none_is_left_to_the_error(tmp_path: Path) -> None:
    path = write(tmp_path / "raven.toml", "[server]\ntls = 5\n")
    assert "server.tls: 5 is not valid: a table" in refusal(path, {"RAVEN_SERVER_TLS_KEY_FILE": "x"})


def test_who_says_where_redis_is_means_to_use_it(tmp_path: Path) -> None:
    path = write(tmp_path / "raven.toml", "[cache]\nredis_url = 'redis://cache'\n")
    loaded = load_config(path)
    assert loaded.value.cache.backend == "redis"
    assert origins(loaded)["cache.backend"] == str(path)
    told = origins(load_config(None, {"REDIS_URL": "redis://cache"}, directory=tmp_path / "empty"))
    assert told["cache.backend"] == told["cache.redis_url"] == "environment REDIS_URL"
    path = write(tmp_path / "raven.toml", "[cache]\nbackend = 'sqlite'\n")
    assert load_config(path, {"REDIS_URL": "redis://cache"}).value.cache.backend == "sqlite"


def test_a_url_of_redis_that_is_none_names_its_source_and_part_and_keeps_the_password(tmp_path: Path) -> None:
    message = refusal(None, {"REDIS_URL": "redis://me:hunter2@cache:port"}, directory=tmp_path)
    assert message.startswith("environment REDIS_URL: cache.redis_url: '********' is not valid: port: 'port' is not valid")
    path = write(tmp_path / "raven.toml", "[cache]\nbackend = 'redis'\n")
    assert "cache.redis_url: '' is not valid: the URL of Redis" in refusal(path)
