from __future__ import annotations

import math

import pytest

from raven.adapter import FeedSpec, Kind, Topic, find_adapters, load_adapter
from raven.errors import InvalidValue
from raven_sim import SimAdapter, SimOptions


def feed(*topics: Topic) -> FeedSpec:
    return FeedSpec("sim", topics, SimOptions())


def test_found_by_its_entry_point() -> None:
    assert find_adapters()["sim"].distribution == "raven-sim"
    assert isinstance(load_adapter("sim"), SimAdapter)


def test_one_connection_without_an_address() -> None:
    topics = (Topic("sim", "BTC-USDT", Kind.TRADE), Topic("sim", "BTC-USDT", Kind.CANDLE, "5m"))
    (connection,) = SimAdapter().connections(feed(*topics))
    assert connection.url is None
    assert connection.topics == topics
    assert connection.idle_timeout_s == math.inf


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (Topic("sim", "BTCUSDT", Kind.TRADE), "symbols: 'BTCUSDT' is not valid: BASE-QUOTE"),
        (Topic("sim", "BTC-USDT", Kind.FUNDING), "kinds: 'funding' is not valid: valid are book, candle, "),
        (Topic("sim", "BTC-USDT", Kind.CANDLE, "7m"), "intervals: '7m' is not valid: valid are 1s, 1m, 5m, 1h"),
        (Topic("sim", "BTC-USDT", Kind.BOOK, "20"), "variant: '20' is not valid: none: book has no variants here"),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(topic: Topic, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        SimAdapter().connections(feed(topic))
    assert str(caught.value).startswith(message)


def test_sessions_do_not_share_their_numbers() -> None:
    adapter, spec = SimAdapter(), feed(Topic("sim", "BTC-USDT", Kind.BOOK))
    (connection,) = adapter.connections(spec)
    memory: dict[str, object] = {}
    first = adapter.session(spec, connection, memory).on_connect(1)
    assert adapter.session(spec, connection, memory).on_connect(1) == first
    assert memory == {}
