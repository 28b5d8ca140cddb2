"""The tap of the history: reads the rings of all feeds by a cursor of its own, and gives the store what it has read.

Nothing is done for the history on an event's way to the clients. What a ring holds and the recorder has not read yet waits
there; what it has read and the store has not taken waits here, up to WAITING_BYTES_MAX. When that is full the ring alone is
what waits, and what it drops is lost to the history, counted and logged.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import attrs
import structlog
import trio

from raven.broker.directory import Directory
from raven.broker.ring import Ring
from raven.broker.topics import TopicState
from raven.errors import StoreError
from raven.store.blocks import Block, HistoryStore, Image
from raven.store.cutting import cut
from raven.store.elements import stamps

__all__ = ["Recorder", "RecorderStatistics"]

SLICE_EVENTS = 256
"""Events that are read between two turns of the event loop: some 0.05 ms."""

SLICE_S = 0.0002
"""Between two turns of the event loop no more blocks are begun after this."""

BATCH_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of events that are given to the store at once."""

WAITING_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of events that wait here for a store that does not take them."""

BLOCK_OVERHEAD_BYTES = 400
"""What a block takes in memory beside its events."""

IMAGES_MAX = 32
"""Images that are made in one pass; of more topics they come in the next ones."""

IMAGE_BACKLOG_MAX = 1024
"""Events that may have come since a pass began for an image to be made in it."""

RETRY_S, RETRY_S_MAX = 1.0, 10.0
"""The pause before a store that refused is asked again, which doubles."""

END_S = 5.0
"""How long the end may take to write what is still missing."""

DAY_NS = 86_400_000_000_000

log = structlog.stdlib.get_logger("raven.store")


@attrs.frozen
class RecorderStatistics:
    """Counts since the start.

    Args:
        events, blocks, images: that the store has taken.
        lost: events that the history does not have, by feed.
        behind: events that were published and are not kept yet.
        losing: whether the latest pass found events gone.
        writes, write_s: calls of the store that went well, and what they took together.
        failing_s: for how long the store has refused; None when it takes what it is given.
        error: why it refuses; empty when it does not.
    """

    events: int = 0
    blocks: int = 0
    images: int = 0
    lost: Mapping[str, int] = attrs.field(factory=dict)
    behind: int = 0
    losing: bool = False
    writes: int = 0
    write_s: float = 0.0
    failing_s: float | None = None
    error: str = ""


class Recorder:
    """Writes everything that is published into a history.

    Args:
        store: where to.
        directory: whose rings are read, from their first event on: those of an earlier server may have events that it could not
            write any more, and a store does not keep an event twice.
        commit_s: how often.
        image_s: how often the state of a topic that changes is kept in whole; and once in every UTC day.
        now_ns: wall clock.
    """

    def __init__(
        self,
        store: HistoryStore,
        directory: Directory,
        *,
        commit_s: float = 1.0,
        image_s: float = 300.0,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._directory = directory
        self._commit_s = commit_s
        self._now_ns = now_ns
        self._limiter = trio.CapacityLimiter(1)
        self._cursors: dict[Ring, int] = {}
        self._gathered = _Gathered(image_s)
        self._waiting: deque[_Batch] = deque()
        self._waiting_bytes = self._waiting_events = 0
        self._cutting = 0  # events that were read and are being made into blocks
        self._asked, self._filled, self._again = _Bell(), _Bell(), _Bell()
        self._flushes: list[trio.Event] = []
        self._running = False
        self._ending = False
        self._losing = 0  # events lost in the incident that is under way
        self._lost: Counter[str] = Counter()
        self._kept = RecorderStatistics()
        self._failing_since: float | None = None
        self._error = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Record until cancelled; then what is still missing is written, which takes END_S at most."""
        self._running = True
        writing = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_on, writing)
            try:
                task_status.started()
                await self._read_on()
            finally:
                self._ending = True
                writing.deadline = trio.current_time() + END_S
                with trio.CancelScope(shield=True):  # bounded: it reads what there is, and waits for nobody
                    await self._read_all()
                self._filled.ring()
                self._again.ring()

    async def flush(self) -> None:
        """Returns when all that has been published is kept, or the store has refused something."""
        if self._running:
            done = trio.Event()
            self._flushes.append(done)
            self._asked.ring()
            self._again.ring()
            await done.wait()

    def statistics(self) -> RecorderStatistics:
        """Counts since the start. Any thread may ask."""
        failing_since = self._failing_since
        return attrs.evolve(
            self._kept,
            lost=dict(self._lost),
            behind=self._unread() + self._gathered.events + self._cutting + self._waiting_events,
            losing=self._losing > 0,
            failing_s=None if failing_since is None else time.monotonic() - failing_since,
            error=self._error,
        )

    def _unread(self) -> int:
        return sum(ring.next - self._cursors.get(ring, ring.first) for ring in list(self._directory.rings.values()))

    # ---- reading

    async def _read_on(self) -> None:
        while True:
            await self._asked.wait(self._commit_s)
            with trio.CancelScope(shield=True):  # it takes milliseconds, and half a pass would be one that is lost
                await self._read_all()

    async def _read_all(self) -> None:
        """Everything that was published before the call."""
        flushes, self._flushes = self._flushes, []
        lost_before = self._lost.total()
        self._gathered.begin(trio.current_time(), self._now_ns() // DAY_NS)
        heads = [(ring, ring.next) for ring in self._directory.rings.values()]
        for ring, head in heads:
            await self._read_ring(ring, head)
        await self._make_images()
        whole = all(self._cursor_of(ring) >= head for ring, head in heads)
        await self._finish_batch(flushes if whole else [])
        if not whole:  # too much waits for the store already: who waits for all of it waits for a later pass
            self._flushes[:0] = flushes
        self._tell_losses(self._lost.total() - lost_before)

    async def _read_ring(self, ring: Ring, head: int) -> None:
        while self._cursor_of(ring) < head and self._waiting_bytes < WAITING_BYTES_MAX:
            self._read_slice(ring)
            if self._gathered.bytes >= BATCH_BYTES_MAX:
                await self._finish_batch()
            await trio.lowlevel.checkpoint()

    def _cursor_of(self, ring: Ring) -> int:
        """The position that is read next, behind what the ring has dropped."""
        cursor = self._cursors.get(ring, ring.first)
        if cursor < ring.first:
            self._lost[ring.feed] += ring.first - cursor
            cursor = ring.first
        self._cursors[ring] = cursor
        return cursor

    def _read_slice(self, ring: Ring) -> None:
        cursor = self._cursor_of(ring)
        states, elements = ring.read_slice(cursor, SLICE_EVENTS)
        self._gathered.add(states, elements)
        self._cursors[ring] = cursor + len(elements)

    async def _make_images(self) -> None:
        """Of topics whose time has come: each of a moment at which everything up to it has been read."""
        if self._waiting_bytes >= WAITING_BYTES_MAX:
            return
        for state in self._gathered.take_due(IMAGES_MAX):
            ring = self._directory.rings[state.feed]
            if ring.next - self._cursor_of(ring) <= IMAGE_BACKLOG_MAX:
                while self._cursor_of(ring) < ring.next:
                    self._read_slice(ring)
                self._gathered.add_image(state)
            await trio.lowlevel.checkpoint()

    async def _finish_batch(self, flushes: list[trio.Event] | None = None) -> None:
        """Make blocks of what was read, for the store."""
        batch = _Batch(flushes or [])
        self._cutting = self._gathered.events
        ends_s = time.perf_counter() + SLICE_S
        for state, elements in self._gathered.take():
            for block in cut(state.topic, state.epoch, elements):
                batch.add(block)
                if time.perf_counter() >= ends_s:
                    await trio.lowlevel.checkpoint()
                    ends_s = time.perf_counter() + SLICE_S
        batch.add_images(self._gathered.take_images())
        if batch.blocks or batch.images or batch.flushes:
            self._waiting.append(batch)
            self._waiting_bytes += batch.bytes
            self._waiting_events += batch.events
            self._filled.ring()
        self._cutting = 0

    def _tell_losses(self, lost: int) -> None:
        if lost and not self._losing:
            log.warning("the history is behind: events leave the memory before they are written", lost=lost, error=self._error)
        elif self._losing and not lost:
            log.warning("the history keeps up again", lost=self._losing)
        self._losing = self._losing + lost if lost else 0

    # ---- writing

    async def _write_on(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._waiting or not self._ending:
                    if not self._waiting:
                        await self._filled.wait()
                    elif await self._write(self._waiting[0]):
                        self._drop_first().tell()
                    elif self._ending:
                        break
        finally:
            self._running = False
            self._give_up()

    def _drop_first(self) -> _Batch:
        batch = self._waiting.popleft()
        self._waiting_bytes -= batch.bytes
        self._waiting_events -= batch.events
        return batch

    async def _write(self, batch: _Batch) -> bool:
        started = time.perf_counter()
        if batch.blocks or batch.images:
            write = partial(self._store.write, batch.blocks, batch.images)
            try:
                # A disk that hangs must not keep the server from ending: then the thread is left behind.
                await trio.to_thread.run_sync(write, limiter=self._limiter, abandon_on_cancel=True)
            except StoreError as error:
                await self._refused(error)
                return False
            self._count(batch, time.perf_counter() - started)
        return True

    def _count(self, batch: _Batch, took_s: float) -> None:
        kept = self._kept
        self._kept = attrs.evolve(
            kept,
            events=kept.events + batch.events,
            blocks=kept.blocks + len(batch.blocks),
            images=kept.images + len(batch.images),
            writes=kept.writes + 1,
            write_s=kept.write_s + took_s,
        )
        if self._failing_since is not None:
            lasted_s = round(time.monotonic() - self._failing_since, 1)
            log.info("the history takes what it is given again", failed_s=lasted_s, behind=self.statistics().behind)
            self._failing_since, self._error = None, ""

    async def _refused(self, error: StoreError) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            log.error("the history does not take what it is given; it is kept and written again", error=str(error))
        self._error = str(error)
        self._release_flushes()
        if not self._ending:
            failed_s = now - self._failing_since
            await self._again.wait(min(max(RETRY_S, failed_s), RETRY_S_MAX))

    def _release_flushes(self) -> None:
        for batch in self._waiting:
            batch.tell()
        for flush in self._flushes:
            flush.set()
        self._flushes.clear()

    def _give_up(self) -> None:
        """At the end: what was not written is lost."""
        lost = Counter({ring.feed: ring.next - self._cursor_of(ring) for ring in self._directory.rings.values()})
        self._release_flushes()
        while self._waiting:
            for block in self._drop_first().blocks:
                lost[block.topic.venue] += block.count
        if lost.total():
            self._lost.update(lost)
            log.error("the history did not take everything before the end", lost=lost.total(), error=self._error or "too slow")


@attrs.define
class _Batch:
    """What is given to the store at once, and who waits for that."""

    flushes: list[trio.Event]
    blocks: list[Block] = attrs.field(factory=list)
    images: list[Image] = attrs.field(factory=list)
    events: int = 0
    bytes: int = 0

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        self.events += block.count
        self.bytes += len(block.elements) + BLOCK_OVERHEAD_BYTES

    def add_images(self, images: list[Image]) -> None:
        self.images += images
        self.bytes += sum(len(image.element) + BLOCK_OVERHEAD_BYTES for image in images)

    def tell(self) -> None:
        """Those who wait need not any more."""
        for flush in self.flushes:
            flush.set()
        self.flushes.clear()


@attrs.define
class _Tap:
    """What is remembered of a topic: its last element that was read, and its last image."""

    last: bytes = b""
    image_sequence: int = 0
    image_day: int = -1
    image_at: float = 0.0


class _Gathered(dict[TopicState, list[bytes]]):
    """What was read and not yet made into blocks: elements by topic. And the topics of which an image is due."""

    def __init__(self, image_s: float) -> None:
        super().__init__()
        self._image_s = image_s
        self._now_s = 0.0
        self._today = 0
        self._taps: dict[TopicState, _Tap] = {}
        self._due: dict[TopicState, None] = {}
        self._images: list[Image] = []
        self.events = 0
        self.bytes = 0

    def begin(self, now_s: float, today: int) -> None:
        """A pass begins."""
        self._now_s, self._today = now_s, today

    def add(self, states: list[TopicState | None], elements: list[bytes]) -> None:
        """Events, in their order."""
        for state, element in zip(states, elements, strict=True):
            self[state].append(element)  # type: ignore[index]  # between first and next there is a state in every place
        self.events += len(elements)
        self.bytes += sum(map(len, elements))

    def __missing__(self, state: TopicState) -> list[bytes]:
        tap = self._taps.get(state)
        if tap is None or tap.image_day != self._today or self._now_s - tap.image_at >= self._image_s:
            self._due[state] = None
        elements: list[bytes] = []
        self[state] = elements
        return elements

    def take_due(self, count: int) -> list[TopicState]:
        """Topics that are to get an image; what is not done with them comes again with their next event."""
        taken = list(self._due)[:count]
        for state in taken:
            del self._due[state]
        return taken

    def add_image(self, state: TopicState) -> None:
        """The image of a topic of which everything has been read."""
        tap = self._taps.setdefault(state, _Tap())
        element = state.image() if state.sequence != tap.image_sequence else None
        last = self.get(state, (tap.last,))[-1]
        if element is None or not last:
            return
        _, received_ns, _ = stamps(last)
        self._images.append(Image(state.topic, state.epoch, state.sequence, received_ns, element))
        self.bytes += len(element)
        tap.image_sequence, tap.image_day, tap.image_at = state.sequence, received_ns // DAY_NS, self._now_s

    def take(self) -> Iterator[tuple[TopicState, list[bytes]]]:
        """Everything that is here, topic by topic; what comes meanwhile is not among it."""
        groups = dict(self)
        self.clear()
        self.events = self.bytes = 0
        for state in list(groups):
            elements = groups.pop(state)  # so that they are given back piece by piece too
            self._taps.setdefault(state, _Tap()).last = elements[-1]
            yield state, elements

    def take_images(self) -> list[Image]:
        """All images."""
        images, self._images = self._images, []
        return images


class _Bell:
    """Wakes the one task that waits, or the next that does."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Wake it."""
        self._rung.set()

    async def wait(self, timeout_s: float = float("inf")) -> None:
        """Until it is rung, or was since the last wait, or the time is over."""
        with trio.move_on_after(timeout_s):
            await self._rung.wait()
        self._rung = trio.Event()
