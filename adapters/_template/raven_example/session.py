"""One connection to Example venue. No socket, no clock: frames in, outputs out."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from raven.adapter import Count, Established, Event, Kind, Output, Reconnect, Refused, Resync, Send, Session, Topic
from raven.model.events import Quote, Side, StatusCause, Trade
from raven_example.wire import Closing, QuoteFrame, RefusedFrame, Subscribed, TradeFrame, decode, request

__all__ = ["ExampleSession"]

CHANNELS = {Kind.TRADE: "trades", Kind.QUOTE: "quotes"}
SIDES = {"buy": Side.BUY, "sell": Side.SELL}


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
        self._followed: set[str] = set()  # markets whose ids this connection has seen without a hole

    def on_connect(self, now_ns: int) -> Sequence[Output]:  # noqa: ARG002
        return [Send(request("subscribe", self._topics))] if self._topics else []

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        message = decode(frame)
        match message:
            case TradeFrame():
                return self._on_trade(message, received_ts_ns)
            case QuoteFrame():
                return self._on_quote(message, received_ts_ns)
            case Subscribed() if message.channel in self._topics:
                return [Established([self._topics[message.channel]])]
            case RefusedFrame() if message.channel in self._topics:
                return [Refused(self._topics.pop(message.channel), message.reason)]
            case Closing():
                return [Reconnect("the venue will close the connection", planned=True)]
        return []  # a heartbeat, or the answer to what was dropped meanwhile

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        new = {channel_of(topic): topic for topic in topics if channel_of(topic) not in self._topics}
        self._topics |= new
        return [Send(request("subscribe", new))] if new else []

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        gone = [channel for channel in map(channel_of, topics) if self._topics.pop(channel, None)]
        self._followed -= {channel.partition(".")[2] for channel in gone if channel.startswith("trades.")}
        return [Send(request("unsubscribe", gone))] if gone else []

    def _on_trade(self, frame: TradeFrame, received_ts_ns: int) -> Sequence[Output]:
        topic = self._topics.get(f"trades.{frame.market}")
        if topic is None:
            return [Count("unknown_topic")]
        last = self._last_ids.get(frame.market, 0)
        if frame.id <= last:
            return [Count("repeated_event")]
        trade = Trade(frame.price, frame.size, SIDES[frame.taker], str(frame.id))
        event = Event(topic, trade, received_ts_ns, frame.time_ms * 1_000_000)
        missed = frame.market in self._followed and frame.id > last + 1
        self._last_ids[frame.market] = frame.id
        self._followed.add(frame.market)
        return [Resync(topic, StatusCause.SEQUENCE_GAP, f"trade {frame.id} after {last}"), event] if missed else [event]

    def _on_quote(self, frame: QuoteFrame, received_ts_ns: int) -> Sequence[Output]:
        topic = self._topics.get(f"quotes.{frame.market}")
        if topic is None:
            return [Count("unknown_topic")]
        return [Event(topic, Quote(*frame.bid, *frame.ask), received_ts_ns)]  # the venue gives no time, so there is none
