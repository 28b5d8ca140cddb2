"""The contract between Raven and an adapter.

An adapter is one object, offered by a package under the entry-point group `raven.adapters`. It says what it can do, divides a
feed's topics among connections, and makes a session for each connection. A session is sans-IO: it gets what arrived and
returns what is to happen. It has no clock, no socket, no file and no task, so its tests are literals in and literals out.

The core does the rest: it connects, reads in bulk, answers pings, paces what is sent, fetches, keeps the clock, restarts with
backoff, gives topics their sequence and status, keeps the books.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs
import trio

from raven.adapter.outputs import Fetch, Output, Reply
from raven.model.topic import Kind, Topic

__all__ = [
    "ADAPTER_API",
    "Adapter",
    "Capabilities",
    "Connection",
    "Emulator",
    "EmulatorOptions",
    "FeedSpec",
    "NoOptions",
    "Session",
]

ADAPTER_API = 1
"""The level of this contract. It goes up when an adapter that was written for the level before would break."""


@attrs.frozen
class NoOptions:
    """The options of an adapter that has none."""


@attrs.frozen
class Capabilities:
    """What an adapter can do. `raven adapters` shows it, and a feed's configuration is held against it.

    Args:
        kinds: the kinds that it feeds. BOOK_TOP is not among them: the core derives it from BOOK.
        intervals: the candle intervals ("1m"); empty without CANDLE.
    """

    kinds: frozenset[Kind]
    intervals: tuple[str, ...] = ()


@attrs.frozen
class FeedSpec:
    """What one feed is to carry.

    Args:
        name: the feed's name, which is the venue in its topics.
        topics: what it carries now, without BOOK_TOP.
        options: an instance of the adapter's `options_type`.
    """

    name: str
    topics: tuple[Topic, ...]
    options: Any


@attrs.frozen
class Connection:
    """One connection of a feed.

    Args:
        name: short, unique within the feed, the same at each call for the same part ("main", "public"): it is a metric label.
        url: the WebSocket address; None for a session that lives from wakeups alone (a simulated venue).
        topics: the part of the feed's topics that this connection carries.
        headers: sent with the WebSocket handshake.
        idle_timeout_s: with nothing received for so long, pings included, the connection is given up as dead; choose twice what
            the venue's slowest sign of life takes. Of no effect without a url.
        sends_per_s_max: the venue's limit on incoming messages.
        frame_bytes_max: a longer message ends the connection.
    """

    name: str
    url: str | None
    topics: tuple[Topic, ...]
    headers: Mapping[str, str] = attrs.field(factory=dict)
    idle_timeout_s: float = 60.0
    sends_per_s_max: float = 5.0
    frame_bytes_max: int = 16 * 1024 * 1024


class Session(abc.ABC):
    """An adapter's state for one connection, from connect to disconnect. Every method returns outputs and does nothing else.

    A method may raise `raven.errors.FrameError` for a frame that it cannot understand: the frame is counted, sampled in the
    log with its text, and skipped. Any other exception is a bug of the adapter: the connection is restarted, and after five
    in a minute the feed is parked.
    """

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        """The connection stands. Usually returns the subscribe messages and the first fetches.

        Args:
            now_ns: wall clock.
        """
        return ()

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One whole WebSocket message arrived. The busiest method there is.

        Args:
            frame: its payload; a text message as its UTF-8 bytes.
            received_ts_ns: when the read that brought it returned, wall clock. Several frames of one read share it.
        """
        return ()

    def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
        """A Fetch of this session was answered, or failed."""
        return ()

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        """The time of a Wakeup has come.

        Args:
            now_ns: wall clock; it may jump.
        """
        return ()

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        """Carry these topics too. Called while the connection stands; asking for a topic that it carries changes nothing."""
        return ()

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        """Carry these topics no longer.

        The core also calls it, and `on_subscribe` at once after it, to renew a book that is in doubt: it must then begin with a
        new snapshot.
        """
        return ()


@attrs.frozen
class EmulatorOptions:
    """What `raven emulate` was asked for.

    Args:
        frames: recorded frames, one a line: receipt time in ns, a space, the raw text; gzip by its name. None = generated.
        speed: 1 = the pace of the recording, 10 = ten times that, 0 = flat out.
        host: the address to listen on.
        port: of the WebSocket; 0 = any free one.
        rest_port: of the REST endpoint; 0 = any free one.
        seed: of the generator.
        loop: begin again at the end of the frames.
    """

    frames: Path | None = None
    speed: float = 1.0
    host: str = "127.0.0.1"
    port: int = 0
    rest_port: int = 0
    seed: int = 1
    loop: bool = False


class Emulator(Protocol):
    """A venue that speaks the venue's own protocol on this machine, from recorded or generated frames."""

    async def run(
        self, options: EmulatorOptions, *, task_status: trio.TaskStatus[Mapping[str, str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled.

        Reports started with the adapter's options that lead to it (`{"ws_url": "ws://127.0.0.1:9443", ...}`).

        Raises:
            StartupError: a port is taken or the frames cannot be read.
        """


class Adapter(abc.ABC):
    """One venue protocol. An instance, or the class itself, stands at the entry point; it has no state."""

    api: ClassVar[int] = ADAPTER_API
    """The level of the contract that it was written for: write the number, so that a later Raven can tell."""

    title: ClassVar[str] = ""
    """For people: "Binance spot"."""

    capabilities: ClassVar[Capabilities]

    example_symbol: ClassVar[str] = "BTC-USDT"
    """A symbol that the venue has, for examples that are meant to be pasted."""

    options_type: ClassVar[type] = NoOptions
    """A frozen attrs class; each attribute is one key of `[feeds.options]`, with its type, default and validators."""

    @abc.abstractmethod
    def connections(self, feed: FeedSpec) -> Sequence[Connection]:
        """Divide the topics of a feed among connections. Pure.

        Raises:
            InvalidValue: an option or a topic cannot be; naming it.
        """

    @abc.abstractmethod
    def session(self, feed: FeedSpec, connection: Connection, memory: MutableMapping[str, Any]) -> Session:
        """A new session for one connection of a feed.

        Args:
            feed: the whole feed.
            connection: one of those that `connections` returned.
            memory: what sessions of this connection leave for the next one, to know a repeated event again (the last trade id
                of each symbol). Empty at first, kept while the feed runs, never stored.
        """

    def emulator(self) -> Emulator | None:
        """The venue's emulator, if the package has one. Import what it needs in here, not at the top."""
        return None
