"""One connection to Example venue. No socket, no clock: frames in, outputs out."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

from raven.adapter import Count, Established, Event, Kind, Output, Reconnect, Refused, Resync, Send, Session, Topic, Wakeup
from raven.model.events import Quote, Side, StatusCause, Trade
from raven_example.wire import Closing, QuoteFrame, RefusedFrame, Subscribed, TradeFrame, decode, request

__all__ = ["ExampleSession"]

CHANNELS = {Kind.TRADE: "trades", Kind.QUOTE: "quotes"}
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
LOOK_EVERY_NS = 5_000_000_000
LOOKS_MAX = 2  # the venue answers within a second, or never: it does not refuse every name that it does not know
REPEATED_MAX = 1_000  # an id that is further behind the last one is no repeat: the venue began anew


def channel_of(topic: Topic) -> str:
    """The venue's name of a topic: "trades.BTCUSD"."""
    return f"{CHANNELS[topic.kind]}.{topic.symbol.replace('-', '')}"


class ExampleSession(Session):
    """Subscribes, and turns trades and quotes into events.

    Args:
        memory: "last_ids" keeps the last trade id of each market, to know a trade again that the next connection repeats.
    """

    def __init__(self, topics: Sequence[Topic], memory: MutableMapping[str, Any]) -> None:
        self._topics = {channel_of(topic): topic for topic in topics}
        self._last_ids: dict[str, int] = memory.setdefault("last_ids", {})
        self._followed: set[str] = set()  # markets of which this connection has seen a trade
        self._unanswered: dict[str, int] = {}  # channels that were asked for, and how often we have looked since

    def on_connect(self, now_ns: int) -> Sequence[Output]:  # noqa: ARG002
        return self._ask(self._topics)

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:  # noqa: ARG002
        """A channel that is neither confirmed nor refused after a while would be silent for ever: say so, and let it go."""
        self._unanswered = {channel: looks + 1 for channel, looks in self._unanswered.items()}
        silent = [channel for channel, looks in self._unanswered.items() if looks >= LOOKS_MAX]
        for channel in silent:
            del self._unanswered[channel]
        refused = [Refused(self._topics.pop(channel), "the venue did not answer") for channel in silent]
        return [*refused, Wakeup(LOOK_EVERY_NS)] if self._unanswered else refused

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        message = decode(frame)
        match message:
            case TradeFrame():
                return self._on_trade(message, received_ts_ns)
            case QuoteFrame():
                return self._on_quote(message, received_ts_ns)
            case Subscribed() if message.channel in self._topics:
                self._unanswered.pop(message.channel, None)
                return [Established([self._topics[message.channel]])]
            case RefusedFrame() if message.channel in self._topics:
                self._unanswered.pop(message.channel, None)
                return [Refused(self._topics.pop(message.channel), message.reason)]
            case Closing():
                return [Reconnect("the venue will close the connection", planned=True)]
        return []  # a heartbeat, or the answer to what was dropped meanwhile

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        new = {channel_of(topic): topic for topic in topics if channel_of(topic) not in self._topics}
        self._topics |= new
        return self._ask(new)

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        gone = [channel for channel in map(channel_of, topics) if self._topics.pop(channel, None)]
        for channel in gone:
            self._unanswered.pop(channel, None)
        self._followed -= {channel.partition(".")[2] for channel in gone if channel.startswith("trades.")}
        return [Send(request("unsubscribe", gone))] if gone else []

    def _ask(self, channels: Iterable[str]) -> Sequence[Output]:
        asked = dict.fromkeys(channels, 0)
        self._unanswered |= asked
        return [Send(request("subscribe", asked)), Wakeup(LOOK_EVERY_NS)] if asked else []

    def _on_trade(self, frame: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        topic = self._topics.get(f"trades.{frame.market}")
        if topic is None:
            return [Count("unknown_topic")]
        last = self._last_ids.get(frame.market, 0)
        if last - REPEATED_MAX <= frame.id <= last:
            return [Count("repeated_event")]
        trade = Trade(frame.price, frame.size, SIDES[frame.taker], str(frame.id))
        event = Event(topic, trade, received_ts_ns, frame.time_ms * 1_000_000)
        missed = frame.market in self._followed and frame.id != last + 1
        self._last_ids[frame.market] = frame.id
        self._followed.add(frame.market)
        return [Resync(topic, StatusCause.SEQUENCE_GAP, f"trade {frame.id} after {last}"), event] if missed else [event]

    def _on_quote(self, frame: QuoteFrame, received_ts_ns: int) -> Sequence[Output]:
        topic = self._topics.get(f"quotes.{frame.market}")
        if topic is None:
            return [Count("unknown_topic")]
        return [Event(topic, Quote(*frame.bid, *frame.ask), received_ts_ns)]  # the venue gives no time, so there is none
