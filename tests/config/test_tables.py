"""The tables of raven.toml: what is valid, and what the errors say."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from raven.config import Config, FeedTable
from raven.errors import ConfigError
from raven.model.topic import Kind
from raven.structure import structure

FEED: dict[str, Any] = {"name": "sim", "adapter": "sim", "symbols": ["BTC-USDT"], "kinds": ["trade"]}


def refusal(table: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        structure(Config, table)
    return str(caught.value)


def test_the_defaults_are_those_of_the_guide() -> None:
    config = Config()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 50051)
    assert (config.health.port, config.metrics.port) == (8080, 9090)
    assert [feed.name for feed in config.feeds] == ["sim"]


def test_every_default_passes_its_own_validators() -> None:
    assert structure(Config, attrs.asdict(Config())) == Config()


def test_health_and_metrics_listen_where_grpc_does_unless_they_say_otherwise() -> None:
    config = structure(Config, {"server": {"host": "0.0.0.0"}, "metrics": {"host": "::1"}})
    assert (config.health_host, config.metrics_host) == ("0.0.0.0", "::1")


def test_no_feeds_are_no_feeds() -> None:
    assert structure(Config, {"feeds": []}).feeds == ()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"server": {"prot": 1}}, "server.prot: 1 is not valid: there is no such key: did you mean 'port'?"),
        ({"sever": {}}, "sever: {} is not valid: there is no such key: did you mean 'server'?"),
        ({"server": 5}, "server: 5 is not valid: a table"),
        ({"server": {"port": "80"}}, "server.port: '80' is not valid: a whole number"),
        ({"server": {"port": True}}, "server.port: True is not valid: a whole number"),
        ({"server": {"port": 65536}}, "server.port: 65536 is not valid: 0 to 65535 (0 = any free port)"),
        ({"server": {"drain_s": -1}}, "server.drain_s: -1.0 is not valid: 0 or more"),
        ({"server": {"heartbeat_s": 0}}, "server.heartbeat_s: 0.0 is not valid: more than 0"),
        ({"server": {"stall_s": float("nan")}}, "server.stall_s: nan is not valid: more than 0"),
        ({"server": {"drain_s": float("inf")}}, "server.drain_s: inf is not valid: 0 or more"),
        ({"server": {"reflection": "yes"}}, "server.reflection: 'yes' is not valid: valid are auto, off, on"),
        ({"server": {"connections_max": 0}}, "server.connections_max: 0 is not valid: 1 or more"),
        ({"server": {"streams_max": 0}}, "server.streams_max: 0 is not valid: 1 or more"),
        ({"server": {"handshake_s": 0}}, "server.handshake_s: 0.0 is not valid: more than 0"),
        ({"server": {"keepalive_s": -1}}, "server.keepalive_s: -1.0 is not valid: more than 0"),
        ({"server": {"keepalive_timeout_s": float("inf")}}, "server.keepalive_timeout_s: inf is not valid: more than 0"),
        ({"server": {"tls": True}}, "server.tls: True is not valid: a table"),
        ({"server": {"tls": {"cert_file": 5}}}, "server.tls.cert_file: 5 is not valid: a path"),
        (
            {"server": {"tls": {"cert": "x"}}},
            "server.tls.cert: 'x' is not valid: there is no such key: did you mean 'cert_file'?",
        ),
        (
            {"server": {"tls": {"cert_file": "x"}}},
            "server.tls.cert_file: 'x' is not valid: set key_file as well, TLS needs both; or neither",
        ),
        (
            {"server": {"tls": {"key_file": "x"}}},
            "server.tls.key_file: 'x' is not valid: set cert_file as well, TLS needs both; or neither",
        ),
        ({"server": {"host": "http://x"}}, "server.host: 'http://x' is not valid: an address or host name"),
        ({"log": {"level": "loud"}}, "log.level: 'loud' is not valid: 'loud' is no level; valid are critical, debug"),
        ({"log": {"level": "inf"}}, "did you mean 'info'?"),
        ({"history": {"keep_bytes": 10}}, "history.keep_bytes: 10 is not valid: 1048576 or more"),
        ({"history": {"commit_s": 0}}, "history.commit_s: 0.0 is not valid: 0.05 to 60"),
        ({"log": {"keep": 0}}, "log.keep: 0 is not valid: 1 or more"),
    ],
)
def test_a_bad_section_names_key_value_and_what_is_valid(table: dict[str, Any], message: str) -> None:
    assert message in refusal(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Binance"}, "feeds[0].name: 'Binance' is not valid: 1 to 32 of a-z"),
        ({"symbols": []}, "feeds[0].symbols: [] is not valid: at least one symbol"),
        ({"symbols": ["ETH-USDT", "btc/usdt"]}, "feeds[0].symbols[1]: 'btc/usdt' is not valid"),
        ({"symbols": ["btc/usdt"]}, "did you mean 'BTC-USDT'?"),
        ({"symbols": ["£"]}, "feeds[0].symbols[0]: '\\xa3' is not valid: 1 to 64 of A-Z"),
        ({"symbols": ["A", "A"]}, "feeds[0].symbols: 'A' is not valid: it stands there 2 times"),
        ({"symbols": "BTC-USDT"}, "feeds[0].symbols: 'BTC-USDT' is not valid: an array"),
        ({"kinds": ["trades"]}, "feeds[0].kinds[0]: 'trades' is not valid: did you mean 'trade'?"),
        ({"kinds": []}, "feeds[0].kinds: [] is not valid: at least one kind"),
        ({"kinds": ["trade", "TRADE"]}, "feeds[0].kinds: 'trade' is not valid: it stands there 2 times"),
        ({"intervals": ["1 m"]}, "feeds[0].intervals[0]: '1 m' is not valid"),
        ({"intervals": [""]}, "feeds[0].intervals[0]: '' is not valid: an interval"),
        ({"option": {}}, "feeds[0].option: {} is not valid: there is no such key: did you mean 'options'?"),
    ],
)
def test_a_bad_feed_names_its_place(change: dict[str, Any], message: str) -> None:
    assert message in refusal({"feeds": [FEED | change]})


def test_a_feed_needs_its_adapter() -> None:
    feed = {key: value for key, value in FEED.items() if key != "adapter"}
    assert "feeds[0].adapter: None is not valid: the key is needed" in refusal({"feeds": [feed]})


def test_two_feeds_may_not_share_a_name() -> None:
    message = refusal({"feeds": [FEED, FEED | {"name": "other"}, FEED]})
    assert message == "feeds[2].name: 'sim' is not valid: another name: feeds[0] has this one, and it is the venue"


def test_kinds_may_be_written_in_any_case() -> None:
    feed = structure(FeedTable, FEED | {"kinds": ["Trade", "BOOK_TOP"]})
    assert feed.kind_set == {Kind.TRADE, Kind.BOOK_TOP}
