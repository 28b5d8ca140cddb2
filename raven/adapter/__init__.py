"""The contract for adapter authors, and the registry that finds what they publish.

Everything an author needs is here and in `raven.model`; `docs/writing-an-adapter.md` walks through it.
"""

from raven.adapter.columns import columns
from raven.adapter.contract import (
    ADAPTER_API,
    Adapter,
    Capabilities,
    Connection,
    Emulator,
    EmulatorOptions,
    FeedSpec,
    NoOptions,
    Session,
)
from raven.adapter.outputs import (
    Catalogue,
    Count,
    Established,
    Fetch,
    Output,
    Reconnect,
    Refused,
    Reply,
    Resync,
    Send,
    Wakeup,
)
from raven.adapter.registry import GROUP, AdapterEntry, find_adapters, load_adapter
from raven.errors import FrameError
from raven.model.events import Event
from raven.model.topic import Kind, Topic

__all__ = [
    "ADAPTER_API",
    "GROUP",
    "Adapter",
    "AdapterEntry",
    "Capabilities",
    "Catalogue",
    "Connection",
    "Count",
    "Emulator",
    "EmulatorOptions",
    "Established",
    "Event",
    "FeedSpec",
    "Fetch",
    "FrameError",
    "Kind",
    "NoOptions",
    "Output",
    "Reconnect",
    "Refused",
    "Reply",
    "Resync",
    "Send",
    "Session",
    "Topic",
    "Wakeup",
    "columns",
    "find_adapters",
    "load_adapter",
]
