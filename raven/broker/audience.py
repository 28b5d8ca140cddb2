"""Clients that have exactly the same topics, for whom events are joined once.

Nearly all that a busy server does happens here: an event costs one append an audience, and a flush one join an audience and one
write a client. A client that cannot take a message at once leaves the row of the ready ones and has its events put into its
outbox one by one until it has caught up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from raven.broker.outbox import MESSAGE_BYTES_MAX, Lane, Outbox, Tally
from raven.broker.topics import TopicState
from raven.codec.encoder import SENT_TS_SIZE, sent_ts
from raven.speedups import compiled

__all__ = ["Audience", "Audiences"]


class Audience:
    """The clients of one set of topics.

    Args:
        topics: of each of them.
        now_ns: wall clock.
    """

    __slots__ = ("_dirty", "_now_ns", "_sent", "behind", "dirty", "pending", "ready", "topics")

    def __init__(self, topics: frozenset[TopicState], now_ns: Callable[[], int], dirty: list[Audience]) -> None:
        self.topics = topics
        self.pending: list[bytes] = []
        self.ready: dict[Outbox, Lane] = {}  # ordered, and quick to leave
        self.behind: dict[Outbox, None] = {}
        self.dirty = False
        self._sent = Tally()  # to each of those who are ready
        self._now_ns = now_ns
        self._dirty = dirty

    def __len__(self) -> int:
        return len(self.ready) + len(self.behind)

    def mark(self) -> None:
        """Something has been published."""
        self.dirty = True
        self._dirty.append(self)

    def settle(self) -> None:
        """Hand over what has been published for those who are ready."""
        if self.pending:
            self.send(sent_ts(self._now_ns()))

    def send(self, trailer: bytes) -> None:
        """Hand over what has been published; those who are behind write by themselves when they have room again.

        Args:
            trailer: the field sent_ts_ns.
        """
        pending, self.pending = self.pending, []
        if not self.ready:
            return
        count = len(pending)
        pending.append(trailer)
        message = b"".join(pending)
        if len(message) <= MESSAGE_BYTES_MAX:
            self._send_message(message, count, ())
            return
        rest = pending[:-1]
        for piece in _pieces(pending[:-1]):
            rest = rest[len(piece) :]
            self._send_message(b"".join([*piece, trailer]), len(piece), rest)

    def _send_message(self, message: bytes, count: int, rest: Sequence[bytes]) -> None:
        """Args: rest: what comes behind; who cannot take the whole of `message` gets it in its outbox."""
        sent = self._sent
        sent.events += count
        sent.bytes += len(message)
        sent.messages += 1
        for outbox in _send_all(self.ready, message) if compiled is None else compiled.send_all(self.ready, message):
            writer = outbox.writer
            assert writer is not None  # one without a writer is behind
            if not writer.begin(message):
                outbox.fall_behind(rest)

    def add(self, outbox: Outbox) -> None:
        """One more client."""
        outbox.audience = self
        if outbox.behind:
            self.behind[outbox] = None
        else:
            self._make_ready(outbox)

    def remove(self, outbox: Outbox) -> None:
        """A client has gone, or has other topics."""
        outbox.audience = None
        outbox.share_no_more()
        self.ready.pop(outbox, None)
        self.behind.pop(outbox, None)

    def fell_behind(self, outbox: Outbox) -> None:
        """It is given events one by one."""
        self.ready.pop(outbox, None)
        outbox.share_no_more()
        self.behind[outbox] = None

    def caught_up(self, outbox: Outbox) -> None:
        """It takes whole messages again."""
        self.behind.pop(outbox, None)
        self._make_ready(outbox)

    def _make_ready(self, outbox: Outbox) -> None:
        assert outbox.writer is not None  # one without a writer is behind
        self.ready[outbox] = outbox.writer.lane
        outbox.share(self._sent)


def _send_all(lanes: dict[Outbox, Lane], message: bytes) -> Sequence[Outbox]:
    """Write a message into each lane that takes it; those whose lanes do not. `raven.speedups` has the same, compiled."""
    shared: dict[int, bytes] = {}
    return [outbox for outbox, lane in lanes.items() if not lane.send(message, shared)]


def _pieces(elements: list[bytes]) -> Iterator[list[bytes]]:
    """The elements in pieces of at most MESSAGE_BYTES_MAX, where one element allows."""
    piece: list[bytes] = []
    size = 0
    for element in elements:
        if piece and size + len(element) > MESSAGE_BYTES_MAX - SENT_TS_SIZE:
            yield piece
            piece, size = [], 0
        piece.append(element)
        size += len(element)
    yield piece


class Audiences:
    """All audiences of a server, and those that have something to write.

    Args:
        now_ns: wall clock.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._audiences: dict[frozenset[TopicState], Audience] = {}
        self._of: dict[Outbox, Audience] = {}
        self._dirty: list[Audience] = []

    def __len__(self) -> int:
        return len(self._audiences)

    def place(self, outbox: Outbox, topics: Iterable[TopicState]) -> None:
        """Give a client the audience of its topics; none = take it out."""
        wanted = frozenset(() if outbox.sealed else topics)
        current = self._of.get(outbox)
        if current is not None:
            if current.topics == wanted:
                return
            current.settle()
            self._leave(outbox, current)
        if wanted:
            audience = self._audiences.get(wanted) or self._open(wanted)
            audience.settle()  # what was published before is not for it
            audience.add(outbox)
            self._of[outbox] = audience

    def _open(self, topics: frozenset[TopicState]) -> Audience:
        audience = self._audiences[topics] = Audience(topics, self._now_ns, self._dirty)
        for state in topics:
            state.audiences[audience] = None
        return audience

    def _leave(self, outbox: Outbox, audience: Audience) -> None:
        del self._of[outbox]
        audience.remove(outbox)
        if not audience and self._audiences.get(audience.topics) is audience:  # else all of its clients were sealed before
            del self._audiences[audience.topics]
            for state in audience.topics:
                del state.audiences[audience]

    def flush(self) -> list[Outbox]:
        """Have everybody write away what was published.

        Returns:
            Those for whom something still waits.
        """
        dirty, self._dirty[:] = self._dirty[:], []
        late: list[Outbox] = []
        trailer = sent_ts(self._now_ns())
        for audience in dirty:
            audience.dirty = False
            if audience.pending:
                audience.send(trailer)
            if audience.behind:
                late += audience.behind
        return late
