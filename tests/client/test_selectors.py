"""What users of the client library write, as what the contract has."""

from __future__ import annotations

import pytest

from raven.client import parse_target, selector
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue


def test_a_topic_with_kinds_in_one_text_or_in_several() -> None:
    expected = v1.TopicSelector("sim", "BTC-*", [v1.Kind.TRADE, v1.Kind.BOOK_TOP], "20")
    assert selector("sim/BTC-*", "trade, book_top", "20") == expected
    assert selector("sim/BTC-*", ["trade", "book_top"], "20") == expected


@pytest.mark.parametrize(
    ("where", "kinds", "error"),
    [
        ("BTC-USDT", "trade", "topics: 'BTC-USDT' is not valid: venue/symbol"),
        ("Sim/BTC-USDT", "trade", "venue: 'Sim' is not valid"),
        ("sim/btc", "trade", "symbol: 'btc' is not valid"),
        ("sim/*", "trades", "kinds: 'trades' is not valid: did you mean 'trade'?"),
    ],
)
def test_what_cannot_be_is_named(where: str, kinds: str, error: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        selector(where, kinds)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("localhost:50051", "localhost", 50051),
        ("example", "example", 50051),
        (":6000", "localhost", 6000),
        ("[::1]:6000", "::1", 6000),
        ("::1", "::1", 50051),
    ],
)
def test_targets(target: str, host: str, port: int) -> None:
    assert parse_target(target) == (host, port)


@pytest.mark.parametrize("target", ["localhost:x", "localhost:0", "localhost:99999"])
def test_a_target_without_a_port_that_can_be_is_refused(target: str) -> None:
    with pytest.raises(InvalidValue, match=r"server: .* is not valid: host:port"):
        parse_target(target)
