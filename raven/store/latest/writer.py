"""The tap of latest values: what has changed since it last looked is written to a store, and nobody waits for that.

It looks at the sequence of every topic and at the subscriptions of every client, every `write_s` and in slices, so neither
publishing nor subscribing does anything for it. A store that is away costs clients nothing: the broker has all values. It is
asked again after a while, and when it answers, everything is written anew, because nobody knows what it has lost. One that was
away at the start is read then, before it is written to.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from random import Random
from typing import TypeVar

import attrs
import structlog
import trio

from raven.broker import Broker, Subscription
from raven.broker.restoring import latest_elements
from raven.broker.topics import TopicState
from raven.errors import StoreError
from raven.model.topic import Topic
from raven.store.latest.pauses import pauses_s
from raven.store.latest.restore import Loaded, Places, Restored, load, restore, restore_late
from raven.store.latest.slices import REST_TIMES, take_slice
from raven.store.latest.values import ClientSubscriptions, LatestStore, LatestValue

__all__ = ["LAST_WRITE_S", "LOAD_WAIT_S", "REWRITE_S", "TOPIC_BYTES_PER_S", "LatestStatistics", "LatestWriter"]

WRITTEN_TOGETHER, WRITTEN_BYTES = 1_000, 4 * 1024 * 1024
"""What is handed to the store at once, in items and in bytes (one slice more, at most)."""

TOPIC_BYTES_PER_S = 16 * 1024
"""What one topic may take of the store, on average: small values are written every `write_s`, a book of 100 KiB every 6 s."""

REWRITE_S = 900.0
"""How often everything is written anew, so that what is still carried does not expire (raven.store.latest.values.KEEP_S)."""

CLIENT_EXPIRY_SLACK_S = 300.0
"""A client's subscriptions are written again when they would be kept so much longer than the store knows."""

LOAD_WAIT_S = 30.0
"""What a store may take to be read before anything is served; then the server begins without. One that does not answer is given
up after the timeout of a request; this is for one that answers slowly."""

LAST_WRITE_S = 5.0
"""What the last writing at the end may take."""

_NEVER = (-1, 0.0)

T = TypeVar("T")
Change = tuple[TopicState, LatestValue]

log = structlog.stdlib.get_logger("raven.store")


@attrs.frozen
class LatestStatistics:
    """Counts since the start, and how it is now.

    Args:
        backend: "sqlite", "redis".
        written, written_bytes: values that the store took, and their bytes.
        failures: times that it did not.
        away_s: since when it does not; None = it does.
        error: what it said last; empty = nothing.
        behind_s: since when the store lacks something that has changed, at most.
        restored: what the server began with.
    """

    backend: str
    written: int
    written_bytes: int
    failures: int
    away_s: float | None
    error: str
    behind_s: float
    restored: Restored


@attrs.frozen
class _Unread:
    """What was asked for when the store was away.

    Args:
        carried: the topics of each feed.
        handed: where those stood that the server before handed over.
    """

    carried: Mapping[str, Collection[Topic]]
    handed: Places


