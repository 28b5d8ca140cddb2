"""From the feeds that a configuration asks for to adapters, checked options and topics. Imports the adapters, opens nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import attrs

from raven.adapter import (
    Adapter,
    AdapterEntry,
    Capabilities,
    Connection,
    FeedSpec,
    Kind,
    NoOptions,
    Session,
    Topic,
    find_adapters,
)
from raven.adapter.registry import check_adapter
from raven.config.sources import located
from raven.config.tables import Config, FeedTable
from raven.errors import AdapterRefused, ConfigError, InvalidValue, nearest
from raven.structure import structure

__all__ = ["ResolvedFeed", "resolve_feeds"]


@attrs.frozen
class ResolvedFeed:
    """A feed that can be started.

    Args:
        spec: what the adapter gets: name, topics without BOOK_TOP, options.
        adapter: imported and checked.
        entry: where it came from.
        reader: which library reads its WebSockets.
        book_top: whether the core derives BOOK_TOP from the feed's books. The books are carried then, asked for or not.
        refused: why the adapter cannot be used, in one line; empty when it can. Something stands in for it then, which
            refuses whatever it is asked, so that the feed is parked and the others start.
    """

    spec: FeedSpec
    adapter: Adapter
    entry: AdapterEntry
    book_top: bool
    reader: Literal["websockets", "trio-websocket"] = "websockets"
    refused: str = ""


def resolve_feeds(
    config: Config,
    provenance: Mapping[str, str] = MappingProxyType({}),
    points: Iterable[EntryPoint] | None = None,
) -> tuple[ResolvedFeed, ...]:
    """The feeds of `config`, in order, each held against its adapter; also those whose adapter is there and cannot be used.

    Args:
        provenance: of a LoadedConfig, so that errors name the file.
        points: entry points that stand in for what is installed.

    Raises:
        ConfigError: no such adapter, or it cannot do a kind or an interval, or refuses an option or a topic.
    """
    entries = find_adapters(points)
    try:
        return tuple(_resolve(feed, f"feeds[{index}]", entries) for index, feed in enumerate(config.feeds))
    except ConfigError as error:
        raise located(error, provenance) from error.__cause__


def _resolve(feed: FeedTable, path: str, entries: Mapping[str, AdapterEntry]) -> ResolvedFeed:
    if feed.adapter not in entries:
        what = f"no installed package offers it: {nearest(feed.adapter, entries)}"
        raise ConfigError(f"{path}.adapter", feed.adapter, what)
    entry = entries[feed.adapter]
    try:
        return _resolve_by(feed, path, entry, check_adapter(entry))
    except AdapterRefused as error:
        spec, text = FeedSpec(feed.name, topics_of(feed), NoOptions()), str(error)
        return ResolvedFeed(spec, _Refused(feed, text), entry, Kind.BOOK_TOP in feed.kind_set, feed.reader, text)


def _resolve_by(feed: FeedTable, path: str, entry: AdapterEntry, adapter: Adapter) -> ResolvedFeed:
    _check_kinds(feed, path, adapter)
    _check_intervals(feed, path, adapter)
    options: Any = structure(adapter.options_type, feed.options, f"{path}.options")
    spec = FeedSpec(feed.name, topics_of(feed), options)
    _check_plan(spec, path, adapter, entry)
    return ResolvedFeed(spec, adapter, entry, book_top=Kind.BOOK_TOP in feed.kind_set, reader=feed.reader)


class _Refused(Adapter):
    """Stands in for an adapter that cannot be used: it can all that is asked of it, until it is asked to do it."""

    title: ClassVar[str] = "refused"
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset())

    def __init__(self, feed: FeedTable, text: str) -> None:
        self.capabilities = Capabilities(_carried(feed.kind_set), feed.intervals)  # type: ignore[misc]  # of this feed alone
        self._text = text

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        del feed
        raise AdapterRefused(self._text)

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        del feed, connection, memory
        raise AdapterRefused(self._text)


def topics_of(feed: FeedTable) -> tuple[Topic, ...]:
    """What the adapter is to carry: symbols x kinds, a candle topic for each interval; BOOK for BOOK_TOP."""
    return tuple(
        Topic(feed.name, symbol, kind, variant)
        for symbol in feed.symbols
        for kind in sorted(_carried(feed.kind_set))
        for variant in (feed.intervals if kind is Kind.CANDLE else ("",))
    )


def _carried(kinds: frozenset[Kind]) -> frozenset[Kind]:
    return kinds - {Kind.BOOK_TOP} | {Kind.BOOK} if Kind.BOOK_TOP in kinds else kinds


def offered_kinds(adapter: Adapter) -> frozenset[Kind]:
    """The kinds that a feed of this adapter may ask for: its own, and BOOK_TOP where it has books."""
    own = adapter.capabilities.kinds
    return own | {Kind.BOOK_TOP} if Kind.BOOK in own else own


def _check_kinds(feed: FeedTable, path: str, adapter: Adapter) -> None:
    offered = offered_kinds(adapter)
    for index, label in enumerate(feed.kinds):
        if Kind[label.upper()] not in offered:
            able = ", ".join(kind.label for kind in sorted(offered))
            raise ConfigError(f"{path}.kinds[{index}]", label, f"adapter {feed.adapter!r} has {able}")


def _check_intervals(feed: FeedTable, path: str, adapter: Adapter) -> None:
    if Kind.CANDLE not in feed.kind_set:
        return
    able = adapter.capabilities.intervals
    if not feed.intervals:
        raise ConfigError(f"{path}.intervals", [], f"candles need at least one of {', '.join(able)}")
    for index, interval in enumerate(feed.intervals):
        if interval not in able:
            raise ConfigError(f"{path}.intervals[{index}]", interval, f"adapter {feed.adapter!r} has {', '.join(able)}")


def _check_plan(spec: FeedSpec, path: str, adapter: Adapter, entry: AdapterEntry) -> None:
    """Ask the adapter for its connections, so that what it refuses is refused at the start, not in the middle of it."""
    try:
        adapter.connections(spec)
    except InvalidValue as error:
        raise ConfigError(*_placed(error, path, spec.options)) from error
    except Exception as error:
        raise AdapterRefused(
            f"adapter {entry.name!r} of {entry.distribution} {entry.version} cannot plan {path} ({spec.name!r}): "
            f"{type(error).__name__}: {error}"
        ) from error


def _placed(error: InvalidValue, path: str, options: Any) -> tuple[str, object, str]:
    """The error's field as the file has it: an adapter says "ws_url" for feeds[0].options.ws_url."""
    keys = {field.name for field in attrs.fields(type(options))}
    within = f"{path}.options" if error.field.partition(".")[0] in keys else path
    seen = error.within(within)
    return seen.field, seen.value, seen.expected
