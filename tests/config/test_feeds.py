"""Feeds against adapters: topics, options, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any

import attrs
import pytest

from raven.adapter import Adapter, Capabilities, Connection, FeedSpec, Kind, Session, Topic
from raven.config import Config, FeedTable, ResolvedFeed, resolve_feeds
from raven.config.feeds import topics_of
from raven.errors import AdapterFault, ConfigError, InvalidValue
from raven.feed.plan import plan_connections


@attrs.frozen
class Options:
    """Two options and a validator."""

    rate: int = attrs.field(default=1)
    ws_url: str = "ws://x"

    @rate.validator
    def _check(self, attribute: attrs.Attribute[int], value: int) -> None:
        if value < 1:
            raise InvalidValue(attribute.name, value, "1 or more")


class Venue(Adapter):
    """Trades, books and candles; no symbol may be called BAD, and BUG meets a bug."""

    title = "Test venue"
    capabilities = Capabilities(frozenset({Kind.TRADE, Kind.BOOK, Kind.CANDLE}), ("1m", "5m"))
    options_type = Options

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        symbols = {topic.symbol for topic in feed.topics}
        if "BAD" in symbols:
            raise InvalidValue("symbols", "BAD", "a symbol of the venue")
        if feed.options.ws_url == "bad":
            raise InvalidValue("ws_url", "bad", "ws:// or wss://")
        if "BUG" in symbols:
            raise ZeroDivisionError("oops")
        return [Connection("main", feed.options.ws_url, feed.topics)]

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        return Session()


class Plain(Venue):
    """No books, no candles, and an old contract beside it."""

    capabilities = Capabilities(frozenset({Kind.TRADE}))


class Old(Venue):
    api = 0


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    monkeypatch.setitem(sys.modules, "raven_test_venue", sys.modules[__name__])
    targets = {"venue": "Venue", "plain": "Plain", "old": "Old", "gone": "Missing"}
    return [EntryPoint(name, f"raven_test_venue:{target}", "raven.adapters") for name, target in targets.items()]


def feed(**change: Any) -> FeedTable:
    return FeedTable(**{"name": "v", "adapter": "venue", "symbols": ("A", "B"), "kinds": ("trade",)} | change)


def resolve(
    points: list[EntryPoint], *feeds: FeedTable, provenance: Mapping[str, str] | None = None
) -> tuple[ResolvedFeed, ...]:
    return resolve_feeds(Config(feeds=feeds), provenance or {}, points)


def refusal(points: list[EntryPoint], table: FeedTable, **named: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(points, table, **named)
    return str(caught.value)


def test_topics_are_symbols_by_kinds_by_intervals(points: list[EntryPoint]) -> None:
    (one,) = resolve(points, feed(kinds=("candle", "trade"), intervals=("1m", "5m"), options={"rate": 7}))
    assert one.spec.topics == tuple(
        Topic("v", symbol, kind, variant)
        for symbol in ("A", "B")
        for kind, variant in ((Kind.TRADE, ""), (Kind.CANDLE, "1m"), (Kind.CANDLE, "5m"))
    )
    assert one.spec.options == Options(rate=7)
    assert (one.entry.name, one.book_top) == ("venue", False)
    assert isinstance(one.adapter, Venue)


@pytest.mark.parametrize("kinds", [("book_top",), ("book", "book_top")])
def test_book_tops_carry_the_books_that_they_come_from(kinds: tuple[str, ...], points: list[EntryPoint]) -> None:
    (one,) = resolve(points, feed(kinds=kinds))
    assert one.book_top
    assert {topic.kind for topic in one.spec.topics} == {Kind.BOOK}


def test_intervals_do_not_matter_without_candles(points: list[EntryPoint]) -> None:
    assert resolve(points, feed(intervals=("9h",)), feed(name="w", adapter="plain"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            feed(adapter="vanue"),
            "feeds[0].adapter: 'vanue' is not valid: no installed package offers it: did you mean 'venue'?",
        ),
        (
            feed(kinds=("trade", "quote")),
            "feeds[0].kinds[1]: 'quote' is not valid: adapter 'venue' has trade, book, book_top, candle",
        ),
        (feed(adapter="plain", kinds=("book_top",)), "feeds[0].kinds[0]: 'book_top' is not valid: adapter 'plain' has trade"),
        (
            feed(kinds=("candle",), intervals=("1m", "1h")),
            "feeds[0].intervals[1]: '1h' is not valid: adapter 'venue' has 1m, 5m",
        ),
        (feed(kinds=("candle",), intervals=()), "feeds[0].intervals: [] is not valid: candles need at least one of 1m, 5m"),
        (feed(options={"rat": 1}), "feeds[0].options.rat: 1 is not valid: there is no such key: did you mean 'rate'?"),
        (feed(options={"rate": "1"}), "feeds[0].options.rate: '1' is not valid: a whole number"),
        (feed(options={"rate": 0}), "feeds[0].options.rate: 0 is not valid: 1 or more"),
        (feed(options={"ws_url": "bad"}), "feeds[0].options.ws_url: 'bad' is not valid: ws:// or wss://"),
        (feed(symbols=("BAD",)), "feeds[0].symbols: 'BAD' is not valid: a symbol of the venue"),
    ],
)
def test_what_an_adapter_cannot_do_is_refused_by_name(table: FeedTable, message: str, points: list[EntryPoint]) -> None:
    assert refusal(points, table) == message


def test_a_refusal_names_the_file(points: list[EntryPoint]) -> None:
    provenance = {"feeds[0].options.rate": "raven.toml"}
    assert refusal(points, feed(options={"rate": 0}), provenance=provenance).startswith("raven.toml: feeds[0].options.rate")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (feed(adapter="old"), "is written for adapter API 0, this Raven has 1"),
        (feed(adapter="gone"), "fails to import: AttributeError"),
        (feed(symbols=("BUG",)), "cannot plan feeds[0] ('v'): ZeroDivisionError: oops"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_said_in_one_line_and_the_rest_is_there(
    table: FeedTable, message: str, points: list[EntryPoint]
) -> None:
    refused, other = resolve(points, table, feed(name="w"))
    assert message in refused.refused
    assert "\n" not in refused.refused
    assert refused.spec.topics == topics_of(table)
    with pytest.raises(AdapterFault) as caught:
        plan_connections(refused.adapter, refused.spec)
    assert str(caught.value) == refused.refused
    assert (other.refused, type(other.adapter)) == ("", Venue)


def test_the_default_feed_is_one_that_the_simulated_venue_can_do() -> None:
    (one,) = resolve_feeds(Config())
    assert one.entry.distribution == "raven-sim"
    assert one.book_top
    assert {topic.symbol for topic in one.spec.topics} == {"BTC-USDT", "ETH-USDT", "SOL-USDT"}
