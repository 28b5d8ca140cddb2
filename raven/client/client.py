"""The client, the same on Trio and asyncio. `connect` of `raven.client.aio` or `raven.client.trio` makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from types import MappingProxyType

from raven.client.backoff import Reconnect
from raven.client.books import Books, BookStream
from raven.client.buffer import BUFFER_MAX, Buffer, check_on_slow
from raven.client.changes import Change
from raven.client.core import Reader, StreamCore
from raven.client.decode import Decoder
from raven.client.errors import ServerUnavailable, error_of_status
from raven.client.events import StreamEvent
from raven.client.feed import Feed
from raven.client.history import HistoryStream, Time, history_request, open_history
from raven.client.link import dial as dial_grpc
from raven.client.runtime import Address, CallOver, Dial, Dialler, Link, Runtime, reason_of
from raven.client.selectors import selector
from raven.client.streams import BatchStream, EventStream, RecordStream
from raven.client.wishes import POLICIES, Wishes, subscription_message
from raven.codec.generated.raven import v1
from raven.errors import InvalidValue
from raven.model.topic import Kind, Topic

__all__ = ["Client"]

REQUEST_TIMEOUT_S = 10.0
IDLE_MAX_S = 10.0
"""A connection that was not used for so long is not used again: the server may have given it up."""

PAGE_SIZE = 1_000
MARKET_DATA, CONTROL = "/raven.v1.MarketDataService/", "/raven.v1.ControlService/"

Kinds = str | Iterable[str]
OnChange = Callable[[Change], None]
Places = Mapping[Topic, tuple[int, int]]
"""Of topics the epoch and the sequence of the last event that is known."""

NOWHERE: Places = MappingProxyType({})


class Client:
    """Calls to one server. Each stream has a connection of its own; other calls share one."""

    def __init__(self, runtime: Runtime, address: Address, reconnect: Reconnect, dial: Dialler | None = None) -> None:
        self.target = str(address)
        self._runtime = runtime
        self._reconnect = reconnect
        self._dial_anew: Dial = partial(dial, runtime) if dial else partial(dial_grpc, runtime, address, reconnect.connect_s)
        self._idle: tuple[Link, float] | None = None

    async def open(self) -> None:
        """Make sure that a server answers.

        Raises:
            ServerUnavailable: none does.
        """
        link = await self._link()
        await self._give_back(link)

    async def aclose(self) -> None:
        """Close what is idle. Streams end with the client's block."""
        if self._idle is not None:
            link, self._idle = self._idle[0], None
            await link.aclose()

    # ---- streams

    def stream(
        self,
        *topics: str,
        kinds: Kinds = "trade",
        variant: str = "",
        images: bool = True,
        conflate_ms: int = 0,
        server_on_slow: str = "",
        on_slow: str = "wait",
        buffer_max: int = BUFFER_MAX,
        client_id: str = "",
        bookmark: bytes = b"",
        after: Places = NOWHERE,
        on_change: OnChange | None = None,
    ) -> EventStream:
        """Events of all matching topics, in order, across broken connections.

        Args:
            topics: "venue/symbol", see `raven.client.selector`; none = everything ("*/*").
            kinds: of what; labels, or one text with commas. A topic that names its kind ("sim/BTC-USDT/trade") has that one.
            variant: see `selector`.
            images: whether the latest state of each topic comes first.
            conflate_ms: at most one event per topic in so many ms, merged by the server; 0 = every event.
            server_on_slow: what the server does when this client does not read: "" (its default), "disconnect", "drop_oldest",
                "conflate".
            on_slow: what this program does with more than `buffer_max` events that it has not taken: "wait" (read no further),
                "error" (raise BufferOverflow), "drop_oldest" (a GapEvent says what), "conflate" (the newest of each topic).
            client_id: empty = the server makes one. A second stream with the same one ends the first.
            bookmark: of an earlier stream (`EventStream.bookmark`), to go on behind it.
            after: of each topic the epoch and sequence of the last event that is known, to go on behind them: those of
                `HistoryStream.places` lead from what was kept into what comes. Without effect where there is a bookmark.
            on_change: told what becomes of the connection (`raven.client.Connected`, `Lost`, `Moving` ...).

        Raises, when it is read:
            SubscriptionRefused: the server will not give it.
            StreamEnded: the server does not want this client back; see raven.client.errors.
            ServerUnavailable: there was no stream for `Reconnect.give_up_s`.
            BufferOverflow: see `on_slow`.
        """
        messages = self._wanted(topics, kinds, variant, images, conflate_ms, server_on_slow)
        buffer = Buffer(buffer_max, check_on_slow(on_slow, _kinds_of(messages)))
        core = self._core(Wishes(messages, covered=bool(bookmark)), client_id, bookmark)
        core.tracker.go_on(after)
        return EventStream(BatchStream(Feed(core, buffer, self._runtime, self._dial, on_change), buffer, self._runtime))

    def batches(
        self,
        *topics: str,
        kinds: Kinds = "trade",
        variant: str = "",
        images: bool = True,
        conflate_ms: int = 0,
        server_on_slow: str = "",
        on_slow: str = "wait",
        buffer_max: int = BUFFER_MAX,
        client_id: str = "",
        bookmark: bytes = b"",
        after: Places = NOWHERE,
        on_change: OnChange | None = None,
    ) -> BatchStream:
        """The same, as `Batch`es of what came together. Arguments and errors as of `stream`."""
        return self.stream(
            *topics,
            kinds=kinds,
            variant=variant,
            images=images,
            conflate_ms=conflate_ms,
            server_on_slow=server_on_slow,
            on_slow=on_slow,
            buffer_max=buffer_max,
            client_id=client_id,
            bookmark=bookmark,
            after=after,
            on_change=on_change,
        ).batches

    def record_batches(
        self,
        *topics: str,
        kinds: Kinds = "trade",
        images: bool = False,
        server_on_slow: str = "",
        buffer_max: int = BUFFER_MAX * 16,
        client_id: str = "",
        bookmark: bytes = b"",
        on_change: OnChange | None = None,
    ) -> RecordStream:
        """Trades and quotes as Arrow record batches, in order; between them, what is no trade and no quote, as events.

        It needs the extra "arrow" (pyarrow, numpy). Arguments and errors as of `stream`, with on_slow="wait".
        """
        try:
            from raven.client.arrow import record_stream
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error}: record_batches needs pyarrow and numpy, the extra 'arrow': pip install pyarrow numpy"
            ) from error

        messages = self._wanted(topics, kinds, "", images, 0, server_on_slow)
        core = partial(self._core, Wishes(messages, covered=bool(bookmark)), client_id, bookmark)
        return record_stream(core, self._runtime, self._dial, buffer_max, on_change)

    def book(self, topic: str, *, on_change: OnChange | None = None) -> BookStream:
        """The whole order book of "venue/SYMBOL", kept up to date here.

        async with client.book("sim/BTC-USDT") as book:
            async for _ in book:
                print(book.best_bid, book.best_ask, book.in_doubt)

        It is never behind what has arrived, and a reader that is slow misses changes, not state. Errors as of `stream`.

        Raises:
            InvalidValue: `topic` is a pattern; `books` takes those.
        """
        venue, _, symbol = topic.removesuffix("/book").partition("/")
        wanted = selector(f"{venue}/{symbol}", "book")
        if venue == "*" or symbol.endswith("*"):
            raise InvalidValue("topic", topic, "one venue and symbol; client.books(...) takes patterns")
        return BookStream(self._books([wanted], on_change), Topic(venue, symbol, Kind.BOOK))

    def books(self, *topics: str, on_change: OnChange | None = None) -> Books:
        """The order books of all matching topics: iterate for each that has changed, or look them up by "venue/SYMBOL"."""
        return self._books([selector(topic, "book") for topic in topics or ("*/*",)], on_change)

    def _books(self, wanted: Sequence[v1.TopicSelector], on_change: OnChange | None) -> Books:
        core = self._core(Wishes(subscription_message(one) for one in wanted), "", b"")
        return Books(core, self._runtime, self._dial, on_change)

    def history(
        self,
        *topics: str,
        kinds: Kinds = "trade",
        variant: str = "",
        start: Time | None = None,
        end: Time | None = None,
        limit: int = 0,
        include_image: bool = False,
        speed: float = 0.0,
        clock: str = "received",
        page_token: str = "",
    ) -> HistoryStream:
        """Events that were kept, in order, to the end of the range, across broken connections.

        Args:
            topics, kinds, variant: as of `stream`.
            start, end: a datetime with its time zone, or nanoseconds since 1970; `end` is exclusive. None = from the first that
                is kept, and up to now.
            limit: at most so many events; 0 = all.
            include_image: begin with the state of each topic at `start`, so that a book's deltas have a base.
            speed: 0 = as fast as it can; 1 = at the pace at which it happened; 10 = ten times that.
            clock: which time `start`, `end` and the order are in: "received" (by Raven) or "venue".
            page_token: of an earlier `HistoryStream`, to go on behind it with the same arguments.

        Raises:
            InvalidValue: an argument that cannot be.

        Raises, when it is read:
            SubscriptionRefused: the server will not give it.
            StreamEnded: the server keeps no history.
            ServerUnavailable: there is no server, or none any more.
        """
        request = history_request(
            topics,
            kinds,
            variant,
            start=start,
            end=end,
            limit=limit,
            include_image=include_image,
            speed=speed,
            clock=clock,
            page_token=page_token,
        )
        return open_history(request, self._runtime, self._dial, self._reconnect, self.target)

    def _wanted(
        self, topics: Sequence[str], kinds: Kinds, variant: str, images: bool, conflate_ms: int, policy: str
    ) -> list[v1.Subscription]:
        if policy not in POLICIES:
            raise InvalidValue("server_on_slow", policy, "valid are " + ", ".join(filter(None, POLICIES)))
        kinds = kinds if isinstance(kinds, str) else list(kinds)
        return [
            subscription_message(selector(topic, kinds, variant), images=images, conflate_ms=conflate_ms, policy=policy)
            for topic in topics or ("*/*",)
        ]

    def _core(self, wishes: Wishes, client_id: str, bookmark: bytes, reader: Reader | None = None) -> StreamCore:
        return StreamCore(
            wishes,
            self._reconnect,
            Random(),
            target=self.target,
            client_id=client_id,
            bookmark=bookmark,
            reader=reader,
        )

    # ---- questions

    async def latest(self, *topics: str, kinds: Kinds = (), variant: str = "*") -> list[StreamEvent]:
        """Per matching topic its status, then its latest state. Arguments and errors as of `stream`; no kinds = all."""
        kinds = kinds if isinstance(kinds, str) else list(kinds)
        selectors = [selector(topic, kinds, variant) for topic in topics or ("*/*",)]
        decoder = Decoder()
        messages = await self._call(MARKET_DATA + "GetLatest", bytes(v1.GetLatestRequest(selectors)))
        return [event for message in messages for event in decoder.decode(message).events]

    async def topics(self, *topics: str, kinds: Kinds = (), variant: str = "*") -> list[v1.ListTopicsResponseEntry]:
        """What can be subscribed to, with its status."""
        kinds = kinds if isinstance(kinds, str) else list(kinds)
        selectors = [selector(topic, kinds, variant) for topic in topics]
        entries: list[v1.ListTopicsResponseEntry] = []
        token = ""
        while True:
            request = v1.ListTopicsRequest(selectors, PAGE_SIZE, token)
            response = v1.ListTopicsResponse.parse(await self._unary(MARKET_DATA + "ListTopics", bytes(request)))
            entries.extend(response.topics)
            token = response.next_page_token
            if not token:
                return entries

    async def instruments(self, venue: str = "", symbol: str = "") -> list[v1.Instrument]:
        """Definitions of instruments; empty = any, `symbol` may be a prefix that ends in "*"."""
        found: list[v1.Instrument] = []
        token = ""
        while True:
            request = v1.ListInstrumentsRequest(venue, symbol, PAGE_SIZE, token)
            response = v1.ListInstrumentsResponse.parse(await self._unary(MARKET_DATA + "ListInstruments", bytes(request)))
            found.extend(response.instruments)
            token = response.next_page_token
            if not token:
                return found

    async def feeds(self) -> list[v1.Feed]:
        """The server's feeds, for operators."""
        return v1.ListFeedsResponse.parse(await self._unary(CONTROL + "ListFeeds", bytes(v1.ListFeedsRequest()))).feeds

    async def start_feed(self, name: str, topics: Sequence[v1.TopicSelector] = ()) -> v1.Feed:
        """Start a feed as configured, or add topics to it. For operators.

        Raises:
            SubscriptionRefused: it cannot carry that.
            StreamEnded: there is no such feed.
        """
        answer = await self._unary(CONTROL + "StartFeed", bytes(v1.StartFeedRequest(name, list(topics))))
        return v1.StartFeedResponse.parse(answer).feed or v1.Feed()

    async def stop_feed(self, name: str, topics: Sequence[v1.TopicSelector] = ()) -> v1.Feed:
        """Stop a feed, or take topics from it. For operators. Raises as `start_feed`."""
        answer = await self._unary(CONTROL + "StopFeed", bytes(v1.StopFeedRequest(name, list(topics))))
        return v1.StopFeedResponse.parse(answer).feed or v1.Feed()

    async def clients(self) -> list[v1.ListClientsResponseClient]:
        """The clients of the server that answers. For operators."""
        found: list[v1.ListClientsResponseClient] = []
        token = ""
        while True:
            request = v1.ListClientsRequest(page_token=token)
            answer = v1.ListClientsResponse.parse(await self._unary(CONTROL + "ListClients", bytes(request)))
            found += answer.clients
            token = answer.next_page_token
            if not token:
                return found

    async def disconnect_client(self, client_id: str, reason: str = "") -> None:
        """End the stream of another client. For operators.

        Args:
            reason: what it is told.

        Raises:
            StreamEnded: there is no such client.
        """
        await self._unary(CONTROL + "DisconnectClient", bytes(v1.DisconnectClientRequest(client_id, reason)))

    async def drain(self, deadline_s: float = 0.0) -> int:
        """Have the server ask its clients to go, and end. For operators.

        Args:
            deadline_s: how many seconds clients get to leave; 0 = as the server is configured.

        Returns:
            How many clients are asked.
        """
        answer = await self._unary(CONTROL + "Drain", bytes(v1.DrainRequest(round(deadline_s * 1000))))
        return v1.DrainResponse.parse(answer).clients

    # ---- calls that end by themselves

    async def _unary(self, path: str, request: bytes) -> bytes:
        messages = await self._call(path, request)
        if not messages:
            raise error_of_status("INTERNAL", f"{path} answered nothing", self.target)
        return messages[0]

    async def _call(self, path: str, request: bytes) -> list[bytes]:
        """All messages of a call.

        Raises:
            ClientError: as its status says.
        """
        async with self._borrowed() as link:
            messages: list[bytes] = []
            deadline = self._runtime.now() + REQUEST_TIMEOUT_S
            try:
                await link.start(path, REQUEST_TIMEOUT_S)
                await link.send(request, end=True)
                while True:
                    messages += await link.receive(max(deadline - self._runtime.now(), 0.0))
            except CallOver as over:
                if over.status != "OK":
                    raise error_of_status(over.status, over.message, self.target) from None
                return messages
            except TimeoutError:
                raise ServerUnavailable(f"{self.target} did not answer within {REQUEST_TIMEOUT_S:g} s") from None
            except OSError as error:
                raise ServerUnavailable(f"the connection to {self.target} was lost: {reason_of(error)}") from error

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Link]:
        link = await self._link()
        try:
            yield link
        finally:
            await self._give_back(link)

    async def _link(self) -> Link:
        try:
            return await self._dial()
        except TimeoutError:
            raise ServerUnavailable(f"no answer from {self.target} within {self._reconnect.connect_s:g} s") from None
        except OSError as error:
            raise ServerUnavailable(f"no server at {self.target}: {reason_of(error)}") from None

    async def _dial(self) -> Link:
        """The connection that is idle, or a new one: the first stream takes over that by which the server was found."""
        idle, self._idle = self._idle, None
        if idle is not None:
            if idle[0].usable and self._runtime.now() - idle[1] < IDLE_MAX_S:
                return idle[0]
            await idle[0].aclose()
        return await self._dial_anew()

    async def _give_back(self, link: Link) -> None:
        if link.usable and self._idle is None:
            self._idle = link, self._runtime.now()
        else:
            await link.aclose()


def _kinds_of(messages: Iterable[v1.Subscription]) -> set[Kind]:
    return {Kind(int(kind)) for message in messages if message.selector for kind in message.selector.kinds}
