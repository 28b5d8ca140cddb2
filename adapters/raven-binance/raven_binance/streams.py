"""One object per subscribed stream: the venue's messages of one symbol and kind in, events out.

`on_frame` is the busiest code of the package; it gets the whole combined-stream frame and decodes it once.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, ClassVar

from raven.adapter import Count, Output, Resync, Topic, columns
from raven.model.events import BookDelta, BookSnapshot, Event, Flag, Gap, GapCause, Quote, Side, StatusCause, Trade
from raven_binance.book_sync import BookSync, Delta, Snapshot
from raven_binance.wire import (
    MICROSECONDS_FROM,
    DepthReply,
    DepthUpdate,
    parse_book_ticker,
    parse_depth_update,
    parse_trade,
    time_ns,
)
from raven_binance.wire_usdm import UsdmDepthUpdate

__all__ = ["FOREIGN", "OTHER_BUSINESS", "REPEATED", "BookStream", "QuoteStream", "Stream", "TradeStream"]

# Enum members as globals: looking one up through its class costs as much as making the event's tuple.
BUY, SELL, SUSPECT, APPLY = Side.BUY, Side.SELL, int(Flag.SUSPECT_VALUE), Delta.APPLY
REPEATED = (Count("repeated_event"),)
FOREIGN = (Count("other_business"),)
OTHER_BUSINESS = 2  # USD-M's `st` for COIN-M, which is another market


class Stream(abc.ABC):
    """One stream and the topics that it feeds.

    Args:
        topic: where its events belong.
        venue_symbol: the venue's spelling.
        memory: kept from one connection to the next.
    """

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        self.topic = topic
        self.venue_symbol = venue_symbol
        self._memory = memory
        self._key = str(topic)

    @abc.abstractmethod
    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One combined-stream frame of this stream. Raises FrameError."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All that it feeds."""
        return (self.topic,)

    def join(self, topic: Topic) -> bool:
        """Feed this one too; False where the stream has nothing for it."""
        del topic
        return False

    def leave(self, topic: Topic) -> bool:
        """Feed this one no longer; whether nothing is left, and the stream is to be given up."""
        del topic
        return True

    def forget(self) -> None:
        """It is given up on purpose: what comes after a later subscription is not compared with what was before."""
        self._memory.pop(self._key, None)


class TradeStream(Stream):
    """`@trade`. Trade ids go up by one, so a jump is a hole, also over a reconnect; a repeated or older one is dropped."""

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        super().__init__(topic, venue_symbol, memory)
        self._expected: int | None = memory.get(self._key)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One trade."""
        message = parse_trade(frame)
        trade_id, stamp = message.trade_id, message.trade_time
        trade = Trade(message.price, message.size, SELL if message.buyer_is_maker else BUY, str(trade_id))
        venue_ts_ns = stamp * 1_000_000 if 0 < stamp < MICROSECONDS_FROM else time_ns(stamp)  # its first case, without a call
        event = Event(self.topic, trade, received_ts_ns, venue_ts_ns, 0 if message.price else SUSPECT)
        if trade_id != self._expected:
            return self._follow(trade_id, (event,), received_ts_ns)
        self._memory[self._key] = self._expected = trade_id + 1
        return (event,)

    def _follow(self, trade_id: int, outputs: tuple[Output, ...], received_ts_ns: int) -> Sequence[Output]:
        """`outputs` if this id is new, after a Gap if others were skipped."""
        expected = self._expected
        if trade_id != expected and expected is not None:
            if trade_id < expected:
                return REPEATED
            missed = Gap(GapCause.VENUE, missed=trade_id - expected)
            outputs = (Event(self.topic, missed, received_ts_ns), *outputs)
        self._memory[self._key] = self._expected = trade_id + 1
        return outputs


class QuoteStream(Stream):
    """`@bookTicker`. Spot says no time with it; its update id goes up, and what does not is dropped."""

    def __init__(self, topic: Topic, venue_symbol: str, memory: MutableMapping[str, Any]) -> None:
        super().__init__(topic, venue_symbol, memory)
        self._last_id: int = memory.get(self._key, -1)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One best bid and ask. Price 0 is how the venue writes an empty side: it becomes None. A crossed one is suspect."""
        message = parse_book_ticker(frame)
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        if message.update_id <= self._last_id:
            return REPEATED
        self._memory[self._key] = self._last_id = message.update_id
        quote = Quote(message.bid_price, message.bid_size, message.ask_price, message.ask_size)
        if not message.bid_price:
            quote.bid_price = quote.bid_size = None
        if not message.ask_price:
            quote.ask_price = quote.ask_size = None
        flags = SUSPECT if 0.0 < message.ask_price <= message.bid_price else 0
        return (Event(self.topic, quote, received_ts_ns, time_ns(message.transaction_time), flags),)