class LatestWriter:
    """Keeps a store at what the broker has.

    Args:
        store: nobody else uses it.
        write_s: how often what has changed is written.
        now_ns: wall clock.
        clock_s: a clock that never jumps.
    """

    def __init__(
        self,
        store: LatestStore,
        broker: Broker,
        write_s: float,
        *,
        random: Random,
        now_ns: Callable[[], int] = time.time_ns,
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._broker = broker
        self._write_s = write_s
        self._random = random
        self._now_ns = now_ns
        self._clock_s = clock_s
        self._limiter = trio.CapacityLimiter(1)
        self._written: dict[TopicState, tuple[int, float]] = {}  # sequence, and when it may be written again
        self._written_clients: dict[str, tuple[dict[str, Subscription], float]] = {}  # ... and when they expire
        self._rewrite_at_s = -float("inf")
        self._away_since_s: float | None = None
        self._even_since_s = clock_s()
        self._pauses = pauses_s(random)
        self._error = ""
        self._values = self._bytes = self._failures = 0
        self._restored = Restored()
        self._unread: _Unread | None = None

    async def restore(self, carried: Mapping[str, Collection[Topic]]) -> None:
        """Have the broker begin with what the store has. To be called before anything is published or served.

        Args:
            carried: the topics of each feed, with those that are derived.
        """
        now_ns = self._now_ns()
        try:
            loaded = await self._load(carried, now_ns)
        except StoreError as error:
            handed = {state.topic: (state.epoch, state.sequence) for state in self._broker.directory}
            self._unread = _Unread(carried, handed)
            self._failed(str(error))
            return
        self._restored = await restore(self._broker, loaded, now_ns)
        log.info("latest values restored", backend=self._store.name, **attrs.asdict(self._restored))

    async def _load(self, carried: Mapping[str, Collection[Topic]], now_ns: int) -> Loaded:
        """Raises StoreError, also when it takes too long."""
        try:
            with trio.fail_after(LOAD_WAIT_S):
                return await self._in_thread(load, self._store, carried, now_ns / 1e9)
        except trio.TooSlowError as error:
            raise StoreError(f"it was not read within {LOAD_WAIT_S:g} s") from error

    async def _read_late(self, unread: _Unread) -> None:
        """What could not be read at the start, as far as there is nothing newer. Raises StoreError: it still cannot."""
        now_ns = self._now_ns()
        carried = {feed: set(topics) for feed, topics in unread.carried.items()}
        for state in self._broker.directory:
            carried.setdefault(state.feed, set()).add(state.topic)
        loaded = await self._load(carried, now_ns)
        self._restored = await restore_late(self._broker, loaded, unread.handed, now_ns)
        self._unread = None
        log.info("latest values restored late", backend=self._store.name, **attrs.asdict(self._restored))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, and then once more what is missing, within `LAST_WRITE_S`."""
        task_status.started()
        try:
            while True:
                await trio.sleep(self._write_s if self._away_since_s is None else next(self._pauses))
                await self._attempt()
        finally:
            with trio.move_on_after(LAST_WRITE_S, shield=True) as last:
                await self._attempt(at_end=True)
                await self._in_thread(self._store.close)
            if last.cancelled_caught:
                log.warning("latest values were not all written at the end", backend=self._store.name, within_s=LAST_WRITE_S)

    def statistics(self) -> LatestStatistics:
        """As it is now."""
        now_s, away_s = self._clock_s(), self._away_since_s
        return LatestStatistics(
            self._store.name,
            self._values,
            self._bytes,
            self._failures,
            None if away_s is None else now_s - away_s,
            self._error,
            now_s - self._even_since_s,
            self._restored,
        )

    # ---- one look at everything

    async def _attempt(self, *, at_end: bool = False) -> None:
        began_s = self._clock_s()
        if self._away_since_s is not None or trio.current_time() >= self._rewrite_at_s:
            self._rewrite_at_s = trio.current_time() + REWRITE_S
            self._written.clear()
            self._written_clients.clear()
        try:
            if self._unread is not None and not at_end:
                await self._read_late(self._unread)
            await self._in_slices(self._changed_topics(at_end), self._write, at_end)
            await self._in_slices(self._changed_clients(at_end), self._write_clients, at_end)
        except StoreError as error:
            self._failed(str(error))
        else:
            self._succeeded(began_s)

    async def _in_slices(self, source: Iterator[T | None], write: Callable[[list[T]], Awaitable[None]], hurry: bool) -> None:
        """Write what comes out of `source`, which may take the loop for a slice at a time."""
        waiting: list[T] = []
        more = True
        while more:
            began_s = self._clock_s()
            taken, more = take_slice(source, self._clock_s)
            rest_s = 0.0 if hurry else (self._clock_s() - began_s) * REST_TIMES
            waiting += taken
            if waiting and (not more or _enough(waiting)):
                await write(waiting)
                waiting = []
            await trio.sleep(rest_s if more else 0.0)

    def _changed_topics(self, all_now: bool) -> Iterator[Change | None]:
        now_s, written = trio.current_time(), self._written
        for state in self._broker.directory:
            sequence, due_s = written.get(state, _NEVER)
            if state.sequence == sequence or (now_s < due_s and not all_now):
                yield None
                continue
            elements = latest_elements(state, self._now_ns())
            yield elements and (state, LatestValue(state.topic, state.epoch, state.sequence, *elements))

    def _changed_clients(self, exactly: bool) -> Iterator[ClientSubscriptions | None]:
        slack_s = 0.0 if exactly else CLIENT_EXPIRY_SLACK_S
        seen: set[str] = set()
        for client_id, subscriptions, remaining_s in self._broker.clients.remembered():
            if not subscriptions:
                continue
            seen.add(client_id)
            known, expires_s = self._written_clients.get(client_id, (None, 0.0))
            until_s = self._now_ns() / 1e9 + remaining_s
            if known != subscriptions or until_s > expires_s + slack_s:
                yield ClientSubscriptions(client_id, tuple(subscriptions.values()), until_s)
            else:
                yield None
        for client_id in [known for known in self._written_clients if known not in seen]:
            yield self._farewell(client_id)

    def _farewell(self, client_id: str) -> ClientSubscriptions | None:
        """Of a client that has no subscriptions any more: because it said so, or because their time is over, and then another
        server may have later ones."""
        clients = self._broker.clients
        client = clients.get(client_id)
        if (client is not None and client.subscriptions) or clients.kept(client_id):
            return None  # it came back while the others were looked at
        now_s = self._now_ns() / 1e9
        _, expires_s = self._written_clients[client_id]
        return ClientSubscriptions(client_id, (), now_s if expires_s <= now_s else now_s + clients.limits.kept_s)

    # ---- writing

    async def _write(self, changes: list[Change]) -> None:
        await self._in_thread(self._store.put, [value for _, value in changes])
        now_s = trio.current_time()
        for state, value in changes:
            self._written[state] = (value.sequence, now_s + value.size / TOPIC_BYTES_PER_S)
        self._values += len(changes)
        self._bytes += sum(value.size for _, value in changes)

    async def _write_clients(self, clients: list[ClientSubscriptions]) -> None:
        await self._in_thread(self._store.put_clients, clients)
        for client in clients:
            if client.subscriptions:
                by_id = {subscription.id: subscription for subscription in client.subscriptions}
                self._written_clients[client.client_id] = (by_id, client.expires_s)
            else:
                self._written_clients.pop(client.client_id, None)

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await trio.to_thread.run_sync(call, *arguments, limiter=self._limiter, abandon_on_cancel=True)

    # ---- a store that is away

    def _failed(self, error: str) -> None:
        self._failures += 1
        self._error = error
        if self._away_since_s is None:
            self._away_since_s = self._clock_s()
            self._pauses = pauses_s(self._random)
            log.warning(
                "the store of latest values is away: they are served from memory", backend=self._store.name, error=error
            )

    def _succeeded(self, began_s: float) -> None:
        self._even_since_s = began_s
        if self._away_since_s is not None:
            away_s = round(self._clock_s() - self._away_since_s, 3)
            self._away_since_s = None
            values, clients = len(self._written), len(self._written_clients)
            log.info(
                "the store of latest values is back", backend=self._store.name, away_s=away_s, topics=values, clients=clients
            )


def _enough(waiting: list[T]) -> bool:
    size = sum(item[1].size for item in waiting if isinstance(item, tuple))
    return len(waiting) >= WRITTEN_TOGETHER or size >= WRITTEN_BYTES
