"""Raven's adapter for Example venue. Entry point `example`."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, ClassVar

import attrs

from raven.adapter import Adapter, Capabilities, Connection, FeedSpec, Kind, Session
from raven.errors import InvalidValue
from raven_example.session import ExampleSession

__all__ = ["ExampleAdapter", "ExampleOptions"]


def _check_url(_: object, field: attrs.Attribute[str], value: str) -> None:
    if not value.startswith(("ws://", "wss://")):
        raise InvalidValue(field.name, value, "an address that begins with ws:// or wss://")


@attrs.frozen
class ExampleOptions:
    """The keys of `[feeds.options]`.

    Args:
        ws_url: where the venue listens.
    """

    ws_url: str = attrs.field(default="wss://stream.example.invalid/v1", validator=_check_url)


class ExampleAdapter(Adapter):
    """Trades and quotes of Example venue."""

    api: ClassVar[int] = 1  # the number itself, so that a later Raven can tell
    title: ClassVar[str] = "Example venue"
    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({Kind.TRADE, Kind.QUOTE}))
    options_type: ClassVar[type] = ExampleOptions

    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        """One connection for everything. The venue shows life every 10 s and takes 5 messages a second."""
        return (Connection("main", feed.options.ws_url, feed.topics, idle_timeout_s=20.0, sends_per_s_max=5.0),)

    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:  # noqa: ARG002
        """A session for that connection."""
        return ExampleSession(connection.topics, memory)