class BookStream(Stream):
    """`@depth` and the REST snapshots that belong to it.

    Args:
        fetch_snapshot: called when a snapshot is needed; what it returns becomes part of the outputs.
    """

    _read: ClassVar[staticmethod[[bytes], DepthUpdate | UsdmDepthUpdate]] = staticmethod(parse_depth_update)

    def __init__(
        self,
        topic: Topic,
        venue_symbol: str,
        memory: MutableMapping[str, Any],
        fetch_snapshot: Callable[[BookStream], list[Output]],
    ) -> None:
        super().__init__(topic, venue_symbol, memory)
        self._sync: BookSync[Event] = BookSync()
        self._fetch_snapshot = fetch_snapshot

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One delta: passed on exactly, or held until there is a snapshot."""
        message = self._read(frame)
        if message.business == OTHER_BUSINESS:
            return FOREIGN
        bid_price, bid_size = columns(message.bids)
        ask_price, ask_size = columns(message.asks)
        stamp = message.venue_time
        event = Event(
            self.topic,
            BookDelta(bid_price, bid_size, ask_price, ask_size, message.last_id),
            received_ts_ns,
            stamp * 1_000_000 if 0 < stamp < MICROSECONDS_FROM else time_ns(stamp),
            0 if all(bid_price) and all(ask_price) else SUSPECT,
        )
        before = self._sync.last_id
        verdict = self._sync.on_delta(message.previous_id, message.last_id, event)
        if verdict is APPLY:
            return (event,)
        if verdict is Delta.BROKEN:
            return [self._doubt(f"{message.begins} after u {before}"), *self._fetch_snapshot(self)]
        return REPEATED if verdict is Delta.REPEATED else ()

    def on_snapshot(self, reply: DepthReply, received_ts_ns: int) -> tuple[Snapshot, list[Output]]:
        """The answer to a snapshot's request; the session asks again when it was too old."""
        outcome, held = self._sync.on_snapshot(reply.last_id)
        if outcome is Snapshot.GIVE_UP:
            return outcome, [self._doubt(f"every snapshot was older than the deltas held, the last as of {reply.last_id}")]
        if outcome is not Snapshot.JOINED:
            return outcome, []
        (bid_price, bid_size), (ask_price, ask_size) = columns(reply.bids), columns(reply.asks)
        snapshot = BookSnapshot(bid_price, bid_size, ask_price, ask_size, reply.last_id)
        crossed = bid_price and ask_price and bid_price[0] >= ask_price[0]
        flags = SUSPECT if crossed or not all(bid_price) or not all(ask_price) else 0
        return outcome, [Event(self.topic, snapshot, received_ts_ns, time_ns(reply.transaction_time), flags), *held]

    def restart(self) -> None:
        """Forget the book and wait for a snapshot."""
        self._sync.restart()

    def _doubt(self, text: str) -> Resync:
        return Resync(self.topic, StatusCause.SEQUENCE_GAP, text)
