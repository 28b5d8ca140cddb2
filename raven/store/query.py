"""Answers about the past, over any HistoryStore: images, events in order, gaps, and a place to go on from behind every message.

Everything here blocks and is called in a worker thread, in steps of bounded size.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import zip_longest

import attrs

from raven.errors import InvalidValue, StoreError
from raven.model.topic import Selector, Topic
from raven.store.blocks import HistoryStore, TimeRange
from raven.store.gaps import Gaps, gap_element
from raven.store.merge import Run, Window, merge
from raven.store.states import STATE_AGE_NS, state_before
from raven.store.times import first_ns
from raven.store.tokens import BEGINNING, NO_TOPIC, Key, Phase, Place, Token, digest_of, format_token, parse_token
from raven.store.windows import Read, Windows

__all__ = ["Chunk", "HistoryQuery", "Reading", "StoredHistory", "open_reading"]

CHUNK_BYTES_MAX = 256 * 1024
"""Elements of one message, unless one event alone is longer."""

WINDOW_BYTES_MAX, WINDOW_BYTES_MIN = 1024 * 1024, 256 * 1024
"""Blocks that are held at once; about half of it in the long run. To sort it takes the interpreter a few ms, and no more."""

YIELD_S = 50e-6
"""So long the thread sleeps after each run: what it does holds the interpreter, and clients wait for that."""

EVENT_BYTES_GUESSED = 256
"""So much is read for each event of a limit."""

TOPICS_A_STEP = 32
"""Topics that are looked at in one step while images are made, and behind the end."""

AFTER_NS = 86_400 * 1_000_000_000
"""So far behind the end the next event is looked for, to say whether something is missing before it."""


@attrs.frozen
class HistoryQuery:
    """What is asked for.

    Args:
        end_ns: exclusive.
        limit: of events; 0 = all.
        include_image: begin with the state of each topic at the start.
        venue_clock: the range is in the venue's time.
        slice_ns: events that are further apart do not stand in one message; 0 = they may.
    """

    selectors: tuple[Selector, ...]
    start_ns: int
    end_ns: int
    limit: int = 0
    include_image: bool = False
    venue_clock: bool = False
    slice_ns: int = 0


@attrs.frozen
class Chunk:
    """What goes into one message.

    Args:
        first_ts_ns: of the first event, by the chosen clock; None = there is no event in it, and no time to wait for.
        page_token: goes on behind it.
    """

    elements: bytes
    count: int
    first_ts_ns: int | None
    page_token: str


class StoredHistory:
    """A store, as those who answer clients ask it.

    Args:
        flush: waits, in Trio, until everything that was published is kept.
    """

    def __init__(self, store: HistoryStore, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self.flush = flush

    def read(
        self,
        selectors: Sequence[Selector],
        *,
        start_ns: int,
        end_ns: int,
        now_ns: int,
        page_token: str = "",
        limit: int = 0,
        include_image: bool = False,
        venue_clock: bool = False,
        slice_ns: int = 0,
    ) -> Reading:
        """Begin to answer. Arguments as of HistoryQuery.

        Args:
            now_ns: what an `end_ns` of 0 is.
            page_token: where to go on; empty = from the start.

        Raises:
            InvalidValue: the token is none, or not of this query.
        """
        query = HistoryQuery(tuple(selectors), start_ns, end_ns, limit, include_image, venue_clock, slice_ns)
        return open_reading(self._store, query, page_token, now_ns)


def open_reading(store: HistoryStore, query: HistoryQuery, page_token: str = "", now_ns: int = 0) -> Reading:
    """Begin to answer a query, or go on.

    Args:
        query: its `end_ns` may be 0: up to now.

    Raises:
        InvalidValue: the token is not of this query.
    """
    flags = (query.start_ns, query.end_ns, query.include_image, query.venue_clock)
    digest = digest_of(query.selectors, *flags)
    if page_token:
        token = parse_token(page_token, digest)
    else:
        token = Token(digest, query.end_ns or now_ns, complete=True, place=BEGINNING)
    if token.end_ns < query.start_ns:
        raise InvalidValue("end_ts_ns", query.end_ns, f"not before start_ts_ns ({query.start_ns}), which is not before now")
    return Reading(store, attrs.evolve(query, end_ns=token.end_ns), token)


class Reading:
    """One query that is being answered.

    Attributes:
        done: whether everything was given.
        complete: whether nothing is missing in what was given, here and before the page token.
    """

    def __init__(self, store: HistoryStore, query: HistoryQuery, token: Token) -> None:
        self._store = store
        self._query = query
        self._digest = token.digest
        self._place = token.place
        self._left = query.limit
        self._gaps = Gaps(store, query.venue_clock)
        start: Key = (query.start_ns, NO_TOPIC, 0, 0)
        after = max(token.place.key, start) if token.place.phase >= Phase.EVENTS else start
        size = max(WINDOW_BYTES_MIN, query.limit * EVENT_BYTES_GUESSED) if query.limit else WINDOW_BYTES_MAX
        size = min(size, WINDOW_BYTES_MAX)
        self._windows = Windows(store, query.selectors, query.venue_clock, after, query.end_ns, size)
        self._holes: list[int] | None = None  # where they begin that are to be told
        self._known_holes: set[tuple[int, int]] = set()
        self._topics: list[Topic] | None = None  # of the phase
        self.done = False
        self.complete = token.complete

    @property
    def page_token(self) -> str:
        """Goes on behind everything that was given."""
        return self._token(self._place)

    def mark_incomplete(self) -> None:
        """Something is known to be missing."""
        self.complete = False

    def step(self) -> list[Chunk]:
        """What comes next; it may be nothing. Then look at `done`.

        Raises:
            StoreError: the store does not answer.
        """
        parts = {Phase.IMAGES: self._images, Phase.EVENTS: self._events, Phase.AFTER: self._after}
        try:
            return parts[self._place.phase]()
        except StoreError:
            if self._look_for_holes():  # what could not be read is left out from now on, and told
                return []
            raise

    # ---- the state at the start

    def _images(self) -> list[Chunk]:
        query = self._query
        if not query.include_image:
            self._enter(Phase.EVENTS, self._windows.after)
            return self._events()
        chunks = []
        for topic in self._next_topics(max(query.start_ns - STATE_AGE_NS, 0), query.end_ns):
            element = state_before(self._store, topic, query.start_ns, query.venue_clock)
            self._place = Place(Phase.IMAGES, (query.start_ns, topic, 0, 0))
            if element is not None:
                chunks.append(Chunk(element, 0, None, self.page_token))
        if not self._topics:
            self._enter(Phase.EVENTS, self._windows.after)
        return _joined(chunks)

    # ---- events

    def _events(self) -> list[Chunk]:
        chunks = [] if self._windows.done else self._next_events()
        if self._windows.done and not self.done:
            self._enter(Phase.AFTER, self._windows.after)
            chunks += self._after()
        return chunks

    def _next_events(self) -> list[Chunk]:
        """Of the next window; in front of it what is told of a hole that begins there."""
        if self._holes is None:
            self._look_for_holes()
        assert self._holes is not None
        chunks = []
        while self._holes and self._holes[0] <= self._windows.after[0]:
            chunks += self._hole(self._holes.pop(0))
        return chunks + self._window(self._holes[0] if self._holes else self._query.end_ns)

    def _window(self, until_ns: int) -> list[Chunk]:
        after = self._windows.after
        try:
            read = self._windows.read(until_ns)
            chunks = self._merged(read, after)
        except StoreError:
            self._windows.after = after  # it is read again
            raise
        self._gaps.forget()
        self.done = self._take_from_limit(sum(chunk.count for chunk in chunks))
        if not self.done:
            self._place = Place(Phase.EVENTS, read.reached)
        return chunks

    def _merged(self, read: Read, after: Key) -> list[Chunk]:
        for topic, blocks in read.blocks:
            self._gaps.read(topic, blocks)
        every = [block for _, blocks in read.blocks for block in blocks]
        window = Window(after, read.until_ns, self._query.venue_clock, self._query.slice_ns)
        return list(self._chunks(merge(every, window, self._gaps.before, self._left)))

    def _take_from_limit(self, count: int) -> bool:
        """Whether nothing is left of it."""
        self._left -= count if self._query.limit else 0
        return self._query.limit > 0 and not self._left

    def _chunks(self, runs: Iterable[Run]) -> Iterator[Chunk]:
        """Runs as messages; where events are paced, each run is one."""
        taken: list[Run] = []
        size = 0
        for run in runs:
            if taken and (self._query.slice_ns or size + len(run.elements) > CHUNK_BYTES_MAX):
                yield self._chunk(taken)
                taken, size = [], 0
            taken.append(run)
            size += len(run.elements)
            self.complete = self.complete and not self._gaps.told
            time.sleep(YIELD_S)
        if taken:
            yield self._chunk(taken)

    def _chunk(self, runs: Sequence[Run]) -> Chunk:
        self._place = Place(Phase.EVENTS, runs[-1].last)
        elements = runs[0].elements if len(runs) == 1 else b"".join(run.elements for run in runs)
        return Chunk(elements, sum(run.count for run in runs), runs[0].first_ts_ns, self.page_token)

    # ---- what is missing

    def _look_for_holes(self) -> bool:
        """Ask where times begin of which the store knows nothing; whether there are new ones."""
        query, reached_ns = self._query, self._windows.after[0]
        found = set(self._store.holes(TimeRange(query.start_ns, query.end_ns, query.venue_clock))) - self._known_holes
        # One that we are in was told in front of the page token, if it was known then: something was missing.
        unseen = self._holes is not None or self.complete
        clipped = ((max(start_ns, query.start_ns), end_ns) for start_ns, end_ns in found)
        ahead_ns = reached_ns + (self._windows.after[1] != NO_TOPIC)
        starts = {max(start, reached_ns) for start, end in clipped if start >= ahead_ns or (unseen and end > reached_ns)}
        self._known_holes |= found
        self._holes = sorted(starts.union(self._holes or ()))
        return bool(found)

    def _hole(self, start_ns: int) -> list[Chunk]:
        """A gap of unknown size for each topic, in front of everything that has the same time."""
        self.complete = False
        chunks = []
        for number, topic in enumerate(self._windows.topics(self._query.start_ns, self._query.end_ns), 1):
            key: Key = (start_ns, NO_TOPIC, 0, number)
            within = self._windows.after[1] != NO_TOPIC  # between events of one time: there is no place for it
            if within or key > self._windows.after:
                self._place = Place(Phase.EVENTS, self._windows.after if within else key)
                chunks.append(Chunk(gap_element(topic, 0, (0, 0), start_ns), 0, None, self.page_token))
        return _joined(chunks)

    def _after(self) -> list[Chunk]:
        """What is missing between the last events and those that follow behind the end."""
        query = self._query
        chunks = []
        for topic in self._next_topics(query.end_ns, query.end_ns + AFTER_NS):
            block = next(self._windows.blocks(topic, query.end_ns, query.end_ns + AFTER_NS), None)
            self._place = Place(Phase.AFTER, (query.end_ns, topic, 0, 0))
            if block is None or first_ns(block, query.venue_clock) < query.end_ns:
                continue
            missing = self._gaps.missing_before(block)
            if missing is not None and missing[0] > 1:  # else the topic's epoch may have begun behind the end
                self.complete = False
                gap = gap_element(topic, block.epoch, missing, query.end_ns - 1)
                chunks.append(Chunk(gap, 0, None, self.page_token))
        self.done = not self._topics
        return _joined(chunks)

    # ---- places

    def _next_topics(self, start_ns: int, end_ns: int) -> Sequence[Topic]:
        """A few more topics of the phase."""
        if self._topics is None:
            reached = self._place.key[1]
            self._topics = [topic for topic in self._windows.topics(start_ns, end_ns) if topic > reached]
        taken, self._topics = self._topics[:TOPICS_A_STEP], self._topics[TOPICS_A_STEP:]
        return taken

    def _enter(self, phase: Phase, key: Key) -> None:
        self._place, self._topics = Place(phase, key), None

    def _token(self, place: Place) -> str:
        return format_token(Token(self._digest, self._query.end_ns, self.complete, place))


def _joined(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Chunks without events in as few as may be."""
    joined: list[Chunk] = []
    parts: list[bytes] = []
    size = 0
    for chunk, following in zip_longest(chunks, chunks[1:]):
        parts.append(chunk.elements)
        size += len(chunk.elements)
        if following is None or size + len(following.elements) > CHUNK_BYTES_MAX:
            joined.append(Chunk(b"".join(parts), 0, None, chunk.page_token))
            parts, size = [], 0
    return joined
