"""INFLUXDB_URL and its kin: one endpoint, beside or over what the file says, and never a secret in what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from raven.config import LoadedConfig, load_config
from raven.config.secrets import without_secrets
from raven.errors import ConfigError
from raven.store.config import HistoryConfig, InfluxConfig

URL = "http://influxdb:8086"
GUIDE = {
    "INFLUXDB_URL": URL,
    "INFLUXDB_DATABASE": "market_data",
    "INFLUXDB_USERNAME": "raven",
    "INFLUXDB_PASSWORD": "ravens_fly_at_dawn",
}


def load(tmp_path: Path, environ: dict[str, str], text: str = "") -> LoadedConfig:
    path = tmp_path / "raven.toml"
    path.write_text(text)
    return load_config(path, environ)


def origins(loaded: LoadedConfig) -> dict[str, str]:
    return {row.key: row.origin for row in loaded.rows()}


def test_the_guides_variables_make_an_endpoint(tmp_path: Path) -> None:
    loaded = load(tmp_path, GUIDE)
    assert loaded.value.history == HistoryConfig(
        backend="influxdb", influxdb=(InfluxConfig(URL, "market_data", "raven", "ravens_fly_at_dawn"),)
    )
    assert loaded.warnings == ()
    told = origins(loaded)
    assert told["history.backend"] == told["history.influxdb[0].url"] == "environment INFLUXDB_URL"
    assert told["history.influxdb[0].password"] == "environment INFLUXDB_PASSWORD"
    assert told["history.influxdb[0].timeout_s"] == "default"


def test_of_2x(tmp_path: Path) -> None:
    environ = {"INFLUXDB_URL": URL, "INFLUXDB_TOKEN": "t", "INFLUXDB_ORG": "o", "INFLUXDB_BUCKET": "b", "INFLUXDB_PASSWORD": ""}
    [endpoint] = load(tmp_path, environ).value.history.influxdb
    assert endpoint == InfluxConfig(URL, token="t", org="o", bucket="b")
    assert endpoint.endpoint == "influxdb-8086-b"


def test_nothing_is_said(tmp_path: Path) -> None:
    assert load(tmp_path, {"INFLUXDB_URL": ""}).value.history == HistoryConfig()


@pytest.mark.parametrize("backend", ["sqlite", "none"])
def test_the_file_says_which_history(tmp_path: Path, backend: str) -> None:
    history = load(tmp_path, GUIDE, f"[history]\nbackend = '{backend}'\n").value.history
    assert history.backend == backend
    assert len(history.influxdb) == 1


def test_one_more_beside_those_of_the_file(tmp_path: Path) -> None:
    text = "[[history.influxdb]]\nurl = 'http://archive'\ntoken = 'x'\n"
    loaded = load(tmp_path, GUIDE, text)
    assert [each.url for each in loaded.value.history.influxdb] == ["http://archive", URL]
    assert loaded.value.history.influxdb[0].username == ""


def test_over_the_one_of_the_file_that_has_the_url(tmp_path: Path) -> None:
    text = (
        f"[[history.influxdb]]\nurl = 'http://archive'\n[[history.influxdb]]\nurl = '{URL}/'\ntimeout_s = 3\npassword = 'old'\n"
    )
    loaded = load(tmp_path, GUIDE, text)
    [_, endpoint] = loaded.value.history.influxdb
    assert (endpoint.password, endpoint.timeout_s) == ("ravens_fly_at_dawn", 3.0)
    assert origins(loaded)["history.influxdb[1].timeout_s"].endswith("raven.toml")


def test_a_secret_for_the_only_endpoint_of_the_file(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"INFLUXDB_TOKEN": "t"}, f"[[history.influxdb]]\nurl = '{URL}'\n")
    assert loaded.value.history.influxdb[0].token == "t"
    assert loaded.value.history.backend == "sqlite"
    assert loaded.warnings == ()


@pytest.mark.parametrize("count", [0, 2])
def test_without_an_endpoint_that_is_meant_it_is_a_warning(tmp_path: Path, count: int) -> None:
    text = "".join(f"[[history.influxdb]]\nurl = 'http://{number}'\n" for number in range(count))
    loaded = load(tmp_path, {"INFLUXDB_TOKEN": "t", "INFLUXDB_ORG": "o"}, text)
    assert [each.token for each in loaded.value.history.influxdb] == [""] * count
    assert loaded.warnings == (
        f"environment INFLUXDB_TOKEN, INFLUXDB_ORG: ignored without INFLUXDB_URL: the file has {count} [[history.influxdb]]",
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("history = 5", "history: 5 is not valid"),
        ("[history]\ninfluxdb = 5", "history.influxdb: 5 is not valid"),
        ("[history]\ninfluxdb = [5]", "history.influxdb[0]: 5 is not valid"),
    ],
)
def test_what_is_no_table_is_left_to_the_error(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GUIDE, text)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("influxdb:8086", 'an address like "http://influxdb:8086"'),
        ("ftp://influxdb", "an address like"),
        ("http://", "an address like"),
        ("http://x:99999", "an address like"),
        ("http://x y", "an address like"),
        ("http://x?db=y", "an address like"),
        ("http://[::1", "an address like"),
        ("http://raven:hunter2@influxdb", "give username and password in keys of their own"),
        ("http://raven:hunter2@influxdb:port/", "give username and password in keys of their own"),
    ],
)
def test_a_url_that_is_none_names_its_source_and_tells_no_secret(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"INFLUXDB_URL": url})
    message = str(caught.value)
    assert message.startswith("environment INFLUXDB_URL: history.influxdb[0].url: ")
    assert told in message
    assert "hunter2" not in message


def test_names_are_valid_and_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 endpoints are called so"):
        load(tmp_path, {}, "[[history.influxdb]]\nurl='http://a'\n[[history.influxdb]]\nurl='http://a:80'\n")
    for name in ("../x", ".x", "a/b", "x" * 101):
        with pytest.raises(ConfigError, match=r"history\.influxdb\[0\]\.name"):
            load(tmp_path, {}, f"[[history.influxdb]]\nurl='http://a'\nname='{name}'\n")
    assert InfluxConfig("https://[::1]/x", bucket="a/b").endpoint == "__1-443-a_b"


def test_no_secret_is_shown(tmp_path: Path) -> None:
    loaded = load(tmp_path, {**GUIDE, "INFLUXDB_TOKEN": "hunter2"})
    shown = {row.key: without_secrets(row.key, row.value) for row in loaded.rows()}
    assert shown["history.influxdb[0].password"] == shown["history.influxdb[0].token"] == "********"
    assert "hunter2" not in repr(loaded.value)
    assert "ravens_fly" not in repr(loaded.value)
