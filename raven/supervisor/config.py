"""What the supervisor is told: the restart policy, and a feed as the configuration asks for it."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt

from raven.adapter.contract import Adapter, FeedSpec
from raven.feed.transport import DEFAULT_READER, Reader

__all__ = ["ConfiguredFeed", "SupervisorConfig"]


@attrs.frozen
class SupervisorConfig:
    """The restart policy.

    Args:
        backoff_base_s, backoff_cap_s: the longest first pause before a new connection, and the longest of all; see
            `raven.feed.backoff`.
        stable_s: with a connection that brought data for so long, the outage before it is over.
        faults_max: so many adapter faults within `fault_window_s` park the feed.
    """

    backoff_base_s: float = attrs.field(default=0.25, validator=gt(0))
    backoff_cap_s: float = attrs.field(default=30.0, validator=gt(0))
    stable_s: float = attrs.field(default=10.0, validator=ge(0))
    faults_max: int = attrs.field(default=5, validator=ge(1))
    fault_window_s: float = attrs.field(default=60.0, validator=gt(0))


@attrs.frozen
class ConfiguredFeed:
    """One feed as the configuration asks for it.

    Args:
        adapter_name: its entry point; `adapter_version`: of the package that offers it.
        book_top: whether the broker derives BOOK_TOP from its books.
        reader: which implementation reads its WebSockets.
    """

    spec: FeedSpec
    adapter: Adapter
    adapter_name: str
    adapter_version: str
    book_top: bool = False
    reader: Reader = DEFAULT_READER
