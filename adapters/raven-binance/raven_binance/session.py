"""One connection to Binance, sans-IO: what arrived in, what is to happen out.

The connection goes to the combined-stream address with nothing on it and subscribes by message. A book's snapshot is asked for
when the venue has confirmed its stream, so that no delta can fall between the two. Meanwhile `exchangeInfo` tells whether the
venue knows the symbols at all: a SUBSCRIBE for an unknown one, or on USD-M over the wrong path, is answered like any other, and
then nothing comes. So each stream has a deadline for its first message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET

from raven.adapter import (
    Catalogue,
    Count,
    Established,
    Fetch,
    Kind,
    Output,
    Reconnect,
    Refused,
    Reply,
    Session,
    Topic,
)
from raven.errors import FrameError, InvalidValue
from raven.model.instrument import Instrument
from raven_binance.book_sync import Snapshot
from raven_binance.listing import PURPOSE as INSTRUMENTS
from raven_binance.listing import Listing
from raven_binance.market import Market, StreamKind
from raven_binance.polls import FUNDING_INFO, OPEN_INTEREST, FundingIntervals, OpenInterestPolls, silent_event
from raven_binance.rest import RestQueue
from raven_binance.schedule import SECOND_NS, Schedule
from raven_binance.streams import BookStream, Stream
from raven_binance.subscriptions import LIST, UNSUBSCRIBE, Request, Requests
from raven_binance.symbols import PERPETUAL
from raven_binance.wire import ControlMessage, ErrorBody, parse_control, parse_depth_reply, parse_error

__all__ = ["ANSWER_DEADLINE_S", "BinanceSession"]

ANSWER_DEADLINE_S = 30.0  # to SUBSCRIBE; what is paced out by the venue's 5 messages a second is in it
FIRST_DATA_S = 60.0  # after its confirmation; a stream that is silent then is in doubt and is subscribed once more
PROBE_AFTER_S = 5.0  # with nothing received for so long the venue is asked something, to tell a quiet market from a dead line
PROBE_ANSWER_S = 5.0  # which it has to answer within this
SNAPSHOT_PAUSE_S = 1.0  # before asking again after a snapshot that was too old
GAVE_UP_PAUSE_S = 300.0  # before a book that was given up is tried anew
LISTING_EVERY_S = 3600.0  # how often the instruments are asked for while the connection stands
DEPTH = "depth:"
SHUTDOWN = "serverShutdown"
NAME_FROM = len(b'{"stream":"')
UNKNOWN_SYMBOL = -1121


class BinanceSession(Session):
    """One connection of a feed.

    Args:
        market: which of the venue's markets.
        venue: the feed's name.
        topics: what the connection carries at first.
        rest_url: the base address, without a path.
        depth_limit: levels a side in a book's snapshot.
        all_instruments: ask for every instrument that the venue lists, not only for those of the topics.
        open_interest_s: how often open interest is asked for.
        memory: kept from one connection to the next.
    """

    def __init__(
        self,
        market: Market,
        venue: str,
        topics: Sequence[Topic],
        *,
        rest_url: str,
        depth_limit: int,
        all_instruments: bool = False,
        open_interest_s: float = 30.0,
        memory: MutableMapping[str, Any],
    ) -> None:
        self._market = market
        self._first_topics = tuple(topics)
        self._rest_url = rest_url
        self._depth_limit = depth_limit
        self._all_instruments = all_instruments
        self._memory = memory
        self._carried: dict[Topic, str] = {}  # to the venue's symbol
        self._streams: dict[str, Stream] = {}  # by stream name
        self._on_frame_of: dict[bytes, Callable[[bytes, int], Sequence[Output]]] = {}
        self._silent: set[str] = set()  # streams of which nothing has come yet
        self._doubted: set[str] = set()  # those of them whose topics were said to be stale
        self._standing: set[str] = set()  # streams that the venue has confirmed
        self._heard_ns = 0  # when the last message came
        self._left: set[str] = set()  # unsubscribed streams whose last frames may still come
        self._requests = Requests()
        self._schedule = Schedule()
        self._rest = RestQueue(self._schedule, market.weight_per_s, market.burst_weight)
        self._listing = Listing(venue, market, rest_url, self._rest)
        interest_url, funding_url = rest_url + market.open_interest_path, rest_url + market.funding_info_path
        self._interest = OpenInterestPolls(interest_url, open_interest_s, self._rest, self._schedule, memory)
        self._intervals = FundingIntervals(funding_url, self._rest, self._schedule, memory)
        self._on_reply_to: Mapping[str, Callable[[Fetch, Reply], list[Output]]] = {
            DEPTH: self._on_depth,
            INSTRUMENTS: self._on_listing,
            OPEN_INTEREST: self._on_interest,
            FUNDING_INFO: self._intervals.on_reply,
        }
        self._now_ns = 0

    # What the runner calls.

    def on_connect(self, now_ns: int) -> Sequence[Output]:
        """Subscribe to everything, and ask for the instruments."""
        self._now_ns = self._heard_ns = now_ns
        outputs = self._carry(self._first_topics)
        if self._all_instruments:
            outputs += self._listing.ask_all(now_ns)
        self._schedule.put("listing", now_ns, round(LISTING_EVERY_S * SECOND_NS), self._ask_again)
        self._schedule.put("probe", now_ns, round(PROBE_AFTER_S * SECOND_NS), self._probe)
        return self._with_wakeup(outputs)

    def on_frame(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        """One message. The stream's name is found by its place; only then is the frame decoded, once, as what it is."""
        self._now_ns = self._heard_ns = received_ts_ns
        on_frame = self._on_frame_of.get(frame[NAME_FROM : frame.find(b'"', NAME_FROM)])
        if on_frame is not None:
            return on_frame(frame, received_ts_ns)
        return self._on_other(frame, received_ts_ns)

    def on_reply(self, request: Fetch, reply: Reply) -> Sequence[Output]:
        """A snapshot or a listing came, or did not."""
        self._now_ns = reply.received_ts_ns
        if not self._rest.wanted(request.purpose):
            return ()
        on_reply = self._on_reply_to[request.purpose[: request.purpose.index(":") + 1]]
        return self._with_wakeup(on_reply(request, reply))

    def on_wakeup(self, now_ns: int) -> Sequence[Output]:
        """Do what has come due."""
        self._now_ns = now_ns
        outputs = [output for action in self._schedule.due(now_ns) for output in action(now_ns)]
        return self._with_wakeup(outputs)

    def on_subscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        """Carry these too; those that it carries already change nothing."""
        return self._with_wakeup(self._carry(topics))

    def on_unsubscribe(self, topics: Sequence[Topic]) -> Sequence[Output]:
        """Carry these no longer; those that it does not carry change nothing."""
        carried = [topic for topic in dict.fromkeys(topics) if topic in self._carried]
        return self._with_wakeup(self._leave(carried))

    # Topics come and go.

    def _carry(self, topics: Iterable[Topic]) -> list[Output]:
        known = set(self._carried.values())
        fresh = [topic for topic in dict.fromkeys(topics) if topic not in self._carried]
        outputs: list[Output] = []
        names: list[str] = []
        for topic in fresh:
            try:
                name = self._add(topic)
            except InvalidValue as error:
                outputs.append(Refused(topic, str(error)))
                continue
            if name is None:
                continue
            if name in self._standing:  # of another topic, and now of this one too
                outputs.append(Established([topic]))
            elif name not in names and self._streams[name].topic == topic:
                names.append(name)
        outputs += self._send(self._requests.subscribe(names))
        new = [symbol for symbol in dict.fromkeys(self._carried.values()) if symbol not in known]
        return outputs + self._listing.ask(new, self._now_ns) + self._start_polls(fresh)

    def _add(self, topic: Topic) -> str | None:
        """Take `topic` in; its stream's name, if it has one. Raises InvalidValue."""
        symbol = self._market.check(topic)
        if topic.kind is Kind.FUNDING and not topic.symbol.partition(":")[0].endswith(f"-{PERPETUAL}"):
            raise InvalidValue("symbols", topic.symbol, "only a perpetual has funding")
        name = self._market.stream_name(topic)
        if name is not None:
            stream = self._streams.get(name)
            if stream is None:
                self._open(name, topic, symbol)
            elif not stream.join(topic):
                raise InvalidValue("symbol", topic.symbol, f"the venue's {symbol} is {stream.topic.symbol} already")
        self._carried[topic] = symbol
        return name

    def _open(self, name: str, topic: Topic, symbol: str) -> None:
        kind = self._market.streams[topic.kind]
        self._streams[name] = kind.make(topic, symbol, self._memory, self._fetch_snapshot)
        self._on_frame_of[name.encode()] = partial(self._on_first_frame, name)
        self._silent.add(name)
        self._left.discard(name)

    def _start_polls(self, fresh: Iterable[Topic]) -> list[Output]:
        carried = [topic for topic in fresh if topic in self._carried]
        outputs: list[Output] = []
        if self._market.funding_info_path and any(topic.kind is Kind.FUNDING for topic in carried):
            outputs += self._intervals.start(self._now_ns)
        for topic in carried:
            if topic.kind is Kind.OPEN_INTEREST:
                outputs += self._interest.start(topic, self._carried[topic], self._now_ns)
        return outputs

    def _leave(self, topics: Iterable[Topic]) -> list[Output]:
        names = [name for topic in topics for name in self._remove(topic)]
        return self._send(self._requests.unsubscribe(names))

    def _remove(self, topic: Topic) -> list[str]:
        """Let go of `topic`; its stream's name, if nothing else needs it."""
        symbol = self._carried.pop(topic)
        name = self._market.stream_name(topic)
        if name is None:
            if topic.kind is Kind.OPEN_INTEREST:
                self._interest.stop(topic, symbol)
            return []
        stream = self._streams[name]
        if not stream.leave(topic):
            return []
        stream.forget()
        if isinstance(stream, BookStream):
            self._rest.done(DEPTH + symbol)
            self._schedule.drop(f"anew:{symbol}")
        del self._streams[name], self._on_frame_of[name.encode()]
        for names in (self._silent, self._doubted, self._standing):
            names.discard(name)
        self._left.add(name)
        return [name]

    def _send(self, requests: Iterable[Request]) -> list[Output]:
        outputs: list[Output] = []
        for request in requests:
            wait_s = PROBE_ANSWER_S if request.method == LIST else ANSWER_DEADLINE_S
            give_up = partial(_no_answer, request, wait_s)
            self._schedule.put(f"answer:{request.id}", self._now_ns, round(wait_s * SECOND_NS), give_up)
            outputs.append(request.message)
        return outputs

    # Messages that are not of a stream, or the first of one.

    def _on_first_frame(self, name: str, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        stream = self._streams[name]
        self._on_frame_of[name.encode()] = stream.on_frame
        self._silent.discard(name)
        if name in self._doubted and isinstance(stream, BookStream):  # only a snapshot makes a book live again
            stream.restart()
            return [*stream.on_frame(frame, received_ts_ns), *self._fetch_snapshot(stream)]
        return stream.on_frame(frame, received_ts_ns)

    def _on_other(self, frame: bytes, received_ts_ns: int) -> Sequence[Output]:
        message = parse_control(frame)
        if message.event == SHUTDOWN or message.stream == f"!{SHUTDOWN}":
            return [Reconnect("the venue will close this connection (serverShutdown)", planned=True)]
        if message.stream is not None:
            on_frame = self._on_frame_of.get(message.stream.encode())  # its keys came in another order
            if on_frame is not None:
                return on_frame(frame, received_ts_ns)
            return () if message.stream in self._left else [Count("unknown_message")]
        if message.refusal is not None or message.result is not UNSET:
            return self._with_wakeup(self._on_answer(message))
        return [Count("unknown_message")]

    def _on_answer(self, message: ControlMessage) -> list[Output]:
        request = self._requests.answered(message.id)
        if request is None:
            return [Count("unmatched_answer")]
        self._schedule.drop(f"answer:{request.id}")
        if message.refusal is not None:
            return self._on_refusal(request, message.refusal)
        if request.subscribes:
            return self._confirmed(request)
        if request.method == UNSUBSCRIBE:
            self._left.difference_update(request.streams)
        return []

    def _confirmed(self, request: Request) -> list[Output]:
        names = [name for name in request.streams if name in self._streams and name not in self._standing]
        if not names:
            return []
        self._standing.update(names)
        self._after_deadline(request, self._doubt_silent, names)
        outputs: list[Output] = [Established([topic for name in names for topic in self._streams[name].topics])]
        for name in names:
            stream = self._streams[name]
            if isinstance(stream, BookStream):
                outputs += self._fetch_snapshot(stream)
        return outputs

    # Silence and the line.

    def _after_deadline(self, request: Request, action: Callable[[Sequence[str]], list[Output]], names: Sequence[str]) -> None:
        wait_ns = round(FIRST_DATA_S * SECOND_NS)
        self._schedule.put(f"heard:{request.id}", self._now_ns, wait_ns, lambda _: action(names))

    def _doubt_silent(self, names: Sequence[str]) -> list[Output]:
        """Say that what is silent is stale, and subscribe once more: the venue confirms any name, on any path."""
        silent = [name for name in names if name in self._silent and not self._kind_of(name).rare]
        if not silent:
            return []
        self._doubted.update(silent)
        text = f"nothing came within {FIRST_DATA_S:g} s of the venue's confirmation"
        topics = [topic for name in silent for topic in self._streams[name].topics]
        requests = self._requests.subscribe(silent)
        for request in requests:
            self._after_deadline(request, self._give_up_silent, request.streams)
        stale = [silent_event(topic, text, self._now_ns) for topic in topics]
        return [Count("silent_stream", len(silent)), *stale, *self._send(requests)]

    def _give_up_silent(self, names: Sequence[str]) -> list[Output]:
        """Make a new connection if this one never gave anything, though something of it should come in any market."""
        nothing_came = len(self._silent) == len(self._streams)
        if nothing_came and any(self._kind_of(name).steady for name in names if name in self._silent):
            return [Count("silent_connection"), Reconnect("no stream of this connection ever gave anything")]
        return []

    def _kind_of(self, name: str) -> StreamKind:
        return self._market.streams[self._streams[name].topic.kind]

    def _probe(self, now_ns: int) -> list[Output]:
        """Ask the venue something if nothing was received for a while: its answer, or none, tells whether the line is dead.

        A request that waits for its answer does as well, and has a deadline of its own.
        """
        quiet_ns, wait_ns = now_ns - self._heard_ns, round(PROBE_AFTER_S * SECOND_NS)
        self._schedule.put("probe", now_ns, wait_ns - quiet_ns if 0 <= quiet_ns < wait_ns else wait_ns, self._probe)
        return self._send([self._requests.probe()]) if quiet_ns >= wait_ns and not self._requests.waiting else []

    def _on_refusal(self, request: Request, error: ErrorBody) -> list[Output]:
        if not request.subscribes:
            return [Count("unsubscribe_refused")] if request.method == UNSUBSCRIBE else []
        if len(request.streams) > 1:
            return self._send(self._requests.halves(request))
        topics = [topic for name in request.streams if name in self._streams for topic in self._streams[name].topics]
        for topic in topics:
            self._remove(topic)
        return [Refused(topic, f"{error.msg} (code {error.code})") for topic in topics]

    # Answers over REST.

    def _fetch_snapshot(self, stream: BookStream) -> list[Output]:
        url = f"{self._rest_url}{self._market.depth_path}?symbol={stream.venue_symbol}&limit={self._depth_limit}"
        fetch = Fetch(url, DEPTH + stream.venue_symbol, stream.topic)
        weight = self._market.depth_weights[self._depth_limit]
        return self._with_wakeup(self._rest.ask(fetch, weight, self._now_ns))

    def _on_interest(self, request: Fetch, reply: Reply) -> list[Output]:
        if reply.status == 400 and parse_error(reply.body).code == UNKNOWN_SYMBOL:
            return self._refuse(request.purpose.removeprefix(OPEN_INTEREST), parse_error(reply.body).msg)
        return self._interest.on_reply(request, reply)

    def _on_depth(self, request: Fetch, reply: Reply) -> list[Output]:
        stream = self._book_of(request.topic)
        if reply.status == 400 and parse_error(reply.body).code == UNKNOWN_SYMBOL:
            return self._refuse(stream.venue_symbol, parse_error(reply.body).msg)
        if not reply.ok:
            return self._rest.failed(request.purpose, reply)
        try:
            depth = parse_depth_reply(reply.body)
        except FrameError:
            return [Count("unreadable_reply"), *self._rest.failed(request.purpose, reply)]
        outcome, outputs = stream.on_snapshot(depth, reply.received_ts_ns)
        if outcome is Snapshot.TOO_OLD:
            return [Count("old_snapshot"), *self._rest.again(request.purpose, reply.received_ts_ns, SNAPSHOT_PAUSE_S)]
        self._rest.done(request.purpose)
        if outcome is Snapshot.GIVE_UP:
            self._give_up(stream)
        return outputs

    def _give_up(self, stream: BookStream) -> None:
        """After `book_sync.SNAPSHOT_TRIES_MAX` old snapshots the venue is not to be bothered for a while."""

        def anew(_: int) -> list[Output]:
            stream.restart()
            return self._fetch_snapshot(stream)

        self._schedule.put(f"anew:{stream.venue_symbol}", self._now_ns, round(GAVE_UP_PAUSE_S * SECOND_NS), anew)

    def _on_listing(self, request: Fetch, reply: Reply) -> list[Output]:
        answer = self._listing.on_reply(request, reply)
        outputs: list[Output] = list(answer.outputs)
        if answer.unusable:
            outputs.append(Count("unusable_symbol", answer.unusable))
        if answer.changed:
            outputs.append(Catalogue(answer.changed, reply.received_ts_ns))
        outputs += self._matched(answer.listed)
        for symbol, text in answer.unlisted.items():
            outputs += self._refuse(symbol, text)
        return outputs

    def _matched(self, listed: Mapping[str, Instrument]) -> list[Output]:
        """Hold the topics against what the venue lists: "BT-CUSDT" reaches its BTCUSDT and must not be fed from it."""
        outputs: list[Output] = []
        established = []
        for topic, symbol in list(self._carried.items()):
            instrument = listed.get(symbol)
            if instrument is not None and instrument.symbol != topic.symbol:
                outputs += self._refuse_topics([topic], f"the venue's {symbol} is {instrument.symbol}")
            elif instrument is not None and topic.kind is Kind.INSTRUMENT:
                established.append(topic)
        return [*outputs, Established(established)] if established else outputs

    def _refuse(self, symbol: str, text: str) -> list[Output]:
        return self._refuse_topics([topic for topic, of in self._carried.items() if of == symbol], text)

    def _refuse_topics(self, topics: Sequence[Topic], text: str) -> list[Output]:
        return [*(Refused(topic, text) for topic in topics), *self._leave(topics)]

    def _ask_again(self, now_ns: int) -> list[Output]:
        self._schedule.put("listing", now_ns, round(LISTING_EVERY_S * SECOND_NS), self._ask_again)
        return self._listing.ask(tuple(dict.fromkeys(self._carried.values())), now_ns)

    def _book_of(self, topic: Topic | None) -> BookStream:
        stream = self._streams[self._market.stream_name(topic) or ""] if topic else None
        assert isinstance(stream, BookStream)  # `done` was called when it left
        return stream

    def _with_wakeup(self, outputs: list[Output]) -> list[Output]:
        return outputs + self._schedule.wakeup(self._now_ns)


def _no_answer(request: Request, wait_s: float, _: int) -> list[Output]:
    return [Reconnect(f"no answer to {request.method} {request.id} within {wait_s:g} s")]
